"""YAML files, their one-level ``base``, and ``key=value`` overrides: from text to one plain tree."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from mfed_ray.errors import ConfigError

Tree = dict[str, Any]
WHOLE = "experiment"
"""The key where a sweep, and a point of its space, has an experiment's keys, whose ``name`` is its own and no kind."""
_INDEX = re.compile(r"0|[1-9][0-9]*")


class _Loader(yaml.SafeLoader):
    """YAML 1.2's floats: PyYAML takes ``1e-4`` for a text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)$"),
    list("-+.0123456789"),
)


def load_tree(path: Path, overrides: Sequence[str] = ()) -> Tree:
    """The file over its ``base`` file (beside it), with the overrides on top. Raises ConfigError.

    The order of overrides does not matter: see ``overrides_tree``. How they lie over the file: see ``merge``.
    """
    tree = _read(path)
    base = tree.pop("base", None)
    if base is not None:
        base_tree = _read(path.parent / str(base))
        if "base" in base_tree:
            raise ConfigError(f"{path.parent / str(base)}: base: a base file cannot have a base of its own")
        tree = merge(base_tree, tree)
    return merge(tree, overrides_tree(overrides))


def overrides_tree(overrides: Sequence[str]) -> Tree:
    """All overrides as one tree, whatever their order. Raises ConfigError where they contradict each other."""
    return one_tree([_override_tree(override) for override in overrides])


def merge(under: Mapping[str, Any], over: Mapping[str, Any], place: str = "") -> Tree:
    """``over`` on top of ``under``, which both stand at the dotted key ``place``.

    Mappings merge key by key; lists and scalars replace, but a number names a list's entry (``clients.0.count=3``). A
    mapping with another ``name`` or ``format`` (an algorithm, a dataset) replaces whole, because the keys of one do not
    belong to another. Raises ConfigError for a number that the list does not have.
    """
    merged = dict(under)
    for key, value in over.items():
        old, here = merged.get(key), _below(place, key)
        if isinstance(old, list) and _are_indices(value):
            merged[key] = _merged_list(old, value, here)
        elif isinstance(old, Mapping) and isinstance(value, Mapping) and (here == WHOLE or _same_kind(old, value)):
            merged[key] = merge(old, value, here)
        else:
            merged[key] = value
    return merged


def one_tree(trees: Iterable[Mapping[str, Any]], place: str = "") -> Tree:
    """Trees put together at the dotted key ``place``, none on top of another. Raises ConfigError as ``together``."""
    return dict(together([{}, *trees], place))


def together(values: Sequence[Any], place: str = "") -> Any:
    """The values that were all given to the dotted key ``place``, as one; their order does not matter.

    Mappings have the keys of all, as texts. A list takes the entries that mappings name by number. Everything else must
    be equal: raises ConfigError where two values contradict each other.
    """
    lists = [value for value in values if isinstance(value, list)]
    trees = [value for value in values if isinstance(value, Mapping)]
    if len(trees) == len(values):
        return _keys_of_all(trees, place)
    if len(lists) + len(trees) == len(values) and all(map(_are_indices, trees)):
        entries = _numbered(_only_value(lists, place))
        return _listed(_keys_of_all([entries, *trees], place), len(entries), place)
    return _only_value(values, place)


def _keys_of_all(trees: Sequence[Mapping[Any, Any]], place: str) -> Tree:
    given: dict[str, list[Any]] = {}
    for tree in trees:
        for key, value in tree.items():
            given.setdefault(str(key), []).append(value)
    return {key: together(values, _below(place, key)) for key, values in given.items()}


def _only_value(values: Sequence[Any], place: str) -> Any:
    first = values[0]
    for other in values[1:]:
        if not _equal(first, other):
            raise ConfigError(f"{place}: set to {first!r} and to {other!r}; allowed: one of them")
    return first


def _equal(a: Any, b: Any) -> bool:
    """Also in type: true is not 1, and a field may tell 1 from 1.0."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(_equal(value, b[key]) for key, value in a.items())
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_equal, a, b))
    return type(a) is type(b) and bool(a == b)


def _numbered(values: Sequence[Any]) -> Tree:
    return {str(index): value for index, value in enumerate(values)}


def _listed(entries: Mapping[str, Any], length: int, place: str) -> list[Any]:
    """A list of this length from its entries by number, those of the list first."""
    if wrong := next((index for index in entries if int(index) >= length), None):
        told = f"{length} entries, 0 to {length - 1}" if length else "no entries"
        raise ConfigError(f"{place}.{wrong}: the list has {told}")
    return list(entries.values())


def _are_indices(value: Any) -> bool:
    return isinstance(value, Mapping) and bool(value) and all(_INDEX.fullmatch(str(index)) for index in value)


def _merged_list(old: list[Any], over: Mapping[Any, Any], place: str) -> list[Any]:
    """The list with the entries that ``over`` names by number changed or replaced."""
    entries = _numbered(old)
    for index, value in over.items():
        entry = entries.get(str(index))
        if isinstance(entry, Mapping) and isinstance(value, Mapping):
            entries[str(index)] = merge(entry, value, f"{place}.{index}")
        else:
            entries[str(index)] = value
    return _listed(entries, len(old), place)


def _same_kind(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Not where each names a kind, and another than the other does."""
    kinds = [(old.get(key), new.get(key)) for key in ("name", "format")]
    return all(one == other for one, other in kinds if isinstance(one, str) and isinstance(other, str))


def _below(place: str, key: Any) -> str:
    return f"{place}.{key}" if place else str(key)


def _override_tree(override: str) -> Tree:
    key, equals, text = override.partition("=")
    if not equals or not all(key.split(".")):
        raise ConfigError(f"override {override!r}: expected KEY=VALUE, with dots between nested keys")
    return nested(key, _parse(text, f"override {override!r}"))


def nested(key: str, value: Any) -> Tree:
    """The tree that has the value at the dotted key, and nothing else."""
    tree: Any = value
    for part in reversed(key.split(".")):
        tree = {part: tree}
    return dict(tree)


def _read(path: Path) -> Tree:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); expected a YAML file") from error
    tree = _parse(text, str(path))
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: expected a mapping at the top, found {type(tree).__name__}")
    return tree


def _parse(text: str, place: str) -> Any:
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - derived from SafeLoader
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a number or a date that is none; too deep
        raise ConfigError(f"{place}: not valid YAML: {' '.join(str(error).split())}") from error
