import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from mfed_ray.algorithms import ALGORITHMS
from mfed_ray.algorithms.mfed import MFed
from mfed_ray.errors import ConfigError
from mfed_ray.experiment import Experiment, load_experiment, parse_experiment
from mfed_ray.experiment.schema import GeneratedData, PascalContextData
from mfed_ray.local_training import LocalTraining

TREE: dict[str, Any] = {
    "name": "small",
    "rounds": 3,
    "algorithm": {"name": "fedavg"},
    "data": {"scenes": {"format": "pascal_context", "root": "scenes"}},
    "clients": [{"tasks": ["saliency"], "data": "scenes"}],
}
TASKS = (
    "semantic_segmentation, human_parts, saliency, edge_detection, surface_normals, instance_segmentation, "
    "keypoint_detection, stuff_segmentation, panoptic_segmentation"
)
SCENES = {"format": "pascal_context", "root": "a"}
DRAWN = {"format": "generated", "root": "a"}


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in TREE.items() if name != key}


def refused(tree: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_experiment(tree)
    return str(caught.value)


def test_defaults() -> None:
    experiment = parse_experiment(TREE)
    assert (experiment.seed, experiment.rounds, experiment.algorithm_name) == (0, 3, "fedavg")
    assert experiment.local == LocalTraining()
    assert experiment.clients[0].count == 1
    assert experiment.evaluation.stages == ("after_aggregation",)
    assert experiment.runtime.backend == "ray"


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"roundz": 3},
            "roundz: unknown key; did you mean 'rounds'? (allowed: name, seed, rounds, algorithm, data, clients, "
            "clients_per_round, partition, images, model, augmentation, local, evaluation, checkpoints, runtime, "
            "faults)",
        ),
        (
            {"model": {"encodr": "resnet18"}},
            "model.encodr: unknown key; did you mean 'encoder'? (allowed: encoder, width, output_stride, "
            "weights, normalisation, decoder, decoder_width, detector_normalisation, fpn, fpn_width, anchor_size, "
            "box_samples, score_threshold, max_detections, panoptic)",
        ),
        (
            {"model": {"panoptic": {"scores": 1}}},
            "model.panoptic.scores: unknown key; did you mean 'score'? (allowed: overlap, stuff_area, score)",
        ),
        (
            {"images": {"short_sid": 1}},
            "images.short_sid: unknown key; did you mean 'short_side'? (allowed: short_side, long_side)",
        ),
        (
            {"partition": {"beta": 1}},
            "partition.beta: unknown key (allowed: scheme, alpha, minimum, across, on_bad_sample)",
        ),
        (
            {"augmentation": {"color": 0.1}},
            "augmentation.color: unknown key; did you mean 'colour'? (allowed: crop_size, scale, flip, colour)",
        ),
        (
            {"evaluation": {"stage": "x"}},
            "evaluation.stage: unknown key; did you mean 'stages'? (allowed: every, stages, max_images, "
            "batch_size, edges)",
        ),
        (
            {"local": {"lr": 1}},
            "local.lr: unknown key (allowed: epochs, max_steps, batch_size, optimizer, learning_rate",
        ),
        (
            {"runtime": {"gpu_per_client": 1}},
            "runtime.gpu_per_client: unknown key; did you mean 'gpus_per_client'? (allowed: backend, address, ",
        ),
        (
            {"clients": [*TREE["clients"], {"tasks": ["saliency"], "data": "scenes", "counts": 2}]},
            "clients.1.counts: unknown key; did you mean 'count'? (allowed: tasks, data, count, images, encoder, "
            "decoder_width)",
        ),
        (
            {"clients": [{"tasks": ["saliency"], "data": "scenes", "counts": 2}]},
            "clients.0.counts: unknown key; did you mean 'count'? (allowed: tasks, data, count, images, encoder, "
            "decoder_width)",
        ),
        (
            {"data": {"scenes": {**DRAWN, "image": 9}}},
            "data.scenes.image: unknown key; did you mean 'images'? (allowed: format, root, layout, images, size, "
            "seed, val_fraction)",
        ),
        (
            {"data": {"model": {**SCENES, "images": 9}}},
            "data.model.images: unknown key (allowed: format, root)",
        ),
        (
            {"data": {"generated": {**SCENES, "roots": 9}}},
            "data.generated.roots: unknown key; did you mean 'root'? (allowed: format, root)",
        ),
        (
            {"algorithm": {"name": "mfed", "correlation_treshold": 0.5}},
            "algorithm.correlation_treshold: unknown key; did you mean 'correlation_threshold'? (allowed: name, "
            "decoder_proximal_weight, encoder_proximal_weight, correlation_threshold, ",
        ),
        (
            {"algorithm": {"name": "local", "decoder_proximal_weight": 1}},
            "algorithm.decoder_proximal_weight: unknown key (allowed: name)",
        ),
    ],
)
def test_an_unknown_key_names_the_nearest_and_the_allowed_ones(sections: dict[str, Any], message: str) -> None:
    assert refused({**TREE, **sections}).startswith(message)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"rounds": 0}, "rounds: input should be greater than or equal to 1, found 0"),
        (
            {"rounds": "many"},
            "rounds: input should be a valid integer, unable to parse string as an integer, found 'many'",
        ),
        ({"rounds": 1.5}, "rounds: input should be a valid integer, got a number with a fractional part, found 1.5"),
        ({"seed": -1}, "seed: input should be greater than or equal to 0, found -1"),
        ({"name": "a b"}, "name: string should match pattern '^[A-Za-z0-9][A-Za-z0-9_.-]*$', found 'a b'"),
        ({"name": "../up"}, "name: string should match pattern '^[A-Za-z0-9][A-Za-z0-9_.-]*$', found '../up'"),
        ({"local": 3}, "local: expected a mapping, found 3"),
        ({"local": {"learning_rate": 0}}, "local.learning_rate: input should be greater than 0, found 0"),
        ({"local": {"learning_rate": float("nan")}}, "local.learning_rate: input should be a finite number, found nan"),
        ({"local": {"momentum": 1}}, "local.momentum: input should be less than 1, found 1"),
        ({"local": {"optimizer": "adam"}}, "local.optimizer: input should be 'sgd' or 'adamw', found 'adam'"),
        (
            {"local": {"loss_weights": {"saliency": -1}}},
            "local.loss_weights.saliency: input should be greater than or equal to 0, found -1",
        ),
        (
            {"local": {"loss_weights": {"salience": 5}}},
            f"local.loss_weights: 'salience' is not one of {TASKS}; did you mean 'saliency'?",
        ),
        ({"model": {"width": 4}}, "model.width: input should be greater than or equal to 8, found 4"),
        ({"model": {"output_stride": 12}}, "model.output_stride: input should be 8, 16 or 32, found 12"),
        (
            {"partition": {"scheme": "sorted"}},
            "partition.scheme: input should be 'iid', 'quantity' or 'label', found 'sorted'",
        ),
        ({"partition": {"alpha": 0}}, "partition.alpha: 0.0 found, must be above 0"),
        ({"partition": {"minimum": 0}}, "partition.minimum: 0 found, must be at least 1"),
        ({"partition": {"across": "all"}}, "partition.across: input should be 'dataset' or 'task', found 'all'"),
        ({"augmentation": {"crop_size": 0}}, "augmentation.crop_size: 0 found, must be at least 1 pixel"),
        (
            {"augmentation": {"scale": [2, 1]}},
            "augmentation.scale: (2.0, 1.0) found, must be (low, high) with 0 < low <= high",
        ),
        (
            {"evaluation": {"stages": []}},
            "evaluation.stages: tuple should have at least 1 item after validation, not 0, found []",
        ),
        (
            {"evaluation": {"stages": ["during"]}},
            "evaluation.stages.0: input should be 'before_aggregation' or 'after_aggregation', found 'during'",
        ),
        ({"data": {}}, "data: dictionary should have at least 1 item after validation, not 0, found {}"),
        (
            {"data": {"scenes": 3}},
            "data.scenes: expected a mapping, found 3",
        ),
        ({"data": {"scenes": {"root": "a"}}}, "data.scenes.format: None is not one of pascal_context, coco, generated"),
        (
            {"data": {"scenes": {"root": "a", "format": "cocoa"}}},
            "data.scenes.format: 'cocoa' is not one of pascal_context, coco, generated",
        ),
        (
            {"data": {"scenes": {**DRAWN, "images": 3}}},
            "data.scenes.images: input should be greater than or equal to 4, found 3",
        ),
        (
            {"data": {"scenes": {**DRAWN, "seed": -1}}},
            "data.scenes.seed: input should be greater than or equal to 0, found -1",
        ),
        (
            {"data": {"scenes": {**DRAWN, "val_fraction": 1}}},
            "data.scenes.val_fraction: input should be less than 1, found 1",
        ),
        ({"clients_per_round": 0}, "clients_per_round: input should be greater than or equal to 1, found 0"),
        ({"clients": []}, "clients: tuple should have at least 1 item after validation, not 0, found []"),
        ({"clients": {"tasks": []}}, "clients: input should be a valid tuple, found {'tasks': []}"),
    ],
)
def test_a_wrong_value_says_where_what_and_what_is_allowed(sections: dict[str, Any], message: str) -> None:
    assert refused({**TREE, **sections}) == message


@pytest.mark.parametrize(
    ("client", "message"),
    [
        ({"tasks": ["salience"]}, f"clients.0.tasks: 'salience' is not one of {TASKS}; did you mean 'saliency'?"),
        ({"tasks": ["zzz"]}, f"clients.0.tasks: 'zzz' is not one of {TASKS}"),
        ({"tasks": ["saliency"] * 2}, "clients.0.tasks: a task stands twice in ['saliency', 'saliency']"),
        ({"tasks": []}, "clients.0.tasks: tuple should have at least 1 item after validation, not 0, found []"),
        ({"tasks": "saliency"}, "clients.0.tasks: input should be a valid tuple, found 'saliency'"),
        ({"images": 0}, "clients.0.images: input should be greater than or equal to 1, found 0"),
        ({"count": 0}, "clients.0.count: input should be greater than or equal to 1, found 0"),
        ({"data": "scene"}, "clients.0.data: 'scene' is not one of data's scenes; did you mean 'scenes'?"),
        ({"data": "coco"}, "clients.0.data: 'coco' is not one of data's scenes"),
    ],
)
def test_a_wrong_client_is_said_once(client: dict[str, Any], message: str) -> None:
    assert refused({**TREE, "clients": [{**TREE["clients"][0], **client}]}) == message


def test_the_second_clients_data_is_told_by_its_place() -> None:
    tree = {**TREE, "clients": [*TREE["clients"], {"tasks": ["human_parts"], "data": "people"}]}
    assert refused(tree) == "clients.1.data: 'people' is not one of data's scenes"


@pytest.mark.parametrize("key", ["name", "rounds", "data", "clients"])
def test_a_missing_key(key: str) -> None:
    assert refused(without(key)) == f"{key}: missing, and has no default"


def test_missing_keys_further_down() -> None:
    tree = {**TREE, "data": {"scenes": {"format": "generated"}}, "clients": [{"data": "scenes"}]}
    assert refused(tree) == (
        "data.scenes.root: missing, and has no default; clients.0.tasks: missing, and has no default"
    )


def test_every_wrong_key_is_named_at_once() -> None:
    assert refused({**TREE, "rounds": 0, "model": {"decoder_width": 0}}) == (
        "rounds: input should be greater than or equal to 1, found 0; "
        "model.decoder_width: input should be greater than or equal to 8, found 0"
    )


def test_an_algorithm_has_a_known_name() -> None:
    names = ", ".join(ALGORITHMS)
    expected = f"algorithm: expected a mapping with a name ({names}), found "
    assert refused(without("algorithm")) == f"{expected}None"
    assert refused({**TREE, "algorithm": "fedavg"}) == f"{expected}'fedavg'"
    assert refused({**TREE, "algorithm": {"probe_images": 2}}) == expected + "{'probe_images': 2}"
    assert refused({**TREE, "algorithm": {"name": "fedavgg"}}) == (
        f"algorithm.name: 'fedavgg' is not one of {names}, package.module:Class; did you mean 'fedavg'?"
    )
    assert refused({**TREE, "algorithm": {"name": "zzz"}}) == (
        f"algorithm.name: 'zzz' is not one of {names}, package.module:Class"
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"decoder_proximal_weight": -1},
            "algorithm.decoder_proximal_weight: input should be greater than or equal to 0, found -1",
        ),
        (
            {"correlation": "cosine"},
            "algorithm.correlation: input should be 'update_cosine', 'cka' or 'matrix', found 'cosine'",
        ),
        ({"correlation": "matrix"}, "algorithm: correlation_matrix goes with correlation: matrix, and only with it"),
    ],
)
def test_an_algorithms_wrong_values(fields: dict[str, Any], message: str) -> None:
    assert refused({**TREE, "algorithm": {"name": "mfed", **fields}}) == message


@pytest.mark.parametrize("gpus", [0, 1, 2, 0.5, 0.25, 0.125, 1 / 3, 0.333, 0.2])
def test_gpu_shares_that_pack(gpus: float) -> None:
    assert parse_experiment({**TREE, "runtime": {"gpus_per_client": gpus}}).runtime.gpus_per_client == gpus


@pytest.mark.parametrize("gpus", [0.3, 0.4, 0.75, 1.5, 0.33])
def test_gpu_shares_that_do_not_pack(gpus: float) -> None:
    assert refused({**TREE, "runtime": {"gpus_per_client": gpus}}) == (
        f"runtime.gpus_per_client: {gpus} of a GPU does not pack; expected 0, 1/k (0.5, 0.25, ...) or a whole number"
    )


def test_negative_gpu_share() -> None:
    assert refused({**TREE, "runtime": {"gpus_per_client": -1}}) == (
        "runtime.gpus_per_client: input should be greater than or equal to 0, found -1"
    )


def test_tasks_of_a_client_are_a_set() -> None:
    """Two spellings of one task group must not become two groups."""
    orders = (["saliency", "human_parts"], ["human_parts", "saliency"])
    trees = [{**TREE, "clients": [{"tasks": tasks, "data": "scenes"}]} for tasks in orders]
    assert parse_experiment(trees[0]) == parse_experiment(trees[1])
    assert parse_experiment(trees[0]).clients[0].tasks == ("human_parts", "saliency")


def test_data_by_format() -> None:
    data = parse_experiment({**TREE, "data": {"scenes": SCENES, "drawn": {**DRAWN, "images": 8}}}).data
    assert data == {
        "scenes": PascalContextData(format="pascal_context", root="a"),
        "drawn": GeneratedData(format="generated", root="a", images=8, size=96, seed=0, val_fraction=0.25),
    }


RICH = {
    **TREE,
    "seed": 5,
    "algorithm": {
        "name": "mfed",
        "decoder_proximal_weight": 1e-05,
        "correlation": "matrix",
        "correlation_matrix": {"human_parts": {"saliency": 0.25}},
    },
    "data": {"scenes": {**DRAWN, "val_fraction": 1 / 3}, "real": SCENES},
    "clients": [
        {"tasks": ["saliency", "human_parts"], "data": "real", "count": 3, "encoder": "resnet18"},
        *TREE["clients"],
    ],
    "clients_per_round": 2,
    "partition": {"scheme": "label", "alpha": 0.1, "across": "task"},
    "augmentation": {"scale": [1, 2]},
    "local": {"loss_weights": {"saliency": 2}, "max_steps": 4},
    "runtime": {"gpus_per_client": 1, "max_actors": 2},
}


@pytest.mark.parametrize("tree", [TREE, RICH])
def test_resolved_through_yaml_is_the_same_experiment(tree: dict[str, Any]) -> None:
    experiment = parse_experiment(tree)
    resolved = experiment.resolved()
    again = parse_experiment(yaml.safe_load(yaml.safe_dump(resolved, sort_keys=False)))
    assert again == experiment
    assert again.resolved() == resolved
    assert list(resolved) == list(Experiment.model_fields)


def test_resolved_has_every_key_and_the_algorithms_name_first() -> None:
    resolved = parse_experiment(RICH).resolved()
    assert list(resolved["algorithm"]) == ["name", *MFed.model_fields]
    assert resolved["algorithm"]["fusion_weights"] == "uniform"
    assert resolved["clients"][0] == {
        "tasks": ["human_parts", "saliency"],
        "data": "real",
        "count": 3,
        "images": None,
        "encoder": "resnet18",
        "decoder_width": None,
    }
    assert resolved["clients_per_round"] == 2
    assert resolved["local"]["epochs"] == 1
    assert resolved["augmentation"] == {"crop_size": 512, "scale": [1.0, 2.0], "flip": 0.5, "colour": 0.2}


def test_an_experiment_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        parse_experiment(TREE).rounds = 4  # type: ignore[misc]


def test_load_experiment_reads_merges_and_checks(tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(TREE))
    experiment = load_experiment(str(path), ["local.learning_rate=1e-5", "algorithm={name: mfed}", "seed=2"])
    assert (experiment.local.learning_rate, experiment.algorithm_name, experiment.seed) == (1e-5, "mfed", 2)
    with pytest.raises(ConfigError, match=re.escape("base: unknown key; did you mean 'seed'? (allowed: name, ")):
        load_experiment(path, ["base=other.yaml"])
    with pytest.raises(ConfigError, match=re.escape("local.learning_rate: input should be a valid number, unable to")):
        load_experiment(path, ["local.learning_rate=fast"])


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"images": {"short_side": 900, "long_side": 800}},
            "images.short_side: 900 found, must be from 1 to images.long_side (800)",
        ),
        (
            {
                "clients": [{"tasks": ["stuff_segmentation"], "data": "scenes"}],
                "model": {"output_stride": 16},
            },
            "model.output_stride: 16 found, but stuff_segmentation stand on a feature pyramid, which needs 32",
        ),
    ],
)
def test_sizes_that_do_not_go_together(sections: dict[str, Any], message: str) -> None:
    assert refused({**TREE, **sections}) == message


def test_the_pyramid_is_in_the_encoder_only_where_a_task_stands_on_one() -> None:
    assert not parse_experiment(TREE).has_pyramid
    clients = [{"tasks": ["saliency"], "data": "scenes"}, {"tasks": ["keypoint_detection"], "data": "scenes"}]
    assert parse_experiment({**TREE, "clients": clients, "model": {"output_stride": 32}}).has_pyramid


SALIENCY, STUFF = ({"tasks": [task], "data": "scenes"} for task in ("saliency", "stuff_segmentation"))
BOTH = {"tasks": ["saliency", "stuff_segmentation"], "data": "scenes"}


@pytest.mark.parametrize(
    ("clients", "weights", "normalisation", "fpn"),
    [
        ([SALIENCY], "torchvision", "average", "decoder"),
        ([STUFF], "torchvision", "frozen", "encoder"),
        ([STUFF], None, "group", "encoder"),
        ([STUFF, BOTH], None, "group", "encoder"),
        ([STUFF, SALIENCY], None, "group", "decoder"),
    ],
)
def test_what_auto_becomes(clients: list[dict[str, Any]], weights: str | None, normalisation: str, fpn: str) -> None:
    model = parse_experiment({**TREE, "clients": clients, "model": {"output_stride": 32, "weights": weights}}).model
    assert (model.normalisation, model.fpn) == (normalisation, fpn)


def test_a_pyramid_that_some_clients_never_train_is_refused() -> None:
    model = {"output_stride": 32, "fpn": "encoder"}
    assert refused({**TREE, "clients": [STUFF, SALIENCY], "model": model}) == (
        "model.fpn: encoder found, but the clients of clients.1 (saliency) would share a feature pyramid that they "
        "never train; allowed here: decoder, auto"
    )


def with_encoder(name: str) -> dict[str, Any]:
    return {**SALIENCY, "encoder": name}


def test_a_file_of_weights_is_for_one_encoder() -> None:
    model = {"encoder": "resnet10", "weights": "w.pth"}
    assert refused({**TREE, "model": model, "clients": [with_encoder("resnet18")]}) == (
        "clients.0.encoder: resnet18 found, but model.weights is a file for resnet10; allowed beside several encoders: "
        "null, torchvision"
    )
    for weights in (None, "torchvision"):
        tree = {**TREE, "model": {**model, "weights": weights}, "clients": [with_encoder("resnet18")]}
        assert parse_experiment(tree).clients[0].encoder == "resnet18"


def test_pretrained_weights_have_one_width() -> None:
    for weights in ("torchvision", "w.pth"):
        assert refused({**TREE, "model": {"width": 16, "weights": weights}}) == (
            f"model.width: 16 found, but model.weights is '{weights}'; allowed beside weights: 64"
        )
        assert parse_experiment({**TREE, "model": {"width": 64, "weights": weights}}).model.width == 64


def test_a_width_is_for_resnets() -> None:
    """The encoders that clients have count, not the one that stands in ``model`` and nobody has."""
    narrow = {"encoder": "resnet10", "width": 16}
    allowed = "allowed there: 64, or one of resnet10, resnet18, resnet34, resnet50, resnet101"
    for model, clients, index in (
        ({**narrow, "encoder": "mobilenet_v2"}, [with_encoder("resnet18"), STUFF], 1),
        (narrow, [with_encoder("mobilenet_v2")], 0),
    ):
        assert refused({**TREE, "model": {**model, "output_stride": 32}, "clients": clients}) == (
            f"model.width: 16 found, but clients.{index} has the encoder mobilenet_v2; {allowed}"
        )
    parse_experiment({**TREE, "model": {**narrow, "encoder": "mobilenet_v2"}, "clients": [with_encoder("resnet18")]})
    parse_experiment({**TREE, "model": {"encoder": "mobilenet_v2"}})


def test_a_scheme_without_clients_to_deal_to_is_refused() -> None:
    poor = {**SALIENCY, "images": 4}
    for scheme in ("label", "quantity"):
        tree = {**TREE, "partition": {"scheme": scheme}}
        assert refused({**tree, "clients": [poor, {**STUFF, "images": 2}], "model": {"output_stride": 32}}) == (
            f"partition.scheme: {scheme} found, but every entry of clients has a number of images, and those are drawn "
            "uniformly; allowed here: iid"
        )
        parse_experiment({**tree, "clients": [poor, SALIENCY]})
    parse_experiment({**TREE, "clients": [poor]})
