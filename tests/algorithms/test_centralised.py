"""Centralised training: one trainee with everybody's batches and one model for all tasks."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from torch import Tensor

from mfed_ray.algorithms.centralised import CENTRE, Centralised
from mfed_ray.algorithms.local import Local
from mfed_ray.errors import ConfigError
from mfed_ray.experiment import Experiment
from mfed_ray.experiment.clients import make_clients
from mfed_ray.experiment.models import make_initial
from mfed_ray.experiment.trainers import TrainerFactory
from mfed_ray.messages import ClientSpec, Params, State, Update
from mfed_ray.training import Trainer

MakeExperiment = Callable[..., Experiment]
SEG, PARTS, SALIENCY = "semantic_segmentation", "human_parts", "saliency"
SGD = {"optimizer": "sgd", "momentum": 0.0, "learning_rate": 0.05}


def no_probe(group: str, encoder: Params, images: int) -> NDArray[np.float32]:
    raise AssertionError(f"not asked for: {group} {len(encoder)} {images}")


def array(*values: float) -> NDArray[np.float32]:
    return np.array(values, np.float32)


CLIENTS = [
    ClientSpec.of("p0", (PARTS, SEG), "a", ("1",), ("9",)),
    ClientSpec.of("s0", (SEG,), "b", ("1", "2"), ("9",)),
    ClientSpec.of("s1", (SEG,), "b", ("3", "4", "5"), ("9",)),
]
INITIAL = {
    SEG: {"encoder.w": array(1), f"decoders.{SEG}.w": array(2)},
    f"{PARTS}+{SEG}": {"encoder.w": array(1), f"decoders.{PARTS}.w": array(3), f"decoders.{SEG}.w": array(2)},
}


def test_one_trainee_with_all_tasks_and_shards() -> None:
    (centre,) = Centralised().trainees(CLIENTS)
    assert (centre.name, centre.tasks, centre.dataset) == (CENTRE, (PARTS, SEG), "a+b")
    assert centre.sources == tuple(source for client in CLIENTS for source in client.sources)
    assert centre.examples == 1 + 2 + 3
    assert (centre.train_ids, centre.held_out_ids) == (("1", "1", "2", "3", "4", "5"), ())


def test_round_by_hand() -> None:
    algorithm = Centralised()
    (centre,) = algorithm.trainees(CLIENTS)
    state = algorithm.init(CLIENTS, INITIAL)
    parts = ({"encoder.w": array(1)}, {f"decoders.{PARTS}.w": array(3)}, {f"decoders.{SEG}.w": array(2)})
    assert algorithm.instruct(state, centre, 1).load == parts
    trained = {"encoder.w": array(4), f"decoders.{SEG}.w": array(5), f"decoders.{PARTS}.w": array(6)}
    state, diagnostics = algorithm.aggregate(state, [Update(CENTRE, centre.group, 6, trained)], no_probe)
    # who segments gets the encoder and its own decoder, who does both gets all
    encoder, segments, people = (
        {"encoder.w": array(4)},
        {f"decoders.{SEG}.w": array(5)},
        {f"decoders.{PARTS}.w": array(6)},
    )
    assert algorithm.instruct(state, CLIENTS[1], 2).load == (encoder, segments)
    assert algorithm.instruct(state, CLIENTS[0], 2).load == (encoder, people, segments)
    assert algorithm.instruct(state, CLIENTS[0], 2).load[0] is algorithm.instruct(state, CLIENTS[1], 2).load[0]
    assert algorithm.instruct(state, CLIENTS[0], 2).anchor == ()
    assert diagnostics.correlations == {}


def test_encoders_that_differ() -> None:
    initial = {**INITIAL, SEG: {"encoder.w": array(1, 1), f"decoders.{SEG}.w": array(2)}}
    with pytest.raises(ConfigError, match="centralised shares one encoder among all clients"):
        Centralised().init(CLIENTS, initial)


def pooled_trainer(experiment: Experiment, clients: Sequence[ClientSpec]) -> Trainer:
    (centre,) = Centralised().trainees(clients)
    return TrainerFactory(experiment)(centre)


def observed(trainer: Trainer, round_number: int) -> tuple[list[Tensor], list[Params]]:
    """The images of each step of a round from the initial model, and the parameters before each step and at the end."""
    images: list[Tensor] = []
    params: list[Params] = []
    encoder = trainer.model.module.encoder
    hooks = [
        encoder.register_forward_pre_hook(lambda _, inputs: images.append(inputs[0])),
        encoder.register_forward_pre_hook(lambda *_: params.append(trainer.shared())),
    ]
    trainer.start(State())
    trainer.train(round_number)
    for hook in hooks:
        hook.remove()
    return images, [*params, trainer.shared()]


def test_one_batch_of_each_shard_in_turn(tiny: MakeExperiment) -> None:
    """Batches of 2: saliency with 4 images makes 2 steps, segmentation with 2 images 1; whoever is done falls out."""
    experiment = tiny(local={**SGD, "max_steps": None})
    by_task = {client.tasks[0]: client for client in make_clients(experiment)}
    (source,) = by_task[SEG].sources
    shortened = dataclasses.replace(source, train_ids=source.train_ids[:2])
    segmentation = dataclasses.replace(by_task[SEG], sources=(shortened,))
    clients = [by_task[SALIENCY], segmentation]
    assert [client.examples for client in clients] == [4, 2]
    trainer = pooled_trainer(experiment, clients)
    images, params = observed(trainer, 1)
    (a1, _), (a2, _) = trainer.shards[0].batches(1)
    ((b1, _),) = trainer.shards[1].batches(1)
    assert len(images) == 3
    assert all(image.equal(expected) for image, expected in zip(images, (a1, b1, a2), strict=True))
    # a step trains the encoder and the decoders of its batch's tasks
    for before, after, trained in zip(params, params[1:], (SALIENCY, SEG, SALIENCY), strict=False):
        moved = {name.split(".")[1] for name in before if not np.array_equal(before[name], after[name])}
        assert {SEG, SALIENCY} & moved == {trained}
        assert "conv1" in moved


def test_steps_and_losses_are_those_of_all(tiny: MakeExperiment) -> None:
    experiment = tiny(local={"max_steps": 2})
    clients = make_clients(experiment)
    trainer = pooled_trainer(experiment, clients)
    trainer.start(State())
    metrics = trainer.train(1)
    assert set(metrics) == {SEG, SALIENCY, "surface_normals", trainer.spec.group}
    assert metrics[trainer.spec.group]["steps"] == 2 * len(clients)
    assert all(metrics[task]["loss"] > 0 for task in trainer.spec.tasks)
    assert trainer.evaluate() == {}  # it has no held-out images: the clients are evaluated, each on its own


def test_a_federation_of_one_client_is_local_training_bit_for_bit(tiny: MakeExperiment) -> None:
    experiment = tiny(local={"optimizer_state": "keep"}, model={"normalisation": "local"})
    client = make_clients(experiment)[0]
    found = []
    for algorithm in (Centralised(), Local()):
        factory = TrainerFactory(experiment)
        (trainee,) = algorithm.trainees([client])
        server, state = algorithm.init([client], make_initial(experiment, [client])), State()
        for number in (1, 2):
            fit = algorithm.fit(factory(trainee), algorithm.instruct(server, trainee, number), state)
            update = Update(trainee.name, trainee.group, trainee.examples, fit.params)
            server, _ = algorithm.aggregate(server, [update], no_probe)
            state = fit.state
        # as the client is evaluated: of the centre's model, the private BatchNorm included
        trainer = factory(client)
        trainer.start(State() if trainee.name == CENTRE else state, *algorithm.instruct(server, client, 3).load)
        found.append({name: value.numpy().copy() for name, value in trainer.model.module.state_dict().items()})
    centralised, local = found
    names = [name for name in local if not name.endswith("num_batches_tracked")]
    assert all(np.array_equal(centralised[name], local[name]) for name in names)
