"""What is written beside the next round: in order, one at a time, told when it is there."""

import os
import threading
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import pandas as pd
import pytest

from mfed_ray.algorithms.contract import Diagnostics
from mfed_ray.errors import ClientError, StorageError
from mfed_ray.federation import checkpoint
from mfed_ray.federation.checkpoint import Checkpoint, Checkpoints
from mfed_ray.federation.events import Evaluated, Event, Failure, Progress, Resumed, Step, Trained, Waiting
from mfed_ray.messages import State
from mfed_ray.recording import written
from tests.results.conftest import whole_table
from tests.toy_run import files_of, same, toy_run


def round_of(number: int) -> Evaluated:
    return Evaluated(number, [], 0.0)


def steps(*numbers: int) -> Generator[Step, None, None]:
    for number in numbers:
        yield Progress(number, "fit", 1, 1)
        yield round_of(number)


def rounds(stream: Iterator[Event]) -> list[int]:
    return [event.round for event in stream if isinstance(event, Evaluated)]


def test_a_round_is_told_once_it_is_written_and_in_order() -> None:
    done: list[int] = []

    def write(event: Trained | Evaluated | Failure, state: Checkpoint | None) -> None:
        assert state is None
        done.append(event.round)

    for event in written(steps(0, 1, 2, 3), write):
        if isinstance(event, Evaluated):
            assert done[: event.round + 1] == list(range(event.round + 1))
    assert done == [0, 1, 2, 3]


def test_the_next_round_goes_on_while_one_is_written() -> None:
    """Writing waits for the next round to have begun: were it not beside it, this would never end."""
    begun, seen = threading.Event(), list[str]()

    def write(event: Trained | Evaluated | Failure, state: Checkpoint | None) -> None:
        assert state is None
        if event.round == 0:
            assert begun.wait(30)
        seen.append(f"written {event.round}")

    def source() -> Generator[Step, None, None]:
        yield round_of(0)
        begun.set()
        seen.append("begin 1")
        yield round_of(1)

    assert rounds(written(source(), write)) == [0, 1]
    assert seen == ["begin 1", "written 0", "written 1"]


def test_nothing_goes_on_before_a_failure_is_written() -> None:
    """Neither the loop nor who looks on; whom it waits for is told at once."""
    done: list[str] = []

    def source() -> Generator[Step, None, None]:
        yield round_of(0)
        yield Waiting(1, "fit", ("a",), 10.0)
        yield Failure(1, "fit", ("a",), "it died", "dropped")
        assert done == ["Evaluated", "Failure"]
        yield round_of(1)

    told = []
    for event in written(source(), lambda event, _: done.append(type(event).__name__)):
        told.append(type(event).__name__)
        assert not isinstance(event, Failure) or done == ["Evaluated", "Failure"]
    assert sorted(told) == ["Evaluated", "Evaluated", "Failure", "Waiting"]


def test_what_goes_wrong_while_writing_ends_the_run() -> None:
    def write(event: Trained | Evaluated | Failure, state: Checkpoint | None) -> None:
        if event.round == 1 and state is None:
            raise OSError("disk full")

    with pytest.raises(OSError, match=r"^disk full$"):
        rounds(written(steps(0, 1, 2, 3), write))


def test_what_goes_wrong_while_writing_is_told_with_what_goes_wrong_in_the_round() -> None:
    def source() -> Generator[Step, None, None]:
        yield round_of(0)
        yield round_of(1)
        raise ClientError("a: broken")

    def write(event: Trained | Evaluated | Failure, state: Checkpoint | None) -> None:
        assert (event.round, state) == (0, None)
        time.sleep(0.1)  # the loop goes on meanwhile
        raise StorageError("disk full")

    with pytest.raises(ClientError, match=r"^a: broken\nBesides, disk full$"):
        rounds(written(source(), write))


def test_whoever_stops_looking_leaves_nothing_half_written() -> None:
    done: list[int] = []
    stream = written(steps(0, 1, 2), lambda event, _: done.append(event.round))
    for event in stream:
        if isinstance(event, Evaluated) and event.round == 1:
            break
    stream.close()
    assert done[:2] == [0, 1]
    assert done == sorted(done)


def test_a_trained_round_is_written_with_its_state_and_told_without() -> None:
    trained = Trained(1, [], Diagnostics(), {}, 0, 0, is_evaluated=False)
    state = Checkpoint(1, State(), {})
    seen: list[tuple[Trained | Evaluated, Checkpoint | None]] = []

    def source() -> Generator[Step, None, None]:
        yield trained, state

    assert list(written(source(), lambda *given: seen.append(given))) == [trained]
    assert seen == [(trained, state)]


def test_a_damaged_checkpoint_is_told_and_the_run_ends_as_it_would_have(tmp_path: Path) -> None:
    broken, straight = tmp_path / "broken", tmp_path / "straight"
    for _ in toy_run(straight, Checkpoints()):
        pass
    events = toy_run(broken, Checkpoints())
    while not (isinstance(event := next(events), Trained) and event.round == 1):
        pass
    events.close()  # what was under way is written meanwhile
    last = checkpoint.latest_round(broken / "checkpoints")
    assert last in (1, 2)
    os.truncate(broken / "checkpoints" / f"round_{last:06d}" / "server.safetensors", 10)
    first, *others = toy_run(broken, Checkpoints())
    assert isinstance(first, Resumed)
    assert first.notes == [
        f"{broken}/checkpoints/round_{last:06d}: the checkpoint cannot be read (server.safetensors is not what was "
        f"written); going on from round {last - 1}"
    ]
    assert [event.round for event in others if isinstance(event, Trained)] == [*range(last, 4)]
    ends = [checkpoint.load_latest(folder / "checkpoints") for folder in (broken, straight)]
    assert ends[0] is not None
    assert ends[1] is not None
    assert same(ends[0], ends[1])
    pd.testing.assert_frame_equal(whole_table(broken, "metrics"), whole_table(straight, "metrics"))
    assert whole_table(broken, "rounds")["round"].tolist() == [0, 1, 2, 3]


def test_checkpoints_come_as_often_as_asked_for_and_after_the_last_round(tmp_path: Path) -> None:
    seen = set[str]()
    for _ in toy_run(tmp_path, Checkpoints(every=2, keep=1)):
        seen |= {path.name for path in (tmp_path / "checkpoints").glob("round_*")}
    assert seen == {"round_000000", "round_000002", "round_000003"}
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["round_000003"]


def test_a_full_disk_is_told_in_words_and_the_same_run_goes_on(tmp_path: Path) -> None:
    events = toy_run(tmp_path, Checkpoints())
    while not (isinstance(event := next(events), Evaluated) and event.round == 1):
        pass
    message = (
        rf"^{tmp_path}: cannot be written to \(.*File too large.*\); make room there, and .* goes on from round \d, "
    )
    with pytest.raises(StorageError, match=message), files_of(300):
        for _ in events:
            pass
    last = checkpoint.load_latest(tmp_path / "checkpoints")
    assert last is not None
    assert last.round in (1, 2)
    assert [event.round for event in toy_run(tmp_path, Checkpoints()) if isinstance(event, Trained)][-1] == 3


def test_nothing_is_written_after_what_could_not_be() -> None:
    done: list[int] = []

    def write(event: Trained | Evaluated | Failure, state: Checkpoint | None) -> None:
        assert state is None
        if event.round == 1:
            time.sleep(0.1)  # round 2 waits behind it
            raise OSError("disk full")
        done.append(event.round)

    with pytest.raises(OSError, match=r"^disk full$"):
        rounds(written(steps(0, 1, 2, 3), write))
    assert done == [0]
