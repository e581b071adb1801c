"""The round loop: cohorts, identities between algorithms, what a run leaves, and the driver on Ray and resumed.

What every algorithm keeps by itself is in ``algorithms/test_contract.py``.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mfed_ray.algorithms.fedavg import FedAvg
from mfed_ray.driver import run
from mfed_ray.errors import ConfigError
from mfed_ray.experiment import Experiment, parse_experiment
from mfed_ray.experiment.clients import make_clients, open_datasets
from mfed_ray.experiment.federation import make_simulation
from mfed_ray.experiment.trainers import TrainerFactory
from mfed_ray.federation import checkpoint
from mfed_ray.federation.backend import Done, Failed, Job, Late
from mfed_ray.federation.checkpoint import Checkpoint
from mfed_ray.federation.events import Evaluated, Progress
from mfed_ray.federation.simulation import Simulation
from mfed_ray.messages import ClientSpec, Params, State
from mfed_ray.results.frame import read_table
from mfed_ray.results.loading import load_results
from mfed_ray.runtime.serial import SerialBackend
from mfed_ray.runtime.worker import Worker
from tests.rounds import Round

MakeExperiment = Callable[..., Experiment]
Rounds = list[tuple[Round, Checkpoint]]
Serially = Callable[..., Rounds]
Deployed = Callable[[Experiment, Rounds], dict[str, Params]]
Ended = Callable[[Experiment], tuple[Mapping[str, Params], list[str]]]
Values = dict[tuple[str, str, str], np.ndarray[Any, np.dtype[np.float32]]]

MFED = {
    "name": "mfed",
    "decoder_proximal_weight": 0.1,
    "encoder_proximal_weight": 0.1,
    "correlation": "cka",
    "probe_images": 2,
    "correlation_threshold": 0.2,
}


STEM = "encoder.conv1.weight"


def clients(*groups: tuple[str, int]) -> list[dict[str, Any]]:
    """``("saliency+human_parts", 2)``: two clients with both tasks."""
    return [{"tasks": tasks.split("+"), "data": "scenes", "count": count} for tasks, count in groups]


ONE_TASK = {"clients": clients(("saliency", 3))}
ALONE = {"clients": clients(("semantic_segmentation", 1), ("saliency+surface_normals", 1), ("saliency", 1))}
ONE_CLIENT = {"clients": clients(("saliency+surface_normals", 1))}


def simulation(experiment: Experiment) -> Simulation:
    return make_simulation(experiment, make_clients(experiment))


def drawn(federation: Simulation, number: int) -> list[str]:
    return [client.name for client in federation.cohort(number)]


def test_everybody_trains_where_no_cohort_is_asked_for(tiny: MakeExperiment) -> None:
    everybody = sorted(client.name for client in make_clients(tiny()))
    for size in (None, 4, 9):
        assert sorted(drawn(simulation(tiny(clients_per_round=size)), 1)) == everybody


def test_a_cohort_is_drawn_from_seed_and_round(tiny: MakeExperiment) -> None:
    federation = simulation(tiny(clients_per_round=2))
    rounds = [frozenset(drawn(federation, number)) for number in range(1, 41)]
    assert {len(cohort) for cohort in rounds} == {2}
    assert len(set(rounds)) == 6  # all pairs of four clients
    assert rounds == [frozenset(drawn(federation, number)) for number in range(1, 41)]
    assert rounds != [frozenset(drawn(replace(federation, seed=1), number)) for number in range(1, 41)]


def test_a_cohort_does_not_depend_on_the_order_of_the_clients(tiny: MakeExperiment) -> None:
    federation = simulation(tiny(clients_per_round=3))
    reversed_ = replace(federation, clients=federation.clients[::-1])
    assert all(sorted(drawn(federation, number)) == sorted(drawn(reversed_, number)) for number in range(1, 9))


def test_everybody_is_who_trains_and_who_is_evaluated(tiny: MakeExperiment) -> None:
    names = {client.name for client in make_clients(tiny())}
    everybody = [client.name for client in simulation(tiny()).everybody]
    assert (len(everybody), set(everybody)) == (4, names)
    everybody = [client.name for client in simulation(tiny(algorithm={"name": "centralised"})).everybody]
    assert (len(everybody), set(everybody)) == (5, names | {"centre"})


LOCAL, FEDAVG = {"name": "local"}, {"name": "fedavg"}
IDENTITIES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "fedprox(mu=0) = fedavg": ({"name": "fedprox", "proximal_weight": 0}, FEDAVG, {}),
    "mfed(tau>1, lambda=0, decoder_init=global) = fedavg": (
        {"name": "mfed", "correlation_threshold": 1.1, "decoder_proximal_weight": 0, "decoder_init": "global"},
        FEDAVG,
        {},
    ),
    "mfed(lambda=0), one task = fedper": ({"name": "mfed", "decoder_proximal_weight": 0}, {"name": "fedper"}, ONE_TASK),
    "ditto(lambda=0) = local": ({"name": "ditto", "proximal_weight": 0}, LOCAL, {}),
    "fedamp(lambda=0) = local": ({"name": "fedamp", "proximal_weight": 0}, LOCAL, {}),
    "fedhca2(alpha=beta=rate=0) = local": (
        {"name": "fedhca2", "encoder_weight": 0, "decoder_weight": 0, "hyper_learning_rate": 0},
        LOCAL,
        {},
    ),
    "fedavg, one client per task = local": (FEDAVG, LOCAL, ALONE),
    "fedper, one client = local": ({"name": "fedper"}, LOCAL, ONE_CLIENT),
    "matfl, one client = local": ({"name": "matfl"}, LOCAL, ONE_CLIENT),
    "centralised, one client = local": ({"name": "centralised"}, LOCAL, ONE_CLIENT),
    "centralised within tasks, one client per task = local": ({"name": "centralised", "scope": "task"}, LOCAL, ALONE),
    "centralised within tasks, one task = centralised": (
        {"name": "centralised", "scope": "task"},
        {"name": "centralised"},
        ONE_TASK,
    ),
}
"""By name: the one, the other, and the sections of the configuration under which they are the same."""


@pytest.fixture(scope="module")
def ended(serially: Serially, deployed: Deployed) -> Ended:
    """``ended(experiment)``: each client's model as it deploys it in the end, and all that was measured of them."""

    @lru_cache(maxsize=3)
    def end(resolved: str) -> tuple[Mapping[str, Params], list[str]]:
        experiment = parse_experiment(json.loads(resolved))
        rounds = serially(experiment)
        return deployed(experiment, rounds), [repr(one.held_out) for report, _ in rounds for one in report.evaluated]

    return lambda experiment: end(json.dumps(experiment.resolved()))


@pytest.mark.parametrize("identity", list(IDENTITIES))
def test_identities(tiny: MakeExperiment, ended: Ended, identity: str) -> None:
    """Bit for bit after two rounds: the models that the clients deploy, and their metrics."""
    one, other, sections = IDENTITIES[identity]
    assert_identity(tiny(algorithm=one, **sections), tiny(algorithm=other, **sections), ended)


@pytest.mark.parametrize("normalisation", ["average", "local"])
@pytest.mark.parametrize("identity", ["ditto(lambda=0) = local", "fedhca2(alpha=beta=rate=0) = local"])
def test_identities_with_batchnorm(tiny: MakeExperiment, ended: Ended, identity: str, normalisation: str) -> None:
    """What leaves a client and what it keeps come together again."""
    sections = {"model": {"normalisation": normalisation}, "local": {"optimizer_state": "keep"}}
    one, other, _ = IDENTITIES[identity]
    assert_identity(tiny(algorithm=one, **sections), tiny(algorithm=other, **sections), ended)


def test_an_identity_with_detectors(tiny_coco: MakeExperiment, ended: Ended) -> None:
    one, other, _ = IDENTITIES["mfed(tau>1, lambda=0, decoder_init=global) = fedavg"]
    assert_identity(tiny_coco(algorithm=one), tiny_coco(algorithm=other), ended)


def assert_identity(one: Experiment, other: Experiment, ended: Ended) -> None:
    models, held_out = ended(one)
    expected_models, expected_held_out = ended(other)
    assert models.keys() == expected_models.keys()
    for client, model in models.items():
        assert [name for name, value in model.items() if not np.array_equal(value, expected_models[client][name])] == []
    assert held_out == expected_held_out


def test_fedavg_whose_server_steps_all_the_way_is_fedavg(tiny: MakeExperiment, ended: Ended) -> None:
    """x + 1 (mean - x) is the mean but for rounding."""
    server = {"name": "momentum", "learning_rate": 1.0, "beta1": 0.0}
    # one round: rounding grows in training
    stepped, averaged = (
        ended(tiny(algorithm={"name": "fedavg", **more}, rounds=1))[0] for more in ({"server": server}, {})
    )
    for client, model in stepped.items():
        for name, value in model.items():
            np.testing.assert_allclose(value, averaged[client][name], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["fedavg", "fedprox", "fedper", "fedrep", "matfl", "fedhca2", "mfed"])
def test_sharing_is_not_local(tiny: MakeExperiment, ended: Ended, name: str) -> None:
    """Two clients of one task end otherwise than alone: nothing that shares is local training under another name."""
    shared, alone = (ended(tiny(algorithm={"name": one}, rounds=1))[0] for one in (name, "local"))
    client = "semantic_segmentation-0"
    assert not np.array_equal(shared[client][STEM], alone[client][STEM])


@pytest.mark.parametrize("name", ["ditto", "fedamp"])
def test_a_pull_is_not_local(tiny: MakeExperiment, ended: Ended, name: str) -> None:
    algorithms: tuple[dict[str, Any], ...] = ({"name": name, "proximal_weight": 10.0}, {"name": "local"})
    pulled, alone = (ended(tiny(algorithm=algorithm))[0] for algorithm in algorithms)
    client = "semantic_segmentation-0"
    assert not np.array_equal(pulled[client][STEM], alone[client][STEM])


def test_mfed_of_one_task_shares_the_encoder_and_keeps_the_decoders(any_tiny: MakeExperiment, ended: Ended) -> None:
    """mfed(lambda = 0, one task): one encoder for all, each client its own decoder, as in FedPer."""
    two = [{"tasks": any_tiny().clients[0].tasks, "data": "scenes", "count": 2}]
    experiment = any_tiny(algorithm={"name": "mfed", "decoder_proximal_weight": 0}, clients=two, rounds=1)
    a, b = ended(experiment)[0].values()
    assert all(np.array_equal(a[name], b[name]) == name.startswith("encoder.") for name in a)


def test_decoder_pull_changes_the_second_round(tiny: MakeExperiment, serially: Serially) -> None:
    """In the first round every decoder stands on its anchor; after it lambda must matter."""
    rounds = [serially(tiny(algorithm={"name": "mfed", "decoder_proximal_weight": weight})) for weight in (0.0, 1.0)]
    (_, *free), (_, *pulled) = rounds

    def penalties(reported: tuple[Round, Checkpoint]) -> list[float]:
        name = "semantic_segmentation"
        return [one.training[name]["proximal_penalty"] for one in reported[0].fitted if name in one.training]

    assert [penalties(one) for one in free] == [[0, 0], [0, 0]]
    assert min(penalties(pulled[1])) > 0
    name, decoder = "decoders.semantic_segmentation.classifier.weight", "decoder/semantic_segmentation"
    assert not np.array_equal(free[1][1].server.params[decoder][name], pulled[1][1].server.params[decoder][name])


def finish(experiment: Experiment, folder: Path) -> tuple[Values, pd.DataFrame]:
    """Run to the end; all parameters that anybody holds, and all metrics."""
    for _ in run(experiment, folder):
        pass
    last = checkpoint.load_latest(folder / "checkpoints")
    assert last is not None
    values = {
        (holder, tree, name): value
        for holder, state in {"server": last.server, **last.clients}.items()
        for tree, params in state.params.items()
        for name, value in params.items()
    }
    return values, load_results(folder)


def assert_same(a: tuple[Values, pd.DataFrame], b: tuple[Values, pd.DataFrame]) -> None:
    assert a[0].keys() == b[0].keys()
    assert all(np.array_equal(value, b[0][key]) for key, value in a[0].items())
    pd.testing.assert_frame_equal(a[1], b[1], check_exact=True)


def interrupt(events: Iterator[object], after_round: int) -> None:
    """Follow a run into the round after the one named, and leave it there."""
    rounds = 0
    for event in events:
        if isinstance(event, Evaluated):
            rounds = event.round
        elif rounds == after_round:
            break
    assert rounds == after_round
    events.close()  # type: ignore[attr-defined]


RAY_OF_ONE = {"backend": "ray", "max_actors": 1}


@pytest.mark.parametrize(("federation", "going_on"), [("tiny", RAY_OF_ONE), ("tiny_coco", {"backend": "serial"})])
@pytest.mark.usefixtures("ray_cluster")
def test_a_run_begun_on_ray_ends_the_same_on_fewer_actors_or_none(
    request: pytest.FixtureRequest, tmp_path: Path, federation: str, going_on: dict[str, Any]
) -> None:
    """Through the driver. Detectors draw samples of anchors and proposals, which must not depend on who drew before."""
    tiny: MakeExperiment = request.getfixturevalue(federation)
    begun = tiny(algorithm=MFED, runtime={"backend": "ray", "max_actors": 2})
    interrupt(run(begun, tmp_path / "resumed"), after_round=1)
    resumed = finish(tiny(algorithm=MFED, runtime=going_on), tmp_path / "resumed")
    assert_same(finish(tiny(algorithm=MFED), tmp_path / "serial"), resumed)
    fusing, again = (read_table(tmp_path / name / "fusing.parquet") for name in ("serial", "resumed"))
    pd.testing.assert_frame_equal(fusing, again, check_exact=True)


def test_what_a_run_leaves(tiny: MakeExperiment, tmp_path: Path) -> None:
    finish(tiny(algorithm=MFED), tmp_path)
    metrics = load_results(tmp_path)
    names = {"semantic_segmentation-0", "semantic_segmentation-1", "saliency-0", "surface_normals-0"}
    held_out = metrics[metrics["split"] == "val"]
    assert set(held_out.query("round == 0")["stage"]) == {"after_aggregation", "floor"}
    for _, rows in held_out.query("round > 0").groupby(["round", "stage"]):
        assert set(rows["client"]) == names
    assert len(held_out.groupby(["round", "stage"])) == 2 + 2 * 2
    assert set(metrics.query("stage == 'training'")["metric"]) == {"loss", "proximal_penalty", "steps"}
    rounds = read_table(tmp_path / "rounds.parquet")
    assert rounds["round"].tolist() == [0, 1, 2]
    assert (rounds["peak_memory_bytes"] > 50e6).all()
    correlations = read_table(tmp_path / "correlations.parquet")
    assert len(correlations) == 2 * 3 * 3  # rounds, groups, groups
    assert (correlations.query("group == other")["correlation"] == 1).all()
    assert (correlations["fused"] == (correlations["correlation"] >= 0.2)).all()
    fusing = read_table(tmp_path / "fusing.parquet")
    assert len(fusing) == 2 * 3 * 3 * 5  # and blocks of a ResNet-10
    itself = fusing["group"] == fusing["other"]
    assert (fusing["own_length"].notna() == itself).all()
    # of the three groups one has two clients
    assert set(fusing.loc[itself & fusing["agreement"].notna(), "group"]) == {"semantic_segmentation"}
    assert fusing.loc[~itself, "agreement"].between(-1, 1).all()


def test_a_run_leaves_the_floor_of_every_client_and_task_once(tiny: MakeExperiment, tmp_path: Path) -> None:
    """The clients' two held-out images, read here: of semantic segmentation the share of the most frequent class."""
    experiment = tiny(evaluation={"every": 1, "stages": ["before_aggregation"]})
    finish(experiment, tmp_path)
    floors = load_results(tmp_path).query("stage == 'floor'").set_index(["client", "metric"])
    assert set(floors["round"]) == {0}
    assert floors.index.is_unique
    assert {client for client, _ in floors.index} == {client.name for client in make_clients(experiment)}
    dataset = open_datasets(experiment)["scenes"]
    first = make_clients(experiment)[0]
    labels = [dataset.read(image, first.tasks).targets[first.tasks[0]].reshape(-1) for image in first.held_out_ids]
    counts = np.bincount(np.concatenate(labels), minlength=256)[:255]
    for number in range(2):
        assert floors.loc[(f"semantic_segmentation-{number}", "pixel_accuracy"), "value"] == counts.max() / counts.sum()


def test_what_a_run_of_a_cohort_leaves(tiny: MakeExperiment, tmp_path: Path) -> None:
    """Only who was drawn has trained; everybody is evaluated after aggregation."""
    finish(tiny(algorithm={"name": "fedavg"}, clients_per_round=2), tmp_path)
    metrics = load_results(tmp_path).query("round > 0")
    for stage, count in (("training", 2), ("before_aggregation", 2), ("after_aggregation", 4)):
        by_round = metrics[metrics["stage"] == stage].groupby("round")["client"].nunique()
        assert by_round.tolist() == [count, count]


def test_what_a_centralised_run_leaves(tiny: MakeExperiment, tmp_path: Path) -> None:
    """The centre trains, the clients are evaluated with its model."""
    finish(tiny(algorithm={"name": "centralised"}), tmp_path)
    metrics = load_results(tmp_path).query("round > 0")
    assert set(metrics.query("stage == 'training'")["client"]) == {"centre"}
    assert set(metrics["stage"]) == {"training", "after_aggregation"}
    assert metrics.query("stage == 'after_aggregation'")["client"].nunique() == 4


def test_what_a_run_of_a_centre_for_each_task_leaves(tiny: MakeExperiment, tmp_path: Path) -> None:
    finish(tiny(algorithm={"name": "centralised", "scope": "task"}), tmp_path)
    metrics = load_results(tmp_path).query("round > 0")
    groups = {"semantic_segmentation", "saliency", "surface_normals"}
    assert set(metrics.query("stage == 'training'")["client"]) == {f"centre/{group}" for group in groups}
    assert metrics.query("stage == 'after_aggregation'")["client"].nunique() == 4


@dataclass
class Counting:
    """The serial backend, and the jobs that it was given."""

    inner: SerialBackend
    jobs: list[Job] = field(default_factory=list)

    def submit(self, jobs: Sequence[Job]) -> None:
        self.jobs += jobs
        self.inner.submit(jobs)

    def completed(self, timeout: float | None = None) -> Done | Failed | Late:
        return self.inner.completed(timeout)

    def abandon(self, jobs: Sequence[Job], again: bool = False) -> None:
        self.inner.abandon(jobs, again)

    def accept(self, done: Done) -> None:
        self.inner.accept(done)

    def states(self) -> Mapping[str, State]:
        return self.inner.states()

    def restore(self, states: Mapping[str, State]) -> None:
        self.inner.restore(states)


def counted(experiment: Experiment) -> tuple[list[Job], list[Evaluated]]:
    made = make_clients(experiment)
    worker = Worker({client.name: client for client in made}, experiment.algorithm, TrainerFactory(experiment), 1)
    backend = Counting(SerialBackend(worker))
    events = list(make_simulation(experiment, made).run(backend, None))
    return backend.jobs, [event for event in events if isinstance(event, Evaluated)]


@pytest.mark.parametrize(
    ("algorithm", "evaluated"),
    [
        ({"name": "fedavg"}, [3, 3, 3]),  # the two clients that segment have one model
        ({"name": "fedper"}, [3, 4, 4]),  # each has a decoder of its own, once it has trained
    ],
)
def test_clients_with_one_model_and_one_set_of_images_are_evaluated_once(
    tiny: MakeExperiment, algorithm: dict[str, Any], evaluated: list[int]
) -> None:
    jobs, events = counted(tiny(algorithm=algorithm))
    by_round = [sum(job.kind == "evaluate" and job.instruction.round == n + 1 for job in jobs) for n in range(3)]
    assert by_round == evaluated
    for event in events:
        first, second, *_ = event.reports
        assert [report.client for report in event.reports] == [client.name for client in make_clients(tiny())]
        shared = first.client.startswith("semantic") and (algorithm["name"] == "fedavg" or event.round == 0)
        if shared:
            assert repr(first.held_out) == repr(second.held_out)


def test_a_resumed_run_is_evaluated_where_its_last_round_was_not(tiny: MakeExperiment) -> None:
    experiment = tiny(algorithm={"name": "fedavg"})
    made = make_clients(experiment)
    worker = Worker({client.name: client for client in made}, experiment.algorithm, TrainerFactory(experiment), 1)
    whole_run = list(make_simulation(experiment, made).run(SerialBackend(worker), None))
    saved = {step[0].round: step[1] for step in whole_run if isinstance(step, tuple)}

    def told(evaluated: bool) -> list[tuple[str, int]]:
        steps = make_simulation(experiment, made).run(SerialBackend(worker), saved[1], evaluated)
        events = [step[0] if isinstance(step, tuple) else step for step in steps]
        return [(type(event).__name__, event.round) for event in events if not isinstance(event, Progress)]

    assert told(evaluated=True) == [("Trained", 2), ("Evaluated", 2)]
    assert told(evaluated=False) == [("Evaluated", 1), ("Trained", 2), ("Evaluated", 2)]


class HalfWeighted(FedAvg):
    """FedAvg that would have one client's update as it is, and another's added up."""

    def weight(self, client: ClientSpec) -> float | None:
        return None if client.name.endswith("0") else 1.0


def test_a_group_is_added_up_as_a_whole_or_not_at_all(tiny: MakeExperiment) -> None:
    federation = replace(simulation(tiny(algorithm=FEDAVG)), algorithm=HalfWeighted())
    message = r"^algorithm HalfWeighted: weight is None for some clients of semantic_segmentation, a number for others"
    with pytest.raises(ConfigError, match=message):
        federation._fit_jobs(federation.start, 1, absent=())
