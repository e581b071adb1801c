import json
import os
import shutil
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mfed_ray.errors import CheckpointError, ResultsWarning, RunFolderError
from mfed_ray.federation.checkpoint import Checkpoint, load_latest, save
from mfed_ray.messages import Params, State
from tests.toy_run import files_of


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


def test_the_newest_are_kept(tmp_path: Path) -> None:
    for number in (1, 2, 10, 11):
        save(tmp_path, checkpoint(number), keep=3)
    assert names(tmp_path) == ["round_000002", "round_000010", "round_000011"]
    save(tmp_path, checkpoint(5), keep=3)  # of a run that went on from round 2: later rounds are not its own
    assert names(tmp_path) == ["round_000002", "round_000005"]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


FILES = ["index.json", "server.json", "server.safetensors", "client_0.json", "client_0.safetensors"]


@pytest.mark.parametrize("name", FILES)
def test_any_bit_that_flips_is_seen(tmp_path: Path, name: str) -> None:
    """A sample of each file's bits, its first and last among them."""
    save(tmp_path, checkpoint(1))
    path = tmp_path / "round_000001" / name
    content = path.read_bytes()
    bits = 8 * len(content)
    for bit in {*range(0, bits, 37), bits - 1}:
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        with pytest.raises(
            RunFolderError, match=r"round_000001: the checkpoint cannot be read \(.*\); no other is left"
        ):
            load_latest(tmp_path)
    path.write_bytes(content)
    assert load_latest(tmp_path) is not None


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["cut short", "missing"])
def test_a_damaged_one_is_passed_over_for_the_one_before_with_a_warning(tmp_path: Path, name: str, damage: str) -> None:
    for number in (1, 2):
        save(tmp_path, checkpoint(number), keep=2)
    path = tmp_path / "round_000002" / name
    if damage == "missing":
        path.unlink()
    else:
        os.truncate(path, 3)
    problem = rf"{tmp_path}/round_000002: the checkpoint cannot be read \(.*\); going on from round 1"
    with pytest.warns(ResultsWarning, match=f"^{problem}$"):
        loaded = load_latest(tmp_path)
    assert loaded is not None
    assert loaded.round == 1
    told: list[str] = []
    assert load_latest(tmp_path, told.append) is not None
    assert len(told) == 1


def test_where_all_are_damaged_the_folder_to_remove_is_named(tmp_path: Path) -> None:
    for number in (1, 2):
        save(tmp_path, checkpoint(number), keep=2)
        (tmp_path / f"round_{number:06d}" / "server.json").unlink()
    message = (
        rf"round_000002: the .*; {tmp_path}/round_000001: the .*; no other is left: remove {tmp_path} to start the run"
    )
    with pytest.raises(RunFolderError, match=message):
        load_latest(tmp_path)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"crc32": {"/dev/zero": 0}}, "names other files than those of 2 clients and the server"),
        ({"crc32": {"../victim": 0}}, "names other files than those of 2 clients and the server"),
        ({"round": 2}, "round 2 found, must be that of round_000001"),
        ({"round": True}, "round True found"),
        ({"round": 10**400}, "round 1000"),
        ({"clients": {"a": 0}}, "clients must be a list of names"),
        ({"clients": [["a"]]}, "clients must be a list of names"),
    ],
)
def test_an_index_that_somebody_forged_and_signed_is_refused(
    tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    save(tmp_path, checkpoint(1))
    path = tmp_path / "round_000001" / "index.json"
    content = {**json.loads(path.read_text()), **changed}
    del content["index.json"]
    path.write_text(json.dumps({**content, "index.json": zlib.crc32(json.dumps(content).encode())}))
    with pytest.raises(RunFolderError, match=rf"the checkpoint cannot be read \(index\.json: {message}"):
        load_latest(tmp_path)


@pytest.mark.parametrize("name", FILES)
def test_a_link_in_place_of_a_file_is_not_followed(tmp_path: Path, name: str) -> None:
    """To a device that has no end."""
    save(tmp_path, checkpoint(1))
    path = tmp_path / "round_000001" / name
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(RunFolderError, match=rf"\({name} is a link, a folder or a device, must be a file\)"):
        load_latest(tmp_path)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"round": 1, "clients": [], "x": 1}', "[]"])
def test_an_index_of_another_kind_is_refused(tmp_path: Path, text: str) -> None:
    save(tmp_path, checkpoint(1))
    (tmp_path / "round_000001" / "index.json").write_text(text)
    with pytest.raises(RunFolderError, match="the checkpoint cannot be read"):
        load_latest(tmp_path)


def test_one_without_checksums_is_read_and_gone_on_from(tmp_path: Path) -> None:
    """As older versions wrote it."""
    first = checkpoint(1)
    save(tmp_path, first)
    index = tmp_path / "round_000001" / "index.json"
    index.write_text(json.dumps({"round": 1, "clients": ["saliency-0", "saliency-1"]}))
    loaded = load_latest(tmp_path)
    assert loaded is not None
    assert loaded.round == 1
    save(tmp_path, Checkpoint(2, first.server, loaded.clients), loaded)
    os.truncate(tmp_path / "round_000002" / "client_0.safetensors", 3)
    with pytest.raises(RunFolderError, match=r"client_0\.safetensors is not what was written"):
        load_latest(tmp_path)


def test_a_linked_file_keeps_the_checksum_of_when_it_was_written(tmp_path: Path) -> None:
    first = checkpoint(1)
    save(tmp_path, first)
    os.truncate(tmp_path / "round_000001" / "client_0.safetensors", 3)
    save(tmp_path, Checkpoint(2, first.server, first.clients), first)
    with pytest.raises(RunFolderError, match=r"client_0\.safetensors is not what was written"):
        load_latest(tmp_path)


def test_where_the_last_index_is_damaged_everything_is_written_anew(tmp_path: Path) -> None:
    first = checkpoint(1)
    save(tmp_path, first)
    os.truncate(tmp_path / "round_000001" / "index.json", 3)
    save(tmp_path, Checkpoint(2, first.server, first.clients), first)
    loaded = load_latest(tmp_path)
    assert loaded is not None
    assert float(loaded.clients["saliency-0"].params["optimizer"]["w/step"]) == 7.0


def test_all_is_on_the_disk_before_it_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file and the folder, then the folder's name, then its entry, and only then older ones go."""
    done: list[tuple[str, str]] = []
    fsync, rename, rmtree = os.fsync, os.replace, shutil.rmtree

    def flushed(descriptor: int) -> None:
        done.append(("flush", Path(os.readlink(f"/proc/self/fd/{descriptor}")).name))
        fsync(descriptor)

    def renamed(old: Path, new: Path) -> None:
        done.append(("rename", new.name))
        rename(old, new)

    def removed(path: Path, ignore_errors: bool = False) -> None:
        if path.exists():
            done.append(("remove", path.name))
        rmtree(path, ignore_errors)

    save(tmp_path, checkpoint(1))
    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "replace", renamed)
    monkeypatch.setattr(shutil, "rmtree", removed)
    save(tmp_path, checkpoint(2))
    written = {*names(tmp_path / "round_000002"), ".round_000002.tmp"}
    assert written > set(FILES)
    assert {name for _, name in done[: len(written)]} == written
    assert done[len(written) :] == [("rename", "round_000002"), ("flush", tmp_path.name), ("remove", "round_000001")]


@pytest.mark.parametrize("largest", [0, 100])
def test_a_full_disk_leaves_the_last_one(tmp_path: Path, largest: int) -> None:
    save(tmp_path, checkpoint(1))
    with files_of(largest), pytest.raises(OSError, match="File too large"):
        save(tmp_path, checkpoint(2))
    loaded = load_latest(tmp_path)
    assert loaded is not None
    assert loaded.round == 1
    save(tmp_path, checkpoint(2))
    assert names(tmp_path) == ["round_000002"]


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
