"""The points of a sweep: what each sets, how it is called, and the experiment that it makes."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

from mfed_ray.errors import ConfigError
from mfed_ray.experiment import Experiment, parse_experiment
from mfed_ray.experiment.loading import WHOLE, merge, nested, one_tree
from mfed_ray.seeds import generator
from mfed_ray.sweep.distributions import Distribution
from mfed_ray.sweep.schema import Sweep

Point = Mapping[str, Any]
"""Values by dotted key; at ``experiment``, a tree of several keys at once, told by its ``name``."""


def experiment_at(sweep: Sweep, point: Point) -> Experiment:
    """The sweep's experiment with the point's values, whatever the order of its keys.

    Raises ConfigError that names the point, also where two of its keys contradict each other.
    """
    try:
        over = one_tree(value if key == WHOLE else nested(key, value) for key, value in point.items())
        return parse_experiment(merge(sweep.experiment, over))
    except ConfigError as error:
        raise ConfigError(f"trial {label(point)}: {error}") from error


def planned(sweep: Sweep) -> list[Point]:
    """The points of a grid or random search, in order. More samples, or a seed more, leave the others as they are."""
    lists = {key: values for key, values in sweep.space.items() if not isinstance(values, Distribution)}
    drawn = {key: values for key, values in sweep.space.items() if isinstance(values, Distribution)}
    crossed = [dict(zip(lists, values, strict=True)) for values in product(*lists.values())]
    points = []
    for sample in range(sweep.search.samples or 1):
        values = {key: one.draw(generator(sweep.search.seed, "sweep", sample, key)) for key, one in drawn.items()}
        points += [_in_order(sweep, {**values, **combination}) for combination in crossed]
    return _distinct(points)


def _in_order(sweep: Sweep, values: Point) -> Point:
    return {key: values[key] for key in sweep.space}


def baselines(sweep: Sweep) -> list[Point]:
    """Each baseline at every combination of what the points set outside of ``algorithm``.

    Raises ConfigError where a baseline sets a key to another value than the points.
    """
    settings = _distinct([_setting(point) for point in _all_settings(sweep)])
    return [
        one_tree([*({key: value} for key, value in _leaves(one)), setting], f"baselines.{index}")
        for index, one in enumerate(sweep.baselines)
        for setting in settings
    ]


def _all_settings(sweep: Sweep) -> list[Point]:
    if sweep.search.method != "optuna":
        return planned(sweep)
    choices = {key: one.choice for key, one in sweep.space.items() if isinstance(one, Distribution)}
    outside = {key: values for key, values in choices.items() if not _of_algorithm(key)}
    if open_key := next((key for key, values in outside.items() if sweep.baselines and values is None), None):
        raise ConfigError(
            f"space.{open_key}: a baseline runs once for each of its values, and Optuna's are not known before; "
            "allowed beside baselines: {choice: [...]}"
        )
    return [dict(zip(outside, one, strict=True)) for one in product(*(v or () for v in outside.values()))]


def baseline_of(point: Point) -> Point:
    """The local baseline that the point is compared with."""
    return {"algorithm.name": "local", **_setting(point)}


def _setting(point: Point) -> Point:
    return {key: value for key, value in point.items() if not _of_algorithm(key)}


def _of_algorithm(key: str) -> bool:
    return key.partition(".")[0] == "algorithm"


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _distinct(points: list[Point]) -> list[Point]:
    return list({identity(point): point for point in points}.values())


def identity(point: Point) -> str:
    """Equal for equal points, whatever the order of their keys."""
    return json.dumps(point, sort_keys=True)


def label(point: Point) -> str:
    """The point in words: ``correlation_threshold=0.5 seed=0``."""
    return " ".join(f"{_short(key)}={_told(key, value)}" for key, value in point.items()) or "as it stands"


def _short(key: str) -> str:
    return "algorithm" if key == "algorithm.name" else key.removeprefix("algorithm.")


def _told(key: str, value: Any) -> str:
    if key == WHOLE:
        return str(value["name"])
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping) and "name" in value:
        rest = {key: one for key, one in value.items() if key != "name"}
        return f"{value['name']}{_told(key, rest) if rest else ''}"
    return json.dumps(value).replace(" ", "").replace('"', "")


def folder_name(point: Point) -> str:
    """The name of the point's run folder, whatever the order of its keys: its label, so far as file names allow, and a
    digest."""
    readable = re.sub(r"[^A-Za-z0-9._=-]+", "_", label(dict(sorted(point.items()))))[:100]
    return f"{readable}-{hashlib.blake2b(identity(point).encode(), digest_size=4).hexdigest()}"
