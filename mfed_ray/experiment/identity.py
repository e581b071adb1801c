"""By what names a run's rows are known, and which runs may be compared."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from mfed_ray.experiment.schema import Experiment
from mfed_ray.messages import RunIdentity

_FREE = ("algorithm", "checkpoints", "runtime", "faults", "seed")
"""Sections that do not count in the setting: they change nothing, or have their own place in a run's id."""

_LATER: Mapping[str, Mapping[str, Any]] = {
    "model": {"width": 64},
    "local": {"max_update_norm": None, "on_large_update": "clip"},
    "partition": {"on_bad_sample": "error"},
    "evaluation": {"edges": {"max_distance": 0.0075, "thresholds": 99, "nms": False}},
    "clients": {"images": None, "decoder_width": None},
    "algorithm": {"server": {"part": "model"}, "privacy": None, "judging": {"until": 6, "rounds": 3, "steps": 20}},
}
"""Keys that came after runs had been made, and what was true of those. With these values they do not count in an id."""


def identity(experiment: Experiment) -> RunIdentity:
    """The run's names in the tables.

    Its id is NAME-ALGORITHM-SETTING-HYPERPARAMETERS-seedSEED: a digest of all else that can change its results, which
    runs must share to be compared, and one of the algorithm's own values.
    """
    config = {key: _counting(value, _LATER.get(key, {})) for key, value in experiment.resolved().items()}
    setting = {key: value for key, value in config.items() if key not in _FREE}
    setting["threads"] = experiment.runtime.threads_per_client
    name, algorithm, seed = experiment.name, experiment.algorithm_name, experiment.seed
    digest = _digest(setting)
    run_id = f"{name}-{algorithm}-{digest}-{_digest(config['algorithm'])}-seed{seed}"
    return RunIdentity(run_id, name, algorithm, seed, digest)


def _counting(section: Any, later: Mapping[str, Any]) -> Any:
    if isinstance(section, list):
        return [_counting(one, later) for one in section]
    if not isinstance(section, Mapping):
        return section
    counted = {key: value for key, value in section.items() if key not in later or value != later[key]}
    return {
        key: _counting(value, later[key]) if _is_part(later.get(key), value) else value
        for key, value in counted.items()
    }


def _is_part(later: Any, section: Any) -> bool:
    """Whether a section had other keys before these came."""
    return isinstance(later, Mapping) and isinstance(section, Mapping) and later.keys() < section.keys()


def _digest(tree: Mapping[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(tree, sort_keys=True).encode(), digest_size=4).hexdigest()
