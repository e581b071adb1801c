from typing import get_args

from mfed_ray.evaluation import AFTER_AGGREGATION, BEFORE_AGGREGATION, FLOOR, TRAINING, Stage


def test_names_of_stages() -> None:
    """They stand in everybody's tables and configurations."""
    assert get_args(Stage) == (BEFORE_AGGREGATION, AFTER_AGGREGATION) == ("before_aggregation", "after_aggregation")
    assert (TRAINING, FLOOR) == ("training", "floor")
