"""FedAMP's attention on numbers worked by hand; its pull through a real trainer."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import ValidationError

from mfed_ray.algorithms.fedamp import FedAMP
from mfed_ray.algorithms.local import Local
from mfed_ray.errors import ConfigError
from mfed_ray.experiment import Experiment
from mfed_ray.experiment.clients import make_clients
from mfed_ray.experiment.models import make_initial
from mfed_ray.experiment.trainers import TrainerFactory
from mfed_ray.messages import ClientSpec, Instruction, Params, State, Update
from mfed_ray.params import decoders_of, encoder_of, nbytes
from mfed_ray.training import Trainer

MakeExperiment = Callable[..., Experiment]
CLIENTS = [ClientSpec.of(name, (name,), "scenes", ("1",), ("2",)) for name in ("a", "b", "c")]
VARIANCE = "encoder.bn.running_var"


def no_probe(group: str, encoder: Params, images: int) -> NDArray[np.float32]:
    raise AssertionError(f"not asked for: {group} {len(encoder)} {images}")


def encoder(values: Sequence[float], variance: float = 1.0) -> Params:
    return {"encoder.w": np.array(values, np.float32), VARIANCE: np.array([variance], np.float32)}


def start(algorithm: FedAMP) -> State:
    initial = {name: {**encoder([0, 0]), f"decoders.{name}.w": np.zeros(1, np.float32)} for name in ("a", "b", "c")}
    return algorithm.init(CLIENTS, initial)


def clouds(algorithm: FedAMP, encoders: dict[str, Params]) -> dict[str, Params]:
    """u_k of every client after a round of the clients in ``encoders``."""
    updates = [Update(name, name, 1, params) for name, params in encoders.items()]
    state, diagnostics = algorithm.aggregate(start(algorithm), updates, no_probe)
    assert (diagnostics.correlations, diagnostics.fused) == ({}, frozenset())
    return dict(state.params)


def values(tree: Params) -> list[float]:
    """Rounded to what float32 is sure of."""
    return [round(float(value), 6) for value in tree["encoder.w"]]


DISTANCE = FedAMP(attention="distance", distance_scale=4 / math.log(2), step=1 / math.log(2))
# alpha / sigma = 1/4 and exp(-x / sigma) = 2^(-x/4), so xi_kj = 2^(-||E_k - E_j||^2 / 4) / 4


def test_distance_attention_by_hand() -> None:
    found = clouds(DISTANCE, {"a": encoder([0, 0]), "b": encoder([2, 0]), "c": encoder([0, 4])})
    # squared distances: ab 4, ac 16, bc 20: xi_ab = 1/8, xi_ac = 1/64, xi_bc = 1/128
    # u_a = 1/8 (2, 0) + 1/64 (0, 4); u_b = (1 - 1/8 - 1/128) (2, 0) + 1/128 (0, 4);
    # u_c = (1 - 1/64 - 1/128) (0, 4) + 1/128 (2, 0)
    assert values(found["a"]) == [1 / 4, 1 / 16]
    assert values(found["b"]) == [2 * 111 / 128, 1 / 32]
    assert values(found["c"]) == [1 / 64, 4 * 125 / 128]


COSINE = FedAMP(attention="cosine", sharpness=math.log(2), self_attention=0.25)


def test_cosine_attention_by_hand() -> None:
    found = clouds(COSINE, {"a": encoder([1, 0]), "b": encoder([2, 0]), "c": encoder([0, 1])})
    # cosines: ab 1, ac 0, bc 0; exp(sigma cos) = 2^cos: 2, 1, 1. The others of a and b have shares 2/3 and 1/3 of 3/4,
    # those of c 1/2 each: u_a = 1/4 (1, 0) + 1/2 (2, 0) + 1/4 (0, 1), u_b = 1/4 (2, 0) + 1/2 (1, 0) + 1/4 (0, 1),
    # u_c = 1/4 (0, 1) + 3/8 (1, 0) + 3/8 (2, 0)
    assert values(found["a"]) == [1.25, 0.25]
    assert values(found["b"]) == [1.0, 0.25]
    assert values(found["c"]) == [1.125, 0.25]


def test_update_cosine_is_the_cosine_seen_from_the_common_start() -> None:
    """Far from zero all encoders point the same way; what they learned since the start does not."""
    far, learned = [300, 400], {"a": [1, 0], "b": [2, 0], "c": [0, 1]}
    algorithm = FedAMP(sharpness=math.log(2), self_attention=0.25)
    initial = {name: {**encoder(far), f"decoders.{name}.w": np.zeros(1, np.float32)} for name in learned}
    updates = [Update(name, name, 1, encoder([300 + step[0], 400 + step[1]])) for name, step in learned.items()]
    state = algorithm.init(CLIENTS, initial)
    for _ in range(2):  # in later rounds too, the start is what all began with
        state, _diagnostics = algorithm.aggregate(state, updates, no_probe)
        found = {name: (state.params[name]["encoder.w"] - far).tolist() for name in learned}
        # as the cosine of the test above, around (300, 400)
        assert found == {"a": [1.25, 0.25], "b": [1.0, 0.25], "c": [1.125, 0.25]}
    plain, _diagnostics = COSINE.aggregate(COSINE.init(CLIENTS, initial), updates, no_probe)
    # all cosines are 1 to 5 digits: every other client has half of 3/4
    assert np.allclose(plain.params["a"]["encoder.w"] - far, [1 / 4 + 3 / 8 * 2, 3 / 8], atol=1e-3)
    assert "start/encoder" not in plain.params


def test_a_sharp_attention_goes_to_the_closest_and_does_not_overflow() -> None:
    sharp = FedAMP(sharpness=1e6, self_attention=0.5)
    found = clouds(sharp, {"a": encoder([1, 0]), "b": encoder([-1, 0.1]), "c": encoder([-1, -0.2])})
    # the cosines of a with b and c are near -1: c's is the higher; e^(-1e6) alone would be 0 for both
    assert values(found["a"]) == [0.0, -0.1]


@pytest.mark.parametrize("algorithm", [DISTANCE, COSINE], ids=["distance", "cosine"])
def test_statistics_are_mixed_alike_but_do_not_count(algorithm: FedAMP) -> None:
    def encoders(*variances: float) -> dict[str, Params]:
        both = zip((("a", [1, 0]), ("b", [0, 2])), variances, strict=True)
        return {name: encoder(values, variance) for (name, values), variance in both}

    plain, wild = clouds(algorithm, encoders(1, 1)), clouds(algorithm, encoders(1000, 3000))
    for name in ("a", "b"):
        assert np.array_equal(plain[name]["encoder.w"], wild[name]["encoder.w"])
    # E_a = (1, 0), E_b = (0, 2): the second entry of u_a is 2 xi_ab
    xi = float(plain["a"]["encoder.w"][1]) / 2
    assert xi > 0.05
    assert wild["a"][VARIANCE].tolist() == pytest.approx([1000 * (1 - xi) + 3000 * xi])


@pytest.mark.parametrize("algorithm", [DISTANCE, COSINE], ids=["distance", "cosine"])
def test_a_cohort_attends_to_itself(algorithm: FedAMP) -> None:
    encoders = {"a": encoder([1, 0]), "c": encoder([0, 1])}
    initial = start(algorithm)
    found = clouds(algorithm, encoders)
    assert found["b"]["encoder.w"].tolist() == initial.params["b"]["encoder.w"].tolist() == [0, 0]
    # between a and c alone: sigma's 2^(-2/4)/4, or the 3/4 that a client does not keep for itself
    xi = 2**-0.5 / 4 if algorithm is DISTANCE else 0.75
    assert values(found["a"]) == pytest.approx([1 - xi, xi], abs=1e-6)
    alone = {"b": encoder([3, 0.1])}
    assert np.array_equal(clouds(algorithm, alone)["b"]["encoder.w"], alone["b"]["encoder.w"])


def test_a_client_out_of_the_cohort_keeps_its_tree() -> None:
    state = start(COSINE)
    after, _ = COSINE.aggregate(state, [Update("a", "a", 1, encoder([1, 0]))], no_probe)
    assert after.params["b"] is state.params["b"] is state.params["c"]


def test_own_weight_cannot_be_negative() -> None:
    """alpha / sigma (clients - 1) <= 1, at the edge with equal encoders: a third of three others each, 0 of its own."""
    four = [*CLIENTS, ClientSpec.of("d", ("d",), "scenes", ("1",), ("2",))]
    initial = {"a": encoder([0, 0])}
    edge = FedAMP(attention="distance", step=10.0, distance_scale=30.0)
    updates = [Update(client.name, client.name, 1, encoder([1, 7])) for client in four]
    state, _ = edge.aggregate(edge.init(four, initial), updates, no_probe)
    assert values(state.params["d"]) == [1.0, 7.0]
    message = (
        r"algorithm\.step: 10 can make a client's own attention negative, with 3 others and "
        r"algorithm\.distance_scale 29; allowed: at most distance_scale / others, 9\.66667"
    )
    beyond = {"step": 10.0, "distance_scale": 29.0}
    with pytest.raises(ConfigError, match=message):
        FedAMP(attention="distance", **beyond).init(four, initial)
    assert set(FedAMP(attention="cosine", **beyond).init(four, initial).params) == {"a", "b", "c", "d"}


def test_different_encoders_are_refused() -> None:
    initial = {"a": encoder([0, 0]), "b": encoder([0, 0, 0])}
    with pytest.raises(ConfigError, match="fedamp shares one encoder among all clients"):
        FedAMP().init(CLIENTS[:2], initial)


@pytest.mark.parametrize(
    "fields", [{"step": 0}, {"proximal_weight": -1}, {"distance_scale": 0}, {"self_attention": 0}, {"sharpness": -1}]
)
def test_wrong_fields(fields: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match="greater than"):
        FedAMP.model_validate(fields)


def first_trainer(experiment: Experiment) -> tuple[Trainer, ClientSpec, State]:
    """A trainer, its client, and FedAMP's server state."""
    torch.set_num_threads(1)
    clients = make_clients(experiment)
    state = FedAMP().init(clients, make_initial(experiment, clients))
    return TrainerFactory(experiment)(clients[0]), clients[0], state


def test_first_instruction_pulls_to_the_start(tiny: MakeExperiment) -> None:
    trainer, client, state = first_trainer(tiny(model={"normalisation": "average"}))
    told = FedAMP().instruct(state, client, 1)
    assert (told.load, len(told.anchor)) == ((), 1)
    trainer.start(State())
    own = encoder_of(trainer.shared())
    assert list(told.anchor[0]) == list(own)
    assert all(np.array_equal(told.anchor[0][name], value) for name, value in own.items())
    # one tree, not equal ones, for all clients
    assert len({id(tree) for tree in state.params.values()}) == 1


def test_one_sgd_step_moves_by_the_proximal_gradient(tiny: MakeExperiment) -> None:
    """E1 = E0 - lr (g + lambda / alpha (E0 - u)): it differs from local training by exactly the term's gradient."""
    local = {"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0, "learning_rate": 0.5, "max_steps": 1}
    trainer, client, _ = first_trainer(tiny(local=local))
    trainer.start(State())
    start = trainer.shared()
    u = {name: value + np.float32(1.0) for name, value in encoder_of(start).items()}
    algorithm = FedAMP(proximal_weight=2.0, step=8.0)
    pulled = algorithm.fit(trainer, algorithm.instruct(State({client.name: u}), client, 1), State())
    plain = Local().fit(trainer, Instruction(client.name, 1), State())
    here, there = pulled.state.params["model"], plain.state.params["model"]
    for name in encoder_of(start):
        # lr * lambda / alpha * (u - E0) = 0.5 * 2 / 8 * 1
        np.testing.assert_allclose(here[name] - there[name], 0.125, atol=1e-5)
    assert all(np.array_equal(here[name], there[name]) for name in decoders_of(start))
    # 2 / 8 / 2 per encoder parameter
    count = sum(value.size for value in encoder_of(start).values())
    assert pulled.metrics[client.group]["proximal_penalty"] == pytest.approx(count / 8, rel=1e-3)


def test_bytes_and_what_is_kept(tiny: MakeExperiment) -> None:
    """|E| up, |E| down, and the whole model stays at the client."""
    trainer, client, state = first_trainer(tiny(local={"max_steps": 1}))
    told = FedAMP().instruct(state, client, 1)
    fit = FedAMP().fit(trainer, told, State())
    size = nbytes([encoder_of(trainer.shared())])
    assert nbytes([fit.params]) == nbytes([*told.load, *told.anchor]) == size > 0
    assert list(fit.state.params["model"]) == list(trainer.shared())


def test_without_a_pull_it_is_local_training(tiny: MakeExperiment) -> None:
    """fedamp(lambda=0) = local, bit for bit, over two rounds with a kept optimizer; nothing is sent to the client."""
    trainer, client, server = first_trainer(tiny(local={"optimizer_state": "keep", "max_steps": 1}))
    free = FedAMP(proximal_weight=0)
    states = {}
    for algorithm in (free, Local()):
        state = State()
        for number in (1, 2):
            told = algorithm.instruct(server, client, number)
            assert (told.load, told.anchor) == ((), ())
            state = algorithm.fit(trainer, told, state).state
        states[type(algorithm)] = state
    ours, local = states[FedAMP].params, states[Local].params
    assert set(ours) == set(local) == {"model", "optimizer"}
    for tree in ours:
        assert list(ours[tree]) == list(local[tree])
        assert all(np.array_equal(value, local[tree][name]) for name, value in ours[tree].items())
