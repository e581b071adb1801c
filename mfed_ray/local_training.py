"""The settings of a client's training: the configuration's section ``local``, free of torch."""

import math
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from mfed_ray.registry import check_registered
from mfed_ray.section import Section


class LocalTraining(Section):
    """A client's training in one round: how long it takes, and how the model is optimized."""

    epochs: int = Field(1, ge=1)
    max_steps: int | None = Field(None, ge=1)
    """Optimization steps of a round, at most; None: as many as the epochs have batches."""
    batch_size: int = Field(8, ge=1)
    optimizer: Literal["sgd", "adamw"] = "adamw"
    learning_rate: float = Field(1e-4, gt=0)
    """Of the first round; ``schedule`` lowers it from round to round."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """SGD's momentum, AdamW's beta1."""
    weight_decay: float = Field(1e-4, ge=0)
    schedule: Literal["constant", "polynomial", "cosine"] = "constant"
    optimizer_state: Literal["reset", "keep"] = "reset"
    """Whether a client's optimizer starts anew in each round, or goes on with its moments."""
    gradient_clip: float | None = Field(None, gt=0)
    """Largest norm of all gradients together; None: they are not clipped."""
    max_update_norm: float | None = Field(None, gt=0)
    """Largest norm of a round's move of all learned parameters together; None: any. BatchNorm's statistics are free."""
    on_large_update: Literal["clip", "refuse"] = "clip"
    """What becomes of a larger one: it is shortened to that norm, or the client counts as failed."""
    loss_weights: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    """By task; the literature's weights where absent."""
    loading_workers: int = Field(0, ge=0)
    """Processes that load batches ahead; their number changes no bit."""

    @model_validator(mode="after")
    def _a_limit_to_refuse_by(self) -> "LocalTraining":
        if self.max_update_norm is None and self.on_large_update != "clip":
            told = f"on_large_update: {self.on_large_update}"
            raise ValueError(f"{told} goes with max_update_norm; set it, or leave it out")
        return self

    @field_validator("loss_weights")
    @classmethod
    def _known(cls, weights: dict[str, float]) -> dict[str, float]:
        check_registered("task", weights)
        return weights

    def learning_rate_at(self, round_number: int, rounds: int) -> float:
        """Learning rate of a round in 1..rounds: constant, (1 - r/R)^0.9, or half a cosine, with r = round - 1."""
        progress = (round_number - 1) / rounds
        factor: float = {
            "constant": 1.0,
            "polynomial": (1.0 - progress) ** 0.9,
            "cosine": 0.5 * (1.0 + math.cos(math.pi * progress)),
        }[self.schedule]
        return self.learning_rate * factor


def steps_of_round(images: int, epochs: int, batch_size: int, max_steps: int | None) -> int:
    """Number of batches of a round: those of its epochs, ``max_steps`` at most."""
    whole = epochs * max(1, images // batch_size)
    return whole if max_steps is None else min(whole, max_steps)
