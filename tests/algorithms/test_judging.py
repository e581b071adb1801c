"""Who takes whose encoder: the evidence and the rule by hand, and a judgement of toy clients."""

import math
from math import log

import numpy as np
import pytest

from mfed_ray.algorithms.judging import averaged, candidates, judged_losses, leaders, log_ratios, saved
from mfed_ray.algorithms.mfed import MFed
from mfed_ray.errors import ConfigError
from mfed_ray.messages import ClientSpec, Instruction, State, Update
from tests.algorithms.toy import ToyTrainer

ONE = np.ones(1, np.float32)


def judged(client: str, group: str, **losses: float) -> Update:
    return Update(client, group, 1, {}, {f"loss/{name}": loss for name, loss in losses.items()})


def client(group: str) -> ClientSpec:
    return ClientSpec.of(f"{group}-0", (group,), "toy", ("1",), kept_back=("2",))


def numbers(*values: float) -> dict[str, np.ndarray]:
    return {"encoder.w": np.array(values, np.float32)}


def test_ratios_by_hand() -> None:
    """Of a's clients the one loses half as much on b's encoder, the other as much; c's client judged nothing."""
    members = (judged("a-0", "a", a=2.0, b=1.0), judged("a-1", "a", a=3.0, b=3.0))
    groups = {
        "a": [Update("a", "a", 2, {}, members=members)],
        "b": [judged("b-0", "b", b=1.0, a=4.0)],
        "c": [judged("c-0", "c")],
    }
    assert log_ratios(groups) == {
        ("a", "a"): 0.0,
        ("b", "a"): pytest.approx(log(0.5) / 2),
        ("b", "b"): 0.0,
        ("a", "b"): pytest.approx(log(4)),
    }


def test_a_loss_of_zero_is_as_good_as_a_very_small_one() -> None:
    found = log_ratios({"a": [judged("a-0", "a", a=1.0, b=0.0)]})
    assert found["b", "a"] == pytest.approx(log(1e-12))


@pytest.mark.parametrize("loss", [math.inf, math.nan])
def test_a_client_that_has_lost_its_way_does_not_count(loss: float) -> None:
    assert log_ratios({"a": [judged("a-0", "a", a=1.0, b=loss)]}) == {}
    assert log_ratios({"a": [judged("a-0", "a", a=loss, b=1.0), judged("a-1", "a", a=1.0, b=1.0)]})["b", "a"] == 0.0


def test_judging_that_could_never_act_is_refused() -> None:
    algorithm = MFed(correlation_threshold="judged")
    zero = np.zeros(1, np.float32)
    models = {group: {**numbers(0), f"decoders.{group}.w": zero} for group in "ab"}
    algorithm.init([client("a"), client("b")], models)
    with pytest.raises(ConfigError, match="judged found, but of the task groups a no two have an encoder of one"):
        algorithm.init([client("a")], {"a": models["a"]})
    models["b"] = {**numbers(0, 0), "decoders.b.w": zero}
    with pytest.raises(ConfigError, match="task groups a, b no two"):
        algorithm.init([client("a"), client("b")], models)


def test_the_past_has_half_the_weight() -> None:
    last = {("b", "a"): -1.0, ("c", "a"): 2.0}
    assert averaged(last, {("b", "a"): 0.0, ("d", "a"): 4.0}) == {("b", "a"): -0.5, ("c", "a"): 2.0, ("d", "a"): 4.0}


def test_tables_say_what_share_of_the_loss_is_saved() -> None:
    assert saved({("b", "a"): log(0.25), ("a", "a"): 0.0, ("c", "a"): log(9)}) == {
        ("b", "a"): pytest.approx(0.75),
        ("a", "a"): 0.0,
        ("c", "a"): -1.0,
    }


ALONE = {"a": "a", "b": "b", "c": "c"}


def test_a_group_goes_over_to_the_best_beyond_the_margin() -> None:
    evidence = {("a", "a"): 0.0, ("b", "a"): -0.5, ("c", "a"): -0.6, ("c", "b"): -0.09}
    assert leaders(ALONE, evidence, ALONE) == {"a": "c", "b": "b", "c": "c"}
    assert leaders(ALONE, evidence, ["b", "c"]) == ALONE  # a has not judged in this round
    assert leaders(ALONE, {}, ALONE) == ALONE


def test_who_gains_most_goes_first_and_a_group_that_is_followed_stays() -> None:
    # b would take a's, but a, who gains more, has taken b's
    evidence = {("b", "a"): -0.5, ("a", "b"): -0.3}
    assert leaders(ALONE, evidence, ALONE) == {"a": "b", "b": "b", "c": "c"}
    # c has gone to b first, so a, whose best is c, waits
    assert leaders(ALONE, {("b", "c"): -0.7, ("c", "a"): -0.5}, ALONE) == {"a": "a", "b": "b", "c": "b"}


def test_a_follower_stays_until_another_is_better_by_the_margin() -> None:
    last = {"a": "b", "b": "b", "c": "c"}
    assert leaders(last, {("b", "a"): 0.05, ("c", "a"): 0.0}, last) == last
    assert leaders(last, {("b", "a"): 0.05, ("a", "a"): 0.0}, last) == last
    assert leaders(last, {("b", "a"): 0.2, ("a", "a"): 0.0}, last)["a"] == "a"
    assert leaders(last, {("b", "a"): -0.2, ("c", "a"): -0.4}, last)["a"] == "c"
    # evidence of one that has become a follower since counts for nothing
    assert leaders({"a": "a", "b": "c", "c": "c"}, {("b", "a"): -0.9}, ["a"])["a"] == "a"


def test_candidates_are_those_who_follow_themselves_and_the_own() -> None:
    trees = {"encoder/a": numbers(1), "encoder/b": numbers(2), "encoder/c": numbers(3), "encoder/d": numbers(4, 4)}
    assert list(candidates(State(trees), client("a"))) == ["a", "b", "c"]  # d has another structure
    assert candidates(State(trees), client("d")) == {}
    assert candidates(State(trees), ClientSpec.of("a-1", ("a",), "toy", ("1",))) == {}  # it keeps nothing back
    following = State(trees, {"leaders": {"a": "b"}})
    assert candidates(following, client("b")) == {}  # it is followed
    assert list(candidates(following, client("a"))) == ["a", "b", "c"]
    assert list(candidates(following, client("c"))) == ["b", "c"]


def test_a_client_judges_with_decoders_that_have_had_their_steps() -> None:
    """y = 8 in training and 6 on the image kept back; the decoder starts at 0 and takes a quarter of what is missing.

    On an encoder of 4 it comes to 1, which makes 5, and loses (5 - 6)^2 / 2; on one of 0 to 2, and loses (2 - 6)^2 / 2.
    """
    initial = {**numbers(0), "decoders.b.w": np.zeros(1, np.float32)}
    trainer = ToyTrainer(initial, [{"b": (ONE, 8.0)}], kept_back=[{"b": (ONE, 6.0)}])
    instruction = Instruction("b-0", 2, (numbers(0),), candidates={"a": numbers(4), "b": numbers(0)})
    assert judged_losses(trainer, instruction, State(), steps=1) == {"loss/a": 0.5, "loss/b": 8.0}
    none = ToyTrainer(initial, [{"b": (ONE, 8.0)}])
    assert judged_losses(none, instruction, State(), steps=1) == {}
    lost = Instruction("b-0", 2, (numbers(0),), candidates={"a": numbers(4), "b": numbers(math.nan)})
    assert judged_losses(trainer, lost, State(), steps=1) == {}


A, B = client("a"), client("b")


def test_a_follower_by_hand() -> None:
    """Round 2 is judged: b goes over to a. In round 3 it loads a's encoder, trains its decoder alone and sends that."""
    algorithm = MFed(correlation_threshold="judged", decoder_proximal_weight=0.0, judge_steps=1)
    assert algorithm.keeps_back
    zero = np.zeros(1, np.float32)
    initial = {"a": {**numbers(0), "decoders.a.w": zero}, "b": {**numbers(0), "decoders.b.w": zero}}
    server = algorithm.init([A, B], initial)
    server = State({**server.params, "encoder/a": numbers(4)})
    assert algorithm.instruct(server, B, 1).candidates == {}
    instruction = algorithm.instruct(server, B, 2)
    assert {name: tree["encoder.w"].tolist() for name, tree in instruction.candidates.items()} == {"a": [4], "b": [0]}
    trainer = ToyTrainer(initial["b"], [{"b": (ONE, 8.0)}], kept_back=[{"b": (ONE, 6.0)}])
    fit = algorithm.fit(trainer, instruction, State())
    # after the judgement it trains as ever, from its own encoder: (8 - 0) / 4 for each of the two
    assert {name: value.tolist() for name, value in fit.params.items()} == {"encoder.w": [2], "decoders.b.w": [2]}
    assert fit.values == {"loss/a": 0.5, "loss/b": 8.0}
    updates = [Update("a", "a", 1, {**numbers(5), "decoders.a.w": ONE}), Update("b", "b", 1, fit.params, fit.values)]
    server, diagnostics = algorithm.aggregate(server, updates, None)  # type: ignore[arg-type]
    assert server.values["leaders"] == {"a": "a", "b": "a"}
    assert diagnostics.fused == {("a", "a"), ("a", "b")}
    assert diagnostics.correlations["a", "b"] == pytest.approx(1 - 0.5 / 8)
    assert [server.params[f"encoder/{group}"]["encoder.w"].tolist() for group in "ab"] == [[5], [2]]

    instruction = algorithm.instruct(server, B, 3)
    assert (instruction.candidates, instruction.parts) == ({}, ("readout",))
    fit = algorithm.fit(trainer, instruction, fit.state)
    # a's 5 and its own decoder's 2 make 7: a quarter of 8 - 7 for the decoder
    assert {name: value.tolist() for name, value in fit.params.items()} == {"decoders.b.w": [2.25]}
    updates = [Update("a", "a", 1, {**numbers(6), "decoders.a.w": ONE}), Update("b", "b", 1, fit.params)]
    server, _ = algorithm.aggregate(server, updates, None)  # type: ignore[arg-type]
    assert [server.params[f"encoder/{group}"]["encoder.w"].tolist() for group in "ab"] == [[6], [2]]
    assert server.params["decoder/b"]["decoders.b.w"].tolist() == [2.25]
    assert algorithm.instruct(server, A, 5).candidates == {}
    assert list(algorithm.instruct(server, B, 5).candidates) == ["a", "b"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"correlation_threshold": "judged", "fusion": "soft"},
            "fusion: soft found, but correlation_threshold: judged",
        ),
        ({"correlation_threshold": "judged", "correlation": "cka"}, "judged decides without a correlation"),
        ({"judge_every": 2}, "judge_every: 2 found, but correlation_threshold: -1.0 judges nothing; leave it out"),
        ({"correlation_threshold": "best"}, "expected a finite number, auto or judged, found 'best'"),
    ],
)
def test_keys_that_would_mean_nothing_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MFed.model_validate(fields)
