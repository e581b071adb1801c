"""Local training: one SGD step whose result is known, nothing sent, and the next round starts from it."""

from collections.abc import Callable

import numpy as np
import pytest

from mfed_ray.algorithms.local import Local
from mfed_ray.experiment import Experiment
from mfed_ray.experiment.clients import make_clients
from mfed_ray.experiment.trainers import TrainerFactory
from mfed_ray.messages import State

MakeExperiment = Callable[..., Experiment]


def test_round_by_hand(tiny: MakeExperiment) -> None:
    """With the loss weighted 0, a step of SGD with weight decay 0.5 and rate 0.1 takes w to w (1 - 0.05)."""
    local = {"optimizer": "sgd", "momentum": 0.0, "learning_rate": 0.1, "weight_decay": 0.5, "max_steps": 1}
    experiment = tiny(local={**local, "loss_weights": {"semantic_segmentation": 0.0}})
    client = make_clients(experiment)[0]
    trainer = TrainerFactory(experiment)(client)
    algorithm, name = Local(), "decoders.semantic_segmentation.classifier.weight"
    server = algorithm.init([client], {client.group: trainer.model.initial})
    start = trainer.model.initial[name]
    assert np.abs(start).max() > 0
    state = State()
    for round_number in (1, 2):
        fit = algorithm.fit(trainer, algorithm.instruct(server, client, round_number), state)
        state = fit.state
        assert fit.params == {}
        np.testing.assert_allclose(state.params["model"][name], start * 0.95**round_number, rtol=1e-6)
    after, diagnostics = algorithm.aggregate(server, [], lambda _group, _encoder, _images: pytest.fail("not asked for"))
    assert (after, dict(diagnostics.correlations)) == (server, {})
