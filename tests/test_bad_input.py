"""Broken data under a run that is half done: one sentence, exit code 2, and what was there stays as it was."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from mfed_ray.cli import main
from mfed_ray.driver import run
from mfed_ray.errors import DataError
from mfed_ray.experiment import Experiment, parse_experiment
from mfed_ray.experiment.loading import merge
from mfed_ray.federation.events import Evaluated

MakeExperiment = Callable[..., Experiment]


def victim(root: Path) -> str:
    return (root / "ImageSets/Context/val.txt").read_text().split()[0]


def no_folder(root: Path) -> str:
    shutil.rmtree(root)
    return f"data.scenes: {root}"


def no_image(root: Path) -> str:
    (root / f"JPEGImages/{victim(root)}.jpg").unlink()
    return f"{victim(root)}.jpg"


def unreadable_image(root: Path) -> str:
    (root / f"JPEGImages/{victim(root)}.jpg").write_bytes(b"no image")
    return f"{victim(root)}.jpg"


def label_of_another_size(root: Path) -> str:
    Image.fromarray(np.zeros((31, 32), np.uint8)).save(root / f"semseg/VOC12/{victim(root)}.png")
    return f"semseg/VOC12/{victim(root)}.png"


def class_out_of_range(root: Path) -> str:
    Image.fromarray(np.full((32, 32), 77, np.uint8)).save(root / f"semseg/VOC12/{victim(root)}.png")
    return "77"


def other_images(root: Path) -> str:
    path = root / "ImageSets/Context/train.txt"
    path.write_text("\n".join(reversed(path.read_text().split())) + "\n")
    return "the data's images or their order changed since this run began"


def kept(folder: Path) -> dict[str, bytes]:
    names = ("config.yaml", "partition.json", "*.parquet", "checkpoints/*/*")
    return {str(path): path.read_bytes() for name in names for path in folder.glob(name)}


FAULTS = (no_folder, no_image, unreadable_image, label_of_another_size, class_out_of_range, other_images)


@pytest.mark.parametrize(
    ("fault", "backend"),
    # on Ray one that the driver finds, and one that a client's actor does: what tells them is the same code for all
    [*((fault, "serial") for fault in FAULTS), (other_images, "ray"), (unreadable_image, "ray")],
)
@pytest.mark.usefixtures("ray_cluster")
def test_broken_data(
    tiny_tree: dict[str, Any],
    scenes: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    fault: Callable[[Path], str],
    backend: str,
) -> None:
    shutil.copytree(scenes, tmp_path / "data")
    data = {"scenes": {"format": "pascal_context", "root": str(tmp_path / "data")}}
    clients = [{"tasks": ["semantic_segmentation"], "data": "scenes", "count": 2}]
    tree = merge(tiny_tree, {"data": data, "clients": clients, "runtime": {"max_actors": 1}})
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tree))
    half_done = run(parse_experiment(tree), tmp_path / "run")
    while not (isinstance(event := next(half_done), Evaluated) and event.round == 1):
        pass
    half_done.close()  # type: ignore[attr-defined]
    before = kept(tmp_path / "run")
    assert len(before) > 5

    message = fault(tmp_path / "data")
    with pytest.raises(SystemExit) as stop:
        main(["run", str(tmp_path / "tiny.yaml"), f"runtime.backend={backend}", "--out", str(tmp_path / "run")])
    errors = capsys.readouterr().err
    assert stop.value.code == 2
    assert message in errors
    assert (errors.startswith("mfed: "), errors.count("\n")) == (True, 1)
    assert kept(tmp_path / "run") == before


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_training_image_is_named_whoever_loads_it(
    tiny: MakeExperiment, scenes: Path, tmp_path: Path, workers: int
) -> None:
    shutil.copytree(scenes, tmp_path / "data")
    name = (tmp_path / "data/ImageSets/Context/train.txt").read_text().split()[0]
    (tmp_path / f"data/JPEGImages/{name}.jpg").write_bytes(b"no image")
    data = {"scenes": {"format": "pascal_context", "root": str(tmp_path / "data")}}
    local = {"loading_workers": workers, "max_steps": None}
    with pytest.raises(DataError) as caught:
        list(run(tiny(data=data, local=local), tmp_path / "run"))
    assert f"{name}.jpg" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("runtime", "message"),
    [
        ({"gpus_per_client": 64}, "runtime.gpus_per_client: 64, runtime.device: auto: this process has 0 GPUs"),
        ({"device": "cuda"}, "runtime.device: cuda: this process has 0 GPUs; ask for less"),
    ],
)
def test_gpus_that_this_process_lacks(
    tiny_tree: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    runtime: dict[str, Any],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)  # wherever this test runs
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(merge(tiny_tree, {"runtime": runtime})))
    with pytest.raises(SystemExit) as stop:
        main(["run", str(tmp_path / "tiny.yaml"), "--out", str(tmp_path / "run")])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
