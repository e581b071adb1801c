"""From a plain tree to a checked experiment, and what pydantic finds wrong in the project's words."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from mfed_ray.algorithms import ALGORITHMS, find_algorithm
from mfed_ray.algorithms.contract import Algorithm
from mfed_ray.errors import ConfigError
from mfed_ray.experiment.schema import DATA_FORMATS, Clients, Experiment
from mfed_ray.registry import hint


def parse_experiment(tree: Mapping[str, Any], trusted: Collection[str] | None = None) -> Experiment:
    """Check a plain tree. Raises ConfigError that names every wrong key, its value, and what is allowed.

    ``trusted``: the algorithms ``package.module:Class`` that may be imported; None, for a tree of the caller's own:
    any. A tree that was read from a folder may name whatever its writer liked.
    """
    rest = {key: value for key, value in tree.items() if key != "algorithm"}
    algorithm = _parse_algorithm(tree.get("algorithm"), trusted)
    try:
        return Experiment.model_validate({**rest, "algorithm": algorithm}).settled()
    except ValidationError as error:
        raise ConfigError(sentences(error, Experiment)) from error


def _parse_algorithm(tree: Any, trusted: Collection[str] | None) -> Algorithm:
    if not isinstance(tree, Mapping) or "name" not in tree:
        raise ConfigError(f"algorithm: expected a mapping with a name ({', '.join(ALGORITHMS)}), found {tree!r}")
    kind = find_algorithm(str(tree["name"]), trusted)
    try:
        return kind.model_validate({key: value for key, value in tree.items() if key != "name"})
    except ValidationError as error:
        raise ConfigError(sentences(error, kind, ("algorithm",))) from error


def sentences(error: ValidationError, model: type[BaseModel], prefix: tuple[str, ...] = ()) -> str:
    """What is wrong, key by key, and what is allowed there."""
    errors = error.errors()
    inner = {details["loc"][:depth] for details in errors for depth in range(len(details["loc"]))}
    # a list none of whose entries is valid counts as empty to pydantic: what is wrong is said at the entries
    told = [details for details in errors if details["type"] != "too_short" or details["loc"] not in inner]
    return "; ".join(_sentence(dict(details), model, prefix) for details in told)


def _sentence(details: dict[str, Any], model: type[BaseModel], prefix: tuple[str, ...]) -> str:
    """One of pydantic's errors in the project's words: the dotted key, what is wrong, the value, what is allowed."""
    loc, kind, value = details["loc"], details["type"], details["input"]
    place = [*loc[:2], *loc[3:]] if loc[:1] == ("data",) else loc  # the third part is the format's name, not a key
    key = ".".join(str(part) for part in (*prefix, *place))
    if kind == "extra_forbidden":
        allowed = _allowed(model, loc[:-1])
        return f"{key}: unknown key{hint(str(place[-1]), allowed)} (allowed: {', '.join(allowed)})"
    if kind.startswith("union_tag"):
        return f"{key}.format: {value.get('format')!r} is not one of {', '.join(DATA_FORMATS)}"
    if kind == "missing":
        return f"{key}: missing, and has no default"
    if kind in ("model_type", "model_attributes_type"):
        return f"{key}: expected a mapping, found {value!r}"
    message = str(details["msg"]).removeprefix("Value error, ")
    names_value = kind == "value_error" or isinstance(value, BaseModel)  # our own sentences name the value
    ending = "" if names_value else f", found {value!r}"
    return f"{key}: {message[:1].lower()}{message[1:]}{ending}" if key else message


def _allowed(model: type[BaseModel], loc: Sequence[Any]) -> list[str]:
    """Field names of the section at ``loc``."""
    in_collections: dict[str, type[BaseModel]] = {"clients": Clients, **DATA_FORMATS}
    section = model
    for part in loc:
        section = in_collections.get(part) or _nested(section, part) or section
    is_algorithm = section is model and issubclass(model, Algorithm)
    return [*(("name",) if is_algorithm else ()), *section.model_fields]


def _nested(section: type[BaseModel], key: Any) -> type[BaseModel] | None:
    """The section that stands at a field, if one does."""
    field = section.model_fields.get(key)
    annotation = field.annotation if field else None
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None
