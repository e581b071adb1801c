"""docs/own_algorithm.md is true: its file, its configuration and its command work as they stand there."""

import re
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from textwrap import indent
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from mfed_ray.algorithms import Algorithm, find_algorithm
from mfed_ray.cli import main
from mfed_ray.driver import run
from mfed_ray.errors import ConfigError
from mfed_ray.experiment import Experiment, load_experiment
from mfed_ray.experiment.clients import make_clients
from mfed_ray.experiment.models import make_initial
from mfed_ray.experiment.trainers import TrainerFactory
from mfed_ray.federation import checkpoint
from mfed_ray.messages import ClientSpec, Params, State, Update
from mfed_ray.results.loading import load_results
from mfed_ray.results.rendering import render
from mfed_ray.results.summary import summarise
from tests.algorithms.toy_federation import group_means, no_probe

MakeExperiment = Callable[..., Experiment]
DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "own_algorithm.md"
NAME = "my_package.robust:TrimmedMean"
SEG = "semantic_segmentation"
CLIENTS = [{"tasks": [SEG], "data": "scenes", "count": 3}, {"tasks": ["saliency"], "data": "scenes"}]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


FILE, WEIGHT, TEST = blocks("python")
(CONFIGURATION,) = blocks("yaml")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder that a user works in, with the document's file where the document says."""
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "robust.py").write_text(FILE, encoding="utf-8")
    return tmp_path


@pytest.fixture
def importable(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(folder)
    forget(monkeypatch)
    return folder


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """An earlier test's modules are from another folder."""
    for name in ("my_package", "my_package.robust"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def trimmed_mean(trimmed: float) -> Algorithm:
    return find_algorithm(NAME).model_validate({"trimmed": trimmed})


@pytest.mark.parametrize(
    ("trimmed", "values", "expected"),
    [
        (0.0, [1, 2, 30], 11.0),
        (0.5, [30, 1, 2], 2.0),  # the median
        (0.5, [30, 1, 2, 4], 3.0),  # of four: (2 + 4) / 2
        (0.25, [30, 1, 2, 4], 3.0),  # one of four at either end
        (0.2, [30, 1, 2, 4], 9.25),  # 0.8 of a client: none
        (0.5, [7], 7.0),
    ],
)
@pytest.mark.usefixtures("importable")
def test_mean_by_hand(trimmed: float, values: Sequence[float], expected: float) -> None:
    other: Params = {"encoder.w": np.zeros(1, np.float32)}
    updates = [Update(str(n), SEG, 9, {"encoder.w": np.array([value], np.float32)}) for n, value in enumerate(values)]
    state, _ = trimmed_mean(trimmed).aggregate(State({SEG: other, "saliency": other}), updates, no_probe)
    assert state.params[SEG]["encoder.w"].tolist() == [expected]
    assert state.params["saliency"] is other  # nobody of it in this cohort


@pytest.mark.usefixtures("importable")
def test_the_documents_weight() -> None:
    """1 * 6 + 3 * 12 over 4. The first of a group was trained here, the others there."""
    namespace: dict[str, Any] = {"__name__": "my_package.mean"}
    exec(FILE.replace("    def _mean", f"{indent(WEIGHT, '    ')}\n    def _mean"), namespace)  # noqa: S102 - the document's own code
    algorithm = namespace["TrimmedMean"]()
    clients = [ClientSpec.of(str(n), (SEG,), "d", tuple(map(str, range(n)))) for n in (1, 3)]
    sent = [
        Update(client.name, SEG, client.examples, {"encoder.w": np.array([value], np.float32)}, {"length": value})
        for client, value in zip(clients, (6, 12), strict=True)
    ]
    (mean,) = updates = group_means(algorithm, clients, sent)
    other: Params = {"encoder.w": np.zeros(1, np.float32)}
    state, _ = algorithm.aggregate(State({SEG: other, "saliency": other}), updates, no_probe)
    assert state.params[SEG]["encoder.w"].tolist() == [10.5]
    assert state.params["saliency"] is other
    assert (mean.client, mean.group, mean.examples, mean.values) == (SEG, SEG, 4, {})
    assert mean.members == mean.senders == tuple(replace(update, params={}) for update in sent)
    assert sent[0].senders == (sent[0],)


@pytest.mark.usefixtures("importable")
def test_the_documents_test() -> None:
    """It passes as it stands, and fails where it expects another number."""
    assert run_of(TEST) is None
    with pytest.raises(AssertionError):
        run_of(TEST.replace('"encoder.w": 4', '"encoder.w": 5'))


def run_of(test: str) -> Any:
    namespace: dict[str, Any] = {}
    exec(test, namespace)  # noqa: S102 - the document's own code
    return namespace["test_a_client_by_hand"]()


def test_a_run_to_its_end(importable: Path, tiny: MakeExperiment) -> None:
    """The server has the median of what the three clients send; config and table name the class."""
    experiment = tiny(algorithm={"name": NAME, "trimmed": 0.5}, clients=CLIENTS, rounds=1)
    out = importable / "out"
    assert sum(1 for _ in run(experiment, out)) > 0
    saved = checkpoint.load_latest(out / "checkpoints")
    assert saved is not None
    assert saved.round == 1
    server = saved.server.params[SEG]

    torch.set_num_threads(1)
    algorithm, clients, factory = trimmed_mean(0.5), make_clients(experiment), TrainerFactory(experiment)
    start = algorithm.init(clients, make_initial(experiment, clients))
    sent = [
        algorithm.fit(factory(client), algorithm.instruct(start, client, 1), State()).params for client in clients[:3]
    ]
    name = f"decoders.{SEG}.classifier.bias"
    assert len({tree[name].tobytes() for tree in sent}) == 3
    assert all(np.array_equal(value, np.median([tree[key] for tree in sent], axis=0)) for key, value in server.items())

    assert load_experiment(out / "config.yaml") == experiment
    assert yaml.safe_load((out / "config.yaml").read_text())["algorithm"] == {"name": NAME, "trimmed": 0.5}
    results = load_results(out)
    assert set(results["algorithm"]) == {NAME}
    assert NAME in render(summarise(results), "table")


@pytest.mark.usefixtures("importable")
def test_the_documents_yaml_and_its_checks(tiny: MakeExperiment) -> None:
    section = yaml.safe_load(CONFIGURATION)["algorithm"]
    assert tiny(algorithm=section).algorithm == trimmed_mean(section["trimmed"])
    with pytest.raises(
        ConfigError, match=r"algorithm\.trimmed: input should be less than or equal to 0\.5, found 0\.6"
    ):
        tiny(algorithm={"name": NAME, "trimmed": 0.6})
    with pytest.raises(ConfigError, match=r"algorithm\.trim: unknown key; did you mean 'trimmed'\? .*name, trimmed\)"):
        tiny(algorithm={"name": NAME, "trim": 0.2})


@pytest.mark.usefixtures("ray_cluster")
def test_actors_import_it(importable: Path, tiny: MakeExperiment) -> None:
    """Driver actor and client actors find the module where the caller does, in a Ray that was started elsewhere."""
    section = {"name": NAME, "trimmed": 0.5}
    experiment = tiny(algorithm=section, clients=CLIENTS, rounds=1, runtime={"backend": "ray", "max_actors": 1})
    assert sum(1 for _ in run(experiment, importable / "out")) > 0
    assert set(load_results(importable / "out")["algorithm"]) == {NAME}


def test_the_documents_command(folder: Path, tiny_tree: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """``mfed``, called in the folder that holds the package, finds it there."""
    (line,) = re.findall(r"^    (mfed run .*)$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    _, verb, experiment, *rest = shlex.split(line)
    (folder / experiment).parent.mkdir()
    (folder / experiment).write_text(yaml.safe_dump({**tiny_tree, "clients": CLIENTS, "rounds": 1}))
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    forget(monkeypatch)
    with pytest.raises(SystemExit) as stop:
        main([verb, experiment, *rest])
    assert stop.value.code == 0
    out = folder / "runs" / "trimmed"
    assert set(load_results(out)["algorithm"]) == {NAME}
    assert yaml.safe_load((out / "config.yaml").read_text())["algorithm"]["trimmed"] == 0.25
