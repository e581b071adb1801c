"""pfl's SimulatedBackend in the processes that torchrun starts."""

from typing import Any

import torch
from pfl.aggregate.simulate import SimulatedBackend
from pfl.aggregate.weighting import WeightByDatapoints
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.pytorch import PyTorchTensorDataset
from pfl.data.sampling import get_user_sampler
from pfl.hyperparam import NNTrainHyperParams
from pfl.metrics import Metrics, Weighted
from pfl.model.pytorch import PyTorchModel
from torch import Tensor

from benchmarks.overhead_arms.federation import (
    BATCH,
    LEARNING_RATE,
    STEPS,
    Clock,
    Model,
    Size,
    Tensors,
    make_clients,
    make_model,
)


class Measured(Model):
    """With the function that pfl asks for; it evaluates in the first round alone, which is not timed."""

    def metrics(self, inputs: Tensor, targets: Tensor) -> dict[str, Any]:
        """The summed loss and its weight."""
        return {"loss": Weighted(float(self.loss(inputs, targets).detach()) * len(targets), len(targets))}


class Laps:
    """A callback that tells the clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def on_train_begin(self, **_: Any) -> Any:
        """Before the first round."""
        self._clock.start()
        return Metrics()

    def after_central_iteration(self, *_: Any, **__: Any) -> tuple[bool, Any]:
        """After each round; never stops."""
        self._clock.lap()
        return False, Metrics()

    def on_train_end(self, **_: Any) -> None:
        """Nothing to do."""


def federate(size: Size, rounds: int, clock: Clock) -> Tensors:
    """FedAvg, the cohort being all clients."""
    users = {
        number: PyTorchTensorDataset((client.inputs, client.targets), user_id=str(number))
        for number, client in enumerate(make_clients(size))
    }
    data = FederatedDataset(users.__getitem__, get_user_sampler("minimize_reuse", list(users)))
    module = Measured(size.width)
    module.load_state_dict(make_model(size).state_dict())
    model = PyTorchModel(module, torch.optim.SGD, torch.optim.SGD(module.parameters(), lr=1.0))
    FederatedAveraging().run(
        NNAlgorithmParams(
            central_num_iterations=rounds,
            evaluation_frequency=rounds + 1,
            train_cohort_size=size.clients,
            val_cohort_size=None,
        ),
        SimulatedBackend(data, data, [WeightByDatapoints()]),
        model,
        NNTrainHyperParams(
            local_batch_size=BATCH, local_num_epochs=None, local_num_steps=STEPS, local_learning_rate=LEARNING_RATE
        ),
        callbacks=[Laps(clock)],
        send_metrics_to_platform=False,
    )
    torch.distributed.destroy_process_group()
    return dict(module.named_parameters())
