"""What the server does with a mean of models: takes it, or makes a step towards it."""

from collections.abc import Iterator, Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from mfed_ray.messages import Params, State
from mfed_ray.params import ENCODER, STATISTICS

Array = NDArray[np.floating]


class ServerOptimizer(BaseModel):
    """What is done with aggregated models: taken as they are, or a step towards them.

    `average` takes them. The others see Delta = aggregated - last as a descent direction (Reddi et al.: Adaptive
    Federated Optimization, ICLR 2021, Algorithm 2, without bias correction; `momentum` is FedAvgM of Hsu, Qi, Brown,
    2019, arXiv 1909.06335):

        momentum  m <- beta1 m + Delta                       x <- x + eta m
        adam      m <- beta1 m + (1 - beta1) Delta           x <- x + eta m / (sqrt(v) + tau)
                  v <- beta2 v + (1 - beta2) Delta^2
        yogi      as adam, v <- v - (1 - beta2) Delta^2 sign(v - Delta^2)

    with m = 0 and v = tau^2 before the first step. Under the last two a parameter moves by about eta a round, however
    far its mean moved: eta is a distance, and its default is near a round's moves (docs/architecture.md). Running
    statistics of BatchNorm are always taken as they are.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: Literal["average", "momentum", "adam", "yogi"] = "average"
    learning_rate: float = Field(default_factory=lambda others: _learning_rate(others.get("name")), gt=0)
    """eta; `average` has none. By default 1, and 0.01 for `adam` and `yogi`."""
    beta1: float = Field(0.9, ge=0, lt=1)
    beta2: float = Field(0.99, ge=0, lt=1)
    adaptivity: float = Field(1e-3, gt=0)
    """tau; for `adam` and `yogi`, as beta2 is."""
    part: Literal["model", "encoder"] = "model"
    """What is stepped. `encoder`: means of decoders are taken as they are."""

    @model_validator(mode="after")
    def _check_fields(self) -> "ServerOptimizer":
        """What an optimizer would pass over in silence is no choice."""
        unused = {
            "average": ("learning_rate", "beta1", "beta2", "adaptivity", "part"),
            "momentum": ("beta2", "adaptivity"),
        }
        for name in unused.get(self.name, ()):
            field, others = type(self).model_fields[name], {"name": self.name}
            if getattr(self, name) != field.get_default(call_default_factory=True, validated_data=others):
                raise ValueError(f"{self.name} has no {name}; leave it out, or choose another optimizer")
        return self

    def step(self, state: State, aggregated: Mapping[str, Params]) -> dict[str, Params]:
        """``state.params`` with the trees of ``aggregated`` in place of those of these names, and the moments.

        Names that shared their tree before and after share the result.
        """
        if self.name == "average":
            return {**state.params, **aggregated}
        params, made = dict(state.params), dict[tuple[int, ...], dict[str, Params]]()
        for name, target in aggregated.items():
            last = {key: state.params[key] for key in (name, f"first/{name}", f"second/{name}") if key in state.params}
            key = (id(target), *map(id, last.values()))
            if key not in made:
                made[key] = self._stepped(target, *last.values())
            params.update({f"{prefix}{name}": tree for prefix, tree in made[key].items()})
        return params

    def _stepped(
        self, target: Params, last: Params, first: Params | None = None, second: Params | None = None
    ) -> dict[str, Params]:
        moved, m, v = dict[str, Array](), dict[str, Array](), dict[str, Array]()
        for name, value in target.items():
            if name.endswith(STATISTICS) or (self.part == "encoder" and not name.startswith(ENCODER)):
                moved[name] = value
                continue
            delta = value.astype(np.float64) - last[name]
            m[name] = self._first(0.0 if first is None else first[name], delta)
            v[name] = self._second(self.adaptivity**2 if second is None else second[name], delta)
            scale = 1.0 if self.name == "momentum" else np.sqrt(v[name]) + self.adaptivity
            moved[name] = last[name] + self.learning_rate * m[name] / scale
        trees = {"": moved, "first/": m} if self.name == "momentum" else {"": moved, "first/": m, "second/": v}
        return {prefix: dict(_float32(tree)) for prefix, tree in trees.items()}

    def _first(self, last: Array | float, delta: NDArray[np.float64]) -> NDArray[np.float64]:
        share = 1.0 if self.name == "momentum" else 1.0 - self.beta1
        return self.beta1 * np.asarray(last, np.float64) + share * delta

    def _second(self, last: Array | float, delta: NDArray[np.float64]) -> NDArray[np.float64]:
        square, v = delta**2, np.asarray(last, np.float64)
        if self.name == "yogi":
            return v - (1.0 - self.beta2) * square * np.sign(v - square)
        return self.beta2 * v + (1.0 - self.beta2) * square


def _learning_rate(name: str | None) -> float:
    return 0.01 if name in ("adam", "yogi") else 1.0


def _float32(tree: Mapping[str, Array]) -> Iterator[tuple[str, NDArray[np.float32]]]:
    return ((name, value.astype(np.float32)) for name, value in tree.items())
