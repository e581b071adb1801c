"""Whose encoder a task group takes, judged by what it predicts with it: ``correlation_threshold: judged``.

What another task gives is its representation. So it is asked for by function. Each task group t follows one group a(t),
at first itself. In a round of judgement every client k of t is sent the encoders of all groups that follow themselves,
and that of its own group. On each it trains its decoders for some steps while the encoder stands still. Then it takes
the loss on images that it has kept back from the start. No encoder was ever trained on these; on the client's other
images the own one would look better than it is. With L_k(s) that loss on the encoder of s,

    r_t(s) = mean_k log( L_k(s) / L_k(t) )

is averaged over judgements, with the weight MOMENTUM for the past. t goes over to the s with the least r_t(s) if
r_t(s) < r_t(a(t)) - MARGIN. The group with most to gain goes first. A group that others follow keeps its own encoder:
nobody follows a follower.

Who follows trains decoders alone, and its own encoder stands still. So a task that is poor in data takes a rich one's
encoder, and the rich one goes on as if it were alone. Nothing is averaged across tasks.

What leaves the client: a loss for each candidate. No image, and no encoder of its own while its group follows another.
"""

from collections.abc import Collection, Mapping, Sequence
from itertools import combinations
from math import exp, isfinite, isnan, log
from statistics import fmean

from mfed_ray.algorithms.contract import Trainer
from mfed_ray.errors import ConfigError
from mfed_ray.messages import ClientSpec, Instruction, Params, State, Update

MOMENTUM = 0.5
MARGIN = 0.1
"""Of a logarithm: a tenth of the loss."""

Evidence = Mapping[tuple[str, str], float]
"""r_t(s) by (s, t)."""

_ENCODER, _LOSS = "encoder/", "loss/"
_LEAST = 1e-12


def judged_losses(trainer: Trainer, instruction: Instruction, state: State, steps: int) -> dict[str, float]:
    """L_k(s) of each candidate, to be sent; none where one is no number, as where the client keeps no image back."""
    losses = {}
    for name, encoder in instruction.candidates.items():
        trainer.start(state, *instruction.load, encoder)
        trainer.align(instruction.round, steps)
        losses[_LOSS + name] = trainer.judge()
    return {} if any(map(isnan, losses.values())) else losses


def log_ratios(groups: Mapping[str, Sequence[Update]]) -> dict[tuple[str, str], float]:
    """The round's r_t(s), of whoever judged; a client that has lost its way on one encoder does not count."""
    found: dict[tuple[str, str], list[float]] = {}
    for group, updates in groups.items():
        for sender in (sender for update in updates for sender in update.senders):
            losses = {name.removeprefix(_LOSS): max(loss, _LEAST) for name, loss in sender.values.items()}
            if all(map(isfinite, losses.values())):
                for other, loss in losses.items():
                    found.setdefault((other, group), []).append(log(loss / losses[group]))
    return {pair: fmean(values) for pair, values in found.items()}


def averaged(last: Evidence, found: Evidence) -> dict[tuple[str, str], float]:
    """The evidence with one more judgement."""
    return dict(last) | {pair: MOMENTUM * last.get(pair, r) + (1.0 - MOMENTUM) * r for pair, r in found.items()}


def leaders(last: Mapping[str, str], evidence: Evidence, judges: Collection[str]) -> dict[str, str]:
    """a(t) of each group, from the last ones; only ``judges``, who have judged in the round, go over."""
    chosen = dict(last)
    wishes = []
    for group in judges:
        leader = last[group]
        others = {s: r for (s, t), r in evidence.items() if t == group and (s == group or last[s] == s)}
        best = min(others, key=lambda s: others[s], default=leader)
        gain = evidence.get((leader, group), 0.0) - others.get(best, 0.0)
        if gain > MARGIN:
            wishes.append((gain, group, best))
    for _, group, best in sorted(wishes, reverse=True):
        is_followed = any(leader == group for other, leader in chosen.items() if other != group)
        if not is_followed and best in (group, chosen[best]):
            chosen[group] = best
    return chosen


def saved(evidence: Evidence) -> dict[tuple[str, str], float]:
    """For tables: the share of its loss that t saves on the encoder of s, 1 - exp(r_t(s)), at least -1."""
    return {pair: max(1.0 - exp(r), -1.0) for pair, r in evidence.items()}


def groups_of(state: State) -> list[str]:
    """The task groups of a server's state."""
    return [name.removeprefix(_ENCODER) for name in state.params if name.startswith(_ENCODER)]


def leader_of(state: State, group: str) -> str:
    """a(t)."""
    return str(state.values.get("leaders", {}).get(group, group))


def check_structures(state: State) -> None:
    """Raises ConfigError where no group could ever take another's encoder."""
    groups = groups_of(state)
    shapes = [_shapes(state.params[_ENCODER + group]) for group in groups]
    if not any(a == b for a, b in combinations(shapes, 2)):
        raise ConfigError(
            f"algorithm.correlation_threshold: judged found, but of the task groups {', '.join(groups)} no two have an "
            "encoder of one structure; give clients several tasks and one encoder, or a number from -1 to 1"
        )


def candidates(state: State, client: ClientSpec) -> dict[str, Params]:
    """By group: the encoders of those that follow themselves, if they have the structure of the group's own, and that.

    Empty where there is nothing to choose: no other encoder, no image to judge by, or others that follow the group, so
    that it stays.
    """
    group = client.group
    if not any(source.kept_back for source in client.sources):
        return {}
    if any(leader_of(state, other) == group for other in groups_of(state) if other != group):
        return {}
    own = state.params[_ENCODER + group]
    found = {
        other: encoder
        for other in groups_of(state)
        if _shapes(encoder := state.params[_ENCODER + other]) == _shapes(own)
        and other in (group, leader_of(state, other))
    }
    return found if len(found) > 1 else {}


def _shapes(encoder: Params) -> dict[str, tuple[int, ...]]:
    return {name: value.shape for name, value in encoder.items()}
