"""A finished or running federation put to use: what a client's model says of images, as files."""

import os
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from mfed_ray.data.files import read_image
from mfed_ray.data.settings import InputSize
from mfed_ray.errors import ConfigError, DataError, RunFolderError
from mfed_ray.experiment import parse_experiment
from mfed_ray.experiment.clients import clients_by_name
from mfed_ray.experiment.groups import model_name
from mfed_ray.experiment.schema import Experiment
from mfed_ray.experiment.trainers import TrainerFactory
from mfed_ray.federation import checkpoint
from mfed_ray.federation.checkpoint import Checkpoint
from mfed_ray.loaded_model import LoadedModel
from mfed_ray.messages import ClientSpec, Params, State
from mfed_ray.predictions.coco_results import image_id
from mfed_ray.results.run_folder import ENVIRONMENT, PARTITION, RunFolder
from mfed_ray.tasks import get_task

SUFFIXES = (".jpg", ".jpeg", ".png")


def predict(
    run: Path,
    client: str,
    images: Path,
    out: Path,
    on_progress: Callable[[int, int], None] | None = None,
    trusted: Collection[str] = (),
) -> list[Path]:
    """Write the client's predictions of every image in a folder into ``out``/TASK; the folders, one per task.

    The model is the client's as its next round would start. What the files are is said by ``mfed_ray.predictions``.
    ``out`` appears when all of it is written. ``trusted``: the algorithms ``package.module:Class`` that may be imported
    where the folder names them. Raises ConfigError for an unknown client or an untrusted algorithm, RunFolderError
    where there is no run or no finished round, DataError for the images and for an ``out`` that is taken or cannot be
    written.
    """
    folder = RunFolder(run)
    experiment = located_experiment(folder, trusted)
    found = _images(images)
    with _writing(out):
        _check_free(out)
    model = _model(folder, experiment, client)
    with _writing(out), _whole(out.resolve()) as partial:
        _write(model, experiment.images, found, partial, on_progress)
    return [out / task for task in model.module.tasks]


def located_experiment(folder: RunFolder, trusted: Collection[str] = ()) -> Experiment:
    """The run's experiment, with paths as where it was last started; its device may not be on this machine.

    Raises RunFolderError where there is no run, ConfigError for a config that this version cannot run, or whose
    algorithm is neither the package's own nor ``trusted``.
    """
    experiment = parse_experiment(folder.read_config(), trusted)
    starts = folder.read_json(ENVIRONMENT) or [{}]
    runtime = experiment.runtime.model_copy(update={"device": "auto"})
    return experiment.located(Path(str(starts[-1].get("directory", Path.cwd())))).model_copy(
        update={"runtime": runtime}
    )


def _check_free(out: Path) -> None:
    if os.path.ismount(out.resolve()):
        raise DataError(f"{out}: is a mount point, which no new folder can replace; choose one in it with --out")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out}: is there already and not empty, nothing was overwritten; choose another with --out")


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(f"{out}: cannot be written ({error}); choose another with --out") from error


@contextmanager
def _whole(out: Path) -> Iterator[Path]:
    """A folder beside ``out`` to fill, which takes its place at the end; what fails, or is interrupted, is removed."""
    partial = out.with_name(f".{out.name}.partial")
    try:
        if partial.exists():
            shutil.rmtree(partial)  # of a predict that was killed
        partial.mkdir(parents=True)
        yield partial
        os.replace(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write(
    model: LoadedModel,
    input_size: InputSize,
    images: Sequence[Path],
    folder: Path,
    on_progress: Callable[[int, int], None] | None,
) -> None:
    writers = {task: get_task(task).make_writer(folder / task) for task in model.module.tasks}
    for done, path in enumerate(images, start=1):
        image = read_image(path)
        for task, prediction in model.predict(image, input_size).items():
            writers[task].add(path.stem, image, prediction)
        if on_progress is not None:
            on_progress(done, len(images))
    for writer in writers.values():
        writer.close()


def _images(folder: Path) -> list[Path]:
    """Image files of a folder by name. Raises DataError for none, and for two that predictions would not tell apart."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder of images")
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not found:
        raise DataError(f"{folder}: has no image, looked for *{', *'.join(SUFFIXES)}")
    by_id: dict[int | str, Path] = {}
    for path in found:
        known = image_id(path.stem)
        first = by_id.setdefault(known, path)
        if first is not path:
            raise DataError(
                f"{folder}: {first.name} and {path.name} would both be image {known} of the predictions; rename one"
            )
    return found


def _model(folder: RunFolder, experiment: Experiment, client: str) -> LoadedModel:
    """The client's model after the last finished round."""
    specs = {spec.name: spec for spec in client_specs(folder, experiment)}
    if client not in specs:
        raise ConfigError(f"--client: {client!r} is not one of {', '.join(specs)}")
    latest = last_round(folder)
    torch.set_num_threads(experiment.runtime.threads_per_client)
    model = TrainerFactory(experiment).model(specs[client])
    deploy(model, experiment, specs[client], latest)
    return model


def client_specs(folder: RunFolder, experiment: Experiment) -> list[ClientSpec]:
    """The run's clients with the shards that they had, and no held-out images: no dataset is opened."""
    shards = folder.read_json(PARTITION) or {}
    named = clients_by_name(experiment)
    return [
        ClientSpec.of(name, one.tasks, one.data, tuple(shards.get(name, ())), model=model_name(experiment, one))
        for name, one in named.items()
    ]


def last_round(folder: RunFolder) -> Checkpoint:
    """The run's last complete checkpoint. Raises RunFolderError where there is none yet."""
    latest = checkpoint.load_latest(folder.checkpoints)
    if latest is None:
        raise RunFolderError(f"{folder.path}: has no finished round yet, its clients have no model to predict with")
    return latest


def deploy(model: LoadedModel, experiment: Experiment, client: ClientSpec, last: Checkpoint) -> None:
    """Set the model to what the client's next round would start with.

    Raises RunFolderError where the checkpoint lacks it, or has it in other shapes than the config's model.
    """
    try:
        instruction = experiment.algorithm.instruct(last.server, client, last.round + 1)
        state = last.clients.get(client.name, State())
        _check_shapes(model, last.round, [state.params.get("model", {}), *instruction.load])
        model.load(state, *instruction.load)
    except KeyError as error:
        raise RunFolderError(
            f"the checkpoint of round {last.round} has no {error} for client {client.name}: another version of "
            "mfed_ray wrote it; run the experiment again"
        ) from error


def _check_shapes(model: LoadedModel, number: int, trees: Iterable[Params]) -> None:
    expected = {name: value.shape for name, value in model.initial.items()}
    for name, value in (item for tree in trees for item in tree.items()):
        if value.shape != expected.get(name, value.shape):
            raise RunFolderError(
                f"the checkpoint of round {number} does not fit the config: {name} has the shape "
                f"{list(value.shape)}, expected {list(expected[name])}; put the run's own config.yaml back"
            )
