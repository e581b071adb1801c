"""One client's model: an encoder and a decoder for each of its tasks."""

import zlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from mfed_ray.annotations import Prediction
from mfed_ray.models.contract import BatchTarget, Decoder, Encoder

DecoderFactory = Callable[[Mapping[str, int]], Decoder]
"""Builds a decoder from the encoder's channels."""

Module = TypeVar("Module", bound=nn.Module)


class MultiTaskModel(nn.Module):
    """``decoders`` by task name. Parameters are named ``encoder.*`` and ``decoders.<task>.*``."""

    def __init__(self, encoder: Encoder, decoders: Mapping[str, Decoder]) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoders = nn.ModuleDict(decoders)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks that the model has decoders for."""
        return tuple(self.decoders)

    def losses(self, images: Tensor, targets: Mapping[str, BatchTarget]) -> dict[str, dict[str, Tensor]]:
        """Unweighted scalar losses by task and name of normalised images [B, 3, H, W]; the encoder runs once.

        ``targets`` by task: a decoder whose task has no target is not run.
        """
        features, (height, width) = self.encoder(images), images.shape[2:]
        return {task: self._decoder(task).losses(features, each, (height, width)) for task, each in targets.items()}

    def predict(self, images: Tensor, original: tuple[int, int]) -> dict[str, list[Prediction]]:
        """Predictions by task, one per normalised image of [B, 3, H, W], at the images' ``original`` (H, W)."""
        features, (height, width) = self.encoder(images), images.shape[2:]
        return {task: self._decoder(task).predict(features, (height, width), original) for task in self.tasks}

    def _decoder(self, task: str) -> Decoder:
        return cast("Decoder", self.decoders[task])


def build_model(encoder: Callable[[], Encoder], decoders: Mapping[str, DecoderFactory], seed: int) -> MultiTaskModel:
    """A model whose initial parameters depend on nothing but ``seed`` and each part's name.

    Clients of different tasks start from one encoder, clients of one task from one decoder, whatever else their
    models hold. The global random state is left as it was.
    """
    shared = _seeded(encoder, f"{seed}/encoder")
    own = {task: _seeded(partial(make, shared.channels), f"{seed}/decoders.{task}") for task, make in decoders.items()}
    return MultiTaskModel(shared, own)


def _seeded(make: Callable[[], Module], name: str) -> Module:
    with torch.random.fork_rng(devices=[]):
        # parameters are initialised on the CPU; torch.manual_seed would reseed the accelerators for good
        torch.default_generator.manual_seed(zlib.crc32(name.encode()))
        return make()
