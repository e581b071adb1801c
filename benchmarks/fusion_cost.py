"""Seconds that M-Fed's aggregation takes on the server, with a fixed threshold and with `auto`.

    OMP_NUM_THREADS=1 python benchmarks/fusion_cost.py resnet10 resnet50

Four task groups of two clients, whose encoders moved by random noise; the first round and the second.
"""

import argparse
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mfed_ray.algorithms.mfed import MFed
from mfed_ray.loaded_model import float_values
from mfed_ray.messages import ClientSpec, Params, Update
from mfed_ray.models.encoders import ENCODERS, make_encoder

TASKS = ("edge_detection", "human_parts", "saliency", "surface_normals")


def no_probe(group: str, encoder: Params, images: int) -> NDArray[np.float32]:
    """The update cosine needs no features."""
    raise AssertionError(f"{group}: {len(encoder)} parameters, {images} images")


def rounds(algorithm: MFed, clients: Sequence[ClientSpec], encoder: Params) -> list[float]:
    """Seconds of two rounds' aggregation."""
    rng = np.random.default_rng(0)
    initial = {task: {**encoder, f"decoders.{task}.w": np.zeros(1, np.float32)} for task in TASKS}
    updates = [
        Update(client.name, client.group, client.examples, {name: moved(rng, value) for name, value in model.items()})
        for client in clients
        for model in [initial[client.group]]
    ]
    state, seconds = algorithm.init(clients, initial), []
    for _ in range(2):
        started = time.perf_counter()
        state, _ = algorithm.aggregate(state, updates, no_probe)
        seconds.append(time.perf_counter() - started)
    return seconds


def moved(rng: np.random.Generator, value: NDArray[np.float32]) -> NDArray[np.float32]:
    """The value and noise."""
    return value + np.float32(1e-3) * rng.standard_normal(value.shape, dtype=np.float32)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoders", nargs="+", choices=list(ENCODERS))
    clients = [ClientSpec.of(f"{task}-{k}", (task,), "none", ("image",)) for task in TASKS for k in range(2)]
    for name in parser.parse_args().encoders:
        values = float_values(make_encoder(name, 32, None, "average"))
        encoder = {f"encoder.{key}": value for key, value in values.items()}
        size = sum(value.size for value in encoder.values()) / 1e6
        for algorithm in (MFed(correlation_threshold=-1.0), MFed(correlation_threshold="auto")):
            first, second = rounds(algorithm, clients, encoder)
            print(f"{name} ({size:.1f} M), tau {algorithm.correlation_threshold}: {first:.1f} s, then {second:.1f} s")


if __name__ == "__main__":
    main()
