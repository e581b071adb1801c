"""What the server sees of its encoders: features of a fixed batch of images."""

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from mfed_ray.data.transforms import to_tensor
from mfed_ray.evaluation import TRAIN
from mfed_ray.experiment.clients import open_dataset
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
        datasets = [open_dataset(data) for data in self.experiment.data.values()]
        batch = []
        for index in range(images):
            dataset = datasets[index % len(datasets)]
            ids = dataset.image_ids(TRAIN)
            image = to_tensor(dataset.read(ids[(index // len(datasets)) % len(ids)], ()).image)
            size = min(self.experiment.augmentation.crop_size, PROBE_SIZE)
            batch.append(F.interpolate(image[None], (size, size), mode="bilinear", align_corners=False)[0])
        return torch.stack(batch)
