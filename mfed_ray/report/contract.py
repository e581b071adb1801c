"""What a report is made of."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray


@dataclass(frozen=True)
class Panel:
    """One plot of a figure, as wide as a paper's column. ``alt`` says in numbers what is in it."""

    name: str
    alt: str
    plot: Figure


@dataclass(frozen=True)
class Shown:
    """One picture, uint8 [H, W, 3], of a row; ``alt`` says what it shows."""

    heading: str
    alt: str
    pixels: NDArray[np.uint8]


@dataclass(frozen=True)
class PictureRow:
    """Pictures that are to be compared."""

    label: str
    pictures: Sequence[Shown]


@dataclass(frozen=True)
class ReportFigure:
    """A figure of the report: panels, or rows of pictures, or the sentence that says why there are none."""

    name: str
    title: str
    caption: str = ""
    panels: Sequence[Panel] = ()
    rows: Sequence[PictureRow] = ()
    missing: str = ""
