"""What the server sees of its encoders: features of a fixed batch of images."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import cycle

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from mfed_ray.data.sample import Dataset
from mfed_ray.data.screening import Screened
from mfed_ray.data.transforms import to_tensor
from mfed_ray.errors import DataError
from mfed_ray.evaluation import TRAIN
from mfed_ray.experiment.clients import screened_datasets
from mfed_ray.experiment.groups import structure_of
from mfed_ray.experiment.models import make_encoder_model
from mfed_ray.experiment.schema import Experiment
from mfed_ray.messages import Params
from mfed_ray.models.multitask import MultiTaskModel
from mfed_ray.models.pyramid import PyramidEncoder

PROBE_SIZE = 224
"""Pixels; the server has no GPU share, and an encoder's features of ImageNet's size tell tasks apart as well."""


@dataclass
class EncoderProbe:
    """Features of a fixed batch of training images, for correlations measured on the server's CPU.

    BatchNorm that is private to clients (``normalisation: local``) stands at its initial values here.

    Each image gives the 4 x 4 cells of its average-pooled deepest feature map as rows. Images are taken from the
    datasets in turn, resized to the crop size or to ``PROBE_SIZE`` pixels a side, whichever is less.
    """

    experiment: Experiment
    _models: dict[str, MultiTaskModel] = field(default_factory=dict)
    _images: dict[int, torch.Tensor] = field(default_factory=dict)

    @torch.inference_mode()
    def __call__(self, group: str, encoder: Params, images: int) -> NDArray[np.float32]:
        """Features, float32 [images * 16, channels], of the task group's encoder with these parameters."""
        torch.set_num_threads(self.experiment.runtime.threads_per_client)  # threads can change bits
        name = structure_of(self.experiment, group).encoder
        if name not in self._models:
            self._models[name] = make_encoder_model(self.experiment, name)
        if images not in self._images:
            self._images[images] = self._read(images)
        model = self._models[name].eval()
        model.load_state_dict({name: torch.tensor(value) for name, value in encoder.items()}, strict=False)
        encoder_module = model.encoder
        stages = encoder_module.body if isinstance(encoder_module, PyramidEncoder) else encoder_module
        cells = [F.adaptive_avg_pool2d(stages(image[None])["c5"], 4)[0] for image in self._images[images]]
        rows: NDArray[np.float32] = torch.stack(cells).flatten(2).transpose(1, 2).flatten(0, 1).numpy()
        return rows

    def _read(self, images: int) -> torch.Tensor:
        """The first ``images`` training images, float [images, 3, S, S]; from the start again where there are fewer."""
        datasets = list(screened_datasets(self.experiment).items())
        ids = [cycle(_readable(name, dataset)) for name, dataset in datasets]
        batch = []
        for index in range(images):
            turn = index % len(datasets)
            image = to_tensor(datasets[turn][1].read(next(ids[turn]), ()).image)
            size = min(self.experiment.augmentation.crop_size, PROBE_SIZE)
            batch.append(F.interpolate(image[None], (size, size), mode="bilinear", align_corners=False)[0])
        return torch.stack(batch)


def _readable(name: str, dataset: Dataset) -> Iterator[str]:
    """Ids of the training images, without those that are left out. Raises DataError where none remains."""
    found = False
    for image_id in dataset.image_ids(TRAIN):
        if not isinstance(dataset, Screened) or dataset.has_image(image_id):
            found = True
            yield image_id
    if not found:
        raise DataError(f"data.{name}: none of its {len(dataset.image_ids(TRAIN))} training images can be read")
