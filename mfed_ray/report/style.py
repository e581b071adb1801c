"""How every figure looks: sizes, fonts, colours that colour-blind readers tell apart."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from textwrap import fill
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, to_hex
from matplotlib.figure import Figure

from mfed_ray.predictions.palette import HUES

WIDTH = 3.4
"""Inches of a paper's column; the page puts as many beside each other as fit."""

GREY, LIGHT = "#9a9a9a", "#ececec"

DIVERGING = mpl.colormaps["coolwarm_r"]
"""Blue is above zero, red below (Moreland, Diverging color maps for scientific visualization, ISVC 2009)."""

SEQUENTIAL = mpl.colormaps["cividis"]
"""From zero on (Nunez, Anderton, Renslow, Optimizing colormaps [...] for color vision deficiency, PLoS ONE 2018)."""

_ORANGE, _SKY, _GREEN, _, _BLUE, _VERMILION, _PURPLE = (to_hex((r / 255, g / 255, b / 255)) for r, g, b in HUES)

_RC: Any = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 8,
    "axes.titleweight": "bold",
    "figure.dpi": 100,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8,
    "grid.color": LIGHT,
    "grid.linewidth": 0.6,
    "hatch.linewidth": 0.4,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "legend.handlelength": 2.6,
    "lines.linewidth": 1.3,
    "lines.markersize": 3.5,
    "pdf.fonttype": 42,
    "savefig.dpi": 300,
    "svg.fonttype": "none",
    "svg.hashsalt": "mfed_ray",
    "text.parse_math": False,
    "xtick.labelsize": 7,
    "xtick.major.width": 0.6,
    "ytick.labelsize": 7,
    "ytick.major.width": 0.6,
}


@dataclass(frozen=True)
class Look:
    """What tells one variant's lines and bars from another's, with and without colour."""

    colour: str
    marker: str
    dashes: tuple[float, ...]
    hatch: str


LOOKS = (
    Look(_BLUE, "o", (1, 0), ""),
    Look(_VERMILION, "s", (5, 1.5), "////"),
    Look(_GREEN, "^", (2, 1), "...."),
    Look(_PURPLE, "D", (6, 1.5, 1.5, 1.5), "xxxx"),
    Look(_SKY, "v", (3, 1, 1, 1, 1, 1), "\\\\\\\\"),
    Look(_ORANGE, "P", (8, 2), "----"),
)
BASELINE = Look("#000000", "X", (1, 1), "||||")
"""Local training, with which all are compared."""


@contextmanager
def styled() -> Iterator[None]:
    """All figures are made and written in this context; the user's own matplotlibrc has no say in it."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_RC)
        yield


def new_plot(height: float, title: str, names: Sequence[str] = ()) -> tuple[Figure, Axes]:
    """A plot of one column's width and the height in inches, and room below it for a legend with the names."""
    figure = Figure((WIDTH, height + 0.13 * _lines(names)), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title)
    return figure, axes


def add_legend(figure: Figure, names: Sequence[str]) -> None:
    """The legend, below the plot: beside each other where the names are short."""
    figure.legend(loc="outside lower left", ncols=_columns(names), columnspacing=1.2)


def wrapped(name: str, width: int = 54) -> str:
    """A variant's name on as many lines as a column needs."""
    return fill(name, width, subsequent_indent="  ", break_long_words=True, break_on_hyphens=False)


def cut(name: str, width: int) -> str:
    """The beginning of a long name, for an axis."""
    return name if len(name) <= width else f"{name[: width - 1]}…"


def _columns(names: Sequence[str]) -> int:
    room = 60 // (max((len(name) for name in names), default=0) + 9)
    return max(1, min(room, len(names)))


def _lines(names: Sequence[str]) -> int:
    return -(-sum(wrapped(name).count("\n") + 1 for name in names) // _columns(names))


def text_colour(colour_map: Colormap, position: float) -> str:
    """Black or white, whichever is read on the map's colour at the position in [0, 1]."""
    red, green, blue, _ = colour_map(position)
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"
