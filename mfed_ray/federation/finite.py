"""A server's state must be finite: what is not goes on to all clients, and into every checkpoint."""

from mfed_ray.errors import AggregationError
from mfed_ray.messages import State
from mfed_ray.params import not_finite


def check_finite(round_number: int, last: State, state: State) -> None:
    """Raises AggregationError for a tree of the round's ``state`` that is not finite. Those of ``last`` were seen."""
    seen = {id(tree) for tree in last.params.values()}
    for name, tree in state.params.items():
        if id(tree) not in seen and (told := not_finite(tree)):
            raise AggregationError(
                f"round {round_number}: of what the server made of finite updates, in {name}, {told}; lower "
                "algorithm.server.learning_rate, or what else moves the server further than its clients moved"
            )
        seen.add(id(tree))
