"""The round loop: identities, and the same bits on every backend, on Ray with any number of actors, and resumed."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mfed_ray import checkpoint
from mfed_ray.driver import run
from mfed_ray.experiment import Experiment
from mfed_ray.results import load_results
from mfed_ray.results.tables import read_table
from mfed_ray.simulation import RoundReport

MakeExperiment = Callable[..., Experiment]
Values = dict[tuple[str, str, str], np.ndarray[Any, np.dtype[np.float32]]]

ALGORITHMS: dict[str, dict[str, Any]] = {
    "local": {"name": "local"},
    "fedavg": {"name": "fedavg"},
    "mfed": {
        "name": "mfed",
        "decoder_proximal_weight": 0.1,
        "encoder_proximal_weight": 0.1,
        "correlation": "cka",
        "probe_images": 2,
        "correlation_threshold": 0.2,
    },
}
"""What is held equal across backends, each under other settings, so that these are covered as well."""
SETTINGS: dict[str, dict[str, Any]] = {
    "local": {"model": {"normalisation": "local"}, "local": {"optimizer_state": "keep"}},
    "fedavg": {"model": {"normalisation": "average"}},
    "mfed": {},
}


def finish(experiment: Experiment, folder: Path) -> tuple[Values, pd.DataFrame]:
    """Run to the end; all parameters that anybody holds, and all metrics."""
    for _ in run(experiment, folder):
        pass
    return parameters(folder), load_results(folder)


def parameters(folder: Path) -> Values:
    last = checkpoint.load_latest(folder / "checkpoints")
    assert last is not None
    return {
        (holder, tree, name): value
        for holder, state in {"server": last.server, **last.clients}.items()
        for tree, params in state.params.items()
        for name, value in params.items()
    }


def assert_same(a: tuple[Values, pd.DataFrame], b: tuple[Values, pd.DataFrame]) -> None:
    assert a[0].keys() == b[0].keys()
    assert all(np.array_equal(value, b[0][key]) for key, value in a[0].items())
    pd.testing.assert_frame_equal(a[1], b[1], check_exact=True)


def models(folder: Path, experiment: Experiment) -> dict[str, dict[str, np.ndarray[Any, np.dtype[np.float32]]]]:
    """Each client's model as its next round would start it."""
    last = checkpoint.load_latest(folder / "checkpoints")
    assert last is not None
    from mfed_ray.experiment.build import TrainerFactory, make_clients

    factory, found = TrainerFactory(experiment), {}
    for client in make_clients(experiment):
        trainer = factory(client)
        load = experiment.algorithm.instruct(last.server, client, 99).load
        trainer.start(last.clients[client.name], *load)
        found[client.name] = trainer.shared()
    return found


def same_models(
    a: dict[str, dict[str, np.ndarray[Any, np.dtype[np.float32]]]],
    b: dict[str, dict[str, np.ndarray[Any, np.dtype[np.float32]]]],
) -> bool:
    return all(np.array_equal(value, b[client][name]) for client, tree in a.items() for name, value in tree.items())


@pytest.mark.parametrize("name", list(ALGORITHMS))
@pytest.mark.usefixtures("ray_cluster")
def test_serial_is_ray_is_resumed(tiny: MakeExperiment, tmp_path: Path, name: str) -> None:
    _assert_serial_is_ray_is_resumed(tiny, tmp_path, {"algorithm": ALGORITHMS[name], **SETTINGS[name]}, (1, 2, 4))


@pytest.mark.parametrize("name", ["local", "mfed"])
@pytest.mark.usefixtures("ray_cluster")
def test_serial_is_ray_is_resumed_for_detectors(tiny_coco: MakeExperiment, tmp_path: Path, name: str) -> None:
    """They draw samples of anchors and proposals, which must not depend on who drew before."""
    _assert_serial_is_ray_is_resumed(tiny_coco, tmp_path, {"algorithm": ALGORITHMS[name], **SETTINGS[name]}, (2,))


def _assert_serial_is_ray_is_resumed(
    tiny: MakeExperiment, tmp_path: Path, settings: dict[str, Any], numbers_of_actors: tuple[int, ...]
) -> None:
    serial = finish(tiny(**settings), tmp_path / "serial")
    for actors in numbers_of_actors:
        experiment = tiny(**settings, runtime={"backend": "ray", "max_actors": actors})
        assert_same(serial, finish(experiment, tmp_path / f"ray{actors}"))
    begun = tiny(**settings, runtime={"backend": "ray", "max_actors": 2})
    interrupt(run(begun, tmp_path / "resumed"), after_round=1)
    assert_same(serial, finish(tiny(**settings), tmp_path / "resumed"))


def interrupt(events: Iterator[object], after_round: int) -> None:
    """Follow a run into the round after the one named, and leave it there."""
    rounds = 0
    for event in events:
        if isinstance(event, RoundReport):
            rounds = event.round
        elif rounds == after_round:
            break
    assert rounds == after_round
    events.close()  # type: ignore[attr-defined]


def test_kept_optimizer_state_and_private_normalisation_survive_a_resume(tiny: MakeExperiment, tmp_path: Path) -> None:
    experiment = tiny(local={"optimizer_state": "keep"}, model={"normalisation": "local"})
    interrupt(run(experiment, tmp_path / "resumed"), after_round=1)
    assert_same(finish(experiment, tmp_path / "whole"), finish(experiment, tmp_path / "resumed"))


def test_mfed_without_sharing_or_pull_is_fedavg(any_tiny: MakeExperiment, tmp_path: Path) -> None:
    """mfed(tau > 1, lambda = 0, decoder_init = global) = fedavg."""
    mfed = {"name": "mfed", "correlation_threshold": 1.1, "decoder_proximal_weight": 0, "decoder_init": "global"}
    one, other = any_tiny(algorithm=mfed), any_tiny(algorithm={"name": "fedavg"})
    metrics = finish(one, tmp_path / "mfed")[1], finish(other, tmp_path / "fedavg")[1]
    assert same_models(models(tmp_path / "mfed", one), models(tmp_path / "fedavg", other))
    names = ["run_id", "algorithm"]
    pd.testing.assert_frame_equal(metrics[0].drop(columns=names), metrics[1].drop(columns=names), check_exact=True)


def test_fedavg_with_one_client_per_task_is_local(any_tiny: MakeExperiment, tmp_path: Path) -> None:
    tasks = sorted({task for clients in any_tiny().clients for task in clients.tasks})
    clients = [{"tasks": [task], "data": "scenes"} for task in tasks]
    one, other = (any_tiny(algorithm={"name": name}, clients=clients) for name in ("fedavg", "local"))
    finish(one, tmp_path / "fedavg")
    finish(other, tmp_path / "local")
    assert same_models(models(tmp_path / "fedavg", one), models(tmp_path / "local", other))


def test_fedavg_with_two_clients_per_task_is_not_local(any_tiny: MakeExperiment, tmp_path: Path) -> None:
    one, other = (any_tiny(algorithm={"name": name}, rounds=1) for name in ("fedavg", "local"))
    finish(one, tmp_path / "fedavg")
    finish(other, tmp_path / "local")
    assert not same_models(models(tmp_path / "fedavg", one), models(tmp_path / "local", other))


def test_mfed_of_one_task_shares_the_encoder_and_keeps_the_decoders(any_tiny: MakeExperiment, tmp_path: Path) -> None:
    """mfed(lambda = 0, one task): one encoder for all, each client its own decoder, as in FedPer."""
    clients = [{"tasks": any_tiny().clients[0].tasks, "data": "scenes", "count": 2}]
    experiment = any_tiny(algorithm={"name": "mfed", "decoder_proximal_weight": 0}, clients=clients, rounds=1)
    finish(experiment, tmp_path)
    a, b = models(tmp_path, experiment).values()
    same = {name: np.array_equal(a[name], b[name]) for name in a}
    assert all(equal == name.startswith("encoder.") for name, equal in same.items() if "num_batches" not in name)


def test_decoder_pull_changes_the_second_round(tiny: MakeExperiment, tmp_path: Path) -> None:
    """In the first round every decoder stands on its anchor; after it lambda must matter."""
    for weight in (0.0, 1.0):
        algorithm = {"name": "mfed", "decoder_proximal_weight": weight}
        finish(tiny(algorithm=algorithm), tmp_path / str(weight))
    penalties = load_results(tmp_path / "1.0").query("metric == 'proximal_penalty' and task == 'semantic_segmentation'")
    assert (penalties.query("round == 2")["value"] > 0).all()
    assert any(
        not np.array_equal(value, parameters(tmp_path / "0.0")[key])
        for key, value in parameters(tmp_path / "1.0").items()
    )


def test_what_a_run_leaves(tiny: MakeExperiment, tmp_path: Path) -> None:
    finish(tiny(algorithm=ALGORITHMS["mfed"]), tmp_path)
    metrics = load_results(tmp_path)
    clients = {"semantic_segmentation-0", "semantic_segmentation-1", "saliency-0", "surface_normals-0"}
    held_out = metrics[metrics["split"] == "val"]
    assert set(held_out.query("round == 0")["stage"]) == {"after_aggregation"}
    for _, rows in held_out.query("round > 0").groupby(["round", "stage"]):
        assert set(rows["client"]) == clients
    assert len(held_out.groupby(["round", "stage"])) == 1 + 2 * 2
    assert set(metrics.query("stage == 'training'")["metric"]) == {"loss", "proximal_penalty", "steps"}
    rounds = read_table(tmp_path / "rounds.parquet")
    assert rounds["round"].tolist() == [0, 1, 2]
    assert (rounds["peak_memory_bytes"] > 50e6).all()
    correlations = read_table(tmp_path / "correlations.parquet")
    assert len(correlations) == 2 * 3 * 3  # rounds, groups, groups
    assert (correlations.query("group == other")["correlation"] == 1).all()
    assert (correlations["fused"] == (correlations["correlation"] >= 0.2)).all()


@pytest.mark.parametrize("name", list(ALGORITHMS))
def test_bytes_are_what_each_docstring_says(tiny: MakeExperiment, tmp_path: Path, name: str) -> None:
    algorithm = {key: value for key, value in ALGORITHMS[name].items() if key != "encoder_proximal_weight"}
    experiment = tiny(algorithm=algorithm, rounds=1)
    finish(experiment, tmp_path)
    model = sum(v.nbytes for tree in models(tmp_path, experiment).values() for v in tree.values())
    row = read_table(tmp_path / "rounds.parquet").iloc[1]
    expected = 0 if name == "local" else model
    assert (row["bytes_up"], row["bytes_down"]) == (expected, expected)
