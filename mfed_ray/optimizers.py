"""A client's optimizer: made as its settings say, and what of it goes on in the next round."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mfed_ray.local_training import LocalTraining
from mfed_ray.messages import Params


def make_optimizer(
    settings: LocalTraining, rate: float, named: Mapping[str, nn.Parameter], state: Params
) -> torch.optim.Optimizer:
    """An optimizer of these parameters at this learning rate; it goes on from ``state`` if so configured."""
    s = settings
    optimizer: torch.optim.Optimizer
    if s.optimizer == "sgd":
        optimizer = torch.optim.SGD(named.values(), rate, momentum=s.momentum, weight_decay=s.weight_decay)
    else:
        betas = (s.momentum, 0.999)
        optimizer = torch.optim.AdamW(named.values(), rate, betas, weight_decay=s.weight_decay, fused=True)
    if s.optimizer_state == "keep":
        for key, value in state.items():
            name, part = key.rsplit("/", 1)
            if name in named:
                optimizer.state[named[name]][part] = torch.tensor(value, device=named[name].device)
    return optimizer


def kept_values(optimizer: torch.optim.Optimizer, named: Mapping[str, nn.Parameter]) -> dict[str, NDArray[np.float32]]:
    """The optimizer's state, by parameter and part: ``NAME/momentum_buffer``."""
    return {
        f"{name}/{part}": value.detach().cpu().numpy().copy()
        for name, parameter in named.items()
        for part, value in optimizer.state[parameter].items()
        if value is not None
    }
