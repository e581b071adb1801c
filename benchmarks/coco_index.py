"""Memory and time of COCO's index at full size: of the process that builds it, and of four that read it.

    python benchmarks/coco_index.py [--task instance_segmentation] [--images 118000] [--annotations 860000]

Generates an annotation file (polygons of 10 to 50 points, or run lengths of regions for ``stuff_segmentation``) in a
temporary folder. "Unique" is memory of that process alone (USS); "with its part" adds, of each page that several
processes share, its part (PSS): these add up to what all use together.
"""

import argparse
import json
import multiprocessing
import os
import resource
import tempfile
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image
from pycocotools import mask as coco_mask

from mfed_ray.coco_categories import STUFF, THINGS
from mfed_ray.data.coco.layout import FILES, annotation_file
from mfed_ray.data.coco.reader import Coco

READERS = 4
SAMPLES = 500
HEIGHT, WIDTH = 480, 640
PICTURES = 8  # of which all images are copies by name
MIB = 2**20


def polygon(rng: np.random.Generator) -> tuple[list[list[float]], list[float]]:
    """An outline around a random centre, and its box."""
    angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(10, 50)))
    radius = rng.uniform(0.5, 1, len(angles)) * rng.uniform(5, 150)
    x = np.clip(rng.uniform(0, WIDTH) + radius * np.cos(angles), 0, WIDTH).round(2)
    y = np.clip(rng.uniform(0, HEIGHT) + radius * np.sin(angles), 0, HEIGHT).round(2)
    left, top = float(x.min()), float(y.min())
    return [np.stack([x, y], 1).ravel().tolist()], [left, top, float(x.max()) - left, float(y.max()) - top]


def region(rng: np.random.Generator) -> tuple[dict[str, Any], list[float]]:
    """A ragged band of stuff as run lengths, and its box."""
    top = np.clip(rng.integers(0, HEIGHT - 120) + rng.integers(-3, 4, WIDTH).cumsum(), 0, HEIGHT - 101)
    rows = np.arange(HEIGHT)[:, None]
    mask = ((rows >= top) & (rows < top + 100)).astype(np.uint8)
    mask[:, rng.integers(20, WIDTH) :] = 0
    runs = coco_mask.encode(np.asfortranarray(mask))
    return {"size": runs["size"], "counts": runs["counts"].decode()}, [float(one) for one in coco_mask.toBbox(runs)]


def generate(path: Path, task: str, images: int, annotations: int) -> None:
    """Write the annotation file, masks drawn from 2,000 different ones."""
    rng = np.random.default_rng(0)
    draw = region if task == "stuff_segmentation" else polygon
    masks = [(json.dumps(mask), json.dumps(box)) for mask, box in (draw(rng) for _ in range(2000))]
    categories = [one.id for one in (STUFF if task == "stuff_segmentation" else THINGS)]
    with path.open("w") as file:
        file.write('{"info": {}, "images": [')
        for number in range(images):
            image = {"license": 3, "file_name": f"{number % PICTURES:012d}.jpg", "height": HEIGHT, "width": WIDTH}
            urls = dict.fromkeys(("coco_url", "url"), f"http://images.cocodataset.org/train2017/{number:012d}.jpg")
            file.write(", " * (number > 0) + json.dumps(image | urls | {"id": number}))
        file.write('], "annotations": [')
        drawn = np.stack([rng.integers(0, size, annotations) for size in (len(masks), len(categories), images)], 1)
        for number, (which, category, image_id) in enumerate(drawn.tolist()):
            mask, box = masks[which]
            file.write(
                f'{", " * (number > 0)}{{"segmentation": {mask}, "area": 702.1057499999998, "iscrowd": 0, "image_id": '
                f'{image_id}, "bbox": {box}, "category_id": {categories[category]}, "id": {number}}}'
            )
        file.write("]}")


def build(root: Path, task: str) -> None:
    """Index the file and print what it took."""
    start = time.perf_counter()
    dataset = Coco(root)
    dataset.usable("train2017/0", task)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"built in {time.perf_counter() - start:.1f} s, peak {peak:.0f} MiB", flush=True)


def read(root: Path, task: str, seed: int, images: int, barrier: Barrier) -> None:
    """Read random samples and print this process's memory before and after, while all the others hold theirs."""
    before = psutil.Process().memory_full_info()
    dataset = Coco(root)
    ids = dataset.image_ids("train")
    start = time.perf_counter()
    for number in np.random.default_rng(seed).integers(0, images, SAMPLES):
        dataset.read(ids[number], [task])
    seconds = time.perf_counter() - start
    barrier.wait()
    after = psutil.Process().memory_full_info()
    barrier.wait()
    print(
        f"reader {seed}: {1000 * seconds / SAMPLES:.1f} ms a sample; unique {before.uss / MIB:.0f} MiB before, "
        f"{after.uss / MIB:.0f} after; with its part {before.pss / MIB:.0f} MiB before, {after.pss / MIB:.0f} after",
        flush=True,
    )


def measure(root: Path, task: str, images: int) -> None:
    """One process builds, then four read."""
    context = multiprocessing.get_context("spawn")
    builder = context.Process(target=build, args=(root, task))
    builder.start()
    builder.join()
    barrier = context.Barrier(READERS)
    readers = [context.Process(target=read, args=(root, task, seed, images, barrier)) for seed in range(READERS)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()


def main() -> None:
    """Generate, measure, delete."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--task", choices=[task for task in FILES if "segmentation" in task][:2], default=next(iter(FILES))
    )
    parser.add_argument("--images", type=int, default=118_000)
    parser.add_argument("--annotations", type=int, default=860_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "coco"
        (root / "annotations").mkdir(parents=True)
        (root / "train2017").mkdir()
        os.environ["MFED_CACHE"] = str(Path(folder) / "cache")
        for number in range(PICTURES):
            Image.new("RGB", (WIDTH, HEIGHT), (number, 0, 0)).save(root / f"train2017/{number:012d}.jpg")
        path = annotation_file(root, arguments.task, "train2017")
        generate(path, arguments.task, arguments.images, arguments.annotations)
        print(f"{path.name}: {path.stat().st_size / MIB:.0f} MiB, {arguments.annotations} annotations", flush=True)
        measure(root, arguments.task, arguments.images)
        size = sum(file.stat().st_size for file in (Path(folder) / "cache").rglob("*.npy"))
        print(f"index on disk: {size / MIB:.0f} MiB")


if __name__ == "__main__":
    main()
