import json
from typing import Any

import pandas as pd
import pytest

from mfed_ray.errors import RunFolderError
from mfed_ray.results import FORMATS, render, summarise

SEG, NORMALS, DELTA = "semantic_segmentation miou", "surface_normals mean_error", "Delta_m [%]"
HEADLINES = {"semantic_segmentation": "miou", "surface_normals": "mean_error"}


def run(
    algorithm: str, seed: int, digest: str = "aa", experiment: str = "tiny_one", setting: str = "s", **values: Any
) -> pd.DataFrame:
    """A run's rows: per task its clients' headline values at ``round``, 2 unless given."""
    number, stage = values.pop("round", 2), values.pop("stage", "after_aggregation")
    rows = [
        {
            "run_id": f"{experiment}-{algorithm}-{setting}-{digest}-seed{seed}",
            "experiment": experiment,
            "algorithm": algorithm,
            "seed": seed,
            "round": number,
            "stage": stage,
            "client": f"{task}-{index}",
            "task": task,
            "dataset": "scenes",
            "split": "val",
            "metric": HEADLINES[task],
            "value": value,
        }
        for task, clients in values.items()
        for index, value in enumerate([clients] if isinstance(clients, float) else clients)
    ]
    return pd.DataFrame(rows)


def three_seeds() -> pd.DataFrame:
    """Gains of mfed by hand: 0, 25, 50 % in miou (higher is better), 20, 10, 0 % in mean_error (lower is better)."""
    runs = [run("fedavg", 0, experiment="other", semantic_segmentation=0.25)]  # no baseline, one task, one seed
    for seed, (miou, error) in enumerate([(0.5, 16.0), (0.625, 18.0), (0.75, 20.0)]):
        runs.append(run("mfed", seed, semantic_segmentation=[miou - 0.125, miou + 0.125], surface_normals=error))
        runs.append(run("local", seed, semantic_segmentation=[0.5, 0.25, 0.75], surface_normals=20.0))
    return pd.concat(runs, ignore_index=True)


def row(table: pd.DataFrame, variant: str) -> "pd.Series[Any]":
    found = table[table["variant"] == variant]
    assert len(found) == 1
    return found.iloc[0]


def test_means_spreads_and_delta_by_hand() -> None:
    table = summarise(three_seeds())
    assert list(zip(table["experiment"], table["variant"], table["seeds", ""], strict=True)) == [
        ("other", "fedavg", 1),
        ("tiny_one", "local", 3),
        ("tiny_one", "mfed", 3),
    ]
    mfed = row(table, "mfed")
    assert (mfed[SEG, "mean"], mfed[SEG, "sd"]) == pytest.approx((0.625, 0.125))
    assert (mfed[NORMALS, "mean"], mfed[NORMALS, "sd"]) == pytest.approx((18.0, 2.0))
    # by seed: (0 + 20) / 2, (25 + 10) / 2, (50 + 0) / 2
    assert (mfed[DELTA, "mean"], mfed[DELTA, "sd"]) == pytest.approx((17.5, 7.5))
    assert (row(table, "local")[DELTA, "mean"], row(table, "local")[DELTA, "sd"]) == (0.0, 0.0)
    other = row(table, "fedavg")
    assert other[SEG, "mean"] == 0.25
    assert other[[(SEG, "sd"), (NORMALS, "mean"), (DELTA, "mean"), (DELTA, "sd")]].isna().all()


def test_worse_is_negative_whichever_way_the_metric_points() -> None:
    local = run("local", 0, semantic_segmentation=0.5, surface_normals=20.0)
    table = summarise(pd.concat([local, run("mfed", 0, semantic_segmentation=0.45, surface_normals=24.0)]))
    assert row(table, "mfed")[DELTA, "mean"] == pytest.approx((-10.0 - 20.0) / 2)


def test_only_the_headline_metric_and_the_last_round_count() -> None:
    early = run("mfed", 0, semantic_segmentation=0.9, round=1)
    late = run("mfed", 0, semantic_segmentation=0.5, round=2)
    table = summarise(pd.concat([early, late, late.assign(metric="iou_person", value=0.1)]))
    assert row(table, "mfed")[SEG, "mean"] == 0.5


def test_the_stage_is_chosen() -> None:
    before = run("mfed", 0, semantic_segmentation=0.25, stage="before_aggregation")
    results = pd.concat([before, run("mfed", 0, semantic_segmentation=0.5)])
    assert row(summarise(results), "mfed")[SEG, "mean"] == 0.5
    assert row(summarise(results, "before_aggregation"), "mfed")[SEG, "mean"] == 0.25


def test_a_stage_without_values_is_an_error() -> None:
    """Round 0 is always evaluated as after aggregation: its untrained models must not pass for the result."""
    before = run("mfed", 0, semantic_segmentation=0.25, stage="before_aggregation")
    initial = run("mfed", 0, semantic_segmentation=0.01, round=0)
    message = r"no run has values at stage 'after_aggregation' after round 0; stages found there: before_aggregation$"
    with pytest.raises(RunFolderError, match=message):
        summarise(pd.concat([initial, before]))
    with pytest.raises(RunFolderError, match=r"at stage 'during' after round 0; stages found there: none$"):
        summarise(initial, "during")


def baseline(*, of: str) -> pd.DataFrame:
    """Local runs with which Delta_m over three seeds cannot be told, each for another reason."""
    first, second, third = (run("local", seed, semantic_segmentation=0.5, surface_normals=20.0) for seed in range(3))
    every = pd.concat([first, second, third])
    return {
        "no local run": run("fedavg", 0, semantic_segmentation=0.5, surface_normals=20.0),
        "no local run of one seed": pd.concat([first, third]),
        "no local run of the experiment": every.assign(experiment="other"),
        "no local value of one task": pd.concat([first, second[second["task"] == "surface_normals"], third]),
        "two local configs": pd.concat([every, run("local", 0, "bb", semantic_segmentation=0.4)]),
        "another final round": pd.concat([first, second.assign(round=3), third]),
    }[of]


@pytest.mark.parametrize(
    "reason",
    [
        "no local run",
        "no local run of one seed",
        "no local run of the experiment",
        "no local value of one task",
        "two local configs",
        "another final round",
    ],
)
def test_delta_is_nan_without_one_comparable_baseline(reason: str) -> None:
    mfed = [run("mfed", seed, semantic_segmentation=0.6, surface_normals=18.0) for seed in range(3)]
    table = summarise(pd.concat([*mfed, baseline(of=reason)], ignore_index=True))
    found = row(table, "mfed")
    assert (found["seeds", ""], found[SEG, "mean"]) == (3, pytest.approx(0.6))
    assert pd.isna(found[DELTA, "mean"])
    assert pd.isna(found[DELTA, "sd"])
    line = next(line for line in render(table, "table").splitlines() if "  mfed  " in line)
    assert line.split()[-1] == "-"


def test_two_configs_of_one_algorithm_are_two_variants() -> None:
    results = pd.concat(
        [
            run("local", 0, semantic_segmentation=0.5),
            run("mfed", 0, "0a1b", semantic_segmentation=0.6),
            run("mfed", 0, "ffff", semantic_segmentation=0.7),
            run("mfed", 1, "ffff", semantic_segmentation=0.7),
        ]
    )
    table = summarise(results)
    assert table["variant"].tolist() == ["local", "mfed s-0a1b", "mfed s-ffff"]
    assert table["seeds", ""].tolist() == [1, 1, 2]
    assert row(table, "mfed s-0a1b")[DELTA, "mean"] == pytest.approx(20.0)


def test_the_same_algorithm_in_two_experiments_is_no_variant() -> None:
    runs = [run("mfed", 0, digest, name, semantic_segmentation=0.5) for digest, name in (("aa", "x"), ("bb", "y"))]
    assert summarise(pd.concat(runs))["variant"].tolist() == ["mfed", "mfed"]


TABLE = """\
experiment  variant  seeds  semantic_segmentation miou  surface_normals mean_error  Delta_m [%]
other       fedavg   1      0.2500                      -                           -
tiny_one    local    3      0.5000 ± 0.0000             20.00 ± 0.00                +0.00 ± 0.00
tiny_one    mfed     3      0.6250 ± 0.1250             18.00 ± 2.00                +17.50 ± 7.50"""

CSV = """\
experiment,variant,seeds,semantic_segmentation miou mean,semantic_segmentation miou sd,\
surface_normals mean_error mean,surface_normals mean_error sd,Delta_m [%] mean,Delta_m [%] sd
other,fedavg,1,0.25,,,,,
tiny_one,local,3,0.5,0.0,20.0,0.0,0.0,0.0
tiny_one,mfed,3,0.625,0.125,18.0,2.0,17.5,7.5"""

MARKDOWN = """\
| experiment | variant | seeds | semantic_segmentation miou | surface_normals mean_error | Delta_m [%] |
| --- | --- | --- | --- | --- | --- |
| other | fedavg | 1 | 0.2500 | - | - |
| tiny_one | local | 3 | 0.5000 ± 0.0000 | 20.00 ± 0.00 | +0.00 ± 0.00 |
| tiny_one | mfed | 3 | 0.6250 ± 0.1250 | 18.00 ± 2.00 | +17.50 ± 7.50 |"""

LATEX = r"""\begin{tabular}{llllll}
\toprule
experiment & variant & seeds & semantic\_segmentation miou & surface\_normals mean\_error & Delta\_m [\%] \\
\midrule
other & fedavg & 1 & 0.2500 & - & - \\
tiny\_one & local & 3 & 0.5000 $\pm$ 0.0000 & 20.00 $\pm$ 0.00 & +0.00 $\pm$ 0.00 \\
tiny\_one & mfed & 3 & 0.6250 $\pm$ 0.1250 & 18.00 $\pm$ 2.00 & +17.50 $\pm$ 7.50 \\
\bottomrule
\end{tabular}
"""


@pytest.mark.parametrize(
    ("form", "expected"), [("table", TABLE), ("csv", CSV), ("markdown", MARKDOWN), ("latex", LATEX)]
)
def test_rendered_exactly(form: str, expected: str) -> None:
    assert render(summarise(three_seeds()), form) == expected


def test_json_has_null_where_there_is_no_value() -> None:
    text = render(summarise(three_seeds()), "json")
    names = [f"{name} {part}" for name in (SEG, NORMALS, DELTA) for part in ("mean", "sd")]
    rows: list[tuple[str, str, int, list[float | None]]] = [
        ("other", "fedavg", 1, [0.25, None, None, None, None, None]),
        ("tiny_one", "local", 3, [0.5, 0.0, 20.0, 0.0, 0.0, 0.0]),
        ("tiny_one", "mfed", 3, [0.625, 0.125, 18.0, 2.0, 17.5, 7.5]),
    ]
    expected = [
        {"experiment": experiment, "variant": variant, "seeds": seeds, **dict(zip(names, values, strict=True))}
        for experiment, variant, seeds, values in rows
    ]
    assert text == json.dumps(expected, indent=1)


def test_every_format_is_rendered_here() -> None:
    assert set(FORMATS) == {"table", "csv", "markdown", "latex", "json"}


def test_a_loss_is_shown_with_its_sign() -> None:
    results = pd.concat([run("local", 0, semantic_segmentation=0.5), run("mfed", 0, semantic_segmentation=0.4937)])
    assert render(summarise(results), "table").splitlines()[-1].split() == ["tiny_one", "mfed", "1", "0.4937", "-1.26"]


def test_runs_of_another_setting_are_no_baseline() -> None:
    """A local run with another learning rate or data is not the same budget: no Delta_m."""
    runs = [run("local", 0, setting="other", semantic_segmentation=0.5), run("mfed", 0, semantic_segmentation=0.6)]
    assert pd.isna(row(summarise(pd.concat(runs)), "mfed")[DELTA, "mean"])


def test_a_task_that_a_cohort_left_out_is_not_a_number() -> None:
    """Seed 1's last round evaluated nobody who has normals: neither a mean over the other seed alone, nor Delta_m."""
    whole = [run("mfed", seed, semantic_segmentation=0.5, surface_normals=20.0, round=1) for seed in range(2)]
    last = [
        run("mfed", 0, semantic_segmentation=0.6, surface_normals=10.0, round=2),
        run("mfed", 1, semantic_segmentation=0.7, round=2),
    ]
    local = [run("local", seed, semantic_segmentation=0.5, surface_normals=20.0, round=2) for seed in range(2)]
    mfed = row(summarise(pd.concat([*whole, *last, *local])), "mfed")
    assert mfed[SEG, "mean"] == pytest.approx(0.65)
    assert mfed[[(NORMALS, "mean"), (NORMALS, "sd"), (DELTA, "mean")]].isna().all()
