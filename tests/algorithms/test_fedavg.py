import numpy as np

from mfed_ray.algorithms.fedavg import FedAvg
from mfed_ray.messages import ClientSpec, Params, Update


def probe(group: str, encoder: Params, images: int) -> "np.ndarray[tuple[int, int], np.dtype[np.float32]]":
    raise AssertionError(f"not asked for: {group} {len(encoder)} {images}")


def model(task: str, encoder: float, decoder: float) -> Params:
    return {"encoder.w": np.array([encoder], np.float32), f"decoders.{task}.w": np.array([decoder], np.float32)}


def test_round_by_hand() -> None:
    clients = [
        ClientSpec.of("a", ("saliency",), "d", ("1",), ()),
        ClientSpec.of("b", ("saliency",), "d", ("2", "3", "4"), ()),
        ClientSpec.of("c", ("human_parts",), "d", ("5",), ()),
    ]
    initial = {task: model(task, 0, 0) for task in ("saliency", "human_parts")}
    state = FedAvg().init(clients, initial)
    assert list(state.params["encoder/saliency"]) == ["encoder.w"]
    assert list(state.params["decoder/saliency"]) == ["decoders.saliency.w"]

    def update(client: ClientSpec, encoder: float, decoder: float) -> Update:
        return Update(client.name, client.group, client.examples, model(client.group, encoder, decoder))

    # a has 1 image, b has 3: encoder (1 * 1 + 3 * 5) / 4 = 4, decoder (1 * 2 + 3 * 10) / 4 = 8; c is alone in its group
    updates = [update(clients[0], 1, 2), update(clients[1], 5, 10), update(clients[2], 7, 9)]
    state, diagnostics = FedAvg().aggregate(state, updates, probe)
    assert state.params["encoder/saliency"]["encoder.w"].tolist() == [4.0]
    assert state.params["decoder/saliency"]["decoders.saliency.w"].tolist() == [8.0]
    assert state.params["encoder/human_parts"]["encoder.w"].tolist() == [7.0]
    assert diagnostics.correlations == {}
    loaded = FedAvg().instruct(state, clients[1], 2).load
    assert loaded[0] is state.params["encoder/saliency"]
    assert loaded[1] is state.params["decoder/saliency"]


def test_a_group_that_nobody_of_the_cohort_is_in_keeps_its_model() -> None:
    clients = [ClientSpec.of(name, (name,), "d", ("1",), ()) for name in ("saliency", "human_parts")]
    state = FedAvg().init(clients, {client.name: model(client.name, 0, 0) for client in clients})
    after, _ = FedAvg().aggregate(state, [Update("saliency", "saliency", 1, model("saliency", 3, 4))], probe)
    assert after.params["encoder/saliency"]["encoder.w"].tolist() == [3.0]
    assert after.params["encoder/human_parts"] is state.params["encoder/human_parts"]
    assert after.params["decoder/human_parts"] is state.params["decoder/human_parts"]


def test_an_encoder_of_all_moves_for_the_group_that_nobody_of_the_cohort_is_in() -> None:
    algorithm = FedAvg(scope="all")
    clients = [ClientSpec.of(name, (name,), "d", ("1",), ()) for name in ("saliency", "human_parts")]
    state = algorithm.init(clients, {client.name: model(client.name, 0, 0) for client in clients})
    after, _ = algorithm.aggregate(state, [Update("saliency", "saliency", 1, model("saliency", 3, 4))], probe)
    encoder, decoder = algorithm.instruct(after, clients[1], 2).load
    assert encoder is algorithm.instruct(after, clients[0], 2).load[0]
    assert encoder["encoder.w"].tolist() == [3.0]
    assert decoder is state.params["decoder/human_parts"]
