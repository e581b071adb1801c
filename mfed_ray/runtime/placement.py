"""How many client actors the nodes can hold, before any is asked for: for one that fits nowhere Ray waits for ever.

What others use counts as there: an actor that waits for it gets no client (``runtime.pool``).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mfed_ray.errors import PlacementError

Node = Mapping[str, float | str]
"""A node's ``name``, and ``CPU`` and ``GPU``, its total resources."""


@dataclass(frozen=True)
class Placement:
    """Client actors per node, for ``clients`` clients; nodes of one name count together."""

    actors_by_node: Mapping[str, int]
    clients: int

    @property
    def actors(self) -> int:
        """Number of client actors in all."""
        return sum(self.actors_by_node.values())

    def __str__(self) -> str:
        nodes = ", ".join(f"{count} on {node}" for node, count in self.actors_by_node.items() if count)
        return f"{self.clients} clients on {self.actors} actors ({nodes})"


def place(nodes: Sequence[Node], clients: int, cpus: float, gpus: float, max_actors: int | None = None) -> Placement:
    """One actor per client where they fit; where not, as many actors as fit, each serving several clients.

    A fraction of a GPU lies on one GPU: k actors of 1/k share it. Raises PlacementError if no node fits a single
    client.
    """
    slots = [(str(node["name"]), _slots(float(node["CPU"]), float(node["GPU"]), cpus, gpus)) for node in nodes]
    if not any(free for _, free in slots):
        raise PlacementError(
            f"runtime.cpus_per_client: {cpus:g}, runtime.gpus_per_client: {gpus:g}: no node has room for a single "
            f"client (asked for: {clients} x ({cpus:g} CPU, {gpus:g} GPU); there are: "
            f"{'; '.join(describe(nodes)) or 'no nodes'}); ask for less, or start nodes that have it"
        )
    wanted = min(clients, max_actors or clients)
    chosen = dict.fromkeys((name for name, _ in slots), 0)
    for name, free in slots:
        chosen[name] += min(free, wanted - sum(chosen.values()))
    return Placement(chosen, clients)


def describe(nodes: Sequence[Node]) -> list[str]:
    """One text per kind of node, such as "4 x worker: 8 CPU, 1 GPU"."""
    kinds = Counter((node["name"], float(node["CPU"]), float(node["GPU"])) for node in nodes)
    return [
        f"{f'{count} x ' if count > 1 else ''}{name}: {cpu:g} CPU, {gpu:g} GPU"
        for (name, cpu, gpu), count in kinds.items()
    ]


def _slots(node_cpus: float, node_gpus: float, cpus: float, gpus: float) -> int:
    by_cpu = int(node_cpus / cpus + 1e-9)
    if gpus == 0:
        return by_cpu
    by_gpu = int(node_gpus / gpus + 1e-9) if gpus >= 1 else int(node_gpus) * int(1 / gpus + 1e-9)
    return min(by_cpu, by_gpu)
