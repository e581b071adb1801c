"""The trainer on a real tiny model: proximal gradients, what is kept, what is sent, schedules."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mfed_ray.errors import ClientError
from mfed_ray.experiment import Experiment
from mfed_ray.experiment.clients import make_clients
from mfed_ray.experiment.trainers import TrainerFactory
from mfed_ray.messages import ClientSpec, Part, Proximal, State
from mfed_ray.params import decoders_of, encoder_of
from mfed_ray.training import Trainer, proximal_penalty

MakeExperiment = Callable[..., Experiment]


def first_trainer(experiment: Experiment, client: int = 0) -> Trainer:
    torch.set_num_threads(1)
    return TrainerFactory(experiment)(make_clients(experiment)[client])


def test_proximal_gradient_is_exact_and_not_zero() -> None:
    """The trap of detached terms: without a gradient FedProx is FedAvg."""
    generator = torch.Generator().manual_seed(0)
    parameter = torch.randn(50, generator=generator).requires_grad_()
    anchor = torch.randn(50, generator=generator)
    proximal_penalty([(parameter, anchor, 0.3)], torch.device("cpu")).backward()  # type: ignore[no-untyped-call]
    assert parameter.grad is not None
    assert torch.equal(parameter.grad, 0.3 * (parameter - anchor).detach())
    assert bool(parameter.grad.ne(0).all())


def test_proximal_penalty_by_hand() -> None:
    terms = [(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 1.0]), 0.5), (torch.tensor([0.0]), torch.tensor([2.0]), 2.0)]
    # 0.5/2 * (4 + 1) + 2/2 * 4
    assert float(proximal_penalty(terms, torch.device("cpu"))) == 5.25


def test_one_sgd_step_moves_by_the_proximal_gradient(tiny: MakeExperiment) -> None:
    """w1 = w0 - lr (g + lambda (w0 - a)): a proximal step differs from a plain one by exactly the term's gradient."""
    local = {"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0, "learning_rate": 0.5, "max_steps": 1}
    trainer = first_trainer(tiny(local=local))

    def step(*terms: Proximal) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
        trainer.start(State())
        trainer.train(1, terms)
        return trainer.shared()

    trainer.start(State())
    start = trainer.shared()
    anchor = {name: value + np.float32(1.0) for name, value in decoders_of(start).items()}
    plain, pulled = step(), step(Proximal(anchor, 0.25))
    for name in decoders_of(start):
        # lr * lambda * (a - w0) = 0.5 * 0.25 * 1
        np.testing.assert_allclose(pulled[name] - plain[name], 0.125, atol=1e-5)
    assert all(np.array_equal(pulled[name], plain[name]) for name in encoder_of(start))


def test_training_is_a_pure_function(tiny: MakeExperiment) -> None:
    """Same instruction, state and round: same bytes, whatever was trained in between, and global generators unused."""
    trainer = first_trainer(tiny())
    torch_state, numpy_state = torch.get_rng_state(), str(np.random.get_state())  # noqa: NPY002

    def fit(round_number: int) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
        trainer.start(State())
        trainer.train(round_number)
        return trainer.shared()

    first, other, again = fit(1), fit(2), fit(1)
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert any(not np.array_equal(first[name], other[name]) for name in first)
    assert torch.equal(torch_state, torch.get_rng_state())
    assert numpy_state == str(np.random.get_state())  # noqa: NPY002


def test_loading_workers_change_no_bit(tiny: MakeExperiment) -> None:
    results = []
    for workers in (0, 2):
        trainer = first_trainer(tiny(local={"loading_workers": workers}))
        trainer.start(State())
        trainer.train(1)
        results.append(trainer.shared())
    assert all(np.array_equal(results[0][name], results[1][name]) for name in results[0])


def test_later_overlays_win(tiny: MakeExperiment) -> None:
    trainer = first_trainer(tiny())
    name = next(iter(trainer.shared()))
    one, two, three = ({name: np.full_like(trainer.shared()[name], value)} for value in (1, 2, 3))
    trainer.start(State({"model": one}), two, three)
    assert trainer.shared()[name].ravel()[0] == 3
    trainer.start(State({"model": one}))
    assert trainer.shared()[name].ravel()[0] == 1


@pytest.mark.parametrize("normalisation", ["average", "local", "frozen", "group"])
def test_what_each_normalisation_policy_sends_and_keeps(
    tiny: MakeExperiment, normalisation: str, tmp_path: Path
) -> None:
    weights = None
    if normalisation == "frozen":
        donor = first_trainer(tiny(model={"normalisation": "average", "width": 64}))
        weights = str(tmp_path / "weights.pth")
        torch.save(donor.model.module.encoder.state_dict(), weights)
    trainer = first_trainer(tiny(model={"normalisation": normalisation, "weights": weights, "width": 64}))
    trainer.start(State())
    before = trainer.model.module.state_dict()["encoder.bn1.weight"].clone()
    trainer.train(1)
    sent, kept = trainer.shared(), trainer.state().params.get("model", {})
    statistics = [name for name in sent if name.endswith("running_mean")]
    assert bool(statistics) == (normalisation == "average")
    assert ("encoder.bn1.weight" in sent) == (normalisation in ("average", "group"))
    assert ("encoder.bn1.weight" in kept) == (normalisation == "local")
    assert ("encoder.bn1.running_var" in kept) == (normalisation == "local")
    moved = not torch.equal(before, trainer.model.module.state_dict()["encoder.bn1.weight"])
    assert moved == (normalisation != "frozen")
    assert not any(name.endswith("num_batches_tracked") for name in (*sent, *kept))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_kept_optimizer_state_goes_on_where_it_stopped(tiny: MakeExperiment, optimizer: str) -> None:
    """A kept state changes the second round, travels with the client, and AdamW counts on from it."""
    results = {}
    for policy in ("keep", "reset"):
        local = {"optimizer": optimizer, "optimizer_state": policy, "max_steps": 1}
        trainer = first_trainer(tiny(local=local))
        trainer.start(State())
        trainer.train(1)
        state, sent = trainer.state(), trainer.shared()
        assert bool(state.params.get("optimizer")) == (policy == "keep")
        trainer.start(State())
        trainer.start(state, sent)
        trainer.train(2)
        results[policy] = trainer.shared(), trainer.state()
    kept, reset = results["keep"][0], results["reset"][0]
    assert any(not np.array_equal(kept[name], reset[name]) for name in kept)
    if optimizer == "adamw":
        steps = [v for k, v in results["keep"][1].params["optimizer"].items() if k.endswith("/step")]
        assert {float(step) for step in steps} == {2.0}


def moved_parts(trainer: Trainer, *parts: Part) -> set[str]:
    """Which learned parameters a round moves: ``encoder``, ``decoders``. Each moves whole or not at all."""
    learned = dict(trainer.model.module.named_parameters())
    trainer.start(State())
    start = trainer.shared()
    trainer.train(1, parts=parts)
    moved = {
        part: {not np.array_equal(value, start[name]) for name, value in trainer.shared().items() if name in names}
        for part in ("encoder", "decoders")
        if (names := {name for name in learned if name.startswith(f"{part}.")})
    }
    assert all(len(answers) == 1 for answers in moved.values())
    return {part for part, answers in moved.items() if answers == {True}}


def test_a_part_is_trained_while_the_rest_stands_still(tiny: MakeExperiment) -> None:
    trainer = first_trainer(tiny(local={"weight_decay": 0.1}))
    assert moved_parts(trainer, "decoders") == {"decoders"}
    assert moved_parts(trainer, "encoder") == {"encoder"}
    assert moved_parts(trainer, "decoders", "encoder") == {"encoder", "decoders"}
    assert moved_parts(trainer, "model") == {"encoder", "decoders"}  # nothing stays frozen


def test_statistics_go_on_where_the_parameters_stand_still(tiny: MakeExperiment) -> None:
    trainer = first_trainer(tiny(model={"normalisation": "average"}))
    trainer.start(State())
    start = trainer.shared()
    trainer.train(1, parts=("decoders",))
    assert not np.array_equal(trainer.shared()["encoder.bn1.running_mean"], start["encoder.bn1.running_mean"])
    np.testing.assert_array_equal(trainer.shared()["encoder.bn1.weight"], start["encoder.bn1.weight"])


@pytest.mark.parametrize(("steps", "of_the_decoders"), [(2, 1), (3, 1), (4, 2)])
def test_parts_share_the_rounds_steps(tiny: MakeExperiment, steps: int, of_the_decoders: int) -> None:
    """The first part takes the first half of the batches, as if there were no others; the second the rest."""
    whole = first_trainer(tiny(local={"max_steps": steps, "epochs": 2}))
    half = first_trainer(tiny(local={"max_steps": of_the_decoders, "epochs": 2}))
    for trainer in (whole, half):
        trainer.start(State())
    assert whole.train(1, parts=("decoders", "encoder"))["semantic_segmentation"]["steps"] == steps
    half.train(1, parts=("decoders",))
    for name, value in decoders_of(half.shared()).items():
        np.testing.assert_array_equal(whole.shared()[name], value)


def test_more_parts_than_steps(tiny: MakeExperiment) -> None:
    trainer = first_trainer(tiny(local={"max_steps": 1}))
    trainer.start(State())
    message = (
        "client semantic_segmentation-0, round 3: 1 steps cannot be shared among 2 turns of training parts; raise "
        r"local\.epochs or local\.max_steps"
    )
    with pytest.raises(ClientError, match=message):
        trainer.train(3, parts=("decoders", "encoder"))


def test_parts_keep_each_its_optimizer_state(tiny: MakeExperiment) -> None:
    """AdamW counts each parameter's own steps: a part that had no turn keeps its count, and is not forgotten."""
    trainer = first_trainer(tiny(local={"optimizer_state": "keep", "max_steps": 2}))

    def train(state: State, *parts: Part) -> tuple[State, dict[str, set[float]]]:
        trainer.start(state, trainer.shared())
        trainer.train(1, parts=parts)
        kept = trainer.state()
        steps = {name: value for name, value in kept.params["optimizer"].items() if name.endswith("/step")}
        assert len(steps) == len(dict(trainer.model.module.named_parameters()))
        return kept, {
            part: {float(value) for name, value in steps.items() if name.startswith(f"{part}.")}
            for part in ("encoder", "decoders")
        }

    first, counted = train(State(), "decoders", "encoder")
    assert counted == {"encoder": {1.0}, "decoders": {1.0}}
    second, counted = train(first, "decoders")
    assert counted == {"encoder": {1.0}, "decoders": {3.0}}
    name = "encoder.conv1.weight/exp_avg"
    np.testing.assert_array_equal(second.params["optimizer"][name], first.params["optimizer"][name])
    _, counted = train(second, "model")
    assert counted == {"encoder": {3.0}, "decoders": {5.0}}


def test_gradients_that_others_left_behind_do_not_count(tiny: MakeExperiment) -> None:
    """Clients of a group take turns with one model: what clipping sees is this step's gradient alone."""
    trainer = first_trainer(tiny(local={"optimizer": "sgd", "gradient_clip": 0.01, "learning_rate": 1.0}))

    def fit() -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
        trainer.start(State())
        trainer.train(1, parts=("decoders", "encoder"))
        return trainer.shared()

    first, again = fit(), fit()
    assert all(np.array_equal(value, again[name]) for name, value in first.items())


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [("constant", [1, 1, 1]), ("cosine", [1, 0.5 + 0.5 * 0.5**0.5, 0.5]), ("polynomial", [1, 0.75**0.9, 0.5**0.9])],
)
def test_learning_rates_by_hand(tiny: MakeExperiment, schedule: str, expected: list[float]) -> None:
    settings = tiny(local={"schedule": schedule, "learning_rate": 1.0}).local
    assert [settings.learning_rate_at(number, 4) for number in (1, 2, 3)] == pytest.approx(expected)


def test_loss_weight_scales_the_gradient(tiny: MakeExperiment) -> None:
    local = {"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0, "learning_rate": 1e-3, "max_steps": 1}
    steps = []
    for weight in (1.0, 2.0):
        trainer = first_trainer(tiny(local={**local, "loss_weights": {"semantic_segmentation": weight}}))
        trainer.start(State())
        start = trainer.shared()
        trainer.train(1)
        name = "decoders.semantic_segmentation.classifier.bias"
        steps.append(trainer.shared()[name] - start[name])
    assert np.abs(steps[0]).max() > 0
    np.testing.assert_allclose(steps[1], 2 * steps[0], rtol=1e-3, atol=1e-8)


def test_gradient_clip_bounds_the_step(tiny: MakeExperiment) -> None:
    local = {"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0, "learning_rate": 1.0, "max_steps": 1}
    trainer = first_trainer(tiny(local={**local, "gradient_clip": 0.01}))
    trainer.start(State())
    start = trainer.shared()
    trainer.train(1)
    moved = sum(float(np.square(value - start[name]).sum()) for name, value in trainer.shared().items()) ** 0.5
    assert moved == pytest.approx(0.01, rel=1e-2)


def test_epochs_and_steps_are_counted(tiny: MakeExperiment) -> None:
    trainer = first_trainer(tiny(local={"max_steps": None, "epochs": 3}))
    trainer.start(State())
    metrics = trainer.train(1)["semantic_segmentation"]
    assert metrics["steps"] == 3 * (trainer.spec.examples // 2)  # batches of 2, an incomplete one is dropped
    assert metrics["loss"] > 0
    assert metrics["proximal_penalty"] == 0


def test_a_shard_smaller_than_a_batch_still_trains(tiny: MakeExperiment) -> None:
    trainer = first_trainer(tiny(local={"batch_size": 64, "max_steps": None}))
    trainer.start(State())
    assert trainer.train(1)["semantic_segmentation"]["steps"] == 1


def test_a_client_of_two_tasks_trains_both_decoders(tiny: MakeExperiment) -> None:
    experiment = tiny(clients=[{"tasks": ["surface_normals", "saliency"], "data": "scenes"}])
    trainer = first_trainer(experiment)
    trainer.start(State())
    start = trainer.shared()
    metrics = trainer.train(1)
    assert set(metrics) == {"saliency", "surface_normals", "saliency+surface_normals"}
    for task in ("saliency", "surface_normals"):
        name = f"decoders.{task}.classifier.bias"
        assert not np.array_equal(trainer.shared()[name], start[name])
    assert set(trainer.evaluate()) == {"saliency", "surface_normals"}


def test_a_client_without_held_out_images_trains_on_every_source_and_has_no_metrics(tiny: MakeExperiment) -> None:
    experiment = tiny()
    sources = tuple(source for client in make_clients(experiment)[2:] for source in client.sources)
    trainer = TrainerFactory(experiment)(ClientSpec("pool", ("saliency", "surface_normals"), sources, ()))
    trainer.start(State())
    metrics = trainer.train(1)
    assert metrics["saliency+surface_normals"]["steps"] == 2 + 2
    assert metrics["saliency"]["loss"] > 0
    assert metrics["surface_normals"]["loss"] > 0
    assert trainer.evaluate() == {}


def test_evaluation_does_not_depend_on_its_batches(tiny: MakeExperiment) -> None:
    trainer = first_trainer(tiny())
    trainer.start(State())
    one = dataclasses.replace(trainer, evaluation_batch_size=1).evaluate()
    assert one["semantic_segmentation"]["miou"] == pytest.approx(trainer.evaluate()["semantic_segmentation"]["miou"])


def test_a_loss_that_is_not_finite_ends_the_round_with_client_and_step(tiny_coco: MakeExperiment) -> None:
    """Diverged detectors find nothing, which would pass for a poor score."""
    wild = tiny_coco(local={"optimizer": "sgd", "learning_rate": 1e20})
    trainer = first_trainer(wild)
    trainer.start(State())
    message = (
        r"client instance_segmentation-0, round 1, step 2: the loss of instance_segmentation is (nan|inf), it must be "
        r"finite; lower local\.learning_rate \(1e\+20\) or set local\.gradient_clip"
    )
    with pytest.raises(ClientError, match=message):
        trainer.train(1)


def test_a_client_of_several_coco_tasks_trains_and_is_evaluated_in_each(tiny_coco: MakeExperiment) -> None:
    tasks = ["instance_segmentation", "keypoint_detection", "panoptic_segmentation", "stuff_segmentation"]
    trainer = first_trainer(tiny_coco(clients=[{"tasks": tasks, "data": "scenes"}]))
    trainer.start(State())
    before = trainer.shared()
    trained = trainer.train(1)
    assert all(trained[task]["loss"] > 0 for task in tasks)
    after = trainer.shared()
    for part in ("encoder.body.", "encoder.pyramid.", *(f"decoders.{task}." for task in tasks)):
        assert any(not np.array_equal(after[name], before[name]) for name in after if name.startswith(part)), part
    assert sorted(trainer.evaluate()) == tasks


def test_detectors_load_the_same_with_workers(tiny_coco: MakeExperiment) -> None:
    found = []
    for workers in (0, 1):
        trainer = first_trainer(tiny_coco(local={"loading_workers": workers}))
        trainer.start(State())
        trainer.train(1)
        found.append(trainer.shared())
    assert all(np.array_equal(found[0][name], found[1][name]) for name in found[0])


def test_alignment_trains_decoders_alone_at_the_first_rate(tiny: MakeExperiment) -> None:
    """Under a schedule that ends at 0, the last round's training would stand still. The encoder does, BatchNorm's
    statistics too."""
    sections = {"local": {"schedule": "cosine", "weight_decay": 0.0}, "model": {"normalisation": "average"}}
    trainer = first_trainer(tiny(**sections))
    trainer.start(State())
    before = trainer.shared()
    assert any(name.startswith("encoder.") and name.endswith("running_mean") for name in before)
    trainer.align(trainer.rounds + 1, 2)
    once = trainer.shared()
    moved = {name for name in before if not np.array_equal(once[name], before[name])}
    assert moved == {name for name in before if name.startswith("decoders.")}
    assert all(parameter.requires_grad for parameter in trainer.model.module.parameters())
    trainer.start(State())
    trainer.align(trainer.rounds + 1, 2)
    assert all(np.array_equal(value, once[name]) for name, value in trainer.shared().items())


def test_statistics_that_never_leave_a_client_follow_the_encoder_that_was_loaded(tiny: MakeExperiment) -> None:
    trainer = first_trainer(tiny(model={"normalisation": "local"}))
    trainer.start(State())
    assert trainer.state() == State()
    trainer.train(1, parts=("readout",))
    kept = trainer.state().params["model"]
    assert "encoder.bn1.running_mean" in kept
    assert "encoder.bn1.weight" not in kept


def test_alignment_goes_over_its_images_as_often_as_it_takes(tiny: MakeExperiment) -> None:
    """A round of one epoch of one batch has one step; alignment has as many as it is given."""
    trainer = first_trainer(tiny(local={"epochs": 1, "batch_size": 8}))
    assert sum(shard.steps() for shard in trainer.shards) == 1
    trainer.start(State())
    trainer.align(1, 1)
    one = trainer.shared()
    trainer.start(State())
    trainer.align(1, 3)
    assert any(not np.array_equal(value, one[name]) for name, value in trainer.shared().items())


def test_judging_is_the_mean_objective_of_images_that_are_kept_back(tiny: MakeExperiment) -> None:
    """In evaluation mode, each image in several views; the weight of the task counts, and nothing moves."""
    experiment = tiny(algorithm={"name": "mfed", "correlation_threshold": "judged"}, local={"loss_weights": {}})
    client = make_clients(experiment)[0]
    assert len(client.sources[0].kept_back) == 2
    trainer = TrainerFactory(experiment)(client)
    trainer.start(State())
    before, judged = trainer.shared(), trainer.judge()
    assert all(np.array_equal(value, before[name]) for name, value in trainer.shared().items())
    assert trainer.judge() == judged
    with torch.no_grad():
        batches = list(trainer.shards[0].kept_back_batches())
        losses = [trainer.model.module.eval().losses(*batch)[client.tasks[0]] for batch in batches]
    by_hand = float(np.mean([sum(float(part) for part in parts.values()) for parts in losses]))
    assert judged == pytest.approx(trainer.tasks[0].loss_weight * by_hand)
    twice = tiny(
        algorithm={"name": "mfed", "correlation_threshold": "judged"},
        local={"loss_weights": {client.tasks[0]: 2 * trainer.tasks[0].loss_weight}},
    )
    other = TrainerFactory(twice)(client)
    other.start(State())
    assert other.judge() == pytest.approx(2 * judged)


def test_images_that_are_withheld_are_trained_on_once_that_is_over(tiny: MakeExperiment) -> None:
    """Four images in batches of one, two of them withheld: two steps an epoch, and then four."""
    experiment = tiny(
        algorithm={"name": "mfed", "correlation_threshold": "judged"},
        local={"epochs": 1, "batch_size": 1, "max_steps": None},
    )
    client = make_clients(experiment)[0]
    (source,) = client.sources
    assert (len(source.train_ids), len(source.withheld)) == (4, 2)
    trainer = TrainerFactory(experiment)(client)
    trainer.start(State())
    assert trainer.train(1)[client.group]["steps"] == 2
    assert trainer.train(1, withhold=False)[client.group]["steps"] == 4


def test_a_client_that_keeps_nothing_back_judges_nothing(tiny: MakeExperiment) -> None:
    trainer = first_trainer(tiny())
    trainer.start(State())
    assert np.isnan(trainer.judge())
