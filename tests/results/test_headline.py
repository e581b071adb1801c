import math
from typing import Any

import pandas as pd
import pytest

from mfed_ray.errors import RunFolderError
from mfed_ray.evaluation import AFTER_AGGREGATION, BEFORE_AGGREGATION, Headline
from mfed_ray.results.built_in import HEADLINES, in_order
from mfed_ray.results.headline import chosen_stage, floors, headline_rows, headlines_of, scores
from mfed_ray.results.summary import summarise
from mfed_ray.tasks import TASKS


def frame(*rows: dict[str, Any]) -> pd.DataFrame:
    """Rows of saliency's headline metric, changed."""
    usual = {"task": "saliency", "metric": "max_miou", "headline": True, "higher_is_better": True, "split": "val"}
    usual |= {"stage": AFTER_AGGREGATION}
    return pd.DataFrame([{**usual, **row} for row in rows])


def test_the_built_in_tasks_are_judged_as_they_say() -> None:
    """And their columns stand in their order. Tasks that came after version 2 need no entry."""
    assert list(HEADLINES.items()) == [(name, task.headline) for name, task in list(TASKS.items())[: len(HEADLINES)]]


def test_tasks_from_outside_come_last_by_name() -> None:
    assert in_order(["b", "surface_normals", "a", "saliency", "a"]) == ["saliency", "surface_normals", "a", "b"]


def test_the_stage_that_counts() -> None:
    assert chosen_stage({BEFORE_AGGREGATION, AFTER_AGGREGATION}) == AFTER_AGGREGATION
    assert chosen_stage({BEFORE_AGGREGATION}) == BEFORE_AGGREGATION


def test_scores_by_hand() -> None:
    """Two clients after aggregation, 0.5 and 0.75; what was before does not count, for no task."""
    before = [(BEFORE_AGGREGATION, "saliency", 0.25), (BEFORE_AGGREGATION, "human_parts", 0.25)]
    after = [(AFTER_AGGREGATION, "saliency", 0.5), (AFTER_AGGREGATION, "saliency", 0.75)]
    assert scores([*before, *after]) == {"saliency": 0.625}
    assert scores(before) == {"saliency": 0.25, "human_parts": 0.25}
    assert scores([]) == {}


def test_a_client_without_a_number_does_not_count() -> None:
    assert scores([(AFTER_AGGREGATION, "saliency", math.nan), (AFTER_AGGREGATION, "saliency", 0.5)]) == {
        "saliency": 0.5
    }
    assert math.isnan(scores([(AFTER_AGGREGATION, "saliency", math.nan)])["saliency"])


def test_only_headline_metrics_of_held_out_images_count() -> None:
    """A floor is nobody's result."""
    rows = frame(
        {"value": 1}, {"value": 2, "headline": False}, {"value": 3, "split": "train"}, {"value": 4, "stage": "floor"}
    )
    assert headline_rows(rows)["value"].tolist() == [1]


def test_floors_by_hand() -> None:
    """Two clients of a, one of b; what a metric that is no headline would have as its floor does not count."""
    rows = [{"run_id": run, "value": value, "stage": "floor"} for run, value in (("a", 1), ("a", 2), ("b", 4))]
    found = floors(frame(*rows, {**rows[0], "value": 9, "headline": False}, {"run_id": "a", "value": 9}))
    assert found.to_dict() == {("a", "saliency"): 1.5, ("b", "saliency"): 4}


def test_what_tasks_are_judged_by() -> None:
    rows = frame({}, {}, {"task": "depth", "metric": "rmse", "higher_is_better": False})
    assert headlines_of(rows) == {
        "saliency": Headline("max_miou", higher_is_better=True),
        "depth": Headline("rmse", higher_is_better=False),
    }


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"metric": "max_f"}, r"max_f \(higher is better\)"),
        ({"higher_is_better": False}, r"max_miou \(lower is better\)"),
    ],
)
def test_runs_that_disagree_are_refused(other: dict[str, Any], told: str) -> None:
    message = (
        rf"^task saliency: judged by max_miou \(higher is better\) in one run and by {told} in another; load runs that "
        r"agree$"
    )
    with pytest.raises(RunFolderError, match=message):
        headlines_of(frame({}, other))
    with pytest.raises(RunFolderError, match=message):
        summarise(frame({}, other).assign(setting="s"))
