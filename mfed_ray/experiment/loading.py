"""YAML files, their one-level ``base``, and ``key=value`` overrides: from text to one plain tree."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from mfed_ray.errors import ConfigError

Tree = dict[str, Any]


class _Loader(yaml.SafeLoader):
    """YAML 1.2's floats: PyYAML takes ``1e-4`` for a text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)$"),
    list("-+.0123456789"),
)


def load_tree(path: Path, overrides: Sequence[str] = ()) -> Tree:
    """The file over its ``base`` file (beside it), with the overrides on top.

    Mappings merge key by key; lists and scalars replace, but a number names a list's entry (``clients.0.count=3``). A
    mapping with another ``name`` or ``format`` (an algorithm, a dataset) replaces whole, because the keys of one do not
    belong to another. Raises ConfigError.
    """
    tree = _read(path)
    base = tree.pop("base", None)
    if base is not None:
        base_tree = _read(path.parent / str(base))
        if "base" in base_tree:
            raise ConfigError(f"{path.parent / str(base)}: base: a base file cannot have a base of its own")
        tree = merge(base_tree, tree)
    for override in overrides:
        tree = merge(tree, _override_tree(override))
    return tree


def merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> Tree:
    """``over`` on top of ``under``."""
    merged = dict(under)
    for key, value in over.items():
        old = merged.get(key)
        if isinstance(old, list) and _are_indices(value):
            merged[key] = _merged_list(old, value, key)
        elif isinstance(old, Mapping) and isinstance(value, Mapping) and _same_kind(old, value):
            merged[key] = merge(old, value)
        else:
            merged[key] = value
    return merged


def _are_indices(value: Any) -> bool:
    return isinstance(value, Mapping) and bool(value) and all(str(index).isdigit() for index in value)


def _merged_list(old: list[Any], over: Mapping[Any, Any], key: str) -> list[Any]:
    """The list with the entries that ``over`` names by number changed or replaced."""
    new = list(old)
    for index, value in over.items():
        if not int(index) < len(old):
            raise ConfigError(f"{key}.{index}: the list has {len(old)} entries, 0 to {len(old) - 1}")
        both = isinstance(old[int(index)], Mapping) and isinstance(value, Mapping)
        new[int(index)] = merge(old[int(index)], value) if both else value
    return new


def _same_kind(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    return all(new.get(key, old.get(key)) == old.get(key) for key in ("name", "format"))


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
    except yaml.YAMLError as error:
        raise ConfigError(f"{place}: not valid YAML: {' '.join(str(error).split())}") from error
