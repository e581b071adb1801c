"""Images and labels as they should not be: read as COCO's and PASCAL's tools read them, refused, or left out."""

import json
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mfed_ray.data.files import read_image
from mfed_ray.data.pascal_context import PascalContext
from mfed_ray.data.sample import Sample
from mfed_ray.data.screening import Screened
from mfed_ray.data.settings import Augmentation
from mfed_ray.driver import run
from mfed_ray.errors import DataError
from mfed_ray.evaluation import HELD_OUT
from mfed_ray.experiment import Experiment
from mfed_ray.experiment.clients import make_clients
from mfed_ray.experiment.identity import identity
from mfed_ray.experiment.models import make_model
from mfed_ray.experiment.probe import EncoderProbe
from mfed_ray.federation.events import Trained
from mfed_ray.loaded_model import float_values
from mfed_ray.loading import held_out_batches, training_batches
from mfed_ray.params import encoder_of
from mfed_ray.pictures import draw_pictures
from mfed_ray.seeds import generator
from mfed_ray.tasks import get_task

MakeExperiment = Callable[..., Experiment]


def colours() -> NDArray[np.uint8]:
    return np.arange(16 * 24 * 3, dtype=np.uint8).reshape(16, 24, 3)


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "RGBA", "1"])
def test_images_of_8_bits_become_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "image.jpg"
    image = Image.fromarray(colours()).convert(mode)
    image.save(path, format="JPEG" if mode in ("L", "CMYK") else "PNG")
    with Image.open(path) as stored:
        expected = np.asarray(stored.convert("RGB"))
    np.testing.assert_array_equal(read_image(path), expected)
    assert expected.shape == (16, 24, 3)


@pytest.mark.parametrize(("dtype", "mode"), [(np.uint16, "I;16"), (np.float32, "F")])
def test_more_than_8_bits_are_refused(tmp_path: Path, dtype: Any, mode: str) -> None:
    path = tmp_path / "image.tif"
    Image.fromarray(np.full((4, 4), 300, dtype)).save(path)
    with pytest.raises(DataError, match=f"image.tif: pixel mode is {mode}, an image must have 8 bits a channel"):
        read_image(path)


def test_an_orientation_in_exif_is_not_applied(tmp_path: Path) -> None:
    path = tmp_path / "rotated.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown rotated by a quarter
    Image.fromarray(colours()).save(path, exif=exif)
    assert read_image(path).shape == (16, 24, 3)


def test_a_jpeg_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cut.jpg"
    Image.fromarray(colours()).save(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"cut\.jpg: cannot be decoded as an image"):
        read_image(path)


def pascal_folder(root: Path, size: tuple[int, int], salient: int) -> PascalContext:
    for folder in ("JPEGImages", "sal_distill"):
        (root / folder).mkdir(parents=True)
    Image.new("RGB", size[::-1]).save(root / "JPEGImages/one.jpg")
    Image.new("L", size[::-1], salient).save(root / "sal_distill/one.png")
    return PascalContext(root)


@pytest.mark.parametrize("size", [(1, 1), (5000, 6000)])
def test_images_of_one_pixel_and_of_thirty_million(tmp_path: Path, size: tuple[int, int]) -> None:
    dataset, task = pascal_folder(tmp_path, size, 255), get_task("saliency")
    augmentation = Augmentation(crop_size=32, scale=(0.01, 0.01), flip=0, colour=0)
    ((images, targets),) = training_batches(dataset, ["one"], [task], augmentation, batch_size=1, seed=0)
    assert images.shape == (1, 3, 32, 32)
    salient = targets["saliency"]
    assert int((salient == 1).sum()) == (1 if size == (1, 1) else 32 * 32)


def test_a_single_pixel_is_evaluated_as_it_is(tmp_path: Path) -> None:
    dataset = pascal_folder(tmp_path, (1, 1), 255)
    ((image, (sample,)),) = held_out_batches(dataset, ["one"], ["saliency"], 1)
    assert image.shape == (1, 3, 1, 1)
    assert sample.targets["saliency"].tolist() == [[1]]


@pytest.fixture
def spoilt(scenes: Path, tmp_path: Path) -> Path:
    """Scenes of which the first image to train on is cut short, and the first held-out one has a broken label."""
    root = tmp_path / "spoilt"
    shutil.copytree(scenes, root)
    train, val = (PascalContext(root).image_ids(split)[0] for split in ("train", "val"))
    image = root / f"JPEGImages/{train}.jpg"
    image.write_bytes(image.read_bytes()[:-30])
    (root / f"sal_distill/{val}.png").write_bytes(b"no image")
    return root


def settings(root: Path, **more: Any) -> dict[str, Any]:
    clients = [{"tasks": ["saliency"], "data": "scenes", "count": 2}]
    data = {"scenes": {"format": "pascal_context", "root": str(root)}}
    return {"data": data, "clients": clients, "partition": {"on_bad_sample": "skip"}} | more


def test_what_cannot_be_read_has_no_target(spoilt: Path) -> None:
    dataset = Screened(PascalContext(spoilt))
    train, val = (dataset.image_ids(split)[0] for split in ("train", "val"))
    assert not dataset.usable(train, "saliency")
    assert not dataset.trainable(train, "semantic_segmentation")
    assert not dataset.usable(val, "saliency")
    assert dataset.usable(val, "semantic_segmentation")
    assert dataset.skipped([train, val], ["saliency"]) == (train, val)
    assert dataset.skipped([train, val], ["semantic_segmentation"]) == (train,)
    (spoilt / f"semseg/VOC12/{val}.png").write_bytes(b"")
    assert dataset.dominant_class(val) == 0


def test_clients_are_without_what_cannot_be_read(spoilt: Path, scenes: Path, tiny: MakeExperiment) -> None:
    whole = make_clients(tiny(**settings(scenes)))
    found = make_clients(tiny(**settings(spoilt)))
    dataset = PascalContext(spoilt)
    train, val = (dataset.image_ids(split)[0] for split in ("train", "val"))
    for before, after in zip(whole, found, strict=True):
        assert before.skipped == ()
        assert set(before.train_ids) - set(after.train_ids) == {train} & set(before.train_ids)
        assert after.skipped == ((train, val) if train in before.train_ids else (val,))
        assert val not in after.held_out_ids
        assert len(dataset.image_ids(HELD_OUT)) - 1 >= len(after.held_out_ids)


class Counted(PascalContext):
    """Notes what is read."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.reads: list[list[str]] = []

    def read(self, image_id: str, tasks: Sequence[str]) -> Sample:
        self.reads.append(list(tasks))
        return super().read(image_id, tasks)


def test_an_image_is_read_once_for_all_tasks_asked_together(spoilt: Path) -> None:
    counted = Counted(spoilt)
    dataset, tasks = Screened(counted), ["saliency", "semantic_segmentation"]
    val, whole = counted.image_ids("val")[:2]
    dataset.screen(whole, tasks)
    assert dataset.trainable(whole, "saliency")
    assert dataset.usable(whole, "semantic_segmentation")
    assert counted.reads == [tasks]
    dataset.screen(val, tasks)
    assert counted.reads == [tasks, tasks, ["saliency"], ["semantic_segmentation"]]
    assert (dataset.usable(val, "saliency"), dataset.usable(val, "semantic_segmentation")) == (False, True)
    assert dataset.skipped([val, whole], tasks) == (val,)


def test_clients_that_draw_their_images_count_what_they_pass_over(spoilt: Path, tiny: MakeExperiment) -> None:
    """Twelve of the sixteen images are broken: four drawn means at least one passed over, and no other is counted."""
    train = PascalContext(spoilt).image_ids("train")
    for image_id in train[:12]:
        (spoilt / f"JPEGImages/{image_id}.jpg").write_bytes(b"no image")
    clients = [{"tasks": ["saliency"], "data": "scenes", "images": 4}]
    (client,) = make_clients(tiny(**settings(spoilt) | {"clients": clients}))
    assert set(client.train_ids) == set(train[12:])
    order = generator(tiny().seed, "images", "scenes").permutation(16).tolist()
    last = max(order.index(train.index(image_id)) for image_id in client.train_ids)
    passed = [train[index] for index in order[:last] if index < 12]
    assert passed
    assert client.skipped == (*passed, PascalContext(spoilt).image_ids("val")[0])


def test_the_server_probes_what_can_be_read(spoilt: Path, scenes: Path, tiny: MakeExperiment) -> None:
    encoder = encoder_of(float_values(make_model(tiny(), ())))
    rows = EncoderProbe(tiny(**settings(spoilt)))("saliency", encoder, 16).reshape(16, -1)
    whole = EncoderProbe(tiny(**settings(scenes)))("saliency", encoder, 16).reshape(16, -1)
    np.testing.assert_allclose(rows[:15], whole[1:], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(rows[15], rows[0], rtol=1e-4, atol=1e-5)  # from the start again
    strict = settings(spoilt, partition={"on_bad_sample": "error"})
    with pytest.raises(DataError, match="cannot be decoded as an image"):
        EncoderProbe(tiny(**strict))("saliency", encoder, 1)
    for image in (spoilt / "JPEGImages").iterdir():
        image.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"^data\.scenes: none of its 16 training images can be read"):
        EncoderProbe(tiny(**settings(spoilt)))("saliency", encoder, 1)


def test_the_default_leaves_a_runs_id_as_it_was(tiny: MakeExperiment) -> None:
    plain = identity(tiny())
    assert identity(tiny(partition={"on_bad_sample": "error"})) == plain
    assert identity(tiny(partition={"on_bad_sample": "skip"})) != plain
    assert identity(tiny(evaluation={"edges": {"max_distance": 0.0075}})) == plain
    assert identity(tiny(evaluation={"edges": {"max_distance": 0.011}})).setting != plain.setting


def test_a_run_goes_on_without_them_and_says_so(spoilt: Path, tmp_path: Path, tiny: MakeExperiment) -> None:
    more = {"rounds": 1, "algorithm": {"name": "fedavg"}, "runtime": {"backend": "serial"}}
    with pytest.raises(DataError, match="cannot be decoded as an image"):
        list(run(tiny(**settings(spoilt, **more, partition={"on_bad_sample": "error"})), tmp_path / "stopped"))
    events = list(run(tiny(**settings(spoilt, **more)), tmp_path / "run"))
    skipped = json.loads((tmp_path / "run/skipped.json").read_text())
    val = PascalContext(spoilt).image_ids("val")[0]
    assert list(skipped) == ["saliency-0", "saliency-1"]
    assert all(val in image_ids for image_ids in skipped.values())
    (notes,) = [event.notes for event in events if isinstance(event, Trained) and event.round == 0]
    assert notes == [
        f"{name}: {len(ids)} images cannot be read and are left out, {ids[0]} first" for name, ids in skipped.items()
    ]
    (picture,) = draw_pictures(tmp_path / "run")
    assert picture.image_id != val
    (last,) = [event for event in events if isinstance(event, Trained) and event.round == 1]
    assert all(math.isfinite(report.training["saliency"]["loss"]) for report in last.reports)
