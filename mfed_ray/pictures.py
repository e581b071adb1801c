"""A run in pictures: image, ground truth, and what a client's model says of it before and after federation."""

import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mfed_ray.annotations import Detections, Objects, Prediction, Segments, Target
from mfed_ray.coco_categories import STUFF
from mfed_ray.data.files import read_image
from mfed_ray.data.sample import Dataset, Sample
from mfed_ray.errors import DataError
from mfed_ray.evaluation import HELD_OUT
from mfed_ray.experiment.clients import screened_datasets
from mfed_ray.experiment.federation import make_simulation
from mfed_ray.experiment.schema import Experiment
from mfed_ray.experiment.trainers import TrainerFactory
from mfed_ray.federation.checkpoint import Checkpoint
from mfed_ray.labels import VOID
from mfed_ray.messages import ClientSpec
from mfed_ray.predict import client_specs, deploy, last_round, located_experiment
from mfed_ray.predictions.drawing import Picture, overlay_folder
from mfed_ray.results.run_folder import RunFolder
from mfed_ray.tasks import get_task

LOOKED_AT = 50
"""Held-out images that are looked at for one with objects, at most."""


@dataclass(frozen=True)
class Pictures:
    """One client's held-out image for one of its tasks: the pictures, each uint8 [H, W, 3].

    ``before``: by the initial model; ``after``: by what the client's next round after ``round`` would start with.
    """

    task: str
    client: str
    image_id: str
    round: int
    image: NDArray[np.uint8]
    truth: NDArray[np.uint8]
    before: NDArray[np.uint8]
    after: NDArray[np.uint8]


def draw_pictures(run: Path, trusted: Collection[str] = ()) -> list[Pictures]:
    """One image for each task of a run: the first with objects that its first client holds out; the same every time.

    ``trusted``: as of ``mfed_ray.predict.predict``. Raises InputError where the run has no finished round, or its data
    or weights are not there.
    """
    folder = RunFolder(run)
    experiment = located_experiment(folder, trusted)
    _check_data(experiment)
    last = last_round(folder)
    torch.set_num_threads(experiment.runtime.threads_per_client)
    specs = client_specs(folder, experiment)
    first = Checkpoint(0, make_simulation(experiment, specs).start, {})
    factory = TrainerFactory(experiment)
    datasets = screened_datasets(experiment)
    drawn: dict[str, Pictures] = {}
    for client in specs:
        if tasks := [task for task in client.tasks if task not in drawn]:
            sample = _example(datasets[client.dataset], experiment, client)
            before, after = (_predicted(factory, client, sample, one) for one in (first, last))
            for task in tasks:
                drawn[task] = _pictures(task, client, last.round, sample, before[task], after[task])
    return list(drawn.values())


def _check_data(experiment: Experiment) -> None:
    """Only a run may generate a data set: into a folder that is not there, or empty."""
    for name, data in experiment.data.items():
        root = Path(data.root)
        if not root.is_dir() or not any(root.iterdir()):
            raise DataError(
                f"data.{name}: {root}: no such folder, or an empty one; expected the images that the run was made with"
            )


def _example(dataset: Dataset, experiment: Experiment, client: ClientSpec) -> Sample:
    """The first held-out image that shows something for all the client's tasks; the first of all where none does."""
    usable = (i for i in dataset.image_ids(HELD_OUT) if all(dataset.usable(i, task) for task in client.tasks))
    samples: list[Sample] = []
    for image_id in islice(usable, min(LOOKED_AT, experiment.evaluation.max_images or LOOKED_AT)):
        samples.append(dataset.read(image_id, client.tasks))
        if all(_shows_something(target) for target in samples[-1].targets.values()):
            return samples[-1]
    if not samples:
        raise DataError(f"data.{client.dataset}: its {HELD_OUT} split has no image for {', '.join(client.tasks)}")
    return samples[0]


def _shows_something(target: Target) -> bool:
    if isinstance(target, Objects):
        return not target.crowd.all()
    if isinstance(target, Segments):
        return target.crowd is None or not target.crowd.all()
    return bool(((target != 0) & (target != VOID)).any())


def _predicted(
    factory: TrainerFactory, client: ClientSpec, sample: Sample, last: Checkpoint
) -> Mapping[str, Prediction]:
    model = factory.model(client)
    deploy(model, factory.experiment, client, last)
    return model.predict(sample.image, factory.experiment.images)


def _pictures(
    task: str, client: ClientSpec, number: int, sample: Sample, before: Prediction, after: Prediction
) -> Pictures:
    shown = (_as_prediction(task, sample.targets[task]), before, after)
    truth, initial, final = (_overlay(task, sample.image, prediction) for prediction in shown)
    return Pictures(task, client.name, sample.image_id, number, _plain(sample.image), truth, initial, final)


def _plain(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image, enlarged as the overlays are."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image.png"
        Picture(image).save(path)
        return read_image(path)


def _overlay(task: str, image: NDArray[np.uint8], prediction: Prediction) -> NDArray[np.uint8]:
    with tempfile.TemporaryDirectory() as folder:
        get_task(task).make_writer(Path(folder)).add("image", image, prediction)
        return read_image(overlay_folder(Path(folder)) / "image.png")


def _as_prediction(task: str, target: Target) -> Prediction:
    """The prediction that says what the target says; void is background, crowds are left out."""
    if isinstance(target, Objects):
        return _detections(target)
    if isinstance(target, Segments):
        crowd = np.zeros(len(target.ids), np.bool_) if target.crowd is None else target.crowd
        told = target.ids[~crowd]
        return replace(
            target,
            map=np.where(np.isin(target.map, told), target.map, 0),
            ids=told,
            labels=target.labels[~crowd],
            crowd=None,
        )
    if np.issubdtype(target.dtype, np.floating):
        return target
    if target.ndim == 3:  # annotators' maps: the share of them that marks a pixel
        return (target == 1).mean(axis=2).astype(np.float32)
    if task == "saliency":
        return (target == 1).astype(np.float32)
    return np.where(target == VOID, _clear(task), target)


def _clear(task: str) -> int:
    """The label that the task's overlays leave clear."""
    return len(STUFF) - 1 if task == "stuff_segmentation" else 0


def _detections(target: Objects) -> Detections:
    told: Sequence[int] = np.flatnonzero(~target.crowd).tolist()
    return Detections(
        target.size,
        target.boxes[told],
        target.labels[told],
        np.ones(len(told), np.float32),
        None if target.masks is None else target.masks[told],
        None if target.keypoints is None else target.keypoints[told],
    )
