"""A run in its folder whose clients only add up: no images, no models, milliseconds."""

import resource
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mfed_ray.algorithms.fedavg import FedAvg
from mfed_ray.averages import PartialMean
from mfed_ray.evaluation import AFTER_AGGREGATION, Headline
from mfed_ray.federation.backend import Done, Job
from mfed_ray.federation.checkpoint import Checkpoint, Checkpoints
from mfed_ray.federation.events import Event
from mfed_ray.federation.simulation import Simulation
from mfed_ray.messages import ClientReport, ClientSpec, RunIdentity, State, Update
from mfed_ray.recording import recorded
from mfed_ray.results.run_folder import RunFolder

ROUNDS = 3
CLIENTS = [ClientSpec.of(name, ("saliency",), "toy", (name,), ("held",)) for name in ("saliency-0", "saliency-1")]
RUN = RunIdentity("toy-fedavg-0-0-seed0", "toy", "fedavg", 0, "0")
CONFIG = {"name": "toy", "rounds": ROUNDS}


@dataclass
class ToyBackend:
    """Clients that add one to what they load and keep what it came to; a job at each call of ``completed``."""

    waiting: list[Job] = field(default_factory=list)
    kept: dict[str, State] = field(default_factory=dict)

    def submit(self, jobs: Sequence[Job]) -> None:
        self.waiting += jobs

    def completed(self, timeout: float | None = None) -> Done:
        del timeout
        job = self.waiting.pop(0)
        client = next(client for client in CLIENTS if client.name == job.client)
        before = {name: value for tree in job.instruction.load for name, value in tree.items()}
        score = {"saliency": {"max_miou": float(sum(value.sum() for value in before.values()))}}
        if job.kind == "evaluate":
            return Done((job,), (ClientReport(job.client, held_out=score),), (), {}, {})
        params = {name: value * np.float32(0.9) + 1 + job.place for name, value in before.items()}
        assert job.weight is not None
        means = {client.group: [PartialMean(job.place, 0, job.weight, params)]}
        report = ClientReport(job.client, {"saliency": {"loss": score["saliency"]["max_miou"]}})
        kept = {job.client: State({"own": dict(params)})}
        return Done((job,), (report,), (Update(client.name, client.group, 1, {}),), means, kept)

    def accept(self, done: Done) -> None:
        self.kept.update(done.states)  # type: ignore[arg-type]

    def states(self) -> Mapping[str, State]:
        return dict(self.kept)

    def restore(self, states: Mapping[str, State]) -> None:
        self.kept = dict(states)

    def abandon(self, jobs: Sequence[Job], again: bool = False) -> None:
        raise AssertionError(f"nobody is late: {jobs} {again}")


def toy_run(path: Path, checkpoints: Checkpoints) -> Generator[Event, None, None]:
    initial = {"saliency": {"encoder.w": np.zeros(3, np.float32), "decoders.saliency.w": np.zeros(2, np.float32)}}
    stages = frozenset({AFTER_AGGREGATION})
    simulation = Simulation(FedAvg(), CLIENTS, initial, lambda *_: np.zeros(1), ROUNDS, stages, 1, None, 0)  # type: ignore[arg-type, return-value]
    headlines = {"saliency": Headline("max_miou", higher_is_better=True)}
    yield from recorded(
        simulation, ToyBackend(), RunFolder(path), CONFIG, RUN, {}, headlines, checkpoints, lambda: None
    )


def run_to_the_end(path: Path, checkpoints: Checkpoints) -> None:
    for _ in toy_run(path, checkpoints):
        pass


def same(a: Checkpoint, b: Checkpoint) -> bool:
    def told(one: Checkpoint) -> list[Any]:
        states = [one.server, *one.clients.values()]
        trees = [{name: v.tobytes() for name, v in tree.items()} for s in states for tree in s.params.values()]
        return [one.round, list(one.clients), [(list(s.params), s.values) for s in states], trees]

    return told(a) == told(b)


@contextmanager
def files_of(largest: int) -> Iterator[None]:
    """No file of this process may grow beyond so many bytes: to it, the disk is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
