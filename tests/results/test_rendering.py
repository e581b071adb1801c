import csv
import io
import json
from typing import Any

import pandas as pd
import pytest

from mfed_ray.results.rendering import FORMATS, cells, render
from mfed_ray.results.summary import summarise
from tests.results.conftest import headline_columns

NORMALS = "surface_normals mean_error"


def run(algorithm: str, seed: int, experiment: str = "tiny_one", **values: float) -> pd.DataFrame:
    """A run's rows: its one client's headline values by task in round 2; with ``before``, at both stages."""
    before, planned = values.pop("before", None), values.pop("planned", 2)
    rows = [
        {
            "run_id": f"{experiment}-{algorithm}-s-aa-seed{seed}",
            "experiment": experiment,
            "algorithm": algorithm,
            "seed": seed,
            "round": 2,
            "stage": stage,
            "client": f"{task}-0",
            "task": task,
            "value": value,
            "rounds": planned,
            "variant": algorithm,
            **headline_columns(task, "s"),
        }
        for stage in ("after_aggregation", *(["before_aggregation"] if before else []))
        for task, value in values.items()
    ]
    return pd.DataFrame(rows)


@pytest.fixture
def table() -> pd.DataFrame:
    """A variant over three seeds of Delta_m 10, 17.5 and 25 %, its baseline, and two without one."""
    runs = [
        run("fedavg", 0, "other", semantic_segmentation=0.25),
        run("ditto", 0, semantic_segmentation=0.9, surface_normals=1.0, planned=10),
    ]
    for seed, (miou, error) in enumerate([(0.5, 16.0), (0.625, 18.0), (0.75, 20.0)]):
        runs.append(run("mfed", seed, semantic_segmentation=miou, surface_normals=error))
        runs.append(run("local", seed, semantic_segmentation=0.5, surface_normals=20.0))
    return summarise(pd.concat([*runs, run("mfed", 3, semantic_segmentation=0.5, planned=10)], ignore_index=True))


TABLE = """\
experiment  variant  seeds                     semantic_segmentation miou  surface_normals mean_error  Delta_m [%]         p (Holm)
other       fedavg   1                         0.2500                      no such task                no local run        no local run
tiny_one    local    3                         0.5000 ± 0.0000             20.00 ± 0.00                +0.00 ± 0.00        baseline
tiny_one    ditto    0                         stopped at 2 of 10          stopped at 2 of 10          stopped at 2 of 10  stopped at 2 of 10
tiny_one    mfed     3 (1 stopped at 2 of 10)  0.6250 ± 0.1250             18.00 ± 2.00                +17.50 ± 7.50       0.056"""  # noqa: E501

CSV = """\
experiment,variant,seeds,seeds note,\
semantic_segmentation miou mean,semantic_segmentation miou sd,semantic_segmentation miou note,\
semantic_segmentation miou floor,semantic_segmentation miou at floor,\
semantic_segmentation miou best stage,\
surface_normals mean_error mean,surface_normals mean_error sd,surface_normals mean_error note,\
surface_normals mean_error floor,surface_normals mean_error at floor,\
surface_normals mean_error best stage,\
Delta_m [%] mean,Delta_m [%] sd,Delta_m [%] note,p,p holm,p note,best stage,best stage note
other,fedavg,1,,0.25,,one seed,,,,,,no such task,,,,,,no local run,,,no local run,,not evaluated at both stages
tiny_one,local,3,,0.5,0.0,,,,,20.0,0.0,,,,,0.0,0.0,,,,baseline,,not evaluated at both stages
tiny_one,ditto,0,1 stopped at 2 of 10,,,stopped at 2 of 10,,,,,,stopped at 2 of 10,,,,,,stopped at 2 of 10,,,\
stopped at 2 of 10,,stopped at 2 of 10
tiny_one,mfed,3,1 stopped at 2 of 10,0.625,0.125,,,,,18.0,2.0,,,,,17.5,7.5,,P,P,,,not evaluated at both stages"""

MARKDOWN = """\
| experiment | variant | seeds | semantic_segmentation miou | surface_normals mean_error | Delta_m [%] | p (Holm) |
| --- | --- | --- | --- | --- | --- | --- |
| other | fedavg | 1 | 0.2500 | no such task | no local run | no local run |
| tiny_one | local | 3 | 0.5000 ± 0.0000 | 20.00 ± 0.00 | +0.00 ± 0.00 | baseline |
| tiny_one | ditto | 0 | stopped at 2 of 10 | stopped at 2 of 10 | stopped at 2 of 10 | stopped at 2 of 10 |
| tiny_one | mfed | 3 (1 stopped at 2 of 10) | 0.6250 ± 0.1250 | 18.00 ± 2.00 | +17.50 ± 7.50 | 0.056 |"""

LATEX = r"""\begin{tabular}{llrrrrr}
\toprule
experiment & variant & seeds & semantic\_segmentation miou & surface\_normals mean\_error [$^\circ$] & $\Delta_m$ [\%] & $p$ (Holm) \\
\midrule
other & fedavg & 1 & $0.2500$ & no such task & no local run & no local run \\
tiny\_one & local & 3 & $0.5000 \pm 0.0000$ & $20.00 \pm 0.00$ & $+0.00 \pm 0.00$ & baseline \\
tiny\_one & ditto & 0 & stopped at 2 of 10 & stopped at 2 of 10 & stopped at 2 of 10 & stopped at 2 of 10 \\
tiny\_one & mfed & 3 (1 stopped at 2 of 10) & $0.6250 \pm 0.1250$ & $18.00 \pm 2.00$ & $+17.50 \pm 7.50$ & $0.056$ \\
\bottomrule
\end{tabular}
"""  # noqa: E501


@pytest.mark.parametrize(("form", "expected"), [("table", TABLE), ("markdown", MARKDOWN), ("latex", LATEX)])
def test_rendered_exactly(table: pd.DataFrame, form: str, expected: str) -> None:
    assert render(table, form) == expected


def test_csv_has_all_digits(table: pd.DataFrame) -> None:
    p = repr(float(table["p", "holm"].iloc[-1]))
    assert len(p) > 15
    assert render(table, "csv") == CSV.replace("P", p)


def test_json_is_the_csv_with_null_for_what_is_missing(table: pd.DataFrame) -> None:
    rows = json.loads(render(table, "json"))
    lines = list(csv.DictReader(io.StringIO(render(table, "csv"))))
    assert [list(one) for one in rows] == [list(one) for one in lines]
    assert [{key: "" if value is None else str(value) for key, value in one.items()} for one in rows] == lines
    assert rows[0]["Delta_m [%] mean"] is None
    assert rows[3]["Delta_m [%] mean"] == 17.5
    assert render(table, "json").startswith('[\n {\n  "experiment": "other",\n  "variant": "fedavg",\n  "seeds": 1,\n')


def test_every_format_is_rendered_here() -> None:
    assert set(FORMATS) == {"table", "csv", "markdown", "latex", "json"}


def test_a_loss_is_shown_with_its_sign() -> None:
    results = pd.concat([run("local", 0, semantic_segmentation=0.5), run("mfed", 0, semantic_segmentation=0.4937)])
    last = cells(summarise(results)).iloc[-1]
    assert last.tolist() == ["tiny_one", "mfed", "1", "0.4937", "-1.26", "n < 3"]


def floored(frame: pd.DataFrame, floor: float) -> pd.DataFrame:
    """A run of one task with its floor."""
    return pd.concat([frame, frame.assign(round=0, stage="floor", value=floor)])


def test_floors_are_the_last_row_of_an_experiment() -> None:
    """Of the variants at the floor each says so. An experiment whose runs tell none has no such row."""
    runs = [
        floored(run("local", 0, semantic_segmentation=0.25), 0.25),
        floored(run("mfed", 0, semantic_segmentation=0.5), 0.25),
        run("mfed", 0, "without", semantic_segmentation=0.5),
    ]
    table = summarise(pd.concat(runs))
    read = cells(table)
    assert read[["experiment", "variant", "semantic_segmentation miou"]].to_numpy().tolist() == [
        ["tiny_one", "local", "0.2500 (at floor)"],
        ["tiny_one", "mfed", "0.5000"],
        ["tiny_one", "floor (constant)", "0.2500"],
        ["without", "mfed", "0.5000"],
    ]
    assert read.iloc[2].tolist()[2:] == ["", "0.2500", "", ""]
    assert "& local & 1 & $0.2500$ (at floor) &" in render(table, "latex")
    assert "& floor (constant) &  & $0.2500$ &  &  \\\\" in render(table, "latex")


def test_floors_that_differ_between_variants_are_told_from_the_least_to_the_largest() -> None:
    runs = [
        floored(run("local", 0, semantic_segmentation=0.9), 0.25),
        floored(run("mfed", 0, semantic_segmentation=0.9), 0.125),
    ]
    assert cells(summarise(pd.concat(runs)))["semantic_segmentation miou"].iloc[-1] == "0.1250 to 0.2500"


def test_small_p_is_a_bound() -> None:
    """Gains 9.99, 10, 10.01: t = 10 / (0.01 / sqrt(3)) = 1732, p = 1 - t / sqrt(2 + t^2) = 3.3e-7."""
    runs = [run("local", seed, semantic_segmentation=0.5) for seed in range(3)]
    runs += [run("mfed", seed, semantic_segmentation=value) for seed, value in enumerate((0.54995, 0.55, 0.55005))]
    table = summarise(pd.concat(runs))
    assert table["p", ""].iloc[-1] == pytest.approx(3.3333e-7, rel=1e-3)
    assert cells(table)["p (Holm)"].iloc[-1] == "< 0.001"
    assert "& $< 0.001$ \\\\" in render(table, "latex")


def test_the_best_stage_is_shown_where_two_were_evaluated() -> None:
    both, one = run("local", 0, before=True, semantic_segmentation=0.5), run("mfed", 0, semantic_segmentation=0.5)
    read = cells(summarise(pd.concat([both, one])))
    assert read["best stage"].tolist() == ["equal", "not evaluated at both stages"]
    assert "best stage" not in cells(summarise(one))


@pytest.mark.parametrize(
    ("form", "shown"),
    [
        ("latex", r"mfed a=50\% b=\{x\} c=\textbackslash{}d e\_f \#1 \$2 \& g\textasciitilde{}\textasciicircum{}\textless{}\textgreater{}|"),  # noqa: E501
        ("markdown", r"mfed a=50% b={x} c=\d e_f #1 $2 & g~^<>\|"),
        ("table", r"mfed a=50% b={x} c=\d e_f #1 $2 & g~^<>|"),
    ],
)  # fmt: skip
def test_names_are_escaped(form: str, shown: str) -> None:
    name = r"mfed a=50% b={x} c=\d e_f #1 $2 & g~^<>|"
    results: Any = run("mfed", 0, semantic_segmentation=0.5).assign(variant=name)
    assert f" {shown} " in render(summarise(results), form)
