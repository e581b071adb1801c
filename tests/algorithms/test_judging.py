"""Who takes whose encoder: the evidence and the rule by hand, and a judgement of toy clients."""

import math
from math import log

import numpy as np
import pytest

from mfed_ray.algorithms.contract import BlockSteps
from mfed_ray.algorithms.judging import Judging, candidates, judged_losses, leaders, log_ratios, saved
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
    first = Update("a-0", "a", 1, {}, {"loss/a": 2.0, "loss/b": 1.0, "length/encoder": 7.0})  # not a loss
    members = (first, judged("a-1", "a", a=3.0, b=3.0))
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


def test_tables_say_what_share_of_the_loss_is_saved() -> None:
    assert saved({("b", "a"): log(0.25), ("a", "a"): 0.0, ("c", "a"): log(9)}) == {
        ("b", "a"): pytest.approx(0.75),
        ("a", "a"): 0.0,
        ("c", "a"): -1.0,
    }


def test_a_group_takes_what_it_predicts_best_with() -> None:
    evidence = {("a", "a"): 0.0, ("b", "a"): -0.5, ("c", "a"): -0.6, ("c", "b"): -0.019, ("a", "c"): 0.3}
    assert leaders(["a", "b", "c"], evidence) == {"a": "c", "b": "b", "c": "c"}
    assert leaders(["a", "b"], {}) == {"a": "a", "b": "b"}


def test_who_gains_most_chooses_first_and_nobody_follows_a_follower() -> None:
    # b would take a's, but a, who gains more, has taken b's
    assert leaders("ab", {("b", "a"): -0.5, ("a", "b"): -0.3}) == {"a": "b", "b": "b"}
    # c has gone to b: a, whose best is c, takes its second best, which is b as well
    evidence = {("b", "c"): -0.7, ("c", "a"): -0.5, ("b", "a"): -0.2}
    assert leaders("abc", evidence) == {"a": "b", "b": "b", "c": "b"}
    # d has gone to a: so a stays
    assert leaders("abd", {("a", "d"): -0.7, ("b", "a"): -0.5}) == {"a": "a", "b": "b", "d": "a"}


def test_rounds_of_judgement() -> None:
    assert [number for number in range(10) if Judging().is_judged(number)] == [4, 5, 6]
    assert [number for number in range(10) if Judging(until=3, rounds=5).is_judged(number)] == [2, 3]


def test_candidates_are_the_encoders_of_one_structure() -> None:
    state = State({f"encoder/{group}": numbers(*values) for group, values in {"a": [1], "b": [2], "d": [4, 4]}.items()})
    assert list(candidates(state, client("a"))) == ["a", "b"]
    assert candidates(state, client("d")) == {}
    assert candidates(state, ClientSpec.of("a-1", ("a",), "toy", ("1",))) == {}, "it keeps nothing back"


def test_a_client_judges_with_decoders_that_have_had_their_steps() -> None:
    """y = 8 in training and 6 on the image kept back; a decoder starts at 0 and takes a quarter of what is missing.

    On an encoder of 4 it comes to 1, which makes 5, and loses (5 - 6)^2 / 2; on one of 0 to 2, and loses (2 - 6)^2 / 2.
    The decoder of 7 that the client has kept, or loads, has no part in it.
    """
    initial = {**numbers(0), "decoders.b.w": np.zeros(1, np.float32)}
    trainer = ToyTrainer(initial, [{"b": (ONE, 8.0)}], kept_back=[{"b": (ONE, 6.0)}])
    seven = {"decoders.b.w": 7 * ONE}
    instruction = Instruction("b-0", 2, (numbers(0), seven), candidates={"a": numbers(4), "b": numbers(0)})
    assert judged_losses(trainer, instruction, State({"model": seven}), steps=1) == {"loss/a": 0.5, "loss/b": 8.0}
    none = ToyTrainer(initial, [{"b": (ONE, 8.0)}])
    assert judged_losses(none, instruction, State(), steps=1) == {}
    lost = Instruction("b-0", 2, (numbers(0),), candidates={"a": numbers(4), "b": numbers(math.nan)})
    assert judged_losses(trainer, lost, State(), steps=1) == {}


A, B = client("a"), client("b")


def test_a_follower_by_hand() -> None:
    """Round 2 is judged, and b chooses a. In round 3 it trains its decoder on a's encoder, also on the image that it
    kept back; from then on a's encoder is what it is evaluated with."""
    algorithm = MFed(
        correlation_threshold="judged", decoder_proximal_weight=0.0, judging={"until": 2, "rounds": 1, "steps": 1}
    )
    assert algorithm.keeps_back
    zero = np.zeros(1, np.float32)
    initial = {"a": {**numbers(0), "decoders.a.w": zero}, "b": {**numbers(0), "decoders.b.w": zero}}
    server = algorithm.init([A, B], initial)
    server = State({**server.params, "encoder/a": numbers(4)}, {"round": 1})
    instruction = algorithm.instruct(server, B, 1)
    assert (instruction.candidates, instruction.withhold) == ({}, True)
    instruction = algorithm.instruct(server, B, 2)
    assert {name: tree["encoder.w"].tolist() for name, tree in instruction.candidates.items()} == {"a": [4], "b": [0]}
    assert instruction.withhold
    trainer = ToyTrainer(initial["b"], [{"b": (ONE, 8.0)}], kept_back=[{"b": (ONE, 6.0)}])
    fit = algorithm.fit(trainer, instruction, State())
    # after the judgement it trains as ever, from its own encoder: (8 - 0) / 4 for each of the two
    assert {name: value.tolist() for name, value in fit.params.items()} == {"encoder.w": [2], "decoders.b.w": [2]}
    assert fit.values == {"loss/a": 0.5, "loss/b": 8.0, "length/encoder": 4.0}
    updates = [Update("a", "a", 1, {**numbers(5), "decoders.a.w": ONE}), Update("b", "b", 1, fit.params, fit.values)]
    server, diagnostics = algorithm.aggregate(server, updates, None)  # type: ignore[arg-type]
    assert server.values["leaders"] == {"a": "a", "b": "a"}
    assert diagnostics.fused == {("a", "a"), ("a", "b")}
    assert diagnostics.correlations["a", "b"] == pytest.approx(1 - 0.5 / 8)
    assert [server.params[f"encoder/{group}"]["encoder.w"].tolist() for group in "ab"] == [[5], [2]]
    # a went from 4 to 5, b from 0 to 2, and nothing was fused
    a, b = (BlockSteps(group, group, "encoder", None, length, length) for group, length in (("a", 1.0), ("b", 2.0)))
    assert diagnostics.blocks == (a, b, BlockSteps("a", "b", "encoder", 1.0), BlockSteps("b", "a", "encoder", 1.0))

    instruction = algorithm.instruct(server, B, 3)
    assert [tree["encoder.w"].tolist() for tree in (instruction.load[0], *instruction.over)] == [[2], [5]]
    assert (instruction.candidates, instruction.parts, instruction.withhold) == ({}, ("readout",), False)
    fit = algorithm.fit(trainer, instruction, fit.state)
    # a's 5 and its own decoder's 2 make 7: a quarter of 8 - 7 for the decoder, then one of 6 - 7.25
    assert {name: value.tolist() for name, value in fit.params.items()} == {"decoders.b.w": [1.9375]}
    assert fit.values == {}
    updates = [Update("a", "a", 1, {**numbers(6), "decoders.a.w": ONE}), Update("b", "b", 1, fit.params)]
    server, diagnostics = algorithm.aggregate(server, updates, None)  # type: ignore[arg-type]
    assert [server.params[f"encoder/{group}"]["encoder.w"].tolist() for group in "ab"] == [[6], [2]]
    assert server.params["decoder/b"]["decoders.b.w"].tolist() == [1.9375]
    assert diagnostics.blocks == (a,)  # who follows sends no encoder
    late, _ = algorithm.aggregate(State(server.params, {**server.values, "over": []}), updates[:1], None)  # type: ignore[arg-type]
    instruction = algorithm.instruct(late, B, 4)  # none of its clients was drawn in round 3: it still has to go over
    assert [tree["encoder.w"].tolist() for tree in (instruction.load[0], *instruction.over)] == [[2], [6]]
    instruction = algorithm.instruct(server, B, 4)
    assert ([tree["encoder.w"].tolist() for tree in instruction.load[:1]], instruction.over) == ([[6]], ())
    instruction = algorithm.instruct(server, A, 3)
    assert (instruction.parts, instruction.over, instruction.candidates) == (("model",), (), {})


def test_two_judgements_are_averaged() -> None:
    """log 2 against it, then log 4 for it: half of that, log 2, for it. Without an update nothing is judged."""
    algorithm = MFed(correlation_threshold="judged", judging={"until": 3, "rounds": 2})
    model = {**numbers(0), "decoders.a.w": ONE}
    server = State({"encoder/a": numbers(0), "encoder/b": numbers(0), "decoder/a": {}, "decoder/b": {}}, {"round": 1})
    for loss, followed in ((2.0, "a"), (0.25, "b")):
        update = Update("a-0", "a", 1, model, {"loss/a": 1.0, "loss/b": loss})
        server, diagnostics = algorithm.aggregate(server, [update], None)  # type: ignore[arg-type]
        assert (followed, "a") in diagnostics.fused
    assert diagnostics.correlations["b", "a"] == pytest.approx(1 - 0.5**0.5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"correlation_threshold": "judged", "fusion": "soft"},
            "fusion: soft found, but correlation_threshold: judged",
        ),
        ({"correlation_threshold": "judged", "correlation": "cka"}, "judged decides without a correlation"),
        ({"judging": {"until": 9}}, "but correlation_threshold: -1.0 judges nothing; leave it out"),
        ({"correlation_threshold": "best"}, "expected a finite number or judged, found 'best'"),
    ],
)
def test_keys_that_would_mean_nothing_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MFed.model_validate(fields)
