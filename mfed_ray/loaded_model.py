"""A model that a group's clients take turns with: set from trees, read back as trees."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mfed_ray.annotations import Prediction
from mfed_ray.data.settings import InputSize
from mfed_ray.loading import network_input
from mfed_ray.messages import Params, State
from mfed_ray.models.multitask import MultiTaskModel
from mfed_ray.params import ENCODER, not_finite

Values = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class LoadedModel:
    """A model, its initial values, the names that never leave a client. Clients of a group take turns with it."""

    module: MultiTaskModel
    initial: Mapping[str, NDArray[np.float32]]
    private: frozenset[str]
    device: torch.device

    def load(self, state: State, *overlays: Params) -> None:
        """Set the model: initial values, over them the client's own state, over that each overlay in turn."""
        values = {**self.initial, **state.params.get("model", {})}
        for overlay in overlays:
            values.update(overlay)
        for name, tensor in (self._shared | self._own).items():
            if self.device.type == "cpu":
                np.copyto(tensor.numpy(), values[name])  # once, from wherever the values lie
            else:
                tensor.copy_(torch.tensor(values[name]))

    def shared(self) -> Values:
        """Copies of the values that may leave a client."""
        return _copied(self._shared)

    def own(self) -> Values:
        """Copies of those that never do."""
        return _copied(self._own)

    def learned(self) -> dict[str, Tensor]:
        """Copies of all parameters that a gradient learns, on the device."""
        return {name: parameter.detach().clone() for name, parameter in self.module.named_parameters()}

    @torch.no_grad()
    def distance(self, start: Mapping[str, Tensor]) -> float:
        """The norm of how far these have moved from ``start``."""
        moves = (parameter - start[name] for name, parameter in self.module.named_parameters())
        return float(torch.stack([torch.linalg.vector_norm(move, dtype=torch.float64) for move in moves]).norm())

    @torch.no_grad()
    def shorten(self, start: Mapping[str, Tensor], share: float) -> None:
        """Leave a share of their moves from ``start``."""
        for name, parameter in self.module.named_parameters():
            parameter.copy_(start[name] + share * (parameter - start[name]))

    @cached_property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Of all values."""
        return {name: value.shape for name, value in self.initial.items()}

    def not_finite(self) -> str | None:
        """The first value that is not finite, in words; None: all are."""
        tensors = self._shared | self._own
        if torch.stack([tensor.sum(dtype=torch.float64) for tensor in tensors.values()]).isfinite().all():
            return None  # the device has been waited for once
        return not_finite(_copied(tensors))

    @cached_property
    def has_own_encoder_statistics(self) -> bool:
        """Whether statistics of the encoder's BatchNorm never leave a client."""
        return any(name.startswith(ENCODER) for name in self._own)

    @cached_property
    def _shared(self) -> dict[str, Tensor]:
        return {name: tensor for name, tensor in _floats(self.module).items() if name not in self.private}

    @cached_property
    def _own(self) -> dict[str, Tensor]:
        return {name: tensor for name, tensor in _floats(self.module).items() if name in self.private}

    @torch.inference_mode()
    def predict(self, image: NDArray[np.uint8], input_size: InputSize) -> dict[str, Prediction]:
        """Predictions by task for one image, uint8 [H, W, 3], in its own size."""
        height, width = image.shape[:2]
        batch = network_input(image, input_size)[None].to(self.device)
        predictions = self.module.eval().predict(batch, (height, width))
        return {name: one for name, (one,) in predictions.items()}


def _floats(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and statistics; BatchNorm's integer counters, which no arithmetic reads, are left out."""
    return {name: tensor for name, tensor in module.state_dict().items() if tensor.is_floating_point()}


def float_values(module: nn.Module) -> Values:
    """Copies of a module's parameters and statistics as arrays in main memory."""
    return _copied(_floats(module))


def _copied(tensors: Mapping[str, Tensor]) -> Values:
    return {name: tensor.cpu().numpy().copy() for name, tensor in tensors.items()}
