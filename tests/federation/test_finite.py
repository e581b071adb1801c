"""What the server makes of finite updates may overflow. Nobody gets that, and no checkpoint has it."""

from collections.abc import Callable

import numpy as np
import pytest

from mfed_ray.errors import AggregationError
from mfed_ray.experiment import Experiment
from mfed_ray.federation.finite import check_finite
from mfed_ray.messages import Params, State

MakeExperiment = Callable[..., Experiment]


def tree(*values: float) -> Params:
    return {"encoder.w": np.array(values, np.float32)}


def test_a_state_that_is_not_finite() -> None:
    message = (
        r"^round 3: of what the server made of finite updates, in decoder/b, encoder\.w has 1 of 2 values that are not "
        r"finite; lower algorithm\.server\.learning_rate, or"
    )
    with pytest.raises(AggregationError, match=message) as caught:
        check_finite(3, State(), State({"encoder/a": tree(1.0), "decoder/b": tree(1.0, np.inf)}))
    assert not caught.value.may_pass  # the same updates would come again


def test_what_was_there_before_is_not_read_again() -> None:
    old = tree(np.nan)
    check_finite(3, State({"a": old}), State({"a": old, "b": tree(1.0)}))


def test_a_run_ends_before_such_a_checkpoint(tiny: MakeExperiment, serially: Callable[..., object]) -> None:
    """The step is finite in float64, and not in float32."""
    server = {"name": "momentum", "learning_rate": 1e45}
    experiment = tiny(algorithm={"name": "fedavg", "server": server}, rounds=1)
    with np.errstate(over="ignore"), pytest.raises(AggregationError, match=r"^round 1: .* in encoder/"):
        serially(experiment)
