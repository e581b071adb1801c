"""In which keys runs differ, and what to call them by these."""

import json
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from mfed_ray.results.run_folder import FREE_KEYS

Flat = Mapping[str, Any]

_NAMES = frozenset({"name", "seed", "algorithm.name"})  # they have columns of their own


def flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """A config by dotted keys; entries of lists of mappings by number (``clients.0.count``), other lists as JSON."""
    if isinstance(tree, list) and tree and all(isinstance(one, Mapping) for one in tree):
        tree = dict(enumerate(tree))
    if isinstance(tree, Mapping):
        dot = f"{prefix}." if prefix else ""
        return {key: value for name, one in tree.items() for key, value in flatten(one, f"{dot}{name}").items()}
    return {prefix: json.dumps(tree) if isinstance(tree, list) else tree}


def differing(configs: Sequence[Flat]) -> list[str]:
    """Keys with several values; among runs of one algorithm, having a key and not having it differ too."""
    by_algorithm = defaultdict(list)
    for config in configs:
        by_algorithm[config.get("algorithm.name")].append(config)
    found = {key for group in by_algorithm.values() for key in _differing(group)}
    seen = defaultdict(set)
    for config in configs:
        for key, value in config.items():
            seen[key].add(value)
    found |= {key for key, values in seen.items() if len(values) > 1}
    return sorted(found - _NAMES - FREE_KEYS)


def variant_names(runs: Sequence[tuple[str, str, Flat]]) -> list[str]:
    """What to call each run, given its experiment, algorithm and config.

    That is the algorithm's name, and where runs of one experiment and algorithm differ in more than the seed, the keys
    in which they do.
    """
    groups = defaultdict(list)
    for experiment, algorithm, config in runs:
        groups[experiment, algorithm].append(config)
    keys = {
        group: sorted(set(_differing(configs)) - _NAMES - FREE_KEYS, key=_short) for group, configs in groups.items()
    }
    return [
        " ".join(
            [
                algorithm,
                *(f"{_short(key)}={_text(config[key])}" for key in keys[experiment, algorithm] if key in config),
            ]
        )
        for experiment, algorithm, config in runs
    ]


def _differing(configs: Collection[Flat]) -> set[str]:
    known = [config for config in configs if config]  # of a run without config nothing is known
    keys = {key for config in known for key in config}
    return {key for key in keys if len({config.get(key) for config in known}) > 1}


def _short(key: str) -> str:
    return key.removeprefix("algorithm.")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
