"""M-Fed's server half on numbers that can be checked by hand; its client half on a real model."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from mfed_ray.algorithms.contract import BlockSteps
from mfed_ray.algorithms.mfed import MFed
from mfed_ray.algorithms.server_optimizer import ServerOptimizer
from mfed_ray.errors import ConfigError
from mfed_ray.experiment.clients import make_clients
from mfed_ray.experiment.models import make_initial
from mfed_ray.experiment.trainers import TrainerFactory
from mfed_ray.messages import ClientSpec, Instruction, Params, State, Update
from mfed_ray.params import decoders_of, encoder_of
from tests.conftest import MakeExperiment

SEG, PARTS = "semantic_segmentation", "human_parts"


def no_probe(group: str, encoder: Params, images: int) -> NDArray[np.float32]:
    raise AssertionError(f"not asked for: {group} {len(encoder)} {images}")


def client(name: str, task: str, examples: int = 1) -> ClientSpec:
    return ClientSpec.of(name, (task,), "scenes", tuple(str(i) for i in range(examples)), ("v",))


CLIENTS = [client("s0", SEG, 1), client("s1", SEG, 3), client("p0", PARTS, 2)]
INITIAL: dict[str, Params] = {
    task: {"encoder.w": np.array([1, 1], np.float32), f"decoders.{task}.w": np.array([0], np.float32)}
    for task in (SEG, PARTS)
}


def update(spec: ClientSpec, encoder: Sequence[float], decoder: float) -> Update:
    params = {
        "encoder.w": np.array(encoder, np.float32),
        f"decoders.{spec.tasks[0]}.w": np.array([decoder], np.float32),
    }
    return Update(spec.name, spec.group, spec.examples, params)


UPDATES = [update(CLIENTS[0], [2, 1], 4), update(CLIENTS[1], [6, 1], 8), update(CLIENTS[2], [1, 3], 5)]
# Within the groups, weighted by examples: Ebar_seg = (1 * (2,1) + 3 * (6,1)) / 4 = (5, 1), D_seg = (4 + 24) / 4 = 7;
# Ebar_parts = (1, 3), D_parts = 5. Updates from (1, 1): seg (4, 0), parts (0, 2): their cosine is 0.


def encoders(algorithm: MFed) -> dict[str, list[float]]:
    state, _ = algorithm.aggregate(algorithm.init(CLIENTS, INITIAL), UPDATES, no_probe)
    return {group: state.params[f"encoder/{group}"]["encoder.w"].tolist() for group in (SEG, PARTS)}


def test_round_by_hand() -> None:
    algorithm = MFed(correlation_threshold=0.0)
    state, diagnostics = algorithm.aggregate(algorithm.init(CLIENTS, INITIAL), UPDATES, no_probe)
    assert diagnostics.correlations[SEG, PARTS] == pytest.approx(0.0)
    assert diagnostics.fused == {(a, b) for a in (SEG, PARTS) for b in (SEG, PARTS)}  # 0 >= tau = 0
    # fused uniformly: ((5, 1) + (1, 3)) / 2 = (3, 2) for both groups, one tree; decoders stay within their groups
    assert state.params[f"encoder/{SEG}"]["encoder.w"].tolist() == [3.0, 2.0]
    assert state.params[f"encoder/{SEG}"] is state.params[f"encoder/{PARTS}"]
    assert state.params[f"decoder/{SEG}"] == {f"decoders.{SEG}.w": np.array([7], np.float32)}
    assert state.params[f"decoder/{PARTS}"] == {f"decoders.{PARTS}.w": np.array([5], np.float32)}


def test_steps_by_hand() -> None:
    """seg's clients go (1, 0) and (5, 0), together (4, 0); parts (0, 2). Both go on with (3, 2): (2, 1) away."""
    algorithm, lengths = MFed(), {"s0": 1.0, "s1": 25.0, "p0": 4.0}
    updates = [replace(one, values={"length/encoder": lengths[one.client]}) for one in UPDATES]
    _, diagnostics = algorithm.aggregate(algorithm.init(CLIENTS, INITIAL), updates, no_probe)
    fused = math.sqrt(5)
    assert diagnostics.blocks == (
        BlockSteps(SEG, SEG, "encoder", 1.0, 4.0, fused),
        BlockSteps(PARTS, PARTS, "encoder", None, 2.0, fused),
        BlockSteps(SEG, PARTS, "encoder", 0.0),
        BlockSteps(PARTS, SEG, "encoder", 0.0),
    )


def test_threshold_above_the_correlation_keeps_groups_apart() -> None:
    assert encoders(MFed(correlation_threshold=0.1)) == {SEG: [5.0, 1.0], PARTS: [1.0, 3.0]}


def test_fusion_by_examples() -> None:
    # N_seg = 4, N_parts = 2: (4 * (5, 1) + 2 * (1, 3)) / 6 = (22/6, 10/6)
    fused = encoders(MFed(fusion_weights="examples"))
    assert fused[SEG] == fused[PARTS] == pytest.approx([22 / 6, 10 / 6])


def test_fusion_by_sum() -> None:
    # both start from (1, 1) and come to (5, 1) and (1, 3)
    assert encoders(MFed(fusion="sum")) == {SEG: [5.0, 3.0], PARTS: [5.0, 3.0]}


def test_given_matrix_decides() -> None:
    matrix = {SEG: {PARTS: 0.4}}
    together = MFed(correlation="matrix", correlation_matrix=matrix, correlation_threshold=0.4)
    apart = MFed(correlation="matrix", correlation_matrix=matrix, correlation_threshold=0.5)
    assert encoders(together)[SEG] == [3.0, 2.0]
    assert encoders(apart)[SEG] == [5.0, 1.0]


def test_cka_compares_the_mean_encoders_features() -> None:
    asked = []

    def probe(group: str, encoder: Params, images: int) -> NDArray[np.float32]:
        asked.append((group, encoder["encoder.w"].tolist(), images))
        return np.array([[0], [1], [2]], np.float32) if len(asked) == 1 else np.array([[1], [4], [1]], np.float32)

    algorithm = MFed(correlation="cka", probe_images=5, correlation_threshold=0.5)
    _, diagnostics = algorithm.aggregate(algorithm.init(CLIENTS, INITIAL), UPDATES, probe)
    assert asked == [(SEG, [5.0, 1.0], 5), (PARTS, [1.0, 3.0], 5)]
    assert diagnostics.correlations[SEG, PARTS] == 0.0  # (-1, 0, 1) and (-1, 2, -1) are orthogonal
    assert diagnostics.fused == {(SEG, SEG), (PARTS, PARTS)}


def test_correlation_momentum_averages_over_rounds() -> None:
    algorithm = MFed(correlation_momentum=0.75, correlation_threshold=2)
    state = algorithm.init(CLIENTS, INITIAL)
    state = State(state.params, {"correlations": [[SEG, PARTS, 0.8], [PARTS, SEG, 0.8]]})
    _, diagnostics = algorithm.aggregate(state, UPDATES, no_probe)
    assert diagnostics.correlations[SEG, PARTS] == pytest.approx(0.75 * 0.8 + 0.25 * 0.0)


def test_update_cosine_starts_from_what_the_group_was_sent() -> None:
    algorithm = MFed(correlation_threshold=2)
    state, _ = algorithm.aggregate(algorithm.init(CLIENTS, INITIAL), UPDATES, no_probe)
    # groups now start from (5, 1) and (1, 3); both move by (1, 0): cosine 1, though their positions differ
    moved = [update(CLIENTS[0], [6, 1], 0), update(CLIENTS[1], [6, 1], 0), update(CLIENTS[2], [2, 3], 0)]
    _, diagnostics = algorithm.aggregate(state, moved, no_probe)
    assert diagnostics.correlations[SEG, PARTS] == pytest.approx(1.0)


def test_a_server_step_is_along_what_was_learned_and_not_along_how_far_apart_groups_are() -> None:
    """Encoders at (5, 1) and (1, 3) both move by (1, 0). Fused they start from (3, 2), and a step of 2 makes (5, 2)."""
    apart, _ = MFed(correlation_threshold=2).aggregate(MFed().init(CLIENTS, INITIAL), UPDATES, no_probe)
    moved = [update(CLIENTS[0], [6, 1], 0), update(CLIENTS[1], [6, 1], 0), update(CLIENTS[2], [2, 3], 0)]
    server = ServerOptimizer(name="momentum", learning_rate=2.0, beta1=0.0)
    state, diagnostics = MFed(server=server).aggregate(apart, moved, no_probe)
    assert [state.params[f"encoder/{group}"]["encoder.w"].tolist() for group in (SEG, PARTS)] == [[5, 2], [5, 2]]
    # the fused step is from where the group was: (0, 1) and (4, -1)
    lengths = [(one.own_length, one.fused_length) for one in diagnostics.blocks if one.group == one.other]
    assert lengths == [(1.0, 1.0), (1.0, pytest.approx(17**0.5))]


def test_instruction_carries_what_is_used_and_nothing_else() -> None:
    state = MFed().init(CLIENTS, INITIAL)
    plain = MFed(decoder_proximal_weight=0).instruct(state, CLIENTS[0], 1)
    assert ([list(tree) for tree in plain.load], plain.anchor) == ([["encoder.w"]], ())
    full = MFed(encoder_proximal_weight=0.1, decoder_init="global").instruct(state, CLIENTS[2], 1)
    assert [list(tree) for tree in full.load] == [["encoder.w"], [f"decoders.{PARTS}.w"]]
    assert [list(tree) for tree in full.anchor] == [[f"decoders.{PARTS}.w"], ["encoder.w"]]
    # clients of a group get the same trees, so that a backend can store them once
    assert MFed().instruct(state, CLIENTS[0], 1).load[0] is MFed().instruct(state, CLIENTS[1], 1).load[0]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"correlation": "matrix"}, "correlation_matrix goes with correlation: matrix"),
        ({"correlation_matrix": {SEG: {PARTS: 0.1}}}, "correlation_matrix goes with correlation: matrix"),
        (
            {"correlation": "matrix", "correlation_matrix": {SEG: {PARTS: 1.5}}},
            r"correlation_matrix.semantic_segmentation.human_parts: 1.5 is outside \[-1, 1\]",
        ),
        (
            {"correlation": "matrix", "correlation_matrix": {SEG: {PARTS: 0.1}, PARTS: {SEG: 0.2}}},
            "not symmetric: semantic_segmentation.human_parts is 0.1, human_parts.semantic_segmentation is 0.2",
        ),
        ({"decoder_proximal_weight": -1}, "greater than or equal to 0"),
        (
            {"fusion": "sum", "fusion_weights": "examples"},
            "examples found, but fusion: sum has no weights; leave it out",
        ),
    ],
)
def test_wrong_fields(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        MFed.model_validate(fields)


def test_matrix_without_a_pair() -> None:
    algorithm = MFed(correlation="matrix", correlation_matrix={SEG: {SEG: 1.0}})
    with pytest.raises(ConfigError, match="no value for semantic_segmentation and human_parts; every pair needs one"):
        algorithm.init(CLIENTS, INITIAL)


def test_matrix_with_an_unknown_group() -> None:
    algorithm = MFed(correlation="matrix", correlation_matrix={SEG: {PARTS: 0.1}, "saliensy": {SEG: 0.1}})
    with pytest.raises(ConfigError, match="saliensy is no task group here; groups: semantic_segmentation, human_parts"):
        algorithm.init(CLIENTS, INITIAL)


def test_soft_fusion_weighs_by_correlation() -> None:
    # seg (5, 1), parts (1, 3), C = 0.5: ((5, 1) + 0.5 (1, 3)) / 1.5 and ((1, 3) + 0.5 (5, 1)) / 1.5
    soft = MFed(correlation="matrix", correlation_matrix={SEG: {PARTS: 0.5}}, fusion="soft")
    assert encoders(soft) == {SEG: pytest.approx([5.5 / 1.5, 2.5 / 1.5]), PARTS: pytest.approx([3.5 / 1.5, 3.5 / 1.5])}


def test_soft_fusion_leaves_out_what_disagrees() -> None:
    soft = MFed(correlation="matrix", correlation_matrix={SEG: {PARTS: -0.5}}, fusion="soft")
    state, diagnostics = soft.aggregate(soft.init(CLIENTS, INITIAL), UPDATES, no_probe)
    assert state.params[f"encoder/{SEG}"]["encoder.w"].tolist() == [5.0, 1.0]
    assert diagnostics.fused == {(SEG, SEG), (PARTS, PARTS)}


def test_a_round_without_some_groups_leaves_them_as_they_were() -> None:
    algorithm = MFed(correlation="matrix", correlation_matrix={SEG: {PARTS: 0.5}})
    start = algorithm.init(CLIENTS, INITIAL)
    state, diagnostics = algorithm.aggregate(start, UPDATES[2:], no_probe)
    assert state.params[f"encoder/{SEG}"] is start.params[f"encoder/{SEG}"]
    assert state.params[f"encoder/{PARTS}"]["encoder.w"].tolist() == [1.0, 3.0]
    assert set(diagnostics.correlations) == {(PARTS, PARTS)}


def test_encoders_without_a_common_block_are_refused_unless_none_are_fused() -> None:
    initial = {**INITIAL, PARTS: {**INITIAL[PARTS], "encoder.w": np.zeros(3, np.float32)}}
    with pytest.raises(ConfigError, match=r"no block of any two groups' encoders is alike: encoder.w is \(2,\)"):
        MFed().init(CLIENTS, initial)
    MFed(correlation_threshold=1.1).init(CLIENTS, initial)


def test_both_pulls_move_a_step_by_exactly_their_gradients(tiny: MakeExperiment) -> None:
    """One off the anchors, a step of SGD goes -lr mu (E - E_t) and -lr lambda (D - D_t) further than a free one."""
    sgd = {"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0, "learning_rate": 0.5, "max_steps": 1}
    experiment = tiny(local=sgd)
    first = make_clients(experiment)[0]
    trainer = TrainerFactory(experiment)(first)
    start = make_initial(experiment, [first])[first.group]
    anchor = {name: value + np.float32(1.0) for name, value in start.items()}
    anchors = (decoders_of(anchor), encoder_of(anchor))

    def step(mu: float, weight: float) -> Params:
        algorithm = MFed(encoder_proximal_weight=mu, decoder_proximal_weight=weight)
        return algorithm.fit(trainer, Instruction(first.name, 1, (start,), anchors), State()).params

    free, pulled = step(0.0, 0.0), step(0.25, 0.125)
    for name, value in free.items():
        # lr * weight * (anchor - w) = 0.5 * 0.25 * 1 for the encoder, 0.5 * 0.125 * 1 for the decoder
        moved = 0.125 if name.startswith("encoder.") else 0.0625
        np.testing.assert_allclose(pulled[name] - value, moved, atol=1e-5)
