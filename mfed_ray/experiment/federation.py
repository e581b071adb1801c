"""The federation of an experiment: its clients, models and algorithm as a simulation, checked before it starts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mfed_ray.errors import ConfigError
from mfed_ray.evaluation import AFTER_AGGREGATION
from mfed_ray.experiment.schema import Experiment
from mfed_ray.federation.simulation import Simulation
from mfed_ray.local_training import steps_of_round
from mfed_ray.messages import ClientSpec, Params


@dataclass
class Probe:
    """An ``EncoderProbe`` that is made when it is first asked: most algorithms never do, and it needs torch."""

    experiment: Experiment
    _probe: "Callable[[str, Params, int], NDArray[np.float32]] | None" = None

    def __call__(self, group: str, encoder: Params, images: int) -> NDArray[np.float32]:
        """Features, float32 [rows, channels]; see ``mfed_ray.experiment.probe``."""
        if self._probe is None:
            from mfed_ray.experiment.probe import EncoderProbe

            self._probe = EncoderProbe(self.experiment)
        return self._probe(group, encoder, images)


def make_simulation(
    experiment: Experiment, clients: Sequence[ClientSpec], initial: Mapping[str, Params] | None = None
) -> Simulation:
    """The federation of these clients, on its ``initial`` models by task group; None: they are made here.

    Raises ConfigError where the algorithm cannot work with the training or evaluation that is configured.
    """
    _check_training(experiment, clients)
    if initial is None:
        from mfed_ray.experiment.models import make_initial

        initial = make_initial(experiment, clients)
    return Simulation(
        experiment.algorithm,
        clients,
        initial,
        Probe(experiment),
        experiment.rounds,
        frozenset(experiment.evaluation.stages),
        experiment.evaluation.every,
        experiment.clients_per_round,
        experiment.seed,
        experiment.faults,
        experiment.runtime.max_retries,
    )


def _steps(experiment: Experiment, client: ClientSpec) -> int:
    """Number of optimization steps of the client's round."""
    local = experiment.local
    return sum(
        steps_of_round(len(source.ids(withhold=True)), local.epochs, local.batch_size, local.max_steps)
        for source in client.sources
    )


def _check_training(experiment: Experiment, clients: Sequence[ClientSpec]) -> None:
    """Raises ConfigError for what an algorithm would pass over in silence, or fail at in its first round."""
    algorithm, name = experiment.algorithm, experiment.algorithm_name
    if algorithm.trainees(clients) != clients:
        if experiment.clients_per_round is not None:
            raise ConfigError(
                f"clients_per_round: {experiment.clients_per_round} found, but {name} trains on all clients' images "
                "together; leave it out"
            )
        if AFTER_AGGREGATION not in experiment.evaluation.stages:
            raise ConfigError(
                f"evaluation.stages: {', '.join(experiment.evaluation.stages)} found, but with {name} no client has a "
                f"model before aggregation; add {AFTER_AGGREGATION}"
            )
    if experiment.rounds < algorithm.least_rounds:
        raise ConfigError(
            f"rounds: {experiment.rounds} found, but {name} judges encoders until round {algorithm.least_rounds}; "
            "raise rounds, or lower algorithm.judging.until"
        )
    for client in clients:
        if (steps := _steps(experiment, client)) < algorithm.least_steps:
            raise ConfigError(
                f"local.max_steps, local.epochs: client {client.name} takes {steps} of the {algorithm.least_steps} "
                f"steps a round that {name} needs at least; raise one of them, or give the client more images"
            )
