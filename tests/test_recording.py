"""What is written beside the next round: in order, one at a time, told when it is there."""

import threading
from collections.abc import Generator, Iterator

import pytest

from mfed_ray.algorithms.contract import Diagnostics
from mfed_ray.federation.checkpoint import Checkpoint
from mfed_ray.federation.events import Evaluated, Event, Failure, Progress, Step, Trained, Waiting
from mfed_ray.messages import State
from mfed_ray.recording import written


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
