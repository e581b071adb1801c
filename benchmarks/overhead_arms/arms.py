"""Which arms there are, and what each needs."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Arm:
    """``function`` of ``module`` (here) trains; ``requires`` is what its own environment gets, ``reports`` versions."""

    module: str
    function: str = "federate"
    requires: str | None = None
    reports: tuple[str, ...] = ()
    processes: int = 1
    """How many of it torchrun starts; 1: it starts its workers itself, if it has any."""


ARMS = {
    "loop": Arm("loop"),
    "ray": Arm("bare_ray", reports=("ray",)),
    "pfl": Arm("pfl_backend", requires="pfl[pytorch]==0.6.0", reports=("pfl",), processes=2),
    "flower": Arm("flower", requires="flwr[simulation]==1.41.0", reports=("flwr", "ray")),
    "serial": Arm("mfed", "serial", reports=("mfed-ray",)),
    "mfed": Arm("mfed", "on_ray", reports=("mfed-ray", "ray")),
}
