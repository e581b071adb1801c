"""When clients are measured, on which images, and by which metric a task is judged."""

from dataclasses import dataclass
from typing import Final, Literal

Stage = Literal["before_aggregation", "after_aggregation"]
"""When in a round clients are evaluated on their held-out images."""

TRAINING: Final = "training"
"""Where a value was measured while clients trained, on their training images."""
BEFORE_AGGREGATION: Final = "before_aggregation"
"""With the model that a client has just trained."""
AFTER_AGGREGATION: Final = "after_aggregation"
"""With the model that a client's next round starts from."""

FLOOR: Final = "floor"
"""With the constant prediction that does best on these images: no result, but what every result has to exceed."""

TRAIN, HELD_OUT = "train", "val"
"""Splits of a client's data."""


@dataclass(frozen=True)
class Headline:
    """The one metric that a task is judged by, and its direction."""

    metric: str
    higher_is_better: bool
