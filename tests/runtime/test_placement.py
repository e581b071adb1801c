import pytest

from mfed_ray.errors import PlacementError
from mfed_ray.runtime.placement import place


def node(cpu: float, gpu: float, name: str = "a") -> dict[str, float | str]:
    return {"name": name, "CPU": cpu, "GPU": gpu}


@pytest.mark.parametrize(
    ("nodes", "clients", "cpus", "gpus", "actors"),
    [
        ([node(4, 0)], 3, 1, 0, 3),  # one actor per client where they fit
        ([node(4, 0)], 9, 1, 0, 4),  # several clients per actor where not
        ([node(4, 0)], 9, 0.5, 0, 8),
        ([node(16, 2)], 9, 1, 0.25, 8),  # four on each GPU
        ([node(16, 2)], 9, 1, 1, 2),
        ([node(16, 3)], 9, 1, 2, 1),  # the third GPU stays idle
        ([node(3, 2)], 9, 1, 0.25, 3),  # CPUs are what is short
        ([node(16, 1), node(2, 4, "b")], 9, 1, 0.5, 4),  # 2 on a, 2 on b
        ([node(8, 0), node(8, 1, "b")], 9, 1, 1, 1),
        ([node(3, 0)], 9, 0.1, 0, 9),  # 3 / 0.1 is 30, not 29
    ],
)
def test_actors_by_hand(
    nodes: list[dict[str, float | str]], clients: int, cpus: float, gpus: float, actors: int
) -> None:
    assert place(nodes, clients, cpus, gpus).actors == actors


def test_max_actors_bounds_them() -> None:
    assert place([node(8, 0)], 6, 1, 0, max_actors=2).actors == 2


def test_it_says_what_goes_where() -> None:
    found = place([node(2, 0, "head"), node(1, 0, "tiny"), node(4, 0, "big")], 5, 1, 0)
    assert str(found) == "5 clients on 5 actors (2 on head, 1 on tiny, 2 on big)"


def test_nodes_of_one_name_count_together() -> None:
    found = place([node(2, 1, "worker"), node(2, 1, "worker"), node(2, 1, "worker")], 5, 1, 0.5)
    assert str(found) == "5 clients on 5 actors (5 on worker)"


@pytest.mark.parametrize(
    ("nodes", "cpus", "gpus", "message"),
    [
        (
            [node(2, 0)],
            1,
            0.5,
            r"gpus_per_client: 0.5: no node has room for a single client \(asked for: 3 x \(1 CPU, 0.5 GPU\); there "
            r"are: a: 2 CPU, 0 GPU\); ask for",
        ),
        (
            [node(2, 1), node(9, 0, "b"), node(2, 1)],
            4,
            1,
            r"cpus_per_client: 4, .* there are: 2 x a: 2 CPU, 1 GPU; b: 9 CPU, 0 GPU\); ask for",
        ),
        ([], 1, 0, "no nodes"),
    ],
)
def test_nothing_fits(nodes: list[dict[str, float | str]], cpus: float, gpus: float, message: str) -> None:
    with pytest.raises(PlacementError, match=message):
        place(nodes, 3, cpus, gpus)
