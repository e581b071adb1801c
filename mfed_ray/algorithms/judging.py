"""Whose encoder a task group takes, judged by what it predicts with it: ``correlation_threshold: judged``.

What another task gives is its representation. So it is asked for by function. In a round of judgement every client k
of group t is sent the encoders of all groups. On each it trains decoders from their first values, for some steps, while
the encoder stands still: decoders that are used to the own encoder would speak for it. Then it takes the loss on images
that it has kept back from the start. No encoder was ever trained on these; on the client's other images the own one
would look better than it is. With L_k(s) that loss on the encoder of s,

    r_t(s) = mean_k log( L_k(s) / L_k(t) )

is averaged over the rounds of judgement. After the last of them each group t chooses whom it follows: itself, or the s
with the least r_t(s), if that is less than -MARGIN. The group with most to gain chooses first. A group that others
follow keeps its own encoder: nobody follows a follower.

From then on all train on the images that were kept back as well. A group that goes over trains its decoders for a round
on the encoder that it goes over to; until then it is what it was. Who follows trains decoders alone, and its own
encoder stands still. So a task that is poor in data takes a rich one's encoder, and the rich one goes on as if it were
alone. Nothing is averaged across tasks.

What leaves the client: a loss for each candidate. No image, and no encoder of its own while its group follows another.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from math import exp, isfinite, isnan, log
from statistics import fmean
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from mfed_ray.algorithms.contract import Trainer
from mfed_ray.errors import ConfigError
from mfed_ray.messages import ClientSpec, Instruction, Params, State, Update
from mfed_ray.params import encoder_of


class Judging(BaseModel):
    """When and how encoders are judged."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    until: int = Field(6, ge=2)
    """The last round of judgement. After it groups choose, and all images are trained on."""
    rounds: int = Field(3, ge=1)
    """Number of rounds of judgement, one after the other; none is before round 2."""
    steps: int = Field(20, ge=1)
    """Steps of a client's decoders on each candidate, before its loss is taken."""

    def is_judged(self, round_number: int) -> bool:
        """Whether it is judged in this round."""
        return max(self.until - self.rounds, 1) < round_number <= self.until


MARGIN = 0.02
"""Of a logarithm: a fiftieth of the loss. Less is no difference."""

Evidence = Mapping[tuple[str, str], float]
"""r_t(s) by (s, t)."""

_ENCODER, _LOSS = "encoder/", "loss/"
_LEAST = 1e-12


def judged_losses(trainer: Trainer, instruction: Instruction, state: State, steps: int) -> dict[str, float]:
    """L_k(s) of each candidate, to be sent; none where one is no number, as where the client keeps no image back."""
    losses, own = {}, State({"model": encoder_of(state.params.get("model", {}))})
    for name, encoder in instruction.candidates.items():
        trainer.start(own, encoder)
        trainer.align(instruction.round, steps)
        losses[_LOSS + name] = trainer.judge()
    return {} if any(map(isnan, losses.values())) else losses


def after_round(
    state: State, groups: Mapping[str, Sequence[Update]], until: int
) -> tuple[dict[str, Any], dict[tuple[str, str], float]]:
    """The server's values after a round, in which after the last judgement everybody chooses; and the evidence."""
    judged = {(s, t): ratios for s, t, ratios in state.values.get("judged", [])}
    judged |= {pair: [*judged.get(pair, []), ratio] for pair, ratio in log_ratios(groups).items()}
    evidence = {pair: fmean(ratios) for pair, ratios in judged.items()}
    number = state.values.get("round", 0) + 1
    chosen = leaders(groups_of(state), evidence) if number == until else state.values.get("leaders", {})
    over = {*state.values.get("over", []), *(group for group in groups if number > until)}
    told = [(*pair, ratios) for pair, ratios in judged.items()]
    return {"round": number, "judged": told, "leaders": chosen, "over": sorted(over)}, evidence


def log_ratios(groups: Mapping[str, Sequence[Update]]) -> dict[tuple[str, str], float]:
    """The round's r_t(s), of whoever judged; a client that has lost its way on one encoder does not count."""
    found: dict[tuple[str, str], list[float]] = {}
    for group, updates in groups.items():
        for sender in (sender for update in updates for sender in update.senders):
            losses = {
                name.removeprefix(_LOSS): max(loss, _LEAST)
                for name, loss in sender.values.items()
                if name.startswith(_LOSS)
            }
            if all(map(isfinite, losses.values())):
                for other, loss in losses.items():
                    found.setdefault((other, group), []).append(log(loss / losses[group]))
    return {pair: fmean(values) for pair, values in found.items()}


def leaders(groups: Sequence[str], evidence: Evidence) -> dict[str, str]:
    """a(t) of each group: whom it follows, itself or another."""
    chosen = {group: group for group in groups}
    for (other, group), ratio in sorted(evidence.items(), key=lambda item: (item[1], item[0])):
        is_followed = group in (leader for t, leader in chosen.items() if t != group)
        if ratio < -MARGIN and chosen[group] == group and chosen[other] == other and not is_followed:
            chosen[group] = other
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


def goes_over(state: State, group: str) -> bool:
    """Whether the group has chosen another's encoder, and nobody of it has trained on that yet."""
    return leader_of(state, group) != group and group not in state.values.get("over", [])


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
    """By group: the encoders that have the structure of the group's own, and that.

    Empty where there is nothing to choose: no other encoder, or no image to judge by.
    """
    if not any(source.kept_back for source in client.sources):
        return {}
    own = _shapes(state.params[_ENCODER + client.group])
    trees = {group: state.params[_ENCODER + group] for group in groups_of(state)}
    found = {group: encoder for group, encoder in trees.items() if _shapes(encoder) == own}
    return found if len(found) > 1 else {}


def _shapes(encoder: Params) -> dict[str, tuple[int, ...]]:
    return {name: value.shape for name, value in encoder.items()}
