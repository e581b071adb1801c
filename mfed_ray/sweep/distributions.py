"""What a sweep draws values from."""

import json
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator, Field, model_serializer, model_validator
from ray import tune

from mfed_ray.section import Section


def plain(values: Sequence[Any]) -> tuple[Any, ...]:
    """Values as they come back from a sweep's folder. Raises ValueError for one that is no YAML and JSON value."""
    try:
        return tuple(json.loads(json.dumps(list(values))))
    except TypeError as error:
        raise ValueError(
            f"{error}, found in {list(values)}; expected numbers, texts, booleans, null, lists and mappings (a date "
            "needs quotes)"
        ) from error


class Distribution(Section):
    """One of four, by its key."""

    uniform: tuple[float, float] | None = None
    """From the first up to the second."""
    log_uniform: tuple[float, float] | None = None
    """Uniform in the logarithm; both above 0."""
    integers: tuple[int, int] | None = None
    """Both ends included."""
    choice: Annotated[tuple[Any, ...], AfterValidator(plain)] | None = Field(None, min_length=1)

    @model_validator(mode="after")
    def _check(self) -> "Distribution":
        if len(self.model_fields_set) != 1:
            raise ValueError(f"expected one of {', '.join(Distribution.model_fields)}, found {self.told()}")
        ends = self.uniform or self.log_uniform or self.integers
        if ends and (ends[0] >= ends[1] or (self.log_uniform and ends[0] <= 0)):
            least = "above 0 and " if self.log_uniform else ""
            raise ValueError(f"{self.told()}: expected [low, high] with low {least}below high")
        return self

    @model_serializer
    def _as_written(self) -> dict[str, Any]:
        return {name: list(value) for name, value in self if value is not None}

    def told(self) -> str:
        """As it stands in the file."""
        return ", ".join(f"{name} {list(value)}" for name, value in self if value is not None) or "none"

    def draw(self, rng: np.random.Generator) -> Any:
        """One value; numbers are rounded to six digits, as they stand in names and tables."""
        if self.choice is not None:
            return self.choice[int(rng.integers(len(self.choice)))]
        if self.integers is not None:
            return int(rng.integers(self.integers[0], self.integers[1], endpoint=True))
        if self.log_uniform is not None:
            return float(f"{np.exp(rng.uniform(*np.log(self.log_uniform))):.6g}")
        assert self.uniform is not None  # noqa: S101 - the validator's promise
        return float(f"{rng.uniform(*self.uniform):.6g}")

    def domain(self) -> Any:
        """The same for a search algorithm of Tune."""
        if self.choice is not None:
            return tune.choice(list(self.choice))
        if self.integers is not None:
            return tune.randint(self.integers[0], self.integers[1] + 1)
        return tune.loguniform(*self.log_uniform) if self.log_uniform else tune.uniform(*(self.uniform or ()))

    def holds(self, value: Any) -> bool:
        """Whether it could have been drawn."""
        if self.choice is not None:
            return value in self.choice
        low, high = self.uniform or self.log_uniform or self.integers or (0, 0)
        return isinstance(value, int | float) and low <= value <= high

    def corners(self) -> tuple[Any, ...]:
        """The values that a fault would show at: both ends, or every choice."""
        return self.choice or self.uniform or self.log_uniform or self.integers or ()


def is_distribution(value: Any) -> bool:
    """Whether a mapping of a file is meant as one: its keys are."""
    return isinstance(value, dict) and bool(value.keys() & Distribution.model_fields.keys())
