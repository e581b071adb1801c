from typing import Any

import numpy as np
import pandas as pd
import pytest

from mfed_ray.errors import RunFolderError
from mfed_ray.results.summary import summarise
from tests.results.conftest import headline_columns

SEG, NORMALS, DELTA = "semantic_segmentation miou", "surface_normals mean_error", "Delta_m [%]"


def run(
    algorithm: str, seed: int, digest: str = "aa", experiment: str = "tiny_one", setting: str = "s", **values: Any
) -> pd.DataFrame:
    """A run's rows: per task its clients' headline values at ``round``, 2 unless given, which is the last planned."""
    number, stage = values.pop("round", 2), values.pop("stage", "after_aggregation")
    planned = values.pop("planned", number)
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
            "value": value,
            "rounds": planned,
            "variant": algorithm,
            **headline_columns(task, setting),
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
    assert other[[(SEG, "note"), (NORMALS, "note"), (DELTA, "note"), ("p", "note")]].tolist() == [
        "one seed", "no such task", "no local run", "no local run"
    ]  # fmt: skip
    assert mfed[[(SEG, "note"), (NORMALS, "note"), (DELTA, "note"), ("p", "note")]].isna().all()


def test_worse_is_negative_whichever_way_the_metric_points() -> None:
    local = run("local", 0, semantic_segmentation=0.5, surface_normals=20.0)
    table = summarise(pd.concat([local, run("mfed", 0, semantic_segmentation=0.45, surface_normals=24.0)]))
    assert row(table, "mfed")[DELTA, "mean"] == pytest.approx((-10.0 - 20.0) / 2)


def test_only_the_headline_metric_and_the_last_round_count() -> None:
    early = run("mfed", 0, semantic_segmentation=0.9, round=1)
    late = run("mfed", 0, semantic_segmentation=0.5, round=2)
    table = summarise(pd.concat([early, late, late.assign(metric="iou_person", value=0.1, headline=False)]))
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
        summarise(pd.concat([initial, before]), "after_aggregation")
    by_default = summarise(pd.concat([initial, before]))
    assert row(by_default, "mfed")[SEG, "mean"] == 0.25
    with pytest.raises(RunFolderError, match=r"at stage 'during' after round 0; stages found there: none$"):
        summarise(initial, "during")


def baseline(of: str) -> pd.DataFrame:
    """Local runs with which Delta_m over three seeds cannot be told, each for another reason."""
    first, second, third = (run("local", seed, semantic_segmentation=0.5, surface_normals=20.0) for seed in range(3))
    every = pd.concat([first, second, third])
    return {
        "no local run": run("fedavg", 0, semantic_segmentation=0.5, surface_normals=20.0),
        "of one seed none": pd.concat([first, third]),
        "of two seeds none": first,
        "of another experiment": every.assign(experiment="other"),
        "of another setting": every.assign(setting="other"),
        "without a value of one task": pd.concat([first, second[second["task"] == "surface_normals"], third]),
        "two": pd.concat([every, run("local", 0, "bb", semantic_segmentation=0.4, surface_normals=20.0)]),
        "three": pd.concat([every, *(run("local", 0, digest, semantic_segmentation=0.4) for digest in ("bb", "cc"))]),
        "of another round": pd.concat([first, second.assign(round=3, rounds=3), third]),
        "not finished": every.assign(rounds=10),
        "0": every.assign(value=0.0),
        "two reasons": pd.concat([first.assign(rounds=10), third]),
    }[of]


@pytest.mark.parametrize(
    ("of", "note"),
    [
        ("no local run", "no local run"),
        ("of one seed none", "no local run (seed 1)"),
        ("of two seeds none", "no local run (seeds 1, 2)"),
        ("of another experiment", "no local run"),
        ("of another setting", "no local run"),
        ("without a value of one task", "local not evaluated (seed 1)"),
        ("two", "two local runs (seed 0)"),
        ("three", "several local runs (seed 0)"),
        ("of another round", "local ended at another round (seed 1)"),
        ("not finished", "local run not finished"),
        ("0", "local is 0"),
        ("two reasons", "local run not finished (seed 0); no local run (seed 1)"),
    ],
)
def test_delta_is_missing_without_one_comparable_baseline(of: str, note: str) -> None:
    mfed = [run("mfed", seed, semantic_segmentation=0.6, surface_normals=18.0) for seed in range(3)]
    found = row(summarise(pd.concat([*mfed, baseline(of)], ignore_index=True)), "mfed")
    assert (found["seeds", ""], found[SEG, "mean"]) == (3, pytest.approx(0.6))
    assert found[[(DELTA, "mean"), (DELTA, "sd"), ("p", ""), ("p", "holm")]].isna().all()
    assert (found[DELTA, "note"], found["p", "note"]) == (note, note)


def test_configs_that_have_the_same_name_stay_apart() -> None:
    """As in frames that were loaded one by one: each load saw one config only."""
    results = pd.concat(
        [
            run("local", 0, semantic_segmentation=0.5),
            run("mfed", 0, "0a1b", semantic_segmentation=0.6),
            run("mfed", 0, "ffff", semantic_segmentation=0.7),
            run("mfed", 1, "ffff", semantic_segmentation=0.7),
        ]
    )
    for frame in (results, results.drop(columns=["variant", "rounds"])):
        table = summarise(frame)
        assert table["variant"].tolist() == ["local", "mfed s-0a1b", "mfed s-ffff"]
        assert table["seeds", ""].tolist() == [1, 1, 2]
        assert row(table, "mfed s-0a1b")[DELTA, "mean"] == pytest.approx(20.0)


def test_the_same_algorithm_in_two_experiments_is_no_variant() -> None:
    runs = [run("mfed", 0, digest, name, semantic_segmentation=0.5) for digest, name in (("aa", "x"), ("bb", "y"))]
    assert summarise(pd.concat(runs))["variant"].tolist() == ["mfed", "mfed"]


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
    assert mfed[[(NORMALS, "note"), (DELTA, "note")]].tolist() == ["not evaluated (seed 1)"] * 2


def test_a_mean_over_clients_of_which_some_failed_is_not_a_number() -> None:
    """Of seed 1's two clients one has no value in the last round: neither its mean nor what is compared with it."""

    def second(*runs: pd.DataFrame) -> list[pd.DataFrame]:
        return [one.assign(client="client-b") for one in runs]

    mfed = [run("mfed", seed, semantic_segmentation=0.5, round=number) for seed in range(2) for number in (1, 2)]
    local = [run("local", seed, semantic_segmentation=0.5, round=number) for seed in range(2) for number in (1, 2)]
    of_mfed = row(summarise(pd.concat([*mfed, *second(*mfed[:3]), *local, *second(*local)])), "mfed")
    assert of_mfed[[(SEG, "mean"), (DELTA, "mean")]].isna().all()
    assert of_mfed[SEG, "note"] == "1 of 2 clients failed (seed 1)"
    assert of_mfed[DELTA, "note"] == "clients failed (seed 1)"
    of_mfed = row(summarise(pd.concat([*mfed, *second(*mfed), *local, *second(*local[:3])])), "mfed")
    assert of_mfed[SEG, "mean"] == 0.5
    assert of_mfed[DELTA, "note"] == "clients of local failed (seed 1)"


def test_runs_that_have_not_reached_their_last_round_are_left_out_and_told() -> None:
    """A scheduler stopped them, or they still run: their numbers are those of another budget."""
    results = pd.concat(
        [
            *(run("local", seed, semantic_segmentation=0.5, round=10) for seed in range(2)),
            *(run("mfed", seed, semantic_segmentation=0.6, round=10) for seed in range(2)),
            run("mfed", 2, semantic_segmentation=0.1, round=3, planned=10),
            run("fedavg", 0, semantic_segmentation=0.9, round=3, planned=10),
            run("fedavg", 1, semantic_segmentation=0.9, round=5, planned=10),
            run("ditto", 0, semantic_segmentation=0.9, round=0, planned=10),
        ]
    )
    table = summarise(results)
    mfed, fedavg, ditto = row(table, "mfed"), row(table, "fedavg"), row(table, "ditto")
    assert (mfed["seeds", ""], mfed["seeds", "note"]) == (2, "1 stopped at 3 of 10")
    assert (mfed[SEG, "mean"], mfed[DELTA, "mean"]) == pytest.approx((0.6, 20.0))
    assert mfed["p", "note"] == "n < 3"
    for stopped, count, told in ((fedavg, "2", "stopped at 3 to 5 of 10"), (ditto, "1", "stopped at 0 of 10")):
        assert (stopped["seeds", ""], stopped["seeds", "note"]) == (0, f"{count} {told}")
        assert stopped[[(SEG, "mean"), (SEG, "sd"), (DELTA, "mean"), ("p", "")]].isna().all()
        notes = [(SEG, "note"), (DELTA, "note"), ("p", "note"), ("best stage", "note")]
        assert stopped[notes].tolist() == [told] * 4


def with_gains(algorithm: str, gains: list[float]) -> list[pd.DataFrame]:
    """Runs whose Delta_m against a local 0.5 is known, in percent, by seed."""
    return [run(algorithm, seed, semantic_segmentation=0.5 * (1 + gain / 100)) for seed, gain in enumerate(gains)]


def test_paired_test_and_holm_by_hand() -> None:
    """Two degrees of freedom: P(|T| > t) = 1 - t / sqrt(2 + t^2), t = mean / (sd / sqrt(3)).

    mfed: mean 4, sd 1, t^2 = 48, p = 1 - sqrt(48 / 50); fedavg: mean 2, sd 2, t^2 = 3, p = 1 - sqrt(3 / 5).
    """
    local = with_gains("local", [0.0] * 4)
    runs = [*local, *with_gains("mfed", [3.0, 4.0, 5.0]), *with_gains("fedavg", [0.0, 2.0, 4.0])]
    runs += [*with_gains("ditto", [1.0, 2.0]), *with_gains("fedper", [5.0, 5.0, 5.0])]
    table = summarise(pd.concat(runs))
    mfed, fedavg = row(table, "mfed"), row(table, "fedavg")
    low, high = 1 - np.sqrt(48 / 50), 1 - np.sqrt(3 / 5)
    assert (mfed["p", ""], mfed["p", "holm"]) == pytest.approx((low, 2 * low))  # the smaller of two
    assert (fedavg["p", ""], fedavg["p", "holm"]) == pytest.approx((high, high))
    notes = {name: row(table, name)["p", "note"] for name in ("local", "ditto", "fedper")}
    assert notes == {"local": "baseline", "ditto": "n < 3", "fedper": "no spread"}


def test_tests_of_another_experiment_are_another_family() -> None:
    mfed = pd.concat([*with_gains("local", [0.0] * 3), *with_gains("mfed", [3.0, 4.0, 5.0])])
    other = mfed.assign(experiment="other", run_id="other" + mfed["run_id"])
    table = summarise(pd.concat([mfed, other])).set_index("variant").loc["mfed"]
    assert table["p", "holm"].tolist() == table["p", ""].tolist()


def both(algorithm: str, seed: int, before: dict[str, Any], after: dict[str, Any]) -> pd.DataFrame:
    return pd.concat([run(algorithm, seed, stage="before_aggregation", **before), run(algorithm, seed, **after)])


def test_best_stage_by_task_and_by_delta() -> None:
    """From before to after: miou 0.4 to 0.5 is +25 %, mean_error 20 to 30 is -50 %; together -12.5 %."""
    before = {"semantic_segmentation": 0.4, "surface_normals": 20.0}
    after = {"semantic_segmentation": 0.5, "surface_normals": 30.0}
    runs = [both("local", 0, before, before), both("mfed", 0, before, after), both("fedavg", 0, after, before)]
    table = summarise(pd.concat(runs))
    columns = [(SEG, "best stage"), (NORMALS, "best stage"), ("best stage", "")]
    assert row(table, "local")[columns].tolist() == ["equal"] * 3
    first, second = "before_aggregation", "after_aggregation"
    assert row(table, "mfed")[columns].tolist() == [second, first, first]
    assert row(table, "fedavg")[columns].tolist() == [first, second, second]
    assert table["best stage", "note"].isna().all()


def test_best_stage_compares_the_same_clients() -> None:
    """Of a cohort before, of all after: the one client in both gains, though the others are worse."""
    cohort = {"semantic_segmentation": [0.4]}
    everybody = {"semantic_segmentation": [0.5, 0.1, 0.1]}
    assert row(summarise(both("mfed", 0, cohort, everybody)), "mfed")["best stage", ""] == "after_aggregation"


def test_best_stage_is_missing_where_one_stage_was_evaluated() -> None:
    only = row(summarise(run("mfed", 0, semantic_segmentation=0.5)), "mfed")
    assert pd.isna(only["best stage", ""])
    assert only["best stage", "note"] == "not evaluated at both stages"


def test_the_order_of_rows_is_natural_and_not_that_of_reading() -> None:
    names = [f"mfed tau={value}" for value in ("-1.0", "0.5", "9", "10", "judged")]
    runs = [run("mfed", 0, f"{index}", semantic_segmentation=0.1 * index + 0.1) for index in range(len(names))]
    named = [one.assign(variant=name) for one, name in zip(runs, names, strict=True)]
    local, other = (
        run("local", 0, semantic_segmentation=0.5),
        run("mfed", 0, experiment="tiny_10", semantic_segmentation=1.0),
    )
    parts = [
        local,
        *named,
        other,
        other.assign(experiment="tiny_9", run_id="tiny_9-mfed-s-aa-seed0"),
        run("ditto", 0, semantic_segmentation=0.3),
    ]
    table = summarise(pd.concat(parts))
    assert table["experiment"].tolist() == ["tiny_9", "tiny_10", *["tiny_one"] * 7]
    assert table["variant"].tolist()[2:] == ["local", "ditto", *names]
    pd.testing.assert_frame_equal(summarise(pd.concat(parts[::-1])), table)


def test_names_of_runs_that_do_not_parse_have_no_baseline() -> None:
    frame = pd.concat([run("local", 0, semantic_segmentation=0.5), run("mfed", 0, semantic_segmentation=0.6)])
    table = summarise(frame.assign(run_id=frame["algorithm"], setting=None))
    assert (row(table, "mfed")[SEG, "mean"], row(table, "mfed")[DELTA, "note"]) == (0.6, "no local run")


def test_a_task_from_outside_of_the_package() -> None:
    """Its rows say by what it is judged, and that less is better: from 4 m to 3 m is +25 %. Its columns come last."""
    runs = [
        run(name, 0, surface_normals=error, semantic_segmentation=0.5)
        for name, error in (("local", 4.0), ("mfed", 3.0))
    ]
    names = {"task": {"surface_normals": "a_depth"}, "metric": {"mean_error": "rmse"}}
    table = summarise(pd.concat(runs).replace(names))
    assert [name for name in table.columns.get_level_values(0).unique() if (name, "mean") in table] == [
        SEG,
        "a_depth rmse",
        DELTA,
    ]
    assert row(table, "mfed")[DELTA, "mean"] == pytest.approx(12.5)


def floored(frame: pd.DataFrame, **floors: float) -> pd.DataFrame:
    """The run with a floor for each of its clients in these tasks."""
    initial = frame[frame["task"].isin(floors)].assign(round=0, stage="floor")
    return pd.concat([frame, initial.assign(value=initial["task"].map(floors))])


def test_floors_stand_beside_the_means_and_change_no_other_number() -> None:
    """miou 0.5 and 0.25 on floors of 0.25; a mean error of 20 degrees on one of 30, and of 40."""
    runs = {
        "local": run("local", 0, semantic_segmentation=0.25, surface_normals=20.0),
        "mfed": run("mfed", 0, semantic_segmentation=[0.5, 0.5], surface_normals=40.0),
        "fedavg": run("fedavg", 0, semantic_segmentation=0.25),
    }
    floors = {"semantic_segmentation": 0.25, "surface_normals": 30.0}
    known = [floored(runs["local"], **floors), floored(runs["mfed"], **floors), runs["fedavg"]]
    table, without = summarise(pd.concat(known)), summarise(pd.concat(runs.values()))
    at = [(SEG, "floor"), (SEG, "at floor"), (NORMALS, "floor"), (NORMALS, "at floor")]
    assert row(table, "local")[at].tolist() == [0.25, True, 30.0, False]
    assert row(table, "mfed")[at].tolist() == [0.25, False, 30.0, True]
    assert row(table, "fedavg")[at].isna().all()  # its run tells none
    assert without[at].isna().all(axis=None)
    pd.testing.assert_frame_equal(table.drop(columns=at), without.drop(columns=at))


def test_a_floor_is_the_mean_over_clients_and_seeds_where_all_have_one() -> None:
    frame = run("mfed", 0, semantic_segmentation=[0.5, 0.5])
    own = frame.assign(round=0, stage="floor", value=[0.1, 0.3])
    other = run("mfed", 1, semantic_segmentation=0.5)
    both_told = summarise(pd.concat([frame, own, floored(other, semantic_segmentation=0.4)]))
    assert row(both_told, "mfed")[SEG, "floor"] == pytest.approx((0.2 + 0.4) / 2)
    assert pd.isna(row(summarise(pd.concat([frame, own, other])), "mfed")[SEG, "floor"])


def test_a_frame_that_does_not_say_what_tasks_are_judged_by_is_refused() -> None:
    """As load_results returned it before tables said so."""
    frame = run("mfed", 0, semantic_segmentation=0.5).drop(columns=["headline", "higher_is_better", "setting"])
    message = (
        r"^results: lack the column headline, higher_is_better, setting; expected what load_results of this version "
        r"returns$"
    )
    with pytest.raises(RunFolderError, match=message):
        summarise(frame)
