"""What every metric is: accumulate, merge across processes, compute."""

from collections.abc import Mapping
from typing import Any, Protocol, Self

from numpy.typing import NDArray

Array = NDArray[Any]


class Metric(Protocol):
    """Counts over images. ``update`` per image, ``merge`` over processes, ``compute`` once.

    The counts are sums: merging the metrics of two halves of a dataset gives the metric of the whole.
    """

    def update(self, prediction: Any, target: Any) -> None:
        """Add one image: a ``Prediction`` and a ``Target`` (``mfed_ray.annotations``) of the metric's kind.

        Both are in the image's own height and width.
        """
        ...

    def merge(self, other: Self) -> None:
        """Add the counts of another instance."""
        ...

    def compute(self) -> Mapping[str, float]:
        """The metric's values by name; NaN where nothing was counted."""
        ...
