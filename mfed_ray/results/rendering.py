"""A summary as text: for reading in a terminal or a paper, rounded; for machines, as it is."""

import json
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from mfed_ray.results.delta import DELTA
from mfed_ray.results.rows import AT_FLOOR, BEST, FLOOR

_ESCAPES = str.maketrans(
    {
        **{character: f"\\{character}" for character in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
    }
)
_LATEX_NAMES = {DELTA: r"$\Delta_m$ [\%]", "p (Holm)": r"$p$ (Holm)"}


def render(table: pd.DataFrame, form: str) -> str:
    """``summarise``'s table as text in one of ``FORMATS``."""
    return FORMATS[form](table)


def cells(table: pd.DataFrame, number: Callable[[str], str] = str, prose: Callable[[str], str] = str) -> pd.DataFrame:
    """``summarise``'s table for reading: texts, mean and spread in one cell, or why there is none.

    An experiment whose floors are known ends in a row of them; who is no better has ``(at floor)`` beside its mean.
    ``number`` and ``prose`` are put around numbers and all else.
    """
    read = {name: table[name, ""].map(prose).tolist() for name in ("experiment", "variant")}
    left_out = [f" ({prose(note)})" if isinstance(note, str) else "" for note in table["seeds", "note"]]
    read["seeds"] = [
        f"{count}{note if count else ''}" for count, note in zip(table["seeds", ""], left_out, strict=True)
    ]
    for name in [pair[0] for pair in table.columns if pair[1] == "mean"]:
        spread = zip(table[name, "mean"], table[name, "sd"], table[name, "note"], strict=True)
        read[name] = [prose(note) if np.isnan(mean) else number(_rounded(name, mean, sd)) for mean, sd, note in spread]
        if (name, AT_FLOOR) in table:
            low = table[name, AT_FLOOR].eq(True)
            read[name] = [f"{cell} (at floor)" if at else cell for cell, at in zip(read[name], low, strict=True)]
    tests = zip(table["p", "holm"], table["p", "note"], strict=True)
    read["p (Holm)"] = [prose(note) if np.isnan(p) else number(_rounded_p(p)) for p, note in tests]
    if table[BEST, ""].notna().any():
        stages = table[BEST, ""].str.removesuffix("_aggregation")
        read[BEST] = stages.fillna(table[BEST, "note"]).map(prose).tolist()
    return _with_floors(pd.DataFrame(read), table, number)


def _with_floors(read: pd.DataFrame, table: pd.DataFrame, number: Callable[[str], str]) -> pd.DataFrame:
    """The cells with a row of floors below each experiment's variants."""
    parts = []
    table = table.reset_index(drop=True)  # as the cells are
    for _, own in table.groupby(("experiment", ""), sort=False):
        part = read.loc[own.index]
        names = [pair[0] for pair in own.columns if pair[1] == FLOOR]
        floors = {name: _floors(name, own[name, FLOOR], number) for name in names}
        row = {**dict.fromkeys(read, ""), "experiment": part["experiment"].iloc[0], "variant": "floor (constant)"}
        parts += [part, pd.DataFrame([row | floors])] if any(floors.values()) else [part]
    return pd.concat(parts, ignore_index=True)


def _floors(name: str, floors: "pd.Series[float]", number: Callable[[str], str]) -> str:
    """The variants' one floor; the least and the largest where they differ."""
    ends = dict.fromkeys(_rounded(name, end, np.nan) for end in (floors.min(), floors.max()) if not np.isnan(end))
    return " to ".join(map(number, ends))


def _rounded_p(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def _rounded(name: str, mean: float, sd: float) -> str:
    digits = 2 if name == DELTA or name.endswith("mean_error") else 4
    spread = "" if np.isnan(sd) else f" ± {sd:.{digits}f}"
    return f"{mean:{'+' if name == DELTA else ''}.{digits}f}{spread}"


def _flat(table: pd.DataFrame) -> pd.DataFrame:
    return table.set_axis([" ".join(part for part in pair if part) for pair in table.columns], axis=1)


def _text(table: pd.DataFrame) -> str:
    read = cells(table)
    rows = [list(read.columns), *read.to_numpy().tolist()]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    padded = (zip(row, widths, strict=True) for row in rows)
    return "\n".join("  ".join(value.ljust(width) for value, width in row).rstrip() for row in padded)


def _csv(table: pd.DataFrame) -> str:
    return _flat(table).to_csv(index=False).rstrip()


def _markdown(table: pd.DataFrame) -> str:
    read = cells(table, prose=lambda text: text.replace("|", r"\|"))
    rows = [list(read.columns), ["---"] * len(read.columns), *read.to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _latex(table: pd.DataFrame) -> str:
    read = cells(table, lambda text: "$" + text.replace("±", r"\pm") + "$", _escape)
    columns = "ll" + "r" * (len(read.columns) - 2)
    return read.rename(columns=_latex_name).style.hide(axis="index").to_latex(hrules=True, column_format=columns)


def _latex_name(name: str) -> str:
    return _LATEX_NAMES.get(name, _escape(name) + (r" [$^\circ$]" if name.endswith("mean_error") else ""))


def _escape(text: str) -> str:
    return text.translate(_ESCAPES)


def _json(table: pd.DataFrame) -> str:
    flat = _flat(table)
    return json.dumps(flat.astype(object).where(flat.notna(), None).to_dict("records"), indent=1)


FORMATS: Mapping[str, Callable[[pd.DataFrame], str]] = {
    "table": _text,
    "csv": _csv,
    "markdown": _markdown,
    "latex": _latex,
    "json": _json,
}
"""How a summary is printed."""
