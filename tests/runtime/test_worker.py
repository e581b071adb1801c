"""What a client may send and keep: refused where it is made, with client, round, task and parameter."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch

from mfed_ray.algorithms.fedavg import FedAvg
from mfed_ray.algorithms.fedrep import FedRep
from mfed_ray.errors import ClientError
from mfed_ray.experiment import Experiment
from mfed_ray.experiment.clients import make_clients
from mfed_ray.experiment.federation import make_simulation
from mfed_ray.experiment.trainers import TrainerFactory
from mfed_ray.federation.backend import Failed, Job
from mfed_ray.messages import ClientSpec, Instruction
from mfed_ray.runtime.serial import SerialBackend
from mfed_ray.runtime.worker import Worker
from mfed_ray.training import Trainer
from tests.algorithms.toy import ToyTrainer

MakeExperiment = Callable[..., Experiment]
CLIENT = ClientSpec.of("saliency-0", ("saliency",), "scenes", ("1", "2"))
START = {"encoder.w": np.zeros(3, np.float32), "decoders.saliency.w": np.zeros(3, np.float32)}


@dataclass
class Spoilt(ToyTrainer):
    """A toy trainer that sends ``instead`` of what it trained."""

    instead: Mapping[str, Any] = field(default_factory=dict)

    def shared(self) -> dict[str, Any]:
        return {**super().shared(), **self.instead}

    def evaluate(self) -> dict[str, dict[str, float]]:
        raise AssertionError("not asked for")

    floors = evaluate


def failure(instead: Mapping[str, Any], algorithm: FedAvg | FedRep | None = None) -> Failed | None:
    def make_trainer(_: ClientSpec) -> Spoilt:
        return Spoilt(START, [{"saliency": (np.ones(3, np.float32), 16.0)}] * 2, instead=instead)

    backend = SerialBackend(Worker({CLIENT.name: CLIENT}, algorithm or FedAvg(), make_trainer, threads=1))
    backend.submit([Job("fit", Instruction(CLIENT.name, 7, load=(START,)), weight=1.0)])
    result = backend.completed()
    return result if isinstance(result, Failed) else None


@pytest.mark.parametrize(
    ("instead", "told"),
    [
        ({"encoder.w": [0.0, np.nan, 1.0]}, r"encoder\.w has 1 of 3 values that are not finite; "),
        ({"decoders.saliency.w": [np.inf, np.nan, -np.inf]}, r"decoders\.saliency\.w has 3 of 3 values that are not"),
        ({"encoder.w": [0.0, 1.0]}, r"encoder\.w has shape \(2,\); allowed: \(3,\), as its model has it$"),
        ({"encoder.v": [0.0]}, r"encoder\.v is no parameter of its model; allowed: names of its model, as encoder\.w$"),
        ({"first/encoder.w": [0.0]}, r"first/encoder\.w has shape \(1,\); allowed: \(3,\)"),
        ({"encoder.w": np.zeros(3)}, r"encoder\.w is float64; allowed: float32$"),
    ],
)
def test_what_may_not_be_sent(instead: Mapping[str, Any], told: str) -> None:
    spoilt = {name: v if isinstance(v, np.ndarray) else np.array(v, np.float32) for name, v in instead.items()}
    failed = failure(spoilt)
    assert failed is not None
    with pytest.raises(ClientError, match=rf"^client saliency-0, round 7 \(saliency\): {told}"):
        raise failed.error


def test_finite_numbers_whose_sum_is_not_may_be_sent() -> None:
    largest = np.finfo(np.float32).max
    assert failure({"encoder.w": np.array([largest, largest, -largest], np.float32)}) is None
    assert failure({"before/encoder.w": np.zeros(3, np.float32)}) is None


def test_what_is_kept_must_be_finite_too() -> None:
    """FedRep's decoder never leaves its client: a NaN in it would be found in no update, and in every checkpoint."""
    failed = failure({"decoders.saliency.w": np.array([0, math.nan, 0], np.float32)}, FedRep())
    assert failed is not None
    with pytest.raises(ClientError, match=r"decoders\.saliency\.w has 1 of 3 values that are not finite"):
        raise failed.error


@pytest.mark.parametrize("algorithm", ["fedavg", "local"])
def test_an_infinite_gradient_of_the_last_step(tiny: MakeExperiment, algorithm: str) -> None:
    """The loss of that step is finite, so only the parameters tell. Neither server nor client takes them over."""
    experiment = tiny(algorithm={"name": algorithm}, rounds=1)
    clients, factory = make_clients(experiment), TrainerFactory(experiment)

    def make_trainer(client: ClientSpec) -> Trainer:
        trainer = factory(client)
        if client.name == "saliency-0":
            steps = iter([False, True])  # of two: as a loss whose backward pass overflows
            classifier = next(p for n, p in trainer.model.module.named_parameters() if n.endswith("classifier.bias"))
            classifier.register_hook(  # type: ignore[no-untyped-call]
                lambda g: torch.full_like(g, math.inf) if next(steps, False) else g
            )
        return trainer

    by_name = {client.name: client for client in clients}
    backend = SerialBackend(Worker(by_name, experiment.algorithm, make_trainer, threads=1))
    message = (
        r"^client saliency-0, round 1 \(saliency\): decoders\.saliency\.classifier\.bias has \d+ of \d+ values "
        r"that are not finite; lower local\.learning_rate or set local\.gradient_clip$"
    )
    with pytest.raises(ClientError, match=message):
        list(make_simulation(experiment, clients).run(backend, None))
    kept = [tree for state in backend.states().values() for tree in state.params.values()]
    assert all(np.isfinite(value).all() for tree in kept for value in tree.values())


def test_a_mean_that_fails_half_way_fails_the_whole_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is made in the first client's arrays: nobody may take those for the first client's mean."""
    other = ClientSpec.of("saliency-1", ("saliency",), "scenes", ("3",))

    def make_trainer(_: ClientSpec) -> Spoilt:
        return Spoilt(START, [{"saliency": (np.ones(3, np.float32), 16.0)}])

    def full(*_: object) -> None:
        raise MemoryError("no room for the second half")

    worker = Worker({client.name: client for client in (CLIENT, other)}, FedAvg(), make_trainer, threads=1)
    names = enumerate([CLIENT.name, other.name])
    jobs = [Job("fit", Instruction(name, 1, load=(START,)), place=place, weight=1.0) for place, name in names]
    assert [update.client for update in worker.run(jobs, {}).updates] == [CLIENT.name, other.name]
    monkeypatch.setattr("mfed_ray.averages._join_values", full)
    with pytest.raises(MemoryError, match="no room for the second half"):
        worker.run(jobs, {})
