"""Numbers and names as a reader wants them."""

import math
import re
from collections.abc import Iterable, Sequence

import pandas as pd

from mfed_ray.evaluation import Headline

SYMBOLS = {
    "decoder_proximal_weight": "λ",
    "encoder_proximal_weight": "μ",
    "correlation_threshold": "τ",
}
"""What M-Fed's paper calls its hyper-parameters: names of variants would not fit a column."""


FLOOR_IS = "The floor is what the best prediction that is the same at every pixel of every image reaches."


def number(value: float, digits: int = 4) -> str:
    """So many significant digits, and all that stand before the point."""
    if math.isnan(value):
        return "none"
    return f"{value:.0f}" if 10**digits <= abs(value) < 1e12 else f"{value:.{digits}g}"


def symbolic(name: str) -> str:
    """A variant's name, or a key, with the paper's symbols."""
    for key, symbol in SYMBOLS.items():
        name = re.sub(rf"(?<![\w.]){key}(?![\w.])", symbol, name)
    return name


def explained(names: Iterable[str]) -> str:
    """What the symbols mean that ``symbolic`` puts into these names; empty where it puts none."""
    text = " ".join(names)
    told = [f"{symbol} is {key}" for key, symbol in SYMBOLS.items() if symbol in symbolic(text)]
    return f" {listed(told)}." if told else ""


def signed(value: float) -> str:
    """A difference in percent."""
    return f"{value:+.2f}"


def spaced(name: str) -> str:
    """``semantic_segmentation`` as words."""
    return name.replace("_", " ")


def metric_of(headline: Headline) -> str:
    """A headline metric and which way it is better."""
    return f"{spaced(headline.metric)} ({'higher' if headline.higher_is_better else 'lower'} is better)"


def label_of(headline: Headline) -> str:
    """The same for an axis: the arrow points to where it is better."""
    return f"{spaced(headline.metric)} {'↑' if headline.higher_is_better else '↓'}"


def seeds_of(runs: pd.DataFrame) -> str:
    """How many seeds the runs' variants have: `3 seeds`, `1 to 3 seeds`."""
    counts = runs.groupby("variant")["seed"].nunique()
    low, high = int(counts.min()), int(counts.max())
    return plural(high, "seed") if low == high else f"{low} to {high} seeds"


def plural(count: int, noun: str) -> str:
    """`1 run`, `2 runs`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def listed(names: Iterable[str]) -> str:
    """`a, b and c`."""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def some(names: Sequence[str], most: int = 4) -> str:
    """The first few, and how many more there are."""
    return listed(names) if len(names) <= most else f"{', '.join(names[:most])} and {len(names) - most} more"
