"""What a run's folder holds, and that wrong input leaves it as it was."""

import json
import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
import yaml
from ray._private.state import actors
from ray.exceptions import ActorDiedError

from mfed_ray.algorithms.contract import Diagnostics
from mfed_ray.driver import restarted, run
from mfed_ray.errors import DataError, DriverError, PlacementError, RunFolderError
from mfed_ray.experiment import Experiment, parse_experiment
from mfed_ray.experiment.identity import identity
from mfed_ray.federation.events import Evaluated, Event, Notice, Trained
from mfed_ray.predict import client_specs
from mfed_ray.results.loading import load_results
from mfed_ray.results.run_folder import RunFolder

MakeExperiment = Callable[..., Experiment]
TABLES = {"metrics.parquet", "rounds.parquet", "correlations.parquet", "fusing.parquet"}


def follow(experiment: Experiment, folder: Path) -> int:
    return sum(1 for _ in run(experiment, folder))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_finished_run_is_left_alone(tiny: MakeExperiment, tmp_path: Path) -> None:
    experiment = tiny(rounds=1)
    assert follow(experiment, tmp_path / "run") > 0
    before = contents(tmp_path / "run")
    assert follow(experiment, tmp_path / "run") == 0
    assert contents(tmp_path / "run") == before
    assert set(before) >= {"config.yaml", "environment.json", "partition.json", "metrics.parquet", "rounds.parquet"}
    assert {name for name in before if name.endswith(".parquet")} == TABLES


@pytest.mark.parametrize("remote", [False, True])
def test_a_run_that_was_killed_after_its_last_round_only_folds_its_tables(
    tiny: MakeExperiment, tmp_path: Path, remote: bool
) -> None:
    """The last evaluation is a part of its table: it came after its round was written."""
    experiment, folder = tiny(rounds=1), tmp_path / "run"
    place = f"file://{folder}" if remote else str(folder)
    events = run(experiment, place)
    while not (isinstance(event := next(events), Evaluated) and event.round == 1):
        pass
    events.close()  # type: ignore[attr-defined]
    assert {path.name for path in folder.glob("*.parquet")} > TABLES
    before = load_results(place)
    assert list(run(experiment, place)) == []
    assert {path.name for path in folder.glob("*.parquet")} == TABLES
    pd.testing.assert_frame_equal(load_results(place), before)


def test_the_folder_says_what_ran_and_where(tiny: MakeExperiment, tmp_path: Path) -> None:
    experiment = tiny(rounds=1)
    follow(experiment, tmp_path)
    assert parse_experiment(yaml.safe_load((tmp_path / "config.yaml").read_text())) == experiment
    starts = json.loads((tmp_path / "environment.json").read_text())
    assert len(starts) == 1
    assert {"versions", "commit", "cpus", "gpus", "memory_bytes"} <= set(starts[0])
    metrics = load_results(tmp_path)
    assert set(metrics["setting"]) == {identity(experiment).setting}
    judged = metrics.loc[metrics["headline"], ["task", "metric", "higher_is_better"]].drop_duplicates()
    assert set(judged.itertuples(index=False, name=None)) == {
        ("semantic_segmentation", "miou", True),
        ("saliency", "max_miou", True),
        ("surface_normals", "mean_error", False),
    }
    assert metrics.loc[~metrics["headline"], "higher_is_better"].isna().all()
    shards = json.loads((tmp_path / "partition.json").read_text())
    assert [len(ids) for ids in shards.values()] == [4, 4, 4, 4]
    assert len({image_id for ids in shards.values() for image_id in ids}) == 16


def test_a_folder_of_another_config_is_refused_and_kept(tiny: MakeExperiment, tmp_path: Path) -> None:
    follow(tiny(rounds=1), tmp_path)
    before = contents(tmp_path)
    with pytest.raises(RunFolderError, match=r"another local\.learning_rate, seed; choose another folder with --out"):
        follow(tiny(rounds=1, seed=1, local={"learning_rate": 0.5}), tmp_path)
    assert contents(tmp_path) == before


def test_a_run_of_before_some_keys_goes_on(tiny: MakeExperiment, tmp_path: Path) -> None:
    """Its config.yaml lacks keys that came later; the rows go on under the id that they have."""
    experiment = tiny(rounds=2, model={"width": 64})
    events = run(experiment, tmp_path)
    while not any(tmp_path.glob("checkpoints/round_000001")):
        next(events)
    events.close()  # type: ignore[attr-defined]
    config = yaml.safe_load((tmp_path / "config.yaml").read_text())
    del config["model"]["width"], config["algorithm"]["judging"]
    for clients in config["clients"]:
        del clients["images"], clients["decoder_width"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    follow(experiment, tmp_path)
    metrics = load_results(tmp_path)
    assert set(metrics["run_id"]) == {identity(experiment).run_id}
    assert set(metrics["round"]) == {0, 1, 2}
    with pytest.raises(RunFolderError, match=r"another model\.width; choose another folder with --out"):
        follow(tiny(rounds=2, model={"width": 16}), tmp_path)


def test_clients_of_one_task_with_several_models(tiny: MakeExperiment, tmp_path: Path) -> None:
    """What they have in common is told at the start; rows stand by task, and what looks at the run finds each model."""
    saliency = {"tasks": ["saliency"], "data": "scenes"}
    other = {**saliency, "encoder": "resnet18"}
    experiment = tiny(rounds=1, model={"width": 16}, clients=[saliency, other])
    begun, *others = [event for event in run(experiment, tmp_path) if isinstance(event, Trained)]
    shares = r"saliency and saliency@resnet18 have 100\.0% and \d\d\.\d% of their parameters in common"
    assert re.fullmatch(shares, "".join(begun.notes))
    assert [event.notes for event in others] == [()]
    metrics = load_results(tmp_path)
    assert set(metrics["task"]) == {"saliency"}
    assert set(metrics["client"]) == {"saliency-0", "saliency-1"}
    specs = client_specs(RunFolder(tmp_path), experiment)
    assert [client.group for client in specs] == ["saliency", "saliency@resnet18"]
    correlations = pd.read_parquet(tmp_path / "correlations.parquet")
    assert set(correlations["group"]) == {"saliency", "saliency@resnet18"}
    assert correlations["fused"].all()


@pytest.mark.parametrize("backend", ["serial", "ray"])
@pytest.mark.usefixtures("ray_cluster")
def test_wrong_data_is_reported_before_a_folder_is_made(tiny: MakeExperiment, tmp_path: Path, backend: str) -> None:
    data = {"scenes": {"format": "pascal_context", "root": str(tmp_path / "missing")}}
    with pytest.raises(DataError, match="missing"):
        follow(tiny(data=data, runtime={"backend": backend}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("ray_cluster")
def test_more_gpu_than_exists_is_reported_before_a_folder_is_made(tiny: MakeExperiment, tmp_path: Path) -> None:
    with pytest.raises(PlacementError, match="gpus_per_client: 3"):
        follow(tiny(runtime={"backend": "ray", "gpus_per_client": 3}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_run_id_depends_on_what_can_change_results(tiny: MakeExperiment) -> None:
    def run_id(experiment: Experiment) -> str:
        return identity(experiment).run_id

    assert run_id(tiny()) == run_id(tiny(runtime={"backend": "ray", "max_actors": 3}))
    assert run_id(tiny()) != run_id(tiny(rounds=3))
    assert run_id(tiny()) != run_id(tiny(runtime={"threads_per_client": 2}))
    _, setting, hyper, seed = run_id(tiny(seed=5)).rsplit("-", 3)
    assert setting == identity(tiny()).setting
    assert ([setting, hyper], seed) == (run_id(tiny()).rsplit("-", 3)[1:3], "seed5")
    other = run_id(tiny(algorithm={"name": "local"})).rsplit("-", 3)
    assert (other[0], other[1] == setting, other[2] == hyper) == ("tiny-local", True, False)


def test_relative_paths_are_found_from_elsewhere(tiny: MakeExperiment, scenes: Path, tmp_path: Path) -> None:
    experiment = tiny(
        data={"scenes": {"format": "pascal_context", "root": "scenes"}},
        model={"weights": "weights.safetensors", "width": 64},
    )
    located = experiment.located(scenes.parent)
    assert located.data["scenes"].root == str(scenes)
    assert located.model.weights == str(scenes.parent / "weights.safetensors")
    assert experiment.resolved()["data"]["scenes"]["root"] == "scenes"
    assert tiny(model={"weights": "torchvision", "width": 64}).located(tmp_path).model.weights == "torchvision"


@pytest.mark.usefixtures("ray_cluster")
def test_a_driver_that_dies_is_told_of_and_started_again(tiny: MakeExperiment, tmp_path: Path) -> None:
    """How such a run ends, tests/runtime/test_chaos.py shows."""
    events = run(tiny(runtime={"backend": "ray", "max_retries": 1}), tmp_path)
    while isinstance(next(events), Notice):
        pass
    (driver,) = (
        one["Pid"] for one in actors().values() if (one["ActorClassName"], one["State"]) == ("Driver", "ALIVE")
    )
    os.kill(driver, signal.SIGKILL)
    told = next(event for event in events if isinstance(event, Notice) and "died" in event.text)
    assert told == Notice("the driver actor died; it goes on from the last checkpoint, try 1 of 1")
    events.close()  # type: ignore[attr-defined]


def test_a_driver_that_gets_no_further_is_not_started_again_for_ever() -> None:
    """With a checkpoint each fifth round, a driver that always dies in round 3 trains rounds 1 and 2 each time."""
    starts: list[range] = []

    def driven() -> Iterator[Event]:
        starts.append(range(1, 4) if len(starts) == 1 else range(1, 3))  # the second of them gets a round further
        for number in starts[-1]:
            yield Trained(number, [], Diagnostics(), {}, 0, 0, is_evaluated=False)
        raise ActorDiedError

    told: list[str] = []
    with pytest.raises(DriverError, match=r"^the driver actor died \("):
        told += (event.text for event in restarted(driven, 2, lambda: None) if isinstance(event, Notice))
    assert len(starts) == 4
    assert told == [
        f"the driver actor died; it goes on from the last checkpoint, try {attempt} of 2" for attempt in (1, 1, 2)
    ]
