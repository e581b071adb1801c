"""How a round's clients are cut into calls."""

import pytest

from mfed_ray.federation.backend import Job
from mfed_ray.messages import Instruction
from mfed_ray.runtime.chunks import LEAST_SECONDS, chunks


def jobs(count: int) -> list[Job]:
    return [Job("fit", Instruction(f"c-{number:02d}", 1)) for number in range(count)]


def sizes(count: int, actors: int, seconds: dict[str, float] | None = None) -> list[int]:
    return [len(chunk) for chunk in chunks(jobs(count), seconds or {}, actors)]


@pytest.mark.parametrize(
    ("count", "actors", "expected"),
    [
        (8, 1, [4, 2, 1, 1]),  # half of what is left, and again
        (8, 2, [2, 1, 1, 1, 1, 1, 1]),  # a quarter of 8; of 6, of 5 ... less than 2
        (16, 2, [4, 3, 2, 1, 1, 1, 1, 1, 1, 1]),
        (3, 8, [1, 1, 1]),
        (0, 2, []),
    ],
)
def test_chunks_of_equal_clients(count: int, actors: int, expected: list[int]) -> None:
    assert sizes(count, actors) == expected


def test_every_job_is_in_one_chunk_in_order() -> None:
    made = jobs(37)
    assert [job for chunk in chunks(made, {}, 3) for job in chunk] == made


def test_a_slow_client_is_a_chunk_of_its_own() -> None:
    # of 10 seconds in all each of two actors' shares is 5, half of it 2.5: c-00 takes 7 and is too much already,
    # then of 3 seconds 0.75 at a time, which no second client fits into
    seconds = {"c-00": 7.0, "c-01": 1.0, "c-02": 1.0, "c-03": 1.0}
    assert sizes(4, 2, seconds) == [1, 1, 1, 1]
    # the slow one last: a quarter of 10 holds two of the others
    assert sizes(4, 2, {"c-00": 1.0, "c-01": 1.0, "c-02": 1.0, "c-03": 7.0}) == [2, 1, 1]


def test_fast_clients_share_a_call_that_is_worth_it() -> None:
    """64 clients of 1/1024 s are worth one call to each of two actors; of 1/128 s, six at a time at least are 50 ms."""
    assert LEAST_SECONDS == 0.05
    assert sizes(64, 2, {f"c-{number:02d}": 1 / 1024 for number in range(64)}) == [32, 32]
    assert sizes(64, 2, {f"c-{number:02d}": 1 / 128 for number in range(64)}) == [16, 12, 9, 6, 6, 6, 6, 3]


def test_a_client_that_nobody_knows_takes_what_the_others_take() -> None:
    """The mean of the others is 2 s; of 8 s in all a quarter is one client."""
    assert sizes(4, 2, {"c-00": 1.0, "c-01": 3.0}) == sizes(4, 2, {"c-00": 1.0, "c-01": 3.0, "c-02": 2.0, "c-03": 2.0})
