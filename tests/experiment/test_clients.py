"""Datasets, shards and held-out images of an experiment's clients."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mfed_ray.data.pascal_context import PascalContext
from mfed_ray.errors import DataError
from mfed_ray.experiment import Experiment
from mfed_ray.experiment.clients import make_clients, open_dataset
from mfed_ray.experiment.schema import GeneratedData, PascalContextData
from mfed_ray.seeds import generator

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


def test_clients_are_named_by_tasks_and_number(tiny: MakeExperiment) -> None:
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


def ids(*numbers: int) -> tuple[str, ...]:
    return tuple(f"generated_{number:06d}" for number in numbers)


@pytest.mark.parametrize(
    ("partition", "shards"),
    [
        ({}, [ids(1, 6, 14, 22), ids(7, 12, 17, 23), ids(4, 8, 16), ids(0, 5, 15, 21)]),
        ({"scheme": "label", "alpha": 0.3}, [ids(12, 14, 16, 23), ids(4, 17, 21, 22), ids(6), ids(0, 3, 8, 15)]),
        (
            {"scheme": "quantity", "across": "task"},
            [
                ids(23),
                ids(0, 1, 3, 4, 5, 6, 7, 8, 12, 14, 15, 16, 17, 21, 22),
                ids(0, 4, 6, 8, 12, 14, 16, 22),
                ids(0, 1, 3, 4, 5, 6, 7, 8, 12, 14, 15, 16, 17, 21, 22, 23),
            ],
        ),
    ],
)
def test_shards_are_those_of_runs_made_before(
    tiny: MakeExperiment, partition: dict[str, Any], shards: list[tuple[str, ...]]
) -> None:
    """A change here means that old run folders no longer resume."""
    groups = clients(("saliency", 2), ("human_parts", 1), ("surface_normals", 1))
    assert [client.train_ids for client in make_clients(tiny(clients=groups, partition=partition))] == shards


def with_images(**numbers: int) -> list[dict[str, Any]]:
    """``saliency=3``: two clients of the task with three images each, ahead of two normals clients with the rest."""
    numbered = [{**clients((task, 2))[0], "images": number} for task, number in numbers.items()]
    return [*numbered, *clients(("surface_normals", 2))]


@pytest.mark.parametrize("scheme", ["iid", "quantity", "label"])
def test_clients_with_a_number_of_images_draw_them_and_the_rest_is_dealt(
    tiny: MakeExperiment, scenes: Path, scheme: str
) -> None:
    groups = with_images(human_parts=2, saliency=3)
    experiment = tiny(clients=groups, partition={"scheme": scheme, "alpha": 0.3})
    made = make_clients(experiment)
    everyone = [image_id for client in made for image_id in client.train_ids]
    train = list(PascalContext(scenes).image_ids("train"))
    assert sorted(everyone) == train
    assert [client.examples for client in made[:4]] == [2, 2, 3, 3]
    assert {*made[0].train_ids, *made[1].train_ids} <= {*by_people(scenes, "train")[True]}
    rest = [image_id for image_id in train if image_id not in everyone[:10]]
    labels = [PascalContext(scenes).dominant_class(image_id) for image_id in rest]
    rng = generator(experiment.seed, "partition", "scenes")
    dealt = experiment.partition.shards(rest, 2, rng, labels)
    assert [client.train_ids for client in made[4:]] == [tuple(shard) for shard in dealt]


def test_drawn_images_depend_on_the_seed_and_on_the_clients_before(tiny: MakeExperiment) -> None:
    def shards(seed: int = 0, **numbers: int) -> list[tuple[str, ...]]:
        return [client.train_ids for client in make_clients(tiny(clients=with_images(**numbers), seed=seed))[:4]]

    assert shards(human_parts=2, saliency=3) == shards(human_parts=2, saliency=3)
    assert shards(human_parts=2, saliency=3)[:2] == shards(human_parts=2, saliency=1)[:2]
    assert shards(human_parts=2, saliency=3)[:2] != shards(1, human_parts=2, saliency=3)[:2]


def test_drawn_images_across_tasks_are_disjoint_within_a_task_only(tiny: MakeExperiment, scenes: Path) -> None:
    """Every task's pool is whole: eight images have people, and sixteen are saliency's."""
    made = make_clients(tiny(clients=with_images(saliency=8, human_parts=4), partition={"across": "task"}))
    train = by_people(scenes, "train")
    assert [client.examples for client in made] == [8, 8, 4, 4, 8, 8]
    assert sorted(made[0].train_ids + made[1].train_ids) == sorted(train[True] + train[False])
    assert sorted(made[2].train_ids + made[3].train_ids) == train[True]


def test_what_nobody_asked_for_is_left(tiny: MakeExperiment) -> None:
    made = make_clients(tiny(clients=with_images(saliency=3)[:1]))
    assert [client.examples for client in made] == [3, 3]


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        (
            {"saliency": 9},
            "clients.0.images: 9 found, but client saliency-1 has only 7 images of data.scenes left with targets for "
            "saliency; ask for fewer images or clients, or list them before others",
        ),
        (
            {"human_parts": 5},
            "clients.0.images: 5 found, but client human_parts-1 has only 3 images of data.scenes left with targets "
            "for human_parts; ask for fewer images or clients, or list them before others",
        ),
        ({"saliency": 8}, "partition: 0 images cannot fill 2 shards of at least 1, allowed are 1 to 0 shards"),
    ],
)
def test_more_images_asked_for_than_there_are(tiny: MakeExperiment, numbers: dict[str, int], message: str) -> None:
    with pytest.raises(DataError) as caught:
        make_clients(tiny(clients=with_images(**numbers)))
    assert str(caught.value) == message


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


def test_label_skew_on_coco(tiny_coco: MakeExperiment) -> None:
    two = [{"tasks": ["instance_segmentation"], "data": "scenes", "count": 2}]
    specs = make_clients(tiny_coco(partition={"scheme": "label", "alpha": 0.1}, clients=two))
    shards = [set(spec.train_ids) for spec in specs]
    assert not shards[0] & shards[1]
    assert all(image.startswith("train2017/") for shard in shards for image in shard)


def test_images_are_kept_back_where_the_algorithm_judges_by_them(tiny: MakeExperiment) -> None:
    """One in two of a shard, two at most. These are withheld, and all else is as ever."""
    clients = [
        {"tasks": ["saliency"], "data": "scenes", "images": 1},
        {"tasks": ["semantic_segmentation"], "data": "scenes", "images": 2},
        {"tasks": ["surface_normals"], "data": "scenes"},
    ]
    whole = make_clients(tiny(clients=clients))
    assert [len(client.train_ids) for client in whole] == [1, 2, 13]
    assert not any(source.kept_back for client in whole for source in client.sources)
    judging = tiny(clients=clients, algorithm={"name": "mfed", "correlation_threshold": "judged"})
    parted = make_clients(judging)
    assert [(client.examples, len(client.sources[0].kept_back)) for client in parted] == [(1, 0), (2, 1), (13, 2)]
    for before, after in zip(whole, parted, strict=True):
        (source,) = after.sources
        assert before.train_ids == after.train_ids == source.ids(withhold=False)
        assert set(source.withheld) == set(source.kept_back)
        assert source.ids(withhold=True) == tuple(i for i in source.train_ids if i not in source.kept_back)
    assert make_clients(judging) == parted


def test_nobody_trains_on_what_any_client_of_the_data_keeps_back(tiny: MakeExperiment) -> None:
    """Where every task is dealt every image, an image of one client lies in shards of the other tasks as well."""
    clients = [{"tasks": [task], "data": "scenes", "count": 2} for task in ("saliency", "surface_normals")]
    sections = {"clients": clients, "partition": {"across": "task"}}
    judging = make_clients(tiny(**sections, algorithm={"name": "mfed", "correlation_threshold": "judged"}))
    kept = {image_id for client in judging for image_id in client.sources[0].kept_back}
    assert len(kept) > 2
    assert all(client.sources[0].kept_back for client in judging)
    whole = make_clients(tiny(**sections))
    for before, after in zip(whole, judging, strict=True):
        (source,) = after.sources
        assert source.ids(withhold=True) == tuple(image_id for image_id in before.train_ids if image_id not in kept)
        assert source.ids(withhold=False) == before.train_ids


def test_a_client_whose_images_are_all_kept_back(tiny: MakeExperiment) -> None:
    clients = [{"tasks": [task], "data": "scenes", "count": 8} for task in ("saliency", "surface_normals")]
    message = r"^client \S+: the clients of data.scenes keep back all its 2 images; give it more images, or another "
    with pytest.raises(DataError, match=message):
        make_clients(
            tiny(
                clients=clients,
                partition={"across": "task"},
                algorithm={"name": "mfed", "correlation_threshold": "judged"},
            )
        )


def test_judging_where_every_client_has_one_image(tiny: MakeExperiment) -> None:
    clients = [{"tasks": [task], "data": "scenes", "count": 8} for task in ("saliency", "surface_normals")]
    with pytest.raises(DataError, match=r"^algorithm: judges by images that clients keep back, but each client has a "):
        make_clients(tiny(clients=clients, algorithm={"name": "mfed", "correlation_threshold": "judged"}))
