"""Seconds that the edge metric takes on BSDS maps, on one thread, for predictions from soft to sharp.

    python benchmarks/edge_metric.py ../shared/data/bsds_mini [--images 50]

The folder has the PASCAL_MT layout with ``Boundaries`` of several annotators in each ``.mat``. Predictions are the
images' gradient magnitudes at several scales: as dense as an edge network's early output, or denser.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_gradient_magnitude

from mfed_ray.metrics.edges import EdgeDetection

SCALES = (1.0, 2.0, 4.0)


def gradient(image: Path, scale: float) -> NDArray[Any]:
    """Gradient magnitude of the grey image at a scale in pixels, [H, W], its 99th percentile at 1."""
    grey = np.asarray(Image.open(image).convert("L"), dtype=np.float32)
    magnitude = gaussian_gradient_magnitude(grey, scale)
    return np.asarray(np.clip(magnitude / np.quantile(magnitude, 0.99), 0, 1))


def annotators(file: Path) -> NDArray[Any]:
    """Edges by annotator, [H, W, A]."""
    return np.moveaxis(np.asarray(scipy.io.loadmat(file)["Boundaries"]), 0, -1)


def measure(root: Path, names: list[str], scale: float) -> str:
    """One line of results."""
    metric = EdgeDetection()
    seconds = 0.0
    for name in names:
        prediction = gradient(root / f"JPEGImages/{name}.jpg", scale)
        target = annotators(root / f"pascal-context/trainval/{name}.mat")
        start = time.perf_counter()
        metric.update(prediction, target)
        seconds += time.perf_counter() - start
    values = metric.compute()
    scores = ", ".join(f"{key} {values[key]:.4f}" for key in ("ods_f", "ois_f", "ap"))
    return f"scale {scale:g}: {seconds:.1f} s for {len(names)} images ({metric.protocol}); {scores}"


def main() -> None:
    """Compile, then measure every scale."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--images", type=int, default=50)
    arguments = parser.parse_args()
    names = (arguments.root / "ImageSets/Context/val.txt").read_text().split()[: arguments.images]
    EdgeDetection(thresholds=1).update(np.eye(8), np.eye(8, dtype=np.uint8)[..., None])
    for scale in SCALES:
        print(measure(arguments.root, names, scale), flush=True)


if __name__ == "__main__":
    main()
