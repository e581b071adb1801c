"""The whole model: names, one encoder pass, odd sizes, and initial parameters that depend on names only."""

from collections.abc import Iterable
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from mfed_ray.models.decoders import DenseDecoder
from mfed_ray.models.encoders import make_encoder
from mfed_ray.models.heads import EDGE_HEAD, NORMALS_HEAD, Head, class_head
from mfed_ray.models.multitask import DecoderFactory, MultiTaskModel, build_model
from mfed_ray.models.normalisation import private_names
from mfed_ray.models.settings import ModelSettings

HEADS = {"parts": class_head(7), "edges": EDGE_HEAD, "normals": NORMALS_HEAD}


def factory(head: Head, policy: str) -> DecoderFactory:
    return partial(
        DenseDecoder, settings=ModelSettings(decoder="light", decoder_width=8, normalisation=policy), head=head
    )


def model_of(tasks: Iterable[str], seed: int = 0, policy: str = "average") -> MultiTaskModel:
    return build_model(
        partial(make_encoder, "resnet10", 16, None, policy),
        {task: factory(HEADS[task], policy) for task in tasks},
        seed,
    )


def same(first: nn.Module, second: nn.Module) -> bool:
    states = first.state_dict(), second.state_dict()
    return states[0].keys() == states[1].keys() and all(
        torch.equal(states[0][key], states[1][key]) for key in states[0]
    )


def test_names_tell_encoder_and_task() -> None:
    model = model_of(["parts", "edges"])
    assert {name.split(".", 1)[0] for name in model.state_dict()} == {"encoder", "decoders"}
    assert {name.split(".")[1] for name in model.state_dict() if name.startswith("decoders.")} == {"parts", "edges"}
    assert {"encoder.conv1.weight", "decoders.parts.classifier.weight"} <= model.state_dict().keys()
    assert model.tasks == ("parts", "edges")


def test_encoder_runs_once_for_all_tasks() -> None:
    model = model_of(HEADS)
    passes: list[int] = []
    model.encoder.register_forward_hook(lambda *_: passes.append(1))
    model.predict(torch.randn(2, 3, 32, 32), (32, 32))
    assert len(passes) == 1


@pytest.mark.parametrize("size", [(32, 32), (45, 71)])
def test_predictions_have_the_images_size(size: tuple[int, int]) -> None:
    predictions = model_of(HEADS).predict(torch.randn(2, 3, 32, 64), size)
    assert {task: [np.shape(one) for one in each] for task, each in predictions.items()} == {
        "parts": [size] * 2,
        "edges": [size] * 2,
        "normals": [(*size, 3)] * 2,
    }


def test_losses_of_the_tasks_with_targets() -> None:
    losses = model_of(HEADS).losses(torch.randn(2, 3, 45, 71), {"edges": torch.ones(2, 45, 71)})
    assert {task: list(each) for task, each in losses.items()} == {"edges": ["edge_cross_entropy"]}


def test_seed_decides_the_parameters() -> None:
    assert same(model_of(HEADS, seed=1), model_of(HEADS, seed=1))
    one, two = model_of(["parts"], seed=1), model_of(["parts"], seed=2)
    assert not same(one.encoder, two.encoder)
    assert not same(one.decoders["parts"], two.decoders["parts"])


def test_parts_do_not_depend_on_what_else_the_model_holds() -> None:
    one, several = model_of(["normals"]), model_of(["edges", "parts", "normals"])
    assert same(one.encoder, several.encoder)
    assert same(one.decoders["normals"], several.decoders["normals"])


def test_decoders_of_equal_shape_start_apart() -> None:
    make = factory(EDGE_HEAD, "average")
    model = build_model(partial(make_encoder, "resnet10", 16, None, "average"), {"one": make, "two": make}, 0)
    assert not same(model.decoders["one"], model.decoders["two"])


def test_global_random_state_is_neither_used_nor_changed() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = model_of(["edges"])
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    assert same(first, model_of(["edges"]))


def test_private_names_cover_encoder_and_decoders() -> None:
    model = model_of(["edges"], policy="local")
    private = private_names(model, "local")
    sent = set(model.state_dict()) - private
    assert {
        "encoder.bn1.weight",
        "encoder.layer2.0.downsample.1.running_var",
        "decoders.edges.trunk.refine.1.bias",
    } <= private
    assert {"encoder.conv1.weight", "decoders.edges.classifier.bias"} <= sent
    assert {model.state_dict()[name].dim() for name in sent if name.startswith("encoder.")} == {4}
