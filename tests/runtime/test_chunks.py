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
        (8, 2, [2, 2, 1, 1, 1, 1]),  # a quarter of 8; of 6 that is 1.5: two come as near as one
        (3, 8, [1, 1, 1]),
        (0, 2, []),
    ],
)
def test_chunks_while_nobody_knows_what_clients_take(count: int, actors: int, expected: list[int]) -> None:
    assert sizes(count, actors) == expected


def test_every_job_is_in_one_chunk_in_order() -> None:
    made = jobs(37)
    assert [job for chunk in chunks(made, {}, 3) for job in chunk] == made


def test_equal_clients_are_shared_out_in_one_chunk_an_actor() -> None:
    assert sizes(8, 2, {f"c-{number:02d}": 0.5 for number in range(8)}) == [4, 4]
    assert sizes(9, 4, {f"c-{number:02d}": 0.5 for number in range(9)}) == [2, 2, 3, 2]
    assert sizes(3, 8, {f"c-{number:02d}": 0.5 for number in range(3)}) == [1, 1, 1]


def test_neighbours_that_cannot_be_shared_out_evenly_go_in_small_chunks() -> None:
    # two of 5 s, six of 1 s, 16 in all: evenly, 5 + 5 and 6 end after 10 s. A quarter is 4: 5; of 11 it is 2.75: 5;
    # of 6 it is 1.5: two come as near as one; then one at a time. Both actors end after 8 s
    seconds = {f"c-{number:02d}": 5.0 if number < 2 else 1.0 for number in range(8)}
    assert sizes(8, 2, seconds) == [1, 1, 2, 1, 1, 1, 1]


def test_fast_clients_share_a_call_that_is_worth_it() -> None:
    """Two of .3 s and ten of .01: evenly, .3 and .4. A quarter of .7 and of .4 holds one of the slow clients; a quarter
    of .1 would be .025, but never less than 50 ms at a time: five and five. Both actors end after .35 s."""
    assert LEAST_SECONDS == 0.05
    assert sizes(12, 2, {f"c-{number:02d}": 0.3 if number < 2 else 0.01 for number in range(12)}) == [1, 1, 5, 5]


def test_a_client_that_nobody_knows_takes_what_the_others_take() -> None:
    known = {"c-00": 1.0, "c-01": 3.0}
    assert sizes(4, 2, known) == sizes(4, 2, {**known, "c-02": 2.0, "c-03": 2.0}) == [2, 2]
