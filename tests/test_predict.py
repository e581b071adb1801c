"""``mfed predict``: files of a run's client, and one sentence for what is wrong."""

import json
import os
import resource
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from safetensors.torch import save_file

from mfed_ray.annotations import Detections
from mfed_ray.cli import main
from mfed_ray.data.files import read_image
from mfed_ray.driver import run
from mfed_ray.errors import ConfigError, DataError, MfedError, RunFolderError, WeightsError
from mfed_ray.experiment import Experiment
from mfed_ray.experiment.clients import make_clients
from mfed_ray.experiment.trainers import TrainerFactory
from mfed_ray.models.encoders import make_encoder
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
            assert {one["image_id"] for one in results} == known
        else:
            maps = folder / "panoptic" if task == "panoptic_segmentation" else folder
            assert {path.stem: size_of(path) for path in maps.glob("*.png")} == sizes


def test_the_model_is_the_clients_as_its_next_round_would_start(
    tiny_coco: MakeExperiment, finished: Path, images: Path, tmp_path: Path
) -> None:
    """The same detections as of a trainer that starts from the checkpoint by hand."""
    from mfed_ray.federation import checkpoint

    experiment = tiny_coco(rounds=1)
    predict(finished, "instance_segmentation-1", images, tmp_path)
    results = json.loads((tmp_path / "instance_segmentation/results.json").read_text())
    client = next(c for c in make_clients(experiment) if c.name == "instance_segmentation-1")
    last = checkpoint.load_latest(finished / "checkpoints")
    assert last is not None
    trainer = TrainerFactory(experiment)(client)
    trainer.start(last.clients[client.name], *experiment.algorithm.instruct(last.server, client, 2).load)
    path = images / "holiday.png"
    found = trainer.model.predict(read_image(path), trainer.shards[0].input_size)["instance_segmentation"]
    assert isinstance(found, Detections)
    assert len(found.scores) > 0
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
        ({"images": "twins"}, DataError, "twins: a.jpg and a.png would both be image a of the predictions; rename one"),
        ({"images": "numbers"}, DataError, "numbers: 007.png and 7.png would both be image 7 of the predictions"),
        ({"out": "twins"}, DataError, "twins: is there already and not empty, nothing was overwritten"),
        ({"out": "/proc/zz"}, DataError, r"/proc/zz: cannot be written \(.*\); choose another with --out"),
        ({"out": "/proc"}, DataError, "/proc: is a mount point, which no new folder can replace; choose one in it"),
        ({"run": "begun"}, RunFolderError, "begun: has no finished round yet, its clients have no model"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    change: dict[str, str], kind: type[MfedError], message: str, finished: Path, images: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    for folder, names in {"twins": ("a.jpg", "a.k.png", "a.png"), "numbers": ("007.png", "1.png", "7.png")}.items():
        (tmp_path / folder).mkdir()
        for name in names:
            Image.new("RGB", (8, 8)).save(tmp_path / folder / name)
    shutil.copytree(finished, tmp_path / "begun", ignore=shutil.ignore_patterns("checkpoints", "predictions"))
    places = {"run": finished, "images": images, "out": tmp_path / "out"}
    places |= {key: tmp_path / value for key, value in change.items() if key != "client"}
    with pytest.raises(kind, match=message):
        predict(places["run"], change.get("client", "stuff_segmentation-0"), places["images"], places["out"])
    assert not (tmp_path / "out").exists()


def test_an_image_that_cannot_be_read_is_named_and_blocks_nothing(finished: Path, images: Path, tmp_path: Path) -> None:
    shutil.copytree(images, tmp_path / "images")
    (tmp_path / "images" / "zebra.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"zebra\.jpg: cannot be decoded as an image"):
        predict(finished, "stuff_segmentation-0", tmp_path / "images", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["images"]
    (tmp_path / "images" / "zebra.jpg").unlink()
    (folder,) = predict(finished, "stuff_segmentation-0", tmp_path / "images", tmp_path / "out")
    assert len(list(folder.glob("*.png"))) == 3


def test_an_interrupted_predict_leaves_nothing(finished: Path, images: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int, list[str]]] = []

    def interrupt(done: int, total: int) -> None:
        seen.append((done, total, [path.name for path in tmp_path.iterdir()]))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict(finished, "stuff_segmentation-0", images, tmp_path / "out", interrupt)
    assert seen == [(1, 3, [".out.partial"])]
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_predict_left_is_removed(finished: Path, images: Path, tmp_path: Path) -> None:
    stale = tmp_path / ".out.partial" / "stuff_segmentation" / "old.png"
    stale.parent.mkdir(parents=True)
    stale.touch()
    (tmp_path / "out").mkdir()
    (folder,) = predict(finished, "stuff_segmentation-0", images, tmp_path / "out")
    assert len(list(folder.glob("*.png"))) == 3
    assert not (folder / "old.png").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_full_disk_is_one_sentence_and_leaves_nothing(finished: Path, images: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk: writing fails midway just the same."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        with pytest.raises(DataError, match=r"out: cannot be written \(.*File too large.*\); choose another"):
            predict(finished, "stuff_segmentation-0", images, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_is_one_sentence(
    finished: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last image is a pipe that nobody writes to: the command waits there until it is interrupted."""
    shutil.copytree(images, tmp_path / "images")
    os.mkfifo(tmp_path / "images" / "pipe.jpg")
    written = tmp_path / ".out.partial" / "stuff_segmentation" / "overlays" / "holiday.png"
    ended = threading.Event()

    def interrupt() -> None:
        while not (written.exists() or ended.is_set()):
            time.sleep(0.02)
        if not ended.wait(0.2):
            os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    arguments = ["--client", "stuff_segmentation-0", "--images", str(tmp_path / "images"), "--out"]
    try:
        with pytest.raises(SystemExit) as stop:
            main(["predict", str(finished), *arguments, str(tmp_path / "out")])
    finally:
        ended.set()
        thread.join()
    assert stop.value.code == 130
    assert capsys.readouterr().err == "mfed: interrupted; nothing was written, the same command starts over\n"
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


@pytest.mark.parametrize("backend", ["serial", "ray"])
@pytest.mark.usefixtures("ray_cluster")
def test_relative_paths_start_where_the_run_was_last_started(
    tiny: MakeExperiment, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    home.mkdir()
    elsewhere.mkdir()
    save_file(make_encoder("resnet10", 32, None, "group").state_dict(), home / "encoder.safetensors")
    clients = [{"tasks": ["saliency"], "data": "scenes"}]
    model, runtime = {"weights": "encoder.safetensors", "width": 64}, {"backend": backend}
    experiment = tiny(rounds=1, algorithm={"name": "local"}, clients=clients, model=model, runtime=runtime)
    monkeypatch.chdir(home)
    for _ in run(experiment, Path("run")):
        pass
    (start,) = json.loads((home / "run" / "environment.json").read_text())
    assert start["directory"] == str(home)

    def predicted(out: str, starts: list[dict[str, Any]]) -> tuple[int, int]:
        (home / "run" / "environment.json").write_text(json.dumps(starts))
        (folder,) = predict(home / "run", "saliency-0", images, tmp_path / out)
        return size_of(folder / "holiday.png")

    monkeypatch.chdir(elsewhere)
    assert predicted("last", [{"directory": "/nowhere"}, start]) == (70, 45)
    del start["directory"]  # as before it was noted: from here
    with pytest.raises(WeightsError, match=r"elsewhere/encoder\.safetensors"):
        predicted("absent", [start])
    monkeypatch.chdir(home)
    assert predicted("absent", [start]) == (70, 45)


def test_a_run_on_a_gpu_predicts_where_there_is_none(finished: Path, images: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run", ignore=shutil.ignore_patterns("predictions"))
    config = yaml.safe_load((finished / "config.yaml").read_text())
    config["runtime"]["device"] = "cuda"
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump(config))
    (folder,) = predict(tmp_path / "run", "stuff_segmentation-0", images, tmp_path / "out")
    (expected,) = predict(finished, "stuff_segmentation-0", images, tmp_path / "expected")
    for path in expected.glob("*.png"):
        assert (folder / path.name).read_bytes() == path.read_bytes()
