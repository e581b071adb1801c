"""A finished or running federation put to use: what a client's model says of images, as files."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import torch

from mfed_ray import checkpoint
from mfed_ray.data.files import read_image
from mfed_ray.errors import ConfigError, DataError, RunFolderError
from mfed_ray.experiment import parse_experiment
from mfed_ray.experiment.build import TrainerFactory, clients_by_name
from mfed_ray.experiment.schema import Experiment
from mfed_ray.messages import ClientSpec, State
from mfed_ray.results.run_folder import PARTITION, RunFolder
from mfed_ray.tasks import get_task
from mfed_ray.training import LoadedModel

SUFFIXES = (".jpg", ".jpeg", ".png")


def predict(
    run: Path, client: str, images: Path, out: Path, on_progress: Callable[[int, int], None] | None = None
) -> list[Path]:
    """Write the client's predictions of every image in a folder into ``out``/TASK; the folders, one per task.

    The model is the client's as its next round would start. What the files are is said by ``mfed_ray.predictions``.
    Raises ConfigError for an unknown client, RunFolderError where there is no run or no finished round, DataError for
    the images.
    """
    folder = RunFolder(run)
    experiment = parse_experiment(folder.read_config()).located(Path.cwd())
    found = _images(images)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out}: is there already and not empty, nothing was overwritten; choose another with --out")
    model = _model(folder, experiment, client)
    writers = {task: get_task(task).make_writer(out / task) for task in model.module.tasks}
    input_size = experiment.images.build()
    for done, path in enumerate(found, start=1):
        image = read_image(path)
        for task, prediction in model.predict(image, input_size).items():
            writers[task].add(path.stem, image, prediction)
        if on_progress is not None:
            on_progress(done, len(found))
    for writer in writers.values():
        writer.close()
    return [out / task for task in writers]


def _images(folder: Path) -> list[Path]:
    """Image files of a folder by name. Raises DataError for none, and for two that would share their outputs."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder of images")
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not found:
        raise DataError(f"{folder}: has no image, looked for *{', *'.join(SUFFIXES)}")
    for one, other in pairwise(found):
        if one.stem == other.stem:
            raise DataError(f"{folder}: {one.name} and {other.name} would write to the same files; rename one")
    return found


def _model(folder: RunFolder, experiment: Experiment, client: str) -> LoadedModel:
    """The client's model after the last finished round."""
    named = clients_by_name(experiment)
    if client not in named:
        raise ConfigError(f"--client: {client!r} is not one of {', '.join(named)}")
    latest = checkpoint.load_latest(folder.checkpoints)
    if latest is None:
        raise RunFolderError(f"{folder.path}: has no finished round yet, its clients have no model to predict with")
    torch.set_num_threads(experiment.runtime.threads_per_client)
    spec = ClientSpec(client, named[client].tasks, named[client].data, tuple(folder.read_json(PARTITION)[client]), ())
    instruction = experiment.algorithm.instruct(latest.server, spec, latest.round + 1)
    model = TrainerFactory(experiment).model(spec.tasks)
    model.load(latest.clients.get(client, State()), *instruction.load)
    return model
