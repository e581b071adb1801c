"""By which protocols tasks are measured where the field's practice differs: the section ``evaluation.edges``."""

from pydantic import Field

from mfed_ray.section import Section


class EdgeProtocol(Section):
    """How edges are matched and counted; published numbers of different protocols differ by points.

    The defaults are the practice on PASCAL-Context; on NYUD ``max_distance`` is 0.011. It is a part of a run's setting,
    so runs of two protocols are not compared with each other.
    """

    max_distance: float = Field(0.0075, gt=0, le=1)
    """Share of the image's diagonal within which pixels match."""
    thresholds: int = Field(99, ge=1, le=999)
    """Number of thresholds, at equal distances between 0 and 1."""
    nms: bool = False
    """Suppress the prediction's non-maxima before it is thinned."""
