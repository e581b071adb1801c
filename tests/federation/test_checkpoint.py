from pathlib import Path

import numpy as np
import pytest

from mfed_ray.errors import CheckpointError, RunFolderError
from mfed_ray.federation.checkpoint import Checkpoint, load_latest, save
from mfed_ray.messages import Params, State


def checkpoint(number: int) -> Checkpoint:
    encoder: Params = {"encoder.conv": np.full((2, 3), number, np.float32)}
    server = State({"encoder/a": encoder, "encoder/b": encoder}, {"correlations": [["a", "b", 0.1 + 0.2]]})
    scalar: Params = {"w/step": np.array(7, np.float32)}
    return Checkpoint(number, server, {"saliency-0": State({"optimizer": scalar}), "saliency-1": State()})


def test_comes_back_bit_for_bit(tmp_path: Path) -> None:
    save(tmp_path, checkpoint(3))
    loaded = load_latest(tmp_path)
    assert loaded is not None
    assert loaded.round == 3
    assert np.array_equal(loaded.server.params["encoder/b"]["encoder.conv"], np.full((2, 3), 3, np.float32))
    assert loaded.server.values == {"correlations": [["a", "b", 0.1 + 0.2]]}
    assert list(loaded.clients) == ["saliency-0", "saliency-1"]
    step = loaded.clients["saliency-0"].params["optimizer"]["w/step"]
    assert (step.shape, float(step)) == ((), 7.0)
    assert loaded.clients["saliency-1"] == State()


def test_a_shared_tree_is_stored_once_and_shared_again(tmp_path: Path) -> None:
    save(tmp_path, checkpoint(1))
    loaded = load_latest(tmp_path)
    assert loaded is not None
    assert loaded.server.params["encoder/a"] is loaded.server.params["encoder/b"]
    assert (tmp_path / "round_000001/server.safetensors").stat().st_size < 200


def test_names_keep_their_order(tmp_path: Path) -> None:
    """The bits of a sum over a tree depend on it."""
    tree: Params = {name: np.zeros(1, np.float32) for name in ("z", "a", "m")}
    save(tmp_path, Checkpoint(1, State({"two": tree, "one": tree}), {}))
    loaded = load_latest(tmp_path)
    assert loaded is not None
    assert [*loaded.server.params, *loaded.server.params["one"]] == ["two", "one", "z", "a", "m"]


def test_only_the_last_round_stays(tmp_path: Path) -> None:
    for number in (1, 2, 10):
        save(tmp_path, checkpoint(number))
    assert [path.name for path in tmp_path.iterdir()] == ["round_000010"]


def test_an_unfinished_write_is_not_seen(tmp_path: Path) -> None:
    save(tmp_path, checkpoint(1))
    (tmp_path / ".round_000002.tmp").mkdir()
    loaded = load_latest(tmp_path)
    assert loaded is not None
    assert loaded.round == 1
    save(tmp_path, checkpoint(2))
    assert [path.name for path in tmp_path.iterdir()] == ["round_000002"]


def test_no_checkpoint(tmp_path: Path) -> None:
    assert load_latest(tmp_path / "missing") is None


@pytest.mark.parametrize("name", ["server.safetensors", "index.json", "client_0.json"])
def test_a_damaged_file_is_named(tmp_path: Path, name: str) -> None:
    save(tmp_path, checkpoint(1))
    (tmp_path / "round_000001" / name).write_bytes(b"\x00\x01")
    with pytest.raises(RunFolderError, match=r"round_000001: the checkpoint cannot be read .*; remove it to start"):
        load_latest(tmp_path)


def test_a_state_that_json_cannot_hold_is_refused(tmp_path: Path) -> None:
    message = (
        r"^server: State.values cannot be written as JSON \(Object of type set is not JSON serializable\); allowed:"
    )
    with pytest.raises(CheckpointError, match=message):
        save(tmp_path, Checkpoint(1, State({}, {"seen": {1, 2}}), {}))
    assert load_latest(tmp_path) is None


def test_what_a_client_still_has_is_not_written_again(tmp_path: Path) -> None:
    first = checkpoint(1)
    kept, moved = first.clients["saliency-0"], State({"optimizer": {"w/step": np.array(8, np.float32)}})
    # a client more comes in between, so that files change their numbers
    second = Checkpoint(2, first.server, {"new-0": State(), "saliency-0": kept, "saliency-1": moved})
    save(tmp_path, first)
    before = (tmp_path / "round_000001/client_0.safetensors").stat().st_ino
    save(tmp_path, second, first)
    assert (tmp_path / "round_000002/client_1.safetensors").stat().st_ino == before
    loaded = load_latest(tmp_path)
    assert loaded is not None
    assert {
        name: float(state.params["optimizer"]["w/step"]) for name, state in loaded.clients.items() if state.params
    } == {
        "saliency-0": 7.0,
        "saliency-1": 8.0,
    }
