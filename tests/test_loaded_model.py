"""What a client's turn copies, counted: its model once in, from wherever it lies, and once out."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from mfed_ray import loaded_model
from mfed_ray.experiment import Experiment
from mfed_ray.experiment.clients import make_clients
from mfed_ray.experiment.federation import make_simulation
from mfed_ray.experiment.trainers import TrainerFactory
from mfed_ray.federation.backend import Job
from mfed_ray.params import nbytes
from mfed_ray.runtime.worker import Worker


def test_a_turn_copies_its_model_once_in_and_once_out(
    tiny: Callable[..., Experiment], monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = tiny(algorithm={"name": "fedavg"}, model={"normalisation": "average"})
    clients = make_clients(experiment)
    simulation = make_simulation(experiment, clients)
    worker = Worker({clients[0].name: clients[0]}, experiment.algorithm, TrainerFactory(experiment), threads=1)
    job = Job("fit", experiment.algorithm.instruct(simulation.start, clients[0], 1))
    worker.run([job], {})  # the model is built
    copied = {"in": 0, "out": 0}
    copyto, out = np.copyto, loaded_model._copied

    def counting_in(target: Any, source: Any, **options: Any) -> None:
        copied["in"] += target.nbytes
        copyto(target, source, **options)

    def counting_out(tensors: Mapping[str, Tensor]) -> loaded_model.Values:
        values = out(tensors)
        copied["out"] += nbytes([values])
        return values

    with monkeypatch.context() as patched:
        patched.setattr(np, "copyto", counting_in)
        patched.setattr(loaded_model, "_copied", counting_out)
        worker.run([job], {})
    model = nbytes(job.instruction.load)
    assert copied == {"in": model, "out": model}
