import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mfed_ray.data.pascal_context import PascalContext
from mfed_ray.errors import ConfigError, DataError
from mfed_ray.experiment import Experiment
from mfed_ray.experiment.clients import make_clients, open_dataset
from mfed_ray.experiment.federation import EncoderProbe, make_simulation
from mfed_ray.experiment.models import make_initial, make_model
from mfed_ray.experiment.schema import GeneratedData, PascalContextData
from mfed_ray.experiment.trainers import TrainerFactory
from mfed_ray.messages import ClientSpec
from mfed_ray.params import decoders_of, encoder_of
from mfed_ray.training import float_values

MakeExperiment = Callable[..., Experiment]


def clients(*groups: tuple[str, int]) -> list[dict[str, Any]]:
    """``("saliency+human_parts", 2)``: two clients with both tasks."""
    return [{"tasks": tasks.split("+"), "data": "scenes", "count": count} for tasks, count in groups]


def data(root: Path) -> dict[str, Any]:
    return {"scenes": {"format": "pascal_context", "root": str(root)}}


@pytest.fixture
def part_of_scenes(scenes: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """``part_of_scenes(train, val, *folders)``: the scenes with just these images and label folders."""

    def make(train: list[str], val: list[str], *folders: str) -> dict[str, Any]:
        root = tmp_path / "part"
        (root / "ImageSets" / "Context").mkdir(parents=True)
        for split, ids in (("train", train), ("val", val)):
            (root / "ImageSets" / "Context" / f"{split}.txt").write_text("\n".join(ids))
        for folder in ("JPEGImages", *folders):
            shutil.copytree(scenes / folder, root / folder)
        return data(root)

    return make


def by_people(scenes: Path, split: str) -> dict[bool, list[str]]:
    """The split's images with and without people."""
    found: dict[bool, list[str]] = {True: [], False: []}
    dataset = PascalContext(scenes)
    for image_id in dataset.image_ids(split):
        found[dataset.usable(image_id, "human_parts")].append(image_id)
    return found


def test_clients_are_named_by_task_group_and_number(tiny: MakeExperiment) -> None:
    groups = clients(("saliency", 2), ("surface_normals+human_parts", 1), ("saliency", 1), ("saliency", 1))
    assert [client.name for client in make_clients(tiny(clients=groups))] == [
        "saliency-0",
        "saliency-1",
        "human_parts+surface_normals-0",
        "saliency-2",
        "saliency-3",
    ]


def test_partition_across_the_dataset_is_disjoint_and_whole(tiny: MakeExperiment, scenes: Path) -> None:
    shards = [
        client.train_ids for client in make_clients(tiny(clients=clients(("saliency", 2), ("surface_normals", 3))))
    ]
    everyone = [image_id for shard in shards for image_id in shard]
    assert sorted(everyone) == sorted(PascalContext(scenes).image_ids("train"))
    assert sorted(map(len, shards)) == [3, 3, 3, 3, 4]


def test_partition_across_a_task_deals_every_image_to_every_task(tiny: MakeExperiment, scenes: Path) -> None:
    groups = clients(("saliency", 2), ("surface_normals", 3), ("saliency", 2))
    made = make_clients(tiny(clients=groups, partition={"across": "task"}))
    train = sorted(PascalContext(scenes).image_ids("train"))
    sizes = {}
    for task in ("saliency", "surface_normals"):
        shards = [client.train_ids for client in made if client.group == task]
        assert sorted(image_id for shard in shards for image_id in shard) == train
        sizes[task] = sorted(map(len, shards))
    assert sizes == {"saliency": [4, 4, 4, 4], "surface_normals": [5, 5, 6]}


def test_each_dataset_is_dealt_to_its_own_clients(tiny: MakeExperiment, scenes: Path, shared: Path) -> None:
    sets = {**data(scenes), "real": {"format": "pascal_context", "root": str(shared / "data" / "pascal_mini")}}
    groups = [*clients(("saliency", 2)), {"tasks": ["saliency"], "data": "real", "count": 2}]
    made = make_clients(tiny(data=sets, clients=groups))
    assert [(client.name, client.dataset, client.examples) for client in made] == [
        ("saliency-0", "scenes", 8),
        ("saliency-1", "scenes", 8),
        ("saliency-2", "real", 5),
        ("saliency-3", "real", 4),
    ]
    assert set(made[2].train_ids + made[3].train_ids) == set(PascalContext(sets["real"]["root"]).image_ids("train"))


@pytest.mark.parametrize("scheme", ["iid", "quantity", "label"])
def test_shards_are_a_function_of_the_seed_alone(tiny: MakeExperiment, scheme: str) -> None:
    def shards(**sections: Any) -> list[tuple[str, ...]]:
        return [client.train_ids for client in make_clients(tiny(partition={"scheme": scheme}, **sections))]

    assert shards() == shards(algorithm={"name": "local"}, rounds=7, model={"encoder": "resnet18"})
    assert shards() != shards(seed=1)


def test_minimum_and_scheme_reach_the_partition(tiny: MakeExperiment) -> None:
    experiment = tiny(clients=clients(("saliency", 4)), partition={"scheme": "quantity", "alpha": 0.01, "minimum": 3})
    assert sorted(client.examples for client in make_clients(experiment)) == [3, 3, 3, 7]


@pytest.mark.parametrize("across", ["dataset", "task"])
def test_human_parts_clients_get_only_images_with_people(tiny: MakeExperiment, scenes: Path, across: str) -> None:
    """The trap of flags that index the full list: the flag is asked for each image that the shard really holds."""
    groups = clients(("human_parts", 2), ("human_parts+saliency", 1), ("saliency", 1))
    made = make_clients(tiny(clients=groups, partition={"across": across}, evaluation={"max_images": None}))
    train, val = by_people(scenes, "train"), by_people(scenes, "val")
    assert (len(train[True]), len(train[False]), len(val[True]), len(val[False])) == (8, 8, 4, 4)
    for client in made[:3]:
        assert set(client.train_ids) <= set(train[True])
        assert client.held_out_ids == tuple(val[True])
    assert set(made[3].train_ids) & set(train[False])
    if across == "task":
        assert sorted(made[0].train_ids + made[1].train_ids) == train[True]
        assert sorted(made[2].train_ids) == train[True]


def test_real_human_parts_clients_get_only_images_with_people(tiny: MakeExperiment, shared: Path) -> None:
    root = shared / "data" / "pascal_mini"
    groups = clients(("human_parts", 1), ("semantic_segmentation", 1))
    made = make_clients(
        tiny(data=data(root), clients=groups, partition={"across": "task"}, evaluation={"max_images": None})
    )
    train, val = by_people(root, "train"), by_people(root, "val")
    assert len(train[True]) + len(val[True]) == 8
    assert made[0].train_ids == tuple(train[True])
    assert made[0].held_out_ids == tuple(val[True])
    assert (made[1].examples, len(made[1].held_out_ids)) == (9, 9)


@pytest.mark.parametrize(("maximum", "expected"), [(None, 8), (3, 3), (100, 8)])
def test_held_out_images_are_the_first_of_the_split(
    tiny: MakeExperiment, scenes: Path, maximum: int | None, expected: int
) -> None:
    made = make_clients(tiny(evaluation={"max_images": maximum}))
    first = tuple(PascalContext(scenes).image_ids("val"))[:expected]
    assert {client.held_out_ids for client in made} == {first}


def test_a_shard_without_a_usable_image(
    tiny: MakeExperiment, scenes: Path, part_of_scenes: Callable[..., dict[str, Any]]
) -> None:
    train, val = by_people(scenes, "train"), by_people(scenes, "val")
    experiment = tiny(
        data=part_of_scenes(train[False][:4], val[True], "human_parts"), clients=clients(("human_parts", 1))
    )
    message = (
        "^client human_parts-0: its shard of 4 images of data.scenes has none with targets for human_parts; "
        "give it more images or fewer clients$"
    )
    with pytest.raises(DataError, match=message):
        make_clients(experiment)


def test_a_val_split_without_a_usable_image(
    tiny: MakeExperiment, scenes: Path, part_of_scenes: Callable[..., dict[str, Any]]
) -> None:
    train, val = by_people(scenes, "train"), by_people(scenes, "val")
    sets = part_of_scenes(train[True], val[False], "human_parts", "sal_distill")
    message = "^data.scenes: its val split has no image for human_parts, saliency$"
    with pytest.raises(DataError, match=message):
        make_clients(tiny(data=sets, clients=clients(("saliency+human_parts", 1))))


def test_a_task_that_the_data_lacks(
    tiny: MakeExperiment, scenes: Path, part_of_scenes: Callable[..., dict[str, Any]]
) -> None:
    train, val = by_people(scenes, "train"), by_people(scenes, "val")
    sets = part_of_scenes(train[True], val[True], "human_parts", "sal_distill")
    with pytest.raises(
        DataError, match=r"clients\.1\.tasks: data\.scenes has no task surface_normals, it has: human_parts, saliency"
    ):
        make_clients(tiny(data=sets, clients=clients(("saliency", 1), ("surface_normals", 1))))
    with pytest.raises(DataError, match="has no task 'semantic_segmentation'"):  # its classes are what is skewed
        make_clients(tiny(data=sets, clients=clients(("saliency", 1)), partition={"scheme": "label"}))


def test_more_clients_than_images(tiny: MakeExperiment) -> None:
    groups = clients(("saliency", 10), ("surface_normals", 7))
    message = "partition: 16 images cannot fill 17 shards of at least 1, allowed are 1 to 16 shards"
    with pytest.raises(DataError, match=message):
        make_clients(tiny(clients=groups))
    assert len(make_clients(tiny(clients=groups, partition={"across": "task"}))) == 17


def test_open_dataset_draws_it_once(tmp_path: Path) -> None:
    drawn = GeneratedData(format="generated", root=str(tmp_path / "new"), images=4, size=32, val_fraction=0.5)
    seen: list[tuple[int, int]] = []

    def count(done: int, total: int) -> None:
        seen.append((done, total))

    assert len(open_dataset(drawn, on_progress=count).image_ids("train")) == 2
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    open_dataset(drawn, on_progress=count)
    assert len(seen) == 4
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == times
    with pytest.raises(DataError, match=r"new: was generated with seed 0 \(asked for: 1\), nothing was overwritten"):
        open_dataset(drawn.model_copy(update={"seed": 1}))


def test_open_dataset_of_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="missing: no such dataset folder"):
        open_dataset(PascalContextData(format="pascal_context", root=str(tmp_path / "missing")))


def test_every_client_starts_from_the_same_encoder(tiny: MakeExperiment) -> None:
    """Whatever its tasks; and a task's decoder starts the same in every model that has it."""
    experiment = tiny()
    one = float_values(make_model(experiment, ["saliency"]))
    both = float_values(make_model(experiment, ["saliency", "surface_normals"]))
    assert set(one) < set(both)
    assert all(np.array_equal(value, both[name]) for name, value in one.items())
    other = float_values(make_model(tiny(seed=1), ["saliency"]))
    assert not np.array_equal(one["encoder.conv1.weight"], other["encoder.conv1.weight"])
    name = "decoders.saliency.classifier.weight"
    assert not np.array_equal(one[name], other[name])


def test_an_unknown_encoder_is_named_when_the_model_is_built(tiny: MakeExperiment) -> None:
    with pytest.raises(ConfigError, match=r"model\.encoder: unknown encoder 'resnet9', allowed: resnet10"):
        make_model(tiny(model={"encoder": "resnet9"}), ["saliency"])


def test_a_trainer_has_the_experiments_settings(tiny: MakeExperiment) -> None:
    experiment = tiny(rounds=9, seed=4, local={"momentum": 0.5}, evaluation={"batch_size": 3})
    trainer = TrainerFactory(experiment)(make_clients(experiment)[0])
    assert trainer.settings is experiment.local
    assert (trainer.rounds, trainer.seed, trainer.evaluation_batch_size) == (9, 4, 3)


def test_a_shard_takes_every_setting(tiny: MakeExperiment) -> None:
    local = {"epochs": 3, "batch_size": 5, "max_steps": 7, "loading_workers": 1}
    experiment = tiny(seed=4, local=local, images={"short_side": 48})
    spec = make_clients(experiment)[2]
    (shard,) = TrainerFactory(experiment)(spec).shards
    assert (shard.source,) == spec.sources
    assert [task.name for task in shard.tasks] == ["saliency"]
    assert (shard.epochs, shard.batch_size, shard.max_steps, shard.workers, shard.seed) == (3, 5, 7, 1, 4)
    assert shard.augmentation is experiment.augmentation
    assert shard.input_size is experiment.images


def test_a_client_of_several_sources_trains_on_each_for_its_own_tasks(tiny: MakeExperiment) -> None:
    experiment = tiny()
    one, _, other, _ = make_clients(experiment)
    pooled = ClientSpec("pool", ("saliency", "semantic_segmentation"), one.sources + other.sources, ())
    trainer = TrainerFactory(experiment)(pooled)
    assert tuple(shard.source for shard in trainer.shards) == one.sources + other.sources
    assert [[task.name for task in shard.tasks] for shard in trainer.shards] == [
        ["semantic_segmentation"],
        ["saliency"],
    ]
    assert sorted(task.name for task in trainer.tasks) == ["saliency", "semantic_segmentation"]
    assert pooled.examples == one.examples + other.examples == 8


def test_trainers_of_one_group_share_a_model_and_all_share_a_dataset(tiny: MakeExperiment) -> None:
    experiment = tiny()
    factory = TrainerFactory(experiment)
    first, second, saliency, _ = (factory(client) for client in make_clients(experiment))
    assert first.model is second.model
    assert first.model is not saliency.model
    assert first.shards[0].dataset is saliency.shards[0].dataset
    assert first.spec.train_ids != second.spec.train_ids
    assert [task.name for task in saliency.tasks] == ["saliency"]
    assert saliency.model.device == torch.device("cpu")


@pytest.mark.parametrize("chosen", ["auto", "cpu"])
def test_a_client_without_a_gpu_share_computes_on_the_cpu(tiny: MakeExperiment, chosen: str) -> None:
    experiment = tiny(runtime={"device": chosen, "gpus_per_client": 0})
    trainer = TrainerFactory(experiment)(make_clients(experiment)[0])
    assert trainer.model.device == torch.device("cpu")
    assert {value.device.type for value in trainer.model.module.state_dict().values()} == {"cpu"}


def test_probe_gives_sixteen_rows_an_image(tiny: MakeExperiment) -> None:
    experiment = tiny()
    probe = EncoderProbe(experiment)
    encoder = encoder_of(float_values(make_model(experiment, ())))
    rows = probe("saliency", encoder, 3)
    assert rows.shape == (3 * 16, 512)
    assert rows.dtype == np.float32
    assert rows.std() > 0
    np.testing.assert_array_equal(probe("saliency", encoder, 3), rows)
    np.testing.assert_allclose(probe("surface_normals", encoder, 2), rows[:32], rtol=1e-4, atol=1e-5)
    changed = {name: value * np.float32(0.5) for name, value in encoder.items()}
    assert not np.allclose(probe("saliency", changed, 3), rows)
    np.testing.assert_array_equal(probe("saliency", encoder, 3), rows)  # what was probed in between leaves no trace


def test_probe_takes_images_from_the_datasets_in_turn(tiny: MakeExperiment, scenes: Path, shared: Path) -> None:
    real = {"format": "pascal_context", "root": str(shared / "data" / "pascal_mini")}
    encoder = encoder_of(float_values(make_model(tiny(), ())))
    mixed = EncoderProbe(tiny(data={**data(scenes), "real": real}))("saliency", encoder, 4).reshape(4, -1)
    drawn = EncoderProbe(tiny())("saliency", encoder, 2).reshape(2, -1)
    np.testing.assert_allclose(mixed[[0, 2]], drawn, rtol=1e-4, atol=1e-5)
    assert not np.allclose(mixed[1], drawn[0])
    assert not np.allclose(mixed[1], mixed[3])


def test_probe_goes_round_a_small_dataset(tiny: MakeExperiment) -> None:
    encoder = encoder_of(float_values(make_model(tiny(), ())))
    rows = EncoderProbe(tiny())("saliency", encoder, 17).reshape(17, -1)
    np.testing.assert_allclose(rows[16], rows[0], rtol=1e-4, atol=1e-5)  # there are 16 training images


def test_simulation_has_one_model_per_group_and_the_settings(tiny: MakeExperiment) -> None:
    groups = clients(("semantic_segmentation", 2), ("surface_normals+saliency", 1), ("saliency", 1))
    experiment = tiny(rounds=4, seed=3, evaluation={"every": 2}, clients=groups, clients_per_round=2)
    made = make_clients(experiment)
    simulation = make_simulation(experiment, made)
    assert {
        group: {name.split(".")[1] for name in decoders_of(model)} for group, model in simulation.initial.items()
    } == {
        "semantic_segmentation": {"semantic_segmentation"},
        "saliency+surface_normals": {"saliency", "surface_normals"},
        "saliency": {"saliency"},
    }
    assert simulation.algorithm == experiment.algorithm
    assert simulation.clients == made
    assert (simulation.rounds, simulation.evaluate_every) == (4, 2)
    assert (simulation.clients_per_round, simulation.seed) == (2, 3)
    assert simulation.stages == {"before_aggregation", "after_aggregation"}
    expected = float_values(make_model(experiment, ["saliency"]))
    assert expected.keys() == simulation.initial["saliency"].keys()
    assert all(np.array_equal(value, simulation.initial["saliency"][name]) for name, value in expected.items())


def test_groups_of_one_encoder_hold_the_same_arrays_of_it(tiny: MakeExperiment) -> None:
    """Not equal ones: a hundred groups must not hold a hundred encoders."""
    experiment = tiny(clients=[*clients(("saliency", 1), ("surface_normals", 2)), other_encoder("human_parts")])
    initial = make_initial(experiment, make_clients(experiment))
    assert list(initial) == ["saliency", "surface_normals", "human_parts"]
    one, other, third = (encoder_of(model) for model in initial.values())
    assert all(value is other[name] for name, value in one.items())
    assert not any(value is third.get(name) for name, value in one.items())
    assert not decoders_of(initial["saliency"]).keys() & decoders_of(initial["surface_normals"]).keys()


def other_encoder(task: str) -> dict[str, Any]:
    return {"tasks": [task], "data": "scenes", "encoder": "resnet18"}


def test_clients_may_have_an_encoder_of_their_own(tiny: MakeExperiment) -> None:
    """Whoever has no ``encoder`` of its own has ``model.encoder``; the probe runs each group's."""
    experiment = tiny(clients=[*clients(("saliency", 1)), other_encoder("human_parts")])
    parts, saliency = (make_model(experiment, [task]).encoder for task in ("human_parts", "saliency"))
    for encoder, name in ((parts, "resnet18"), (saliency, "resnet10")):
        expected = make_model(tiny(model={"encoder": name}), ["saliency"]).encoder.state_dict()
        assert encoder.state_dict().keys() == expected.keys()
        assert all(torch.equal(value, expected[key]) for key, value in encoder.state_dict().items())
    factory = TrainerFactory(experiment)
    held = [factory(client).model.initial.keys() for client in make_clients(experiment)]
    assert ["encoder.layer1.1.conv1.weight" in names for names in held] == [False, True]
    initial, probe = make_initial(experiment, make_clients(experiment)), EncoderProbe(experiment)
    rows = {group: probe(group, encoder_of(model), 1) for group, model in initial.items()}
    alone = EncoderProbe(tiny(model={"encoder": "resnet18"}))("human_parts", encoder_of(initial["human_parts"]), 1)
    np.testing.assert_array_equal(rows["human_parts"], alone)
    assert not np.allclose(rows["human_parts"], rows["saliency"])


def test_an_algorithm_with_one_encoder_refuses_two(tiny: MakeExperiment) -> None:
    experiment = tiny(
        algorithm={"name": "centralised"}, clients=[*clients(("saliency", 1)), other_encoder("human_parts")]
    )
    message = (
        r"algorithm\.name: centralised shares one encoder among all clients, but encoder\.layer1\.1\.\S+ is missing at "
        r"saliency and \(\S.*\) at human_parts; give all clients one encoder, or use scope: task where the algorithm "
        "has it, or local or mfed"
    )
    with pytest.raises(ConfigError, match=message):
        _ = make_simulation(experiment, make_clients(experiment)).start


@pytest.mark.parametrize(("normalisation", "kept"), [("average", True), ("local", False)])
def test_what_stays_with_clients_is_no_part_of_the_common_start(
    tiny: MakeExperiment, normalisation: str, kept: bool
) -> None:
    experiment = tiny(model={"normalisation": normalisation}, clients=clients(("saliency", 1)))
    spec = ClientSpec.of("saliency-0", ("saliency",), "scenes", ("a",), ("b",))
    initial = make_initial(experiment, [spec])["saliency"]
    assert ("encoder.bn1.weight" in initial) == kept
    assert ("encoder.bn1.running_mean" in initial) == kept
    assert "encoder.conv1.weight" in initial


def test_pascal_and_coco_tasks_in_one_federation_share_an_encoder_without_the_pyramid(
    tiny: MakeExperiment, scenes: Path, coco_scenes: Path
) -> None:
    """A client's parameters do not depend on who else takes part."""
    data = {
        "pascal": {"format": "pascal_context", "root": str(scenes)},
        "coco": {"format": "coco", "root": str(coco_scenes)},
    }
    clients = [{"tasks": ["saliency"], "data": "pascal"}, {"tasks": ["panoptic_segmentation"], "data": "coco"}]
    alone, mixed = tiny(data=data, clients=clients[:1]), tiny(data=data, clients=clients)
    shapes = [
        {name: value.shape for name, value in make_model(experiment, ["saliency"]).state_dict().items()}
        for experiment in (alone, mixed)
    ]
    assert shapes[0] == shapes[1]
    panoptic = make_model(mixed, ["panoptic_segmentation"]).state_dict()
    assert {name for name in panoptic if name.startswith("encoder.")} == {
        name for name in shapes[1] if name.startswith("encoder.")
    }
    assert any(name.startswith("decoders.panoptic_segmentation.pyramid.") for name in panoptic)


def test_label_skew_on_coco(tiny_coco: MakeExperiment) -> None:
    two = [{"tasks": ["instance_segmentation"], "data": "scenes", "count": 2}]
    specs = make_clients(tiny_coco(partition={"scheme": "label", "alpha": 0.1}, clients=two))
    shards = [set(spec.train_ids) for spec in specs]
    assert not shards[0] & shards[1]
    assert all(image.startswith("train2017/") for shard in shards for image in shard)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"algorithm": {"name": "centralised"}, "clients_per_round": 2},
            "^clients_per_round: 2 found, but centralised trains on all clients' images together; leave it out$",
        ),
        (
            {"algorithm": {"name": "centralised"}, "evaluation": {"stages": ["before_aggregation"]}},
            "^evaluation.stages: before_aggregation found, but with centralised no client has a model before",
        ),
        (
            {"algorithm": {"name": "fedrep", "decoder_turns": 2}, "local": {"max_steps": 2}},
            "^local.max_steps, local.epochs: client semantic_segmentation-0 takes 2 of the 3 steps a round that fedrep",
        ),
    ],
)
def test_what_an_algorithm_would_pass_over_is_refused(
    tiny: MakeExperiment, sections: dict[str, Any], message: str
) -> None:
    experiment = tiny(**sections)
    with pytest.raises(ConfigError, match=message):
        make_simulation(experiment, make_clients(experiment))
