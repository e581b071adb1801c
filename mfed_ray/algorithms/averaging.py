"""Means of models, for every algorithm that averages: weights and scope.

Such an algorithm's state has the trees ``encoder/<group>`` and ``decoder/<group>`` of each task group. Under scope
`all` there is one encoder, whatever its names: one tree, that every round moves for all groups, also for those of which
no client took part. A group's decoders stand still in a round without its clients.

Of a group's clients these algorithms need no more than their weighted mean (``Algorithm.weight``). The mean over all
clients is that of the groups' means, each rounded to float32. A median or a trimmed mean needs each client.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Discriminator, Tag

from mfed_ray.algorithms.contract import by_group, common_encoder
from mfed_ray.algorithms.fusion import check_in_common, fuse_within_tasks
from mfed_ray.algorithms.trimmed_mean import Trimmed, trimmed_mean
from mfed_ray.averages import weighted_mean
from mfed_ray.messages import ClientSpec, Params, State, Update
from mfed_ray.params import decoders_of, encoder_of

Weighting = Annotated[
    Annotated[Literal["examples", "uniform", "median"], Tag("named")] | Annotated[Trimmed, Tag("trimmed")],
    Discriminator(lambda value: "trimmed" if isinstance(value, Mapping | Trimmed) else "named"),
]
"""Of clients in a mean: by their number of examples n_k, or alike; or alike without the values at either end."""

Scope = Literal["task", "all"]
"""Whose encoders are averaged: those of one task group, or of all clients."""

ENCODERS, DECODERS = "encoder/", "decoder/"


def initial_encoders(algorithm: str, initial: Mapping[str, Params], scope: Scope) -> dict[str, Params]:
    """The groups' encoders before the first round.

    Raises ConfigError under scope `all` where they differ, and where groups of the same tasks have no block alike.
    """
    encoders = _encoders(algorithm, initial, scope)
    check_in_common(encoders)
    return {ENCODERS + group: encoder for group, encoder in encoders.items()}


def initial_models(algorithm: str, initial: Mapping[str, Params], scope: Scope) -> dict[str, Params]:
    """The groups' encoders and decoders before the first round. Raises ConfigError as ``initial_encoders``."""
    encoders = {ENCODERS + group: encoder for group, encoder in _encoders(algorithm, initial, scope).items()}
    check_in_common(initial)
    return {**encoders, **{DECODERS + group: decoders_of(model) for group, model in initial.items()}}


def model_of(state: State, client: ClientSpec) -> tuple[Params, Params]:
    """The global encoder and decoders of the client's group."""
    return state.params[ENCODERS + client.group], state.params[DECODERS + client.group]


def encoder_means(state: State, updates: Sequence[Update], weighting: Weighting, scope: Scope) -> dict[str, Params]:
    """The mean encoder of each group's clients, or under scope `all` of all clients, for every group of ``state``.

    What encoders of the same tasks have alike is averaged over all clients of these tasks.
    """
    if scope == "all" and updates:
        shared = mean_of(updates, weighting, encoder_of)
        return {name: shared for name in state.params if name.startswith(ENCODERS)}
    return {ENCODERS + group: mean for group, mean in _task_means(updates, weighting, encoder_of).items()}


def model_means(state: State, updates: Sequence[Update], weighting: Weighting, scope: Scope) -> dict[str, Params]:
    """``encoder_means``, and the mean decoders of each group's clients, likewise."""
    decoders = {DECODERS + group: mean for group, mean in _task_means(updates, weighting, decoders_of).items()}
    return {**encoder_means(state, updates, weighting, scope), **decoders}


def mean_of(updates: Sequence[Update], weighting: Weighting, part: Callable[[Params], Params] = dict) -> Params:
    """The weighted mean of the clients' parameters, or of a part of them; or what stands in its place."""
    trees = [part(update.params) for update in updates]
    if not is_weighted(weighting):
        return trimmed_mean(trees, weighting.trim if isinstance(weighting, Trimmed) else 0.5)
    return weighted_mean(trees, [weight_of(one, weighting) for one in updates])


def is_weighted(weighting: Weighting) -> bool:
    """Whether a weighted mean is all that is needed of a group's clients."""
    return weighting in ("examples", "uniform")


def client_weight(client: ClientSpec, weighting: Weighting) -> float | None:
    """``Algorithm.weight``: None where every client is needed."""
    return _weight(client, weighting) if is_weighted(weighting) else None


def weight_of(update: Update, weighting: Weighting) -> float:
    """The weight of a client, or of all the clients that an update is the mean of."""
    return sum(_weight(sender, weighting) for sender in update.senders)


def group_weights(updates: Sequence[Update], weighting: Weighting) -> dict[str, float]:
    """The sum of the clients' weights by task group."""
    return {group: sum(weight_of(one, weighting) for one in members) for group, members in by_group(updates).items()}


def group_means(updates: Sequence[Update], weighting: Weighting) -> dict[str, Params]:
    """The mean model by task group."""
    return {group: mean_of(members, weighting) for group, members in by_group(updates).items()}


def _weight(client: ClientSpec | Update, weighting: Weighting) -> float:
    return float(client.examples) if weighting == "examples" else 1.0


def _task_means(updates: Sequence[Update], weighting: Weighting, part: Callable[[Params], Params]) -> dict[str, Params]:
    means = {group: mean_of(members, weighting, part) for group, members in by_group(updates).items()}
    return fuse_within_tasks(means, group_weights(updates, weighting))


def _encoders(algorithm: str, initial: Mapping[str, Params], scope: Scope) -> dict[str, Params]:
    if scope == "all":
        return dict.fromkeys(initial, common_encoder(f"{algorithm} with scope: all", initial))
    return {group: encoder_of(model) for group, model in initial.items()}
