"""The configuration of an experiment: every key, its type, its default and what is allowed."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SerializeAsAny, field_validator, model_validator

from mfed_ray.algorithms import algorithm_name
from mfed_ray.algorithms.contract import Algorithm
from mfed_ray.data.partition import Partition
from mfed_ray.data.settings import Augmentation, InputSize
from mfed_ray.errors import ConfigError
from mfed_ray.evaluation import AFTER_AGGREGATION, Stage
from mfed_ray.federation.checkpoint import Checkpoints
from mfed_ray.federation.faults import Faults
from mfed_ray.local_training import LocalTraining
from mfed_ray.metrics.settings import EdgeProtocol
from mfed_ray.models.settings import RESNET_WIDTH, ModelSettings
from mfed_ray.registry import PYRAMID_TASKS, RESNETS, check_registered, hint
from mfed_ray.section import Section


class PascalContextData(Section):
    """A folder in the PASCAL_MT layout."""

    format: Literal["pascal_context"]
    root: str


class CocoData(Section):
    """A folder as COCO 2017 is distributed."""

    format: Literal["coco"]
    root: str


class GeneratedData(Section):
    """Procedural scenes in the one or the other layout, written to ``root`` on first use."""

    format: Literal["generated"]
    root: str
    layout: Literal["pascal_context", "coco", "textures"] = "pascal_context"
    images: int = Field(500, ge=4)
    size: int = Field(96, ge=32, le=1024)
    seed: int = Field(0, ge=0)
    val_fraction: float = Field(0.25, gt=0, lt=1)


DATA_FORMATS: dict[str, type[Section]] = {
    "pascal_context": PascalContextData,
    "coco": CocoData,
    "generated": GeneratedData,
}
"""Sections of ``data`` by their format."""

Data = Annotated[PascalContextData | CocoData | GeneratedData, Field(discriminator="format")]


class Clients(Section):
    """``count`` clients with the same tasks on shards of the same data.

    Those with a number of ``images`` take them before the partition deals what is left to the others, in the order of
    the configuration: uniformly, whatever the partition's scheme, and disjointly wherever its shards would be.
    """

    tasks: tuple[str, ...] = Field(min_length=1)
    data: str
    count: int = Field(1, ge=1)
    images: int | None = Field(None, ge=1)
    """Training images of each client, all with targets for its tasks; None: what the partition deals it."""
    encoder: str | None = None
    """Another encoder than ``model.encoder``."""
    decoder_width: int | None = Field(None, ge=8)
    """Another width than ``model.decoder_width``."""

    @field_validator("encoder")
    @classmethod
    def _known_encoder(cls, name: str | None) -> str | None:
        check_registered("encoder", [] if name is None else [name])
        return name

    @field_validator("tasks")
    @classmethod
    def _known(cls, tasks: tuple[str, ...]) -> tuple[str, ...]:
        check_registered("task", tasks)
        if len(set(tasks)) < len(tasks):
            raise ValueError(f"a task stands twice in {list(tasks)}")
        return tuple(sorted(tasks))

    @property
    def on_pyramid(self) -> bool:
        """Whether one of the tasks stands on a feature pyramid."""
        return not PYRAMID_TASKS.isdisjoint(self.tasks)


class Evaluation(Section):
    """When clients are evaluated on the ``val`` split of their data."""

    every: int = Field(1, ge=1)
    stages: tuple[Stage, ...] = Field((AFTER_AGGREGATION,), min_length=1)
    max_images: int | None = Field(None, ge=1)
    """Only the first so many held-out images of each task."""
    batch_size: int = Field(8, ge=1)
    edges: EdgeProtocol = EdgeProtocol()


class Runtime(Section):
    """Where clients run.

    Only ``threads_per_client`` and ``device`` can change a bit of the results; with ``device: auto`` so does a GPU
    share, which is what puts clients on a GPU.
    """

    backend: Literal["ray", "serial"] = "ray"
    address: str | None = None
    """A running Ray cluster (``auto``, host:port); None starts one on this machine."""
    cpus_per_client: float = Field(1, gt=0)
    gpus_per_client: float = Field(0, ge=0)
    """A share 1/k of one GPU, or a whole number."""
    max_actors: int | None = Field(None, ge=1)
    max_retries: int = Field(3, ge=0)
    """How often a client's turn is run again where its process, its node or what it needs was lost; how often a driver
    that died is started again from the last checkpoint without a round in between."""
    start_timeout: float = Field(600, gt=0)
    """Seconds that a run waits for a first client actor to be placed and to build the models, and, where all were lost,
    for another."""
    threads_per_client: int = Field(1, ge=1)
    device: Literal["auto", "cpu", "cuda"] = "auto"

    @field_validator("gpus_per_client")
    @classmethod
    def _packs(cls, gpus: float) -> float:
        inverse = 1 / gpus if gpus else 1
        if (gpus > 1 and gpus != int(gpus)) or (gpus < 1 and abs(inverse - round(inverse)) > 1e-3 * inverse):
            raise ValueError(f"{gpus:g} of a GPU does not pack; expected 0, 1/k (0.5, 0.25, ...) or a whole number")
        return gpus


class Experiment(Section):
    """The configuration of one run: the sections, and what has to fit between them."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    seed: int = Field(0, ge=0)
    rounds: int = Field(ge=1)
    algorithm: SerializeAsAny[Algorithm]
    data: dict[str, Data] = Field(min_length=1)
    clients: tuple[Clients, ...] = Field(min_length=1)
    clients_per_round: int | None = Field(None, ge=1)
    """Size of the cohort that trains in a round, drawn anew each round; None: everybody."""
    partition: Partition = Partition()
    images: InputSize = InputSize()
    model: ModelSettings = ModelSettings()
    augmentation: Augmentation = Augmentation()
    local: LocalTraining = LocalTraining()
    evaluation: Evaluation = Evaluation()
    checkpoints: Checkpoints = Checkpoints()
    runtime: Runtime = Runtime()
    faults: Faults = Faults()

    @model_validator(mode="after")
    def _known_data(self) -> "Experiment":
        for index, clients in enumerate(self.clients):
            if clients.data not in self.data:
                raise ConfigError(
                    f"clients.{index}.data: {clients.data!r} is not one of data's {', '.join(self.data)}"
                    + hint(clients.data, self.data)
                )
        return self

    @model_validator(mode="after")
    def _a_scheme_has_clients_to_deal_to(self) -> "Experiment":
        if self.partition.scheme != "iid" and all(clients.images is not None for clients in self.clients):
            raise ConfigError(
                f"partition.scheme: {self.partition.scheme} found, but every entry of clients has a number of "
                "images, and those are drawn uniformly; allowed here: iid"
            )
        return self

    @model_validator(mode="after")
    def _a_file_of_weights_is_for_one_encoder(self) -> "Experiment":
        for index, clients in enumerate(self.clients):
            own = clients.encoder or self.model.encoder
            if own != self.model.encoder and self.model.weights not in (None, "torchvision"):
                raise ConfigError(
                    f"clients.{index}.encoder: {own} found, but model.weights is a file for {self.model.encoder}; "
                    "allowed beside several encoders: null, torchvision"
                )
        return self

    @model_validator(mode="after")
    def _only_untrained_resnets_have_another_width(self) -> "Experiment":
        width, weights = self.model.width, self.model.weights
        if width == RESNET_WIDTH:
            return self
        if weights is not None:
            raise ConfigError(
                f"model.width: {width} found, but model.weights is {weights!r}; allowed beside weights: {RESNET_WIDTH}"
            )
        for index, clients in enumerate(self.clients):
            encoder = clients.encoder or self.model.encoder
            if encoder not in RESNETS:
                raise ConfigError(
                    f"model.width: {width} found, but clients.{index} has the encoder {encoder}; "
                    f"allowed there: {RESNET_WIDTH}, or one of {', '.join(RESNETS)}"
                )
        return self

    @model_validator(mode="after")
    def _pyramids_stand_on_stride_32(self) -> "Experiment":
        if self.has_pyramid and self.model.output_stride != 32:
            tasks = sorted({task for clients in self.clients for task in clients.tasks if task in PYRAMID_TASKS})
            raise ConfigError(
                f"model.output_stride: {self.model.output_stride} found, but {', '.join(tasks)} stand on a feature "
                "pyramid, which needs 32"
            )
        return self

    @model_validator(mode="after")
    def _everyone_trains_the_pyramid(self) -> "Experiment":
        if self.model.fpn == "encoder" and self.has_pyramid:
            for index, clients in enumerate(self.clients):
                if not clients.on_pyramid:
                    raise ConfigError(
                        f"model.fpn: encoder found, but the clients of clients.{index} ({', '.join(clients.tasks)}) "
                        "would share a feature pyramid that they never train; allowed here: decoder, auto"
                    )
        return self

    @property
    def client_count(self) -> int:
        """Number of clients."""
        return sum(clients.count for clients in self.clients)

    @property
    def has_pyramid(self) -> bool:
        """Whether a task of any client stands on a feature pyramid."""
        return any(clients.on_pyramid for clients in self.clients)

    def settled(self) -> "Experiment":
        """The same with every `auto` of the model decided."""
        model = self.model
        if model.normalisation == "auto":
            careful = "frozen" if model.weights else "group"
            model = model.model_copy(update={"normalisation": careful if self.has_pyramid else "average"})
        if model.fpn == "auto":
            everyone = all(clients.on_pyramid for clients in self.clients)
            model = model.model_copy(update={"fpn": "encoder" if everyone else "decoder"})
        return self.model_copy(update={"model": model})

    @property
    def algorithm_name(self) -> str:
        """The name by which a configuration finds the algorithm."""
        return algorithm_name(self.algorithm)

    def located(self, folder: Path) -> "Experiment":
        """The same with relative paths made absolute, so that processes elsewhere on the machine find them."""
        data = {
            name: section.model_copy(update={"root": str(folder / section.root)}) for name, section in self.data.items()
        }
        weights = self.model.weights
        if weights not in (None, "torchvision"):
            weights = str(folder / str(weights))
        return self.model_copy(update={"data": data, "model": self.model.model_copy(update={"weights": weights})})

    def resolved(self) -> dict[str, Any]:
        """Every key with its value, defaults included, as plain YAML and JSON types."""
        tree = self.model_dump(mode="json")
        return {**tree, "algorithm": {"name": self.algorithm_name, **tree["algorithm"]}}
