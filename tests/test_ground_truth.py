"""Ground truth given out as predictions scores perfectly, the whole way that predictions take, files included."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor

from mfed_ray.annotations import Prediction, Segments, Target
from mfed_ray.data.coco import Coco
from mfed_ray.data.settings import Augmentation, InputSize
from mfed_ray.loaded_model import LoadedModel, float_values
from mfed_ray.loading import Shard
from mfed_ray.local_training import LocalTraining
from mfed_ray.messages import ClientSpec
from mfed_ray.models.contract import BatchTarget, Decoder, Features
from mfed_ray.models.encoders import make_encoder
from mfed_ray.models.multitask import MultiTaskModel
from mfed_ray.tasks import get_task
from mfed_ray.training import Trainer

Perfect = Callable[[str, Target], Prediction]

TASKS = ("instance_segmentation", "keypoint_detection", "stuff_segmentation", "panoptic_segmentation")
PERFECT = {
    "instance_segmentation": ("box_ap", "box_ap50", "box_ap75", "mask_ap", "mask_ap50", "mask_ap75"),
    "keypoint_detection": ("keypoint_ap", "keypoint_ap50", "keypoint_ap75", "keypoint_ar", "box_ap"),
    "stuff_segmentation": ("miou", "fwiou", "pixel_accuracy", "mean_accuracy"),
    "panoptic_segmentation": ("pq", "sq", "rq", "pq_things", "pq_stuff"),
}


SOME = 8
"""Images of which files are written."""


class Oracle(Decoder):
    """Gives out what it was handed, image by image."""

    def __init__(self, answers: list[Prediction]) -> None:
        super().__init__()
        self.answers = iter(answers)

    def losses(self, features: Features, targets: BatchTarget, size: tuple[int, int]) -> dict[str, Tensor]:
        raise NotImplementedError

    def predict(self, features: Features, size: tuple[int, int], original: tuple[int, int]) -> list[Prediction]:
        del size, original
        return [next(self.answers) for _ in features["c2"]]


@pytest.fixture(params=["mini", "generated"])
def dataset(request: pytest.FixtureRequest) -> Coco:
    if request.param == "mini":
        return Coco(request.getfixturevalue("shared") / "data" / "coco_mini")
    return Coco(request.getfixturevalue("coco_scenes"))


def oracle(dataset: Coco, task: str, perfect: Perfect) -> Trainer:
    """A client that knows the held-out images by heart; its network sees them at 32 pixels."""
    ids = tuple(i for i in dataset.image_ids("val") if dataset.usable(i, task))
    answers = [perfect(task, dataset.read(i, [task]).targets[task]) for i in ids]
    module = MultiTaskModel(make_encoder("resnet10", 32, None, "group"), {task: Oracle(answers)})
    model = LoadedModel(module, float_values(module), frozenset(), torch.device("cpu"))
    settings = LocalTraining(optimizer="sgd", learning_rate=1.0, momentum=0.0, weight_decay=0.0)
    augmentation = Augmentation(crop_size=32, scale=(0.75, 1.5), colour=0.3)
    spec, tasks = ClientSpec.of("client", (task,), "coco", ids, ids), [get_task(task)]
    shard = Shard(
        spec.sources[0],
        dataset,
        tasks,
        augmentation,
        epochs=1,
        batch_size=1,
        max_steps=None,
        workers=0,
        seed=0,
        input_size=InputSize(short_side=32),
    )
    return Trainer(spec, model, [shard], tasks, settings, rounds=1, seed=0)


@pytest.mark.parametrize("task", TASKS)
def test_ground_truth_scores_perfectly(dataset: Coco, task: str, perfect: Perfect) -> None:
    found = oracle(dataset, task, perfect).evaluate()[task]
    # COCOeval adds 2^-52 to a denominator
    assert {name: found[name] for name in PERFECT[task]} == pytest.approx(dict.fromkeys(PERFECT[task], 1.0), abs=1e-12)


@pytest.mark.filterwarnings("ignore:.*array.*copy:DeprecationWarning")
@pytest.mark.parametrize(("task", "kind"), [(TASKS[0], "segm"), (TASKS[0], "bbox"), (TASKS[1], "keypoints")])
def test_results_files_score_perfectly_with_cocos_own_tools(
    dataset: Coco, task: str, kind: str, perfect: Perfect, tmp_path: Path
) -> None:
    folder = write(dataset, task, perfect, tmp_path)
    name = "person_keypoints" if kind == "keypoints" else "instances"
    truth = COCO(str(dataset.root / f"annotations/{name}_val2017.json"))
    evaluation = COCOeval(truth, truth.loadRes(str(folder / "results.json")), kind)
    evaluation.params.imgIds = [int(image_id.split("/")[1]) for image_id in dataset.image_ids("val")[:SOME]]
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[:3] == pytest.approx(1.0, abs=1e-12)


def test_panoptic_files_say_what_the_dataset_says(dataset: Coco, perfect: Perfect, tmp_path: Path) -> None:
    task = "panoptic_segmentation"
    folder = write(dataset, task, perfect, tmp_path)
    ours = annotations(folder / "panoptic.json")
    truth = annotations(dataset.root / "annotations/panoptic_val2017.json")
    assert len(ours) == min(SOME, len(truth))
    for image_id in ours:
        theirs = truth[image_id]
        crowds = {one["id"] for one in theirs["segments_info"] if one["iscrowd"]}
        wanted = {one["id"]: one["category_id"] for one in theirs["segments_info"] if not one["iscrowd"]}
        assert {one["id"]: one["category_id"] for one in ours[image_id]["segments_info"]} == wanted
        read = [
            np.asarray(Image.open(path).convert("RGB"), np.int64) @ [1, 256, 65536]
            for path in (
                folder / "panoptic" / ours[image_id]["file_name"],
                dataset.root / "annotations/panoptic_val2017" / theirs["file_name"],
            )
        ]
        np.testing.assert_array_equal(read[0], np.where(np.isin(read[1], list(crowds)), 0, read[1]))


def test_stuff_files_are_the_pixelmaps(dataset: Coco, perfect: Perfect, tmp_path: Path) -> None:
    folder = write(dataset, "stuff_segmentation", perfect, tmp_path)
    for path in sorted((dataset.root / "annotations/stuff_val2017_pixelmaps").glob("*.png"))[:SOME]:
        ours = np.asarray(Image.open(folder / path.name))
        theirs = np.asarray(Image.open(path))
        np.testing.assert_array_equal(np.where(theirs == 0, 0, ours), theirs)


def write(dataset: Coco, task: str, perfect: Perfect, folder: Path) -> Path:
    """The ground truth of some held-out images, written as predictions of files with COCO's names."""
    writer = get_task(task).make_writer(folder / task)
    for image_id in dataset.image_ids("val")[:SOME]:
        sample = dataset.read(image_id, [task])
        writer.add(f"{int(image_id.split('/')[1]):012d}", sample.image, perfect(task, sample.targets[task]))
    writer.close()
    return folder / task


def annotations(path: Path) -> dict[int, Any]:
    return {one["image_id"]: one for one in json.loads(path.read_text())["annotations"]}


def test_a_wrong_pixel_is_noticed(coco_scenes: Path, perfect: Perfect) -> None:
    """The oracle is no rubber stamp: one segment's class changed, and the quality is no longer 1."""
    trainer = oracle(Coco(coco_scenes), "panoptic_segmentation", perfect)
    decoder = trainer.model.module.decoders["panoptic_segmentation"]
    assert isinstance(decoder, Oracle)
    answers = list(decoder.answers)
    first = answers[0]
    assert isinstance(first, Segments)
    answers[0] = Segments(first.map, first.ids, np.where(np.arange(len(first.labels)) == 0, 132, first.labels))
    decoder.answers = iter(answers)
    assert trainer.evaluate()["panoptic_segmentation"]["pq"] < 1 - 1e-6
