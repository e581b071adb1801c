"""What every registered algorithm keeps, whatever it does: one federation, the same questions to all.

A new algorithm needs an entry in ``BYTES`` and one in ``SETTINGS``, where defaults that are too tame become bolder.
"""

import copy
import json
import os
import re
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import yaml
from torch import nn

from mfed_ray.algorithms import ALGORITHMS
from mfed_ray.errors import ConfigError
from mfed_ray.experiment import Experiment, parse_experiment
from mfed_ray.experiment.clients import make_clients
from mfed_ray.experiment.federation import make_simulation
from mfed_ray.experiment.models import make_model
from mfed_ray.experiment.trainers import TrainerFactory
from mfed_ray.federation import checkpoint
from mfed_ray.federation.backend import Done, Failed, Job, Late
from mfed_ray.federation.checkpoint import Checkpoint
from mfed_ray.loaded_model import float_values
from mfed_ray.messages import ClientSpec, Params, State
from mfed_ray.runtime.placement import Placement
from mfed_ray.runtime.pool import ActorPool
from mfed_ray.runtime.ray_backend import RayBackend
from tests.rounds import Round, whole

MakeExperiment = Callable[..., Experiment]
Rounds = list[tuple[Round, Checkpoint]]
Serially = Callable[..., Rounds]
Deployed = Callable[[Experiment, Rounds], dict[str, Params]]

KEPT_AND_PRIVATE = {"model": {"normalisation": "local"}, "local": {"optimizer_state": "keep"}}
AVERAGED = {"model": {"normalisation": "average"}}
SETTINGS: dict[str, dict[str, Any]] = {
    "local": KEPT_AND_PRIVATE,
    "centralised": KEPT_AND_PRIVATE,
    "fedavg": {"algorithm": {"scope": "all", "server": {"name": "adam"}}, **AVERAGED},
    "fedprox": {"algorithm": {"proximal_weight": 0.5, "weighting": "uniform"}, **AVERAGED},
    "fedper": KEPT_AND_PRIVATE,
    "fedrep": {"local": {"optimizer_state": "keep"}},
    "ditto": {"algorithm": {"proximal_weight": 0.5}, **KEPT_AND_PRIVATE},
    "fedamp": {"algorithm": {"proximal_weight": 5.0}, **AVERAGED},
    "matfl": AVERAGED,
    "fedhca2": AVERAGED,
    "mfed": {
        "algorithm": {
            "decoder_proximal_weight": 0.1,
            "encoder_proximal_weight": 0.1,
            "correlation": "cka",
            "probe_images": 2,
            "correlation_threshold": 0.2,
            "correlation_momentum": 0.5,
        }
    },
}
"""Sections of the configuration, other than the federation's, under which an algorithm is asked."""

VARIANTS: dict[str, dict[str, Any]] = {
    "mfed between unlike encoders": {
        "algorithm": {
            "name": "mfed",
            "correlation_threshold": -1.0,
            "correlation_momentum": 0.5,
            "fusion": "soft",
            "decoder_init": "global",
            "server": {"name": "momentum", "beta1": 0.5},
        },
        "clients": {1: {"encoder": "resnet18"}},
    },
    "mfed between unlike models of one task": {
        "algorithm": {"name": "mfed", "correlation_threshold": 0.0, "decoder_init": "global"},
        "clients": {2: {"tasks": ["semantic_segmentation"], "encoder": "resnet18", "decoder_width": 12}},
        "model": {"normalisation": "average", "width": 16},
    },
    "mfed, judged": {
        "algorithm": {
            "name": "mfed",
            "correlation_threshold": "judged",
            "judging": {"until": 2, "rounds": 1, "steps": 2},
        }
    },
    "mfed, sum": {"algorithm": {"name": "mfed", "fusion": "sum"}, **AVERAGED},
    "matfl, soft": {"algorithm": {"name": "matfl", "grouping": "soft", "shift": 0.5, "groups": None}},
    "centralised within tasks, between unlike encoders": {
        "algorithm": {"name": "centralised", "scope": "task"},
        "clients": {1: {"encoder": "resnet18"}},
        **KEPT_AND_PRIVATE,
    },
    "fedavg, trimmed": {"algorithm": {"name": "fedavg", "scope": "all", "weighting": {"trim": 0.3}}},
    "fedamp by distance": {"algorithm": {"name": "fedamp", "attention": "distance", "proximal_weight": 5.0}},
}
"""What of an algorithm deserves to be asked as well."""


@dataclass(frozen=True)
class Sizes:
    """Bytes of one trainee's model by part, less the BatchNorm that is its own; and those of that BatchNorm.

    ``statistics``: of the BatchNorm that is not its own, a share of encoder and decoders. ``blocks``: the number of the
    encoder's.
    """

    encoder: int
    decoders: int
    heads: int
    private: int
    statistics: int
    blocks: int


Formula = Callable[[Sizes, int], tuple[int, int]]
"""Bytes up and down of a trainee in a round, as the class's docstring says."""


def _nothing(_: Sizes, __: int) -> tuple[int, int]:
    return 0, 0


def _model(s: Sizes, _: int) -> tuple[int, int]:
    return s.encoder + s.decoders, s.encoder + s.decoders


def _model_and_lengths(s: Sizes, _: int) -> tuple[int, int]:
    return s.encoder + s.decoders + 8 * s.blocks, s.encoder + s.decoders


def _encoder(s: Sizes, _: int) -> tuple[int, int]:
    return s.encoder, s.encoder


def _bodies(s: Sizes, _: int) -> tuple[int, int]:
    learned = s.encoder + s.decoders - s.heads - s.statistics
    return learned, learned


def _centre(s: Sizes, round_number: int) -> tuple[int, int]:
    model = s.encoder + s.decoders
    return model + s.private, model + (s.private if round_number > 1 else 0)


BYTES: dict[str, Formula] = {
    "local": _nothing,
    "centralised": _centre,
    "fedavg": _model,
    "fedprox": _model,
    "fedper": _encoder,
    "fedrep": _encoder,
    "ditto": _model,
    "fedamp": _encoder,
    "matfl": _encoder,
    "fedhca2": _bodies,
    "mfed": _model_and_lengths,
}


def sizes(experiment: Experiment, client: ClientSpec) -> Sizes:
    """From the shapes of a model's tensors alone."""
    model = make_model(experiment, client.tasks, client.model)
    own = experiment.model.normalisation == "local"
    layers = {name for name, module in model.named_modules() if own and isinstance(module, nn.BatchNorm2d)}
    found = dict.fromkeys(("encoder", "decoders", "heads", "private", "statistics"), 0)
    for name, tensor in model.state_dict().items():
        layer, _, last = name.rpartition(".")
        if last == "num_batches_tracked":
            continue
        found["private" if layer in layers else name.partition(".")[0]] += 4 * tensor.numel()
        if last.startswith("running_") and layer not in layers:
            found["statistics"] += 4 * tensor.numel()
        found["heads"] += 4 * tensor.numel() if layer.endswith(".classifier") else 0
    blocks = 1 + sum(bool(re.fullmatch(r"encoder\.layer\d\.\d+", name)) for name, _ in model.named_modules())
    return Sizes(**found, blocks=blocks)  # of a ResNet the stem is one


@dataclass(frozen=True)
class Subject:
    """An algorithm in its federation, run serially to the end: rounds 0, 1 and 2."""

    case: str
    name: str
    experiment: Experiment
    clients: list[ClientSpec]
    rounds: Rounds


def federation(tiny: MakeExperiment, name: str, **sections: Any) -> Experiment:
    """Two clients of one task, one of two tasks, one more: three task groups."""
    settings = copy.deepcopy(VARIANTS[name] if name in VARIANTS else {"algorithm": {"name": name}, **SETTINGS[name]})
    settings["algorithm"].setdefault("name", name)
    clients: list[dict[str, Any]] = [
        {"tasks": ["semantic_segmentation"], "data": "scenes", "count": 2},
        {"tasks": ["saliency", "surface_normals"], "data": "scenes"},
        {"tasks": ["saliency"], "data": "scenes"},
    ]
    for index, more in settings.pop("clients", {}).items():
        clients[index] |= more
    # without weight decay, nothing moves that has no gradient
    settings["local"] = {**settings.get("local", {}), "weight_decay": 0.0}
    return tiny(clients=clients, **{**settings, **sections})


@pytest.fixture(scope="module", params=[*ALGORITHMS, *VARIANTS])
def subject(request: pytest.FixtureRequest, tiny: MakeExperiment, serially: Serially) -> Subject:
    experiment = federation(tiny, request.param)
    clients = make_clients(experiment)
    return Subject(request.param, experiment.algorithm_name, experiment, clients, serially(experiment, clients))


@pytest.fixture(scope="module")
def pool(ray_cluster: None) -> Iterator[ActorPool]:
    """Two actors for all, which Ray restarts as often as they die."""
    del ray_cluster
    made = ActorPool(Placement({"here": 2}, clients=4), cpus=0.5, gpus=0, max_retries=3)
    yield made
    made.close()


def assert_same_state(a: State, b: State) -> None:
    assert a.params.keys() == b.params.keys()
    for tree, params in a.params.items():
        other = b.params[tree]
        assert list(params) == list(other), tree
        assert all(np.array_equal(value, other[name]) for name, value in params.items()), tree
    assert json.dumps(a.values, sort_keys=True) == json.dumps(b.values, sort_keys=True)


def assert_same(a: tuple[Round, Checkpoint], b: tuple[Round, Checkpoint]) -> None:
    """Bit for bit: what the server and every client hold, all metrics, diagnostics, bytes."""
    assert_same_state(a[1].server, b[1].server)
    assert a[1].clients.keys() == b[1].clients.keys()
    for client, state in a[1].clients.items():
        assert_same_state(state, b[1].clients[client])
    assert outcome(a[0]) == outcome(b[0])


def outcome(report: Round) -> tuple[Any, ...]:
    """All of a report but its times and memory, whatever the order of the clients; metrics as text, for nan = nan."""
    reports = {
        phase: {one.client: (one.training, one.held_out, one.floors) for one in clients}
        for phase, clients in (("fit", report.fitted), ("evaluate", report.evaluated))
    }
    told = json.dumps(reports, sort_keys=True)
    return report.round, told, report.diagnostics, report.bytes_up, report.bytes_down


def test_every_algorithm_has_its_formula_of_bytes() -> None:
    assert BYTES.keys() == ALGORITHMS.keys()
    assert SETTINGS.keys() == ALGORITHMS.keys()


@pytest.mark.parametrize("name", list(ALGORITHMS))
def test_a_configuration_goes_through_yaml_and_back(tiny: MakeExperiment, name: str) -> None:
    experiment = federation(tiny, name)
    resolved = experiment.resolved()
    assert list(resolved["algorithm"]) == ["name", *ALGORITHMS[name].model_fields]
    again = parse_experiment(yaml.safe_load(yaml.safe_dump(resolved, sort_keys=False)))
    assert again == experiment
    assert again.algorithm_name == name


@pytest.mark.parametrize("name", list(ALGORITHMS))
def test_an_unknown_field_is_refused_with_the_nearest(tiny: MakeExperiment, name: str) -> None:
    fields = ["name", *ALGORITHMS[name].model_fields]
    wrong = f"{fields[-1]}z"
    message = rf"^algorithm\.{wrong}: unknown key; did you mean '{fields[-1]}'\? \(allowed: {', '.join(fields)}\)$"
    with pytest.raises(ConfigError, match=message):
        tiny(algorithm={"name": name, wrong: 1})


@dataclass
class Killing:
    """Runs clients on ``inner``, and kills an actor for real once the first of ``round`` have finished: one that trains
    others, or else the one that still holds what these clients left."""

    inner: RayBackend
    pids: Sequence[int]
    round: int
    killed: int | None = None

    def submit(self, jobs: Sequence[Job]) -> None:
        self.inner.submit(jobs)

    def completed(self, timeout: float | None = None) -> Done | Failed | Late:
        result = self.inner.completed(timeout)
        if isinstance(result, Late):  # on a machine that is busy
            return result
        if self.killed is None and result.jobs[0].instruction.round == self.round and result.jobs[0].kind == "fit":
            others = [call.place for call in self.inner._running]
            self.killed = self.pids[others[0] if others else self.inner._served[result.jobs[0].client]]
            os.kill(self.killed, signal.SIGKILL)
        return result

    def abandon(self, jobs: Sequence[Job], again: bool = False) -> None:
        self.inner.abandon(jobs, again)

    def accept(self, done: Done) -> None:
        self.inner.accept(done)

    def states(self) -> Mapping[str, State]:
        return self.inner.states()

    def restore(self, states: Mapping[str, State]) -> None:
        self.inner.restore(states)


def process_ids(pool: ActorPool) -> list[int]:
    return list(ray.get([actor.__ray_call__.remote(lambda _: os.getpid()) for actor in pool.actors]))


def test_serial_is_ray_is_ray_with_a_killed_actor_is_resumed(
    subject: Subject, pool: ActorPool, serially: Serially, tmp_path: Path
) -> None:
    simulation = make_simulation(subject.experiment, subject.clients)
    factory = TrainerFactory(subject.experiment)
    inner = RayBackend(pool, simulation.everybody, subject.experiment.algorithm, factory, threads=1)
    backend = Killing(inner, process_ids(pool), round=2)
    resumed: Rounds = []
    steps = []
    for step in simulation.run(backend, None):
        steps.append(step)
        if isinstance(step, tuple) and step[0].round == 1:
            checkpoint.save(tmp_path, step[1])
        elif backend.killed is not None and not resumed:  # while a new actor starts
            resumed = serially(subject.experiment, subject.clients, resume=checkpoint.load_latest(tmp_path))
    for reported, expected in zip(whole(steps), subject.rounds, strict=True):
        assert_same(reported, expected)
    assert len(resumed) == 1
    assert_same(resumed[0], subject.rounds[2])
    assert backend.killed not in process_ids(pool)


def test_the_order_of_the_clients_changes_no_bit(subject: Subject, serially: Serially) -> None:
    rounds = serially(subject.experiment, subject.clients[::-1], until=1)
    assert_same(rounds[1], subject.rounds[1])


def test_every_learned_parameter_of_every_client_moves_in_every_round(subject: Subject, deployed: Deployed) -> None:
    """What is frozen by accident, or loaded over what was trained, stands still."""
    models = [deployed(subject.experiment, subject.rounds[: number + 1]) for number in range(3)]
    for client in subject.clients:
        model = make_model(subject.experiment, client.tasks, client.model)
        start = float_values(model)
        assert all(np.array_equal(value, models[0][client.name][name]) for name, value in start.items())
        for before, after in pairwise(models):
            still = [
                name
                for name, _ in model.named_parameters()
                if np.array_equal(before[client.name][name], after[client.name][name])
            ]
            assert still == [], client.name


def test_every_task_of_every_client_is_trained_and_measured(subject: Subject) -> None:
    for report, _ in subject.rounds[1:]:
        assert [one.client for one in report.evaluated] == [client.name for client in subject.clients]
        for client, one in zip(subject.clients, report.evaluated, strict=True):
            assert one.held_out.keys() == set(client.tasks)
        losses = {task for one in report.fitted for task, found in one.training.items() if found.get("loss", 0) > 0}
        assert losses == {task for client in subject.clients for task in client.tasks}
        for one in (*report.fitted, *report.evaluated):
            found = {
                f"{task}.{name}": value
                for metrics in (one.training, one.held_out)
                for task, by_name in metrics.items()
                for name, value in by_name.items()
                if not name.startswith("iou/")  # of a class that no image has
            }
            assert found
            assert [name for name, value in found.items() if not np.isfinite(value)] == []


def evidence(subject: Subject, round_number: int) -> tuple[int, int]:
    """Bytes up and down of M-Fed's evidence.

    `judged`, in round 2: down the two other groups' encoders to each client, up a float64 for each of the three
    candidates.
    """
    if getattr(subject.experiment.algorithm, "correlation_threshold", None) == "judged" and round_number == 2:
        encoder = sizes(subject.experiment, subject.clients[0]).encoder
        return 3 * 8 * len(subject.clients), 2 * encoder * len(subject.clients)
    return 0, 0


def test_bytes_are_what_the_docstring_says(subject: Subject) -> None:
    trainees = subject.experiment.algorithm.trainees(subject.clients)
    assert "Bytes" in str(ALGORITHMS[subject.name].__doc__)
    models = [sizes(subject.experiment, trainee) for trainee in trainees]
    for number in (1, 2):
        report, _ = subject.rounds[number]
        expected = [BYTES[subject.name](one, number) for one in models]
        up, down = evidence(subject, number)
        assert report.bytes_up == sum(up for up, _ in expected) + up
        assert report.bytes_down == sum(down for _, down in expected) + down


def test_who_follows_another_is_the_same_everywhere(
    tiny: MakeExperiment, pool: ActorPool, serially: Serially, tmp_path: Path
) -> None:
    """Judged in round 2; in round 3 a group goes over, in round 4 it follows. A follower sends its decoders alone; in
    round 3 it is sent both encoders, its own to be evaluated with."""
    experiment = federation(tiny, "mfed, judged", rounds=4, seed=2)
    clients = make_clients(experiment)
    rounds = serially(experiment, clients)
    leaders = rounds[2][1].server.values["leaders"]
    followers = [client for client in clients if leaders[client.group] != client.group]
    assert followers
    by_task = {client: sizes(experiment, client) for client in clients}
    for number in (3, 4):
        report, _ = rounds[number]
        sent = [
            one.decoders + (0 if client in followers else one.encoder + 8 * one.blocks)
            for client, one in by_task.items()
        ]
        got = [one.decoders + one.encoder for one in by_task.values()]
        over = sum(by_task[client].encoder for client in followers) if number == 3 else 0
        assert (report.bytes_up, report.bytes_down) == (sum(sent), sum(got) + over)
    simulation = make_simulation(experiment, clients)
    inner = RayBackend(pool, simulation.everybody, experiment.algorithm, TrainerFactory(experiment), threads=1)
    backend = Killing(inner, process_ids(pool), round=3)
    steps = list(simulation.run(backend, None))
    for reported, expected in zip(whole(steps), rounds, strict=True):
        assert_same(reported, expected)
    for number in (2, 3):
        checkpoint.save(tmp_path / str(number), rounds[number][1])
        resumed = serially(experiment, clients, resume=checkpoint.load_latest(tmp_path / str(number)))
        for again, expected in zip(resumed, rounds[number + 1 :], strict=True):
            assert_same(again, expected)


def test_a_cohort_trains_and_nobody_else(subject: Subject, tiny: MakeExperiment, serially: Serially) -> None:
    """Whoever is not drawn keeps its state, and is served and evaluated all the same; the draw is the seed's."""
    evaluation = {"stages": ["after_aggregation"], "max_images": 1}
    experiment = federation(tiny, subject.case, clients_per_round=2, evaluation=evaluation)
    algorithm = experiment.algorithm
    if algorithm.trainees(subject.clients) != subject.clients:
        with pytest.raises(ConfigError, match="clients_per_round: 2 found, but centralised"):
            make_simulation(experiment, subject.clients)
        return
    rounds = serially(experiment)
    names = {trainee.name for trainee in algorithm.trainees(subject.clients)}
    for (_, before), (report, after) in pairwise(rounds):
        drawn = {one.client for one in report.fitted}
        assert len(drawn) == min(2, len(names))
        assert drawn <= names
        for name in names - drawn:
            assert_same_state(before.clients.get(name, State()), after.clients.get(name, State()))
        assert len(report.evaluated) == len(subject.clients)
        for client in subject.clients:
            then, now = (algorithm.instruct(one.server, client, 1).load for one in (before, after))
            assert all(tree.keys() <= other.keys() for tree, other in zip(then, now, strict=True))
    again = serially(experiment, make_clients(experiment)[::-1], until=1)
    assert_same(again[1], rounds[1])
    simulation = make_simulation(experiment, subject.clients)
    draws = {frozenset(one.name for one in replace(simulation, seed=seed).cohort(1)) for seed in range(8)}
    assert (len(draws) > 1) == (len(names) > 2)
