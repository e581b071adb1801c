"""``mfed predict``: files of a run's client, and one sentence for what is wrong."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mfed_ray.annotations import Detections
from mfed_ray.cli import main
from mfed_ray.data.files import read_image
from mfed_ray.driver import run
from mfed_ray.errors import ConfigError, DataError, MfedError, RunFolderError
from mfed_ray.experiment import Experiment
from mfed_ray.experiment.build import TrainerFactory, make_clients
from mfed_ray.predict import predict

MakeExperiment = Callable[..., Experiment]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_coco: MakeExperiment) -> Path:
    folder = tmp_path_factory.mktemp("predict") / "run"
    for _ in run(tiny_coco(rounds=1), folder):
        pass
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory, coco_scenes: Path) -> Path:
    """Three images, one of them of another size and a PNG; and a file that is none."""
    folder = tmp_path_factory.mktemp("images")
    first, second, third = sorted((coco_scenes / "val2017").glob("*.jpg"))[:3]
    shutil.copy(first, folder)
    shutil.copy(second, folder)
    with Image.open(third) as image:
        image.resize((70, 45)).save(folder / "holiday.png")
    (folder / "notes.txt").write_text("not an image")
    return folder


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def test_every_task_writes_its_files(finished: Path, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = sorted(path.stem for path in images.iterdir() if path.suffix != ".txt")
    sizes = {path.stem: size_of(path) for path in images.iterdir() if path.suffix != ".txt"}
    for task in ("instance_segmentation", "keypoint_detection", "panoptic_segmentation", "stuff_segmentation"):
        with pytest.raises(SystemExit) as stop:
            main(["predict", str(finished), "--client", f"{task}-0", "--images", str(images)])
        assert stop.value.code == 0
        folder = finished / "predictions" / f"{task}-0" / task
        assert f"{folder}: predictions, and overlays in {folder / 'overlays'}" in capsys.readouterr().out
        assert sorted(path.stem for path in (folder / "overlays").iterdir()) == names
        if task in ("instance_segmentation", "keypoint_detection"):
            results = json.loads((folder / "results.json").read_text())
            known = {int(name) if name.isdigit() else name for name in names}
            assert {one["image_id"] for one in results} <= known
        else:
            maps = folder / "panoptic" if task == "panoptic_segmentation" else folder
            assert {path.stem: size_of(path) for path in maps.glob("*.png")} == sizes


def test_the_model_is_the_clients_as_its_next_round_would_start(
    tiny_coco: MakeExperiment, finished: Path, images: Path, tmp_path: Path
) -> None:
    """The same detections as of a trainer that starts from the checkpoint by hand."""
    from mfed_ray import checkpoint

    experiment = tiny_coco(rounds=1)
    predict(finished, "instance_segmentation-1", images, tmp_path)
    results = json.loads((tmp_path / "instance_segmentation/results.json").read_text())
    client = next(c for c in make_clients(experiment) if c.name == "instance_segmentation-1")
    last = checkpoint.load_latest(finished / "checkpoints")
    assert last is not None
    trainer = TrainerFactory(experiment)(client)
    trainer.start(last.clients[client.name], *experiment.algorithm.instruct(last.server, client, 2).load)
    path = images / "holiday.png"
    found = trainer.model.predict(read_image(path), trainer.augmentation.input_size)["instance_segmentation"]
    assert isinstance(found, Detections)
    scores = [one["score"] for one in results if one["image_id"] == "holiday"]
    np.testing.assert_allclose(scores, found.scores, atol=1e-5)


def test_a_dense_task_too(tiny: MakeExperiment, images: Path, tmp_path: Path) -> None:
    for _ in run(tiny(rounds=1, algorithm={"name": "local"}), tmp_path / "run"):
        pass
    (folder,) = predict(tmp_path / "run", "saliency-0", images, tmp_path / "out")
    assert size_of(folder / "holiday.png") == (70, 45)


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"client": "saliency-0"}, ConfigError, "--client: 'saliency-0' is not one of instance_segmentation-0, "),
        ({"run": "nowhere"}, RunFolderError, "nowhere: is no run's folder, it has no config.yaml"),
        ({"images": "nowhere"}, DataError, "nowhere: no such folder of images"),
        ({"images": "empty"}, DataError, r"empty: has no image, looked for \*.jpg, \*.jpeg, \*.png"),
        ({"images": "twins"}, DataError, r"twins: a.jpg and a.png would write to the same files; rename one"),
        ({"out": "twins"}, DataError, "twins: is there already and not empty, nothing was overwritten"),
        ({"run": "begun"}, RunFolderError, "begun: has no finished round yet, its clients have no model"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    change: dict[str, str], kind: type[MfedError], message: str, finished: Path, images: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "twins").mkdir()
    for name in ("a.jpg", "a.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / "twins" / name)
    shutil.copytree(finished, tmp_path / "begun", ignore=shutil.ignore_patterns("checkpoints", "predictions"))
    places = {"run": finished, "images": images, "out": tmp_path / "out"}
    places |= {key: tmp_path / value for key, value in change.items() if key != "client"}
    with pytest.raises(kind, match=message):
        predict(places["run"], change.get("client", "stuff_segmentation-0"), places["images"], places["out"])
    assert not (tmp_path / "out").exists()


def test_an_image_that_cannot_be_read_is_named(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"broken\.jpg: cannot be decoded as an image"):
        predict(finished, "stuff_segmentation-0", tmp_path / "images", tmp_path / "out")
