import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from mfed_ray.data.coco import Coco
from mfed_ray.data.files import read_image
from mfed_ray.data.pascal_context import PascalContext
from mfed_ray.errors import DataError, RunFolderError
from mfed_ray.experiment import Experiment, parse_experiment
from mfed_ray.experiment.clients import make_clients
from mfed_ray.experiment.federation import make_simulation
from mfed_ray.federation import checkpoint
from mfed_ray.federation.checkpoint import Checkpoint
from mfed_ray.messages import State
from mfed_ray.pictures import Pictures, draw_pictures
from mfed_ray.predict import predict
from mfed_ray.results.run_folder import PARTITION, RunFolder
from mfed_ray.tasks import get_task

MakeExperiment = Callable[..., Experiment]
Perfect = Callable[[str, Any], Any]

COCO = ("instance_segmentation", "keypoint_detection", "panoptic_segmentation", "stuff_segmentation")
DENSE = ("semantic_segmentation", "saliency", "surface_normals", "human_parts", "edge_detection")


def finished(folder: RunFolder, experiment: Experiment) -> Path:
    """A run's folder as after round 1, without the training: every parameter has the other sign."""
    clients = make_clients(experiment)
    start = make_simulation(experiment, clients).start
    folder.write_config(experiment.resolved())
    folder.write_json(PARTITION, {client.name: list(client.train_ids) for client in clients})
    moved = {name: {key: -value for key, value in tree.items()} for name, tree in start.params.items()}
    checkpoint.save(folder.checkpoints, Checkpoint(1, State(moved, start.values), {}))
    return folder.path


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory, tiny: MakeExperiment) -> Path:
    """Of five clients, one of which has two tasks."""
    tasks = (["semantic_segmentation"], ["saliency", "surface_normals"], ["human_parts"], ["edge_detection"])
    clients = [{"tasks": names, "data": "scenes", "count": 2 - bool(index)} for index, names in enumerate(tasks)]
    folder = RunFolder(tmp_path_factory.mktemp("dense") / "run")
    return finished(folder, tiny(clients=clients, algorithm={"name": "fedavg"}))


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory, tiny_coco: MakeExperiment) -> Path:
    folder = RunFolder(tmp_path_factory.mktemp("objects") / "run")
    return finished(folder, tiny_coco(algorithm={"name": "fedavg"}))


@pytest.fixture(scope="module")
def drawn(dense: Path, objects: Path) -> dict[str, Pictures]:
    return {one.task: one for folder in (dense, objects) for one in draw_pictures(folder)}


def test_a_run_whose_clients_keep_images_back(tmp_path: Path, tiny: MakeExperiment) -> None:
    """The folder does not say which; nobody needs to know for a picture."""
    clients = [{"tasks": [task], "data": "scenes"} for task in ("saliency", "surface_normals")]
    experiment = tiny(
        clients=clients, algorithm={"name": "mfed", "correlation_threshold": "judged", "judging": {"until": 2}}
    )
    assert {one.task for one in draw_pictures(finished(RunFolder(tmp_path / "run"), experiment))} == {
        "saliency",
        "surface_normals",
    }


def test_one_image_for_each_task_of_its_first_client(drawn: dict[str, Pictures]) -> None:
    clients = {task: one.client for task, one in drawn.items()}
    assert clients == {
        "semantic_segmentation": "semantic_segmentation-0",
        "saliency": "saliency+surface_normals-0",
        "surface_normals": "saliency+surface_normals-0",
        "human_parts": "human_parts-0",
        "edge_detection": "edge_detection-0",
        **{task: f"{task}-0" for task in COCO},
    }
    assert drawn["saliency"].image_id == drawn["surface_normals"].image_id
    assert {one.round for one in drawn.values()} == {1}


def test_the_image_is_the_first_with_objects(drawn: dict[str, Pictures], coco_scenes: Path) -> None:
    data = Coco(coco_scenes)
    for task in ("instance_segmentation", "keypoint_detection"):
        usable = [image for image in data.image_ids("val") if data.usable(image, task)]
        shown = [image for image in usable if not data.read(image, [task]).targets[task].crowd.all()]
        assert drawn[task].image_id == shown[0]


@pytest.mark.parametrize("task", ["semantic_segmentation", "saliency", "surface_normals", "instance_segmentation",
                                  "panoptic_segmentation"])  # fmt: skip
def test_the_ground_truth_is_drawn_as_a_perfect_prediction(
    drawn: dict[str, Pictures], perfect: Perfect, scenes: Path, coco_scenes: Path, tmp_path: Path, task: str
) -> None:
    data = Coco(coco_scenes) if task in COCO else PascalContext(scenes)
    sample = data.read(drawn[task].image_id, [task])
    prediction = perfect(task, sample.targets[task])
    if task == "semantic_segmentation":
        prediction = np.where(prediction == 255, 0, prediction)
    writer = get_task(task).make_writer(tmp_path)
    writer.add("perfect", sample.image, prediction)
    np.testing.assert_array_equal(drawn[task].truth, read_image(tmp_path / "overlays" / "perfect.png"))


def test_every_ground_truth_differs_from_the_image(drawn: dict[str, Pictures]) -> None:
    assert set(drawn) == {*DENSE, *COCO}
    for one in drawn.values():
        height, width = one.image.shape[:2]
        assert one.truth.shape[1] >= width
        assert (one.truth[:height, :width] != one.image).any(), one.task


def overlay(folder: Path, one: Pictures, image: Path, out: Path) -> NDArray[np.uint8]:
    """What ``mfed predict`` draws of the image."""
    (out / "images").mkdir(parents=True)
    shutil.copy(image, out / "images")
    predict(folder, one.client, out / "images", out / "predicted")
    return read_image(next((out / "predicted" / one.task / "overlays").iterdir()))


@pytest.mark.parametrize("task", ["saliency", "stuff_segmentation"])
def test_before_and_after_are_what_predict_draws(
    drawn: dict[str, Pictures],
    dense: Path,
    objects: Path,
    scenes: Path,
    coco_scenes: Path,
    tmp_path: Path,
    task: str,
) -> None:
    """With the run's own checkpoint, and with one of the state that a simulation starts from."""
    folder, one = (objects if task in COCO else dense), drawn[task]
    places = (coco_scenes / "val2017", scenes / "JPEGImages")
    name = one.image_id.rsplit("/")[-1]
    image = next(path for place in places for path in place.iterdir() if path.stem.lstrip("0") == name)
    np.testing.assert_array_equal(one.after, overlay(folder, one, image, tmp_path / "after"))
    shutil.copytree(folder, tmp_path / "initial", ignore=shutil.ignore_patterns("checkpoints"))
    experiment = parse_experiment(RunFolder(folder).read_config())
    start = make_simulation(experiment, make_clients(experiment)).start
    checkpoint.save(tmp_path / "initial" / "checkpoints", Checkpoint(0, start, {}))
    np.testing.assert_array_equal(one.before, overlay(tmp_path / "initial", one, image, tmp_path / "before"))
    assert not np.array_equal(one.before, one.after)


def test_what_is_missing_is_one_sentence(dense: Path, scenes: Path, tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"nowhere: is no run's folder, it has no config\.yaml"):
        draw_pictures(tmp_path / "nowhere")
    shutil.copytree(dense, tmp_path / "begun", ignore=shutil.ignore_patterns("checkpoints"))
    with pytest.raises(RunFolderError, match="begun: has no finished round yet, its clients have no model"):
        draw_pictures(tmp_path / "begun")
    shutil.copytree(dense, tmp_path / "moved")
    config = (dense / "config.yaml").read_text().replace(str(scenes), "gone")
    (tmp_path / "moved" / "config.yaml").write_text(config)
    told = r"data\.scenes: .*/gone: no such folder, or an empty one; expected the images that the run was made with"
    with pytest.raises(DataError, match=told):
        draw_pictures(tmp_path / "moved")


def test_nobodys_folder_is_filled_by_looking_at_a_run(dense: Path, tmp_path: Path) -> None:
    """A run that generates its images does so where its config says."""
    shutil.copytree(dense, tmp_path / "run")
    (tmp_path / "mine").mkdir()
    config = yaml.safe_load((dense / "config.yaml").read_text())
    config["data"]["scenes"] = {"format": "generated", "root": str(tmp_path / "mine"), "images": 4, "size": 32}
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(DataError, match="mine: no such folder, or an empty one"):
        draw_pictures(tmp_path / "run")
    assert list((tmp_path / "mine").iterdir()) == []


def test_a_state_of_another_version_is_one_sentence(dense: Path, tmp_path: Path) -> None:
    """Such as FedAvg's, which held one encoder for all."""
    shutil.copytree(dense, tmp_path / "old")
    last = checkpoint.load_latest(dense / "checkpoints")
    assert last is not None
    server = State({name.replace("encoder/", ""): tree for name, tree in last.server.params.items()})
    checkpoint.save(tmp_path / "old" / "checkpoints", Checkpoint(1, server, last.clients))
    message = (
        "the checkpoint of round 1 has no 'encoder/semantic_segmentation' for client semantic_segmentation-0: another "
        "version of mfed_ray wrote it; run the experiment again"
    )
    with pytest.raises(RunFolderError, match=message):
        draw_pictures(tmp_path / "old")
