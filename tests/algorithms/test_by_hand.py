"""Every algorithm's client half and server half on a toy trainer, against numbers worked by hand.

What the toy does, with w = encoder + decoder from 0 and x = 1: a step adds (y - w)/4 to each part, so the gap y - w is
halved. After the two steps of a round each part has 3/8 of the gap that the round began with. The clients that most
tests share come to

    a0  y = 16   n = 1     6, 6     encoder, decoder after a round
    a1  y = 32   n = 3    12, 12
    b0  y = -16  n = 4    -6, -6

A mean by examples over a0 and a1 is (6 + 3 * 12)/4 = 10.5, over all three (6 + 3 * 12 - 4 * 6)/8 = 2.25.
"""

import math
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from mfed_ray.algorithms import ALGORITHMS
from mfed_ray.algorithms.centralised import Centralised
from mfed_ray.algorithms.contract import BlockSteps
from mfed_ray.algorithms.ditto import Ditto
from mfed_ray.algorithms.fedamp import FedAMP
from mfed_ray.algorithms.fedavg import FedAvg
from mfed_ray.algorithms.fedhca2 import FedHCA2
from mfed_ray.algorithms.fedper import FedPer
from mfed_ray.algorithms.fedprox import FedProx
from mfed_ray.algorithms.fedrep import FedRep
from mfed_ray.algorithms.local import Local
from mfed_ray.algorithms.matfl import MaTFL
from mfed_ray.algorithms.mfed import MFed
from mfed_ray.messages import Proximal, State
from tests.algorithms.toy import ToyTrainer
from tests.algorithms.toy_federation import Federation, client, numbers

A0, A1, B0 = client("a0", 1, a=16), client("a1", 3, a=32), client("b0", 4, b=-16)


def test_the_toy() -> None:
    """x = (1, 2), y = 5: the decoder's turn adds 5/4 x to it, so w.x = 25/4; then the encoder's adds -5/16 x."""
    toy = ToyTrainer({"encoder.w": np.zeros(2, np.float32), "decoders.a.w": np.ones(2, np.float32)}, [])
    toy.batches = [client("a0", 1, x=(1, 2), a=5).batch] * 2
    own = {"encoder.w": np.ones(2, np.float32), "decoders.a.w": np.zeros(2, np.float32)}
    toy.start(State({"model": own}), {"encoder.w": np.zeros(2, np.float32)})
    assert numbers(toy.shared()) == {"encoder": [0, 0], "a": [0, 0]}
    metrics = toy.train(1, parts=("decoders", "encoder"))
    shared = toy.shared()
    assert numbers(shared) == {"encoder": [-0.3125, -0.625], "a": [1.25, 2.5]}
    assert metrics == {"a": {"loss": (25 / 2 + (5 / 4) ** 2 / 2) / 2}}
    shared["encoder.w"][:] = 7  # a copy
    assert numbers(toy.shared())["encoder"] == [-0.3125, -0.625]
    # w.x = 5 (1 - 1/16), so y - w.x = 5/16: + (5/16 x + 2 (1 - w)) / 4 for the encoder alone, which has an anchor
    toy.batches = toy.batches[:1]
    toy.train(2, [Proximal({"encoder.w": np.ones(2, np.float32)}, 2.0)])
    encoder = [-0.3125 + 0.078125 + 0.65625, -0.625 + 0.15625 + 0.8125]
    assert numbers(toy.shared()) == {"encoder": encoder, "a": [1.328125, 2.65625]}
    assert toy.state() == State()


def test_local() -> None:
    # c0, of two tasks: step 1 adds 2 * 16/4 = 8 to the encoder, 4 to each decoder: w = 12; step 2: 2 and 1
    # losses of a0: 16^2/2 and 8^2/2, mean 80
    federation = Federation(Local(), [A0, client("c0", 4, a=16, b=16)])
    fits = federation.play()
    assert federation.kept("a0") == {"encoder": 6, "a": 6}
    assert federation.kept("c0") == {"encoder": 10, "a": 5, "b": 5}
    assert fits["a0"].metrics == {"a": {"loss": 80}}
    # a0 has a gap of 4: + 1.5.  c0 of 1: the encoder + 1/2 + 1/8, each decoder + 1/4 + 1/16
    fits = federation.play()
    assert federation.kept("a0") == {"encoder": 7.5, "a": 7.5}
    assert federation.kept("c0") == {"encoder": 10.625, "a": 5.3125, "b": 5.3125}
    assert all(fit.params == {} for fit in fits.values())
    assert federation.server == State()


def test_centralised() -> None:
    # the centre takes the batches of a0 and b0 in turn, two of each:
    #   a0: gap  16               encoder 4         a 4
    #   b0: gap -16 - 4 = -20     encoder -1        b -5
    #   a0: gap  16 - 3 = 13      encoder 2.25      a 7.25
    #   b0: gap -16 + 2.75        encoder -1.0625   b -8.3125
    federation = Federation(Centralised(), [A0, B0])
    fits = federation.play()
    assert {name: numbers(fit.params) for name, fit in fits.items()} == {
        "centre": {"encoder": -1.0625, "a": 7.25, "b": -8.3125}
    }
    assert federation.trees() == {
        "encoder": {"encoder": -1.0625},
        "decoder/a": {"a": 7.25},
        "decoder/b": {"b": -8.3125},
    }
    # a client is evaluated with the encoder and its own task's decoder
    load = federation.algorithm.instruct(federation.server, B0.spec, 2).load
    assert [numbers(tree) for tree in load] == [{"encoder": -1.0625}, {"b": -8.3125}]
    # the next round goes on from there; a0: gap 16 - 6.1875, encoder -1.0625 + 2.453125 = 1.390625, a 9.703125
    # b0: gap -16 + 6.921875, encoder -0.87890625, b -10.58203125
    federation.steps = 1
    assert numbers(federation.play()["centre"].params) == {"encoder": -0.87890625, "a": 9.703125, "b": -10.58203125}


def test_centralised_within_tasks() -> None:
    # the centre of a takes the batches of a0 and a1 in turn, two of each, that of b those of b0:
    #   a0: gap 16         encoder 4         a 4
    #   a1: gap 32 - 8     encoder 10        a 10
    #   a0: gap 16 - 20    encoder 9         a 9
    #   a1: gap 32 - 18    encoder 12.5      a 12.5
    federation = Federation(Centralised(scope="task"), [A0, A1, B0])
    fits = federation.play()
    assert {name: numbers(fit.params) for name, fit in fits.items()} == {
        "centre/a": {"encoder": 12.5, "a": 12.5},
        "centre/b": {"encoder": -6, "b": -6},
    }
    load = federation.algorithm.instruct(federation.server, A1.spec, 2).load
    assert [numbers(tree) for tree in load] == [{"encoder": 12.5}, {"a": 12.5}]
    # a0: gap -9, encoder 10.25; a1: gap 11.5, encoder 13.125
    federation.steps = 1
    assert numbers(federation.play()["centre/a"].params) == {"encoder": 13.125, "a": 13.125}
    assert federation.trees()["encoder/b"] == {"encoder": -7}


def test_fedavg() -> None:
    federation = Federation(FedAvg(), [A0, A1, B0])
    fits = federation.play()
    assert numbers(fits["a1"].params) == {"encoder": 12, "a": 12}
    assert federation.trees() == {
        "encoder/a": {"encoder": 10.5},
        "decoder/a": {"a": 10.5},
        "encoder/b": {"encoder": -6},
        "decoder/b": {"b": -6},
    }
    # from w = 21 gaps of -5 and 11: 3/8 of their mean (-5 + 3 * 11)/4 = 7 is 2.625; b0 from -12: -4 * 3/8
    fits = federation.play()
    assert numbers(fits["a0"].params) == {"encoder": 10.5 - 1.875, "a": 10.5 - 1.875}
    assert federation.trees()["encoder/a"] == {"encoder": 13.125}
    assert federation.trees()["decoder/b"] == {"b": -7.5}
    assert federation.states == dict.fromkeys(("a0", "a1", "b0"), State())


@pytest.mark.parametrize(
    ("weighting", "encoder", "decoder"),
    # alike: (6 + 12 - 6)/3, however the clients are added up first, and (6 + 12)/2
    [("examples", 2.25, 10.5), ("uniform", 4, 9)],
)
def test_fedavg_with_one_encoder(weighting: Literal["examples", "uniform"], encoder: float, decoder: float) -> None:
    federation = Federation(FedAvg(scope="all", weighting=weighting), [A0, A1, B0])
    federation.play()
    assert federation.trees() == {
        "encoder/a": {"encoder": encoder},
        "decoder/a": {"a": decoder},
        "encoder/b": {"encoder": encoder},
        "decoder/b": {"b": -6},
    }
    assert federation.server.params["encoder/a"] is federation.server.params["encoder/b"]


def test_fedprox() -> None:
    # mu = 1. Step 1 starts on the anchor: g/4 of a gap g. Step 2: (g/2 - mu g/4)/4 = g/16. In all 5/16 g
    federation = Federation(FedProx(proximal_weight=1), [A0, A1, B0])
    fits = federation.play()
    assert numbers(fits["a0"].params) == {"encoder": 5, "a": 5}
    assert federation.trees() == {
        "encoder/a": {"encoder": 8.75},
        "decoder/a": {"a": 8.75},
        "encoder/b": {"encoder": -5},
        "decoder/b": {"b": -5},
    }
    # from w = 17.5 gaps of -1.5 and 14.5, mean 10.5; b0 from -10 a gap of -6
    fits = federation.play()
    assert numbers(fits["a0"].params) == {"encoder": 8.75 - 1.5 * 5 / 16, "a": 8.75 - 1.5 * 5 / 16}
    assert federation.trees() == {
        "encoder/a": {"encoder": 8.75 + 10.5 * 5 / 16},
        "decoder/a": {"a": 8.75 + 10.5 * 5 / 16},
        "encoder/b": {"encoder": -5 - 6 * 5 / 16},
        "decoder/b": {"b": -5 - 6 * 5 / 16},
    }


def test_fedper() -> None:
    # c0, of two tasks, comes to an encoder of 10 and decoders of 5 (see test_local): (6 + 3 * 12 + 4 * 10)/8 = 10.25
    federation = Federation(FedPer(), [A0, A1, client("c0", 4, a=16, b=16)])
    fits = federation.play()
    assert numbers(fits["c0"].params) == {"encoder": 10}
    assert [federation.kept(name) for name in ("a0", "a1", "c0")] == [{"a": 6}, {"a": 12}, {"a": 5, "b": 5}]
    assert federation.trees() == {"encoder/a": {"encoder": 10.25}, "encoder/a+b": {"encoder": 10.25}}
    # with decoders of their own, gaps of -0.25 and 9.75, 3/8 of each; c0 of 0.75: encoder 5/8, decoders 5/16 of it
    fits = federation.play()
    assert federation.kept("a0") == {"a": 6 - 0.09375}
    assert federation.kept("a1") == {"a": 12 + 3.65625}
    assert federation.kept("c0") == {"a": 5.234375, "b": 5.234375}
    encoders = {name: numbers(fit.params)["encoder"] for name, fit in fits.items()}
    assert encoders == {"a0": 10.15625, "a1": 13.90625, "c0": 10.71875}
    # (10.15625 + 3 * 13.90625 + 4 * 10.71875)/8
    assert federation.trees()["encoder/a"] == {"encoder": 11.84375}


def test_fedrep() -> None:
    # the decoder's step takes y/4, the encoder's a quarter of the 3/4 y that is left: encoders 3, 6, -3
    federation = Federation(FedRep(), [A0, A1, B0])
    fits = federation.play()
    assert numbers(fits["a0"].params) == {"encoder": 3}
    assert [federation.kept(name) for name in ("a0", "a1", "b0")] == [{"a": 4}, {"a": 8}, {"b": -4}]
    assert federation.trees() == {"encoder/a": {"encoder": 1.125}, "encoder/b": {"encoder": 1.125}}
    # a0: a gap of 16 - 5.125 = 10.875, of which the decoder takes 1/4, the encoder 3/16
    fits = federation.play()
    assert numbers(fits["a0"].params) == {"encoder": 1.125 + 10.875 * 3 / 16}
    assert federation.kept("a0") == {"a": 4 + 10.875 / 4}


def test_fedrep_with_two_turns_of_the_decoder() -> None:
    # of three steps two are the decoder's: 1/4 y + 3/16 y; the encoder's takes 9/64 y: 2.25, 4.5, -2.25
    federation = Federation(FedRep(decoder_turns=2, scope="task"), [A0, A1, B0], steps=3)
    federation.play()
    assert federation.kept("a0") == {"a": 7}
    assert federation.trees() == {"encoder/a": {"encoder": (2.25 + 3 * 4.5) / 4}, "encoder/b": {"encoder": -2.25}}


def test_ditto() -> None:
    # the global models are those of FedAvg, the first personal ones with lambda = 1 those of FedProx: 5/16 y
    federation = Federation(Ditto(proximal_weight=1), [A0, A1, B0])
    fits = federation.play()
    assert [numbers(fits[name].params)["a"] for name in ("a0", "a1")] == [6, 12]
    assert [federation.kept(name)["encoder"] for name in ("a0", "a1", "b0")] == [5, 10, -5]
    assert federation.trees()["encoder/a"] == {"encoder": 10.5}
    # the personal model of a0 from 5, its anchor 10.5: + (6 + 5.5)/4 = 7.875; then + (0.25 + 2.625)/4
    # a1 from 10: + (12 + 0.5)/4 = 13.125; then + (5.75 - 2.625)/4
    fits = federation.play()
    assert [numbers(fits[name].params)["a"] for name in ("a0", "a1")] == [8.625, 14.625]
    assert federation.kept("a0") == {"encoder": 8.59375, "a": 8.59375}
    assert federation.kept("a1") == {"encoder": 13.90625, "a": 13.90625}
    assert federation.trees()["decoder/a"] == {"a": 13.125}
    assert federation.states["a0"].params.keys() == {"model"}


def test_fedamp_by_cosine() -> None:
    # lambda/alpha = 1 on the encoder, u_k = 0 at first: encoders 5/16 y, decoders 3/8 y
    # sharpness ln(3)/2: of two others with cosines 1 and -1 the first gets 3/4 of 1 - xi_kk = 1/2
    federation = Federation(FedAMP(proximal_weight=10, step=10, sharpness=math.log(3) / 2), [A0, A1, B0])
    fits = federation.play()
    assert {name: numbers(fit.params) for name, fit in fits.items()} == {
        "a0": {"encoder": 5},
        "a1": {"encoder": 10},
        "b0": {"encoder": -5},
    }
    assert federation.kept("a0") == {"encoder": 5, "a": 6}
    u = {name: tree["encoder"] for name, tree in federation.trees().items()}
    assert u == pytest.approx(
        {
            "a0": 5 / 2 + 10 * 3 / 8 - 5 / 8,
            "a1": 10 / 2 + 5 * 3 / 8 - 5 / 8,
            "b0": -5 / 2 + 5 / 4 + 10 / 4,  # both others at cosine -1
            "start/encoder": 0,
        }
    )
    # a0 from its own 5 and 6, u = 5.625: encoder + (5 + 0.625)/4 = 6.40625, decoder + 5/4 = 7.25;
    # then w = 13.65625: encoder + (2.34375 - 0.78125)/4, decoder + 2.34375/4
    federation.play()
    assert federation.kept("a0") == pytest.approx({"encoder": 6.796875, "a": 7.8359375})


def test_fedamp_by_distance() -> None:
    # lambda = 0: encoders 6 and 12, at a squared distance of 36 = sigma; xi = alpha/sigma e^-1 = 1/4 e^-1
    settings = {"attention": "distance", "proximal_weight": 0, "step": 9, "distance_scale": 36}
    federation = Federation(FedAMP.model_validate(settings), [A0, A1])
    federation.play()
    xi = math.exp(-1) / 4
    assert federation.trees() == {
        "a0": {"encoder": pytest.approx(6 * (1 - xi) + 12 * xi)},
        "a1": {"encoder": pytest.approx(12 * (1 - xi) + 6 * xi)},
    }
    assert federation.algorithm.instruct(federation.server, A0.spec, 2).anchor == ()


def test_matfl_in_two_groups() -> None:
    # encoders 6, 30, 12, from their mean 16: -10, 14, -4; a0 and b0 go one way, and are averaged alike: 9
    federation = Federation(MaTFL(), [A0, client("a1", 3, a=80), client("b0", 4, b=32)])
    federation.play()
    assert federation.trees() == {"a0": {"encoder": 9}, "a1": {"encoder": 30}, "b0": {"encoder": 9}}
    assert [federation.kept(name) for name in ("a0", "a1", "b0")] == [{"a": 6}, {"a": 30}, {"b": 12}]
    # gaps 16 - 15, 80 - 60, 32 - 21: encoders 9.375, 37.5, 13.125, mean 20; the groups stay
    fits = federation.play()
    assert numbers(fits["a0"].params) == {"encoder": 9.375}
    assert federation.trees() == {"a0": {"encoder": 11.25}, "a1": {"encoder": 37.5}, "b0": {"encoder": 11.25}}


def test_matfl_by_cosine() -> None:
    # encoders at right angles about a mean of 0; th = 1/2: 3/2 for itself, 1/2 for each neighbour, 0 for the opposite
    ways = {"a0": (1, 0), "a1": (0, 1), "a2": (-1, 0), "a3": (0, -1)}
    clients = [client(name, 1, x=x, a=16) for name, x in ways.items()]
    federation = Federation(MaTFL(grouping="soft", shift=0.5), clients)
    fits = federation.play()
    for name, x in ways.items():
        assert numbers(fits[name].params) == {"encoder": [6 * number for number in x]}
        # (3/2 (6, 0) + 1/2 (0, 6) + 1/2 (0, -6)) / (5/2)
        assert federation.trees()[name]["encoder"] == pytest.approx([3.6 * number for number in x])


def test_fedhca2() -> None:
    """One step a round, so Delta = gap/4 in encoder and decoder. With c = 1/2 and updates of a that outweigh b's:

    w* is all on b, as f(w) = mean G w + c mean |G w| falls with G w. U = (mean - c mean)/(1 + c^2) = 0.4 mean.
    """
    a0, b0 = client("a0", 1, a=3), client("b0", 1, b=-1)
    settings = {"conflict_aversion": 0.5, "encoder_weight": 0.5, "decoder_weight": 0.25, "hyper_learning_rate": 1}
    federation = Federation(FedHCA2.model_validate(settings), [a0, b0], steps=1)
    fits = federation.play()
    assert numbers(fits["a0"].params) == {"encoder": 0.75, "a": 0.75}
    assert numbers(fits["b0"].params) == {"encoder": -0.25, "b": -0.25}
    # mean 1/4: U = 0.1.  <Delta_a, Delta_a> = 9/16, <Delta_a, Delta_b> = -3/16, <Delta_b, Delta_b> = 1/16
    attention_a, attention_b = 1 / (1 + math.exp(-12 / 16)), 1 / (1 + math.exp(-4 / 16))  # to itself
    step_a = attention_a * 0.75 - (1 - attention_a) * 0.25
    step_b = -attention_b * 0.25 + (1 - attention_b) * 0.75
    encoder_a, encoder_b, decoder_a, decoder_b = 0.8, -0.2, 0.75 + step_a / 4, -0.25 + step_b / 4
    trees = federation.trees()
    assert trees["encoder/a0"] == {"encoder": pytest.approx(encoder_a)}
    assert trees["encoder/b0"] == {"encoder": pytest.approx(encoder_b)}
    assert trees["decoder/a0"] == {"a": pytest.approx(decoder_a)}
    assert trees["decoder/b0"] == {"b": pytest.approx(decoder_b)}
    weights, momenta = federation.server.values["weights"], federation.server.values["momenta"]
    assert weights["a0"] == {"encoder": 0.5, "decoders.a": 0.25}  # nothing was taken yet that could be judged
    assert momenta["b0"] == {"encoder": 0, "decoders.b": 0}

    # a client that moves on by Delta likes what it was given by <Delta, U>: alpha + rate <Delta, U>
    fits = federation.play()
    delta_a, delta_b = (3 - encoder_a - decoder_a) / 4, (-1 - encoder_b - decoder_b) / 4
    assert delta_a > -delta_b > 0
    assert numbers(fits["a0"].params) == pytest.approx({"encoder": encoder_a + delta_a, "a": decoder_a + delta_a})
    weights, momenta = federation.server.values["weights"], federation.server.values["momenta"]
    alpha, beta = 0.5 + delta_a * 0.1, 0.25 + delta_b * step_b
    assert weights["a0"] == pytest.approx({"encoder": alpha, "decoders.a": 0.25 + delta_a * step_a})
    assert weights["b0"] == pytest.approx({"encoder": 0.5 + delta_b * 0.1, "decoders.b": beta})
    assert momenta["a0"] == pytest.approx({"encoder": -delta_a * 0.1, "decoders.a": -delta_a * step_a})
    common = 0.4 * (delta_a + delta_b) / 2
    attention_b = 1 / (1 + math.exp(delta_b * delta_a - delta_b**2))
    attended = attention_b * delta_b + (1 - attention_b) * delta_a
    trees = federation.trees()
    assert trees["encoder/a0"] == {"encoder": pytest.approx(encoder_a + delta_a + alpha * common)}
    assert trees["decoder/b0"] == {"b": pytest.approx(decoder_b + delta_b + beta * attended)}


def test_mfed_with_plain_fusion() -> None:
    # lambda = 1 on the decoder, which starts on its anchor: encoders 3/8 y, decoders 5/16 y
    federation = Federation(MFed(decoder_proximal_weight=1), [A0, A1, B0])
    fits = federation.play()
    assert numbers(fits["a0"].params) == {"encoder": 6, "a": 5}
    # intra-task 10.5 and -6, cross-task (10.5 - 6)/2; decoders (5 + 3 * 10)/4
    assert federation.trees() == {
        "encoder/a": {"encoder": 2.25},
        "decoder/a": {"a": 8.75},
        "encoder/b": {"encoder": 2.25},
        "decoder/b": {"b": -5},
    }
    assert federation.diagnostics.correlations["a", "b"] == -1
    assert federation.diagnostics.fused == {("a", "a"), ("a", "b"), ("b", "a"), ("b", "b")}
    # a's two clients agree, b goes the other way; from 0 all go on with 2.25
    assert federation.diagnostics.blocks == (
        BlockSteps("a", "a", "encoder", 1.0, 10.5, 2.25),
        BlockSteps("b", "b", "encoder", None, 6.0, 2.25),
        BlockSteps("a", "b", "encoder", -1.0),
        BlockSteps("b", "a", "encoder", -1.0),
    )
    # a0 from the fused 2.25 and its own 5, near 8.75: gap 8.75, encoder + 2.1875, decoder + (8.75 + 3.75)/4 = 8.125;
    # then gap 3.4375: encoder + 3.4375/4, decoder + (3.4375 + 0.625)/4
    fits = federation.play()
    assert numbers(fits["a0"].params) == {"encoder": 5.296875, "a": 9.140625}
    assert federation.kept("a0") == {"a": 9.140625}


def test_mfed_without_fusion() -> None:
    # mu = 1 on the encoder: 5/16 of a gap g, as of FedProx. lambda = 2 on the decoder: step 2 adds (g/2 - 2 g/4)/4 = 0
    # the mean gap of a is (16 + 3 * 32)/4 = 28
    settings = {"encoder_proximal_weight": 1, "decoder_proximal_weight": 2, "decoder_init": "global"}
    federation = Federation(MFed.model_validate({**settings, "correlation_threshold": 1.5}), [A0, A1, B0])
    federation.play()
    assert federation.trees() == {
        "encoder/a": {"encoder": 8.75},
        "decoder/a": {"a": 7},
        "encoder/b": {"encoder": -5},
        "decoder/b": {"b": -4},
    }
    assert federation.diagnostics.fused == {("a", "a"), ("b", "b")}
    # from the global decoder, w = 15.75, gaps of 0.25 and 16.25, mean 12.25; b0 from -9 a gap of -7
    federation.play()
    assert federation.trees() == {
        "encoder/a": {"encoder": 8.75 + 12.25 * 5 / 16},
        "decoder/a": {"a": 7 + 12.25 / 4},
        "encoder/b": {"encoder": -5 - 7 * 5 / 16},
        "decoder/b": {"b": -4 - 7 / 4},
    }
    assert federation.states == dict.fromkeys(("a0", "a1", "b0"), State())


@pytest.mark.parametrize(
    ("weights", "encoder_a", "encoder_b"),
    [
        # (1 * 10.5 + 1/2 * -6) / 1.5,  (1 * -6 + 1/2 * 10.5) / 1.5
        ("uniform", 5, -0.5),
        # N_a = 4, N_b = 12: (4 * 10.5 + 12/2 * -6) / 10,  (12 * -6 + 4/2 * 10.5) / 14
        ("examples", 0.6, -51 / 14),
    ],
)
def test_mfed_by_a_matrix(weights: str, encoder_a: float, encoder_b: float) -> None:
    settings = {"correlation": "matrix", "correlation_matrix": {"a": {"b": 0.5}}, "correlation_threshold": 0.25}
    algorithm = MFed.model_validate({**settings, "fusion": "soft", "fusion_weights": weights})
    federation = Federation(algorithm, [A0, A1, client("b0", 12, b=-16)])
    federation.play()
    assert federation.trees()["encoder/a"] == {"encoder": pytest.approx(encoder_a)}
    assert federation.trees()["encoder/b"] == {"encoder": pytest.approx(encoder_b)}
    assert federation.diagnostics.correlations == {("a", "a"): 1, ("a", "b"): 0.5, ("b", "a"): 0.5, ("b", "b"): 1}


BY_HAND: Mapping[str, Sequence[Callable[..., None]]] = {
    "local": [test_local],
    "centralised": [test_centralised, test_centralised_within_tasks],
    "fedavg": [test_fedavg, test_fedavg_with_one_encoder],
    "fedprox": [test_fedprox],
    "fedper": [test_fedper],
    "fedrep": [test_fedrep, test_fedrep_with_two_turns_of_the_decoder],
    "ditto": [test_ditto],
    "fedamp": [test_fedamp_by_cosine, test_fedamp_by_distance],
    "matfl": [test_matfl_in_two_groups, test_matfl_by_cosine],
    "fedhca2": [test_fedhca2],
    "mfed": [test_mfed_with_plain_fusion, test_mfed_without_fusion, test_mfed_by_a_matrix],
}
"""Tests by algorithm. A new algorithm needs an entry."""


@pytest.mark.parametrize("name", list(ALGORITHMS))
def test_every_algorithm_is_worked_by_hand(name: str) -> None:
    assert BY_HAND.get(name), f"{name} has no test in BY_HAND of {__file__}"


def test_neither_algorithms_nor_the_toy_need_torch() -> None:
    """All can be played without the packages that models, data, results and Ray need: the first test of each is."""
    heavy = {"torch", "torchvision", "pycocotools", "pandas", "numba", "ray"}
    code = (
        "import sys, mfed_ray.algorithms, tests.algorithms.toy; from tests.algorithms.test_by_hand import BY_HAND; "
        f"[tests[0]() for tests in BY_HAND.values()]; print(sorted({heavy} & sys.modules.keys()))"
    )
    root = Path(__file__).resolve().parents[2]
    run = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
