"""The configuration of an experiment: every key, its type, its default and what is allowed."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, ValidationError, field_validator, model_validator

from mfed_ray.algorithms import ALGORITHMS, algorithm_name, find_algorithm
from mfed_ray.algorithms.contract import Algorithm
from mfed_ray.data.partition import Partition
from mfed_ray.data.transforms import OWN_SIZE, Augmentation, InputSize
from mfed_ray.errors import ConfigError
from mfed_ray.evaluation import AFTER_AGGREGATION, Stage
from mfed_ray.models.contract import DecoderSettings, PanopticMerge
from mfed_ray.models.encoders import ENCODERS
from mfed_ray.tasks import TASKS


class Section(BaseModel):
    """A part of the configuration: immutable, unknown keys forbidden."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _check_tasks(tasks: Iterable[str]) -> None:
    for task in tasks:
        if task not in TASKS:
            raise ValueError(f"{task!r} is not one of {', '.join(TASKS)}" + _nearest(task, list(TASKS)))


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


_DATA: dict[str, type[Section]] = {
    "pascal_context": PascalContextData,
    "coco": CocoData,
    "generated": GeneratedData,
}
Data = Annotated[PascalContextData | CocoData | GeneratedData, Field(discriminator="format")]


class Clients(Section):
    """``count`` clients with the same tasks on shards of the same data."""

    tasks: tuple[str, ...] = Field(min_length=1)
    data: str
    count: int = Field(1, ge=1)
    encoder: str | None = None
    """Another encoder than ``model.encoder``."""

    @field_validator("encoder")
    @classmethod
    def _known_encoder(cls, name: str | None) -> str | None:
        if name is not None and name not in ENCODERS:
            raise ValueError(f"{name!r} is not one of {', '.join(ENCODERS)}" + _nearest(name, list(ENCODERS)))
        return name

    @field_validator("tasks")
    @classmethod
    def _known(cls, tasks: tuple[str, ...]) -> tuple[str, ...]:
        _check_tasks(tasks)
        if len(set(tasks)) < len(tasks):
            raise ValueError(f"a task stands twice in {list(tasks)}")
        return tuple(sorted(tasks))


def _stands_on_pyramid(clients: Clients) -> bool:
    return any(TASKS[task].pyramid for task in clients.tasks)


class PartitionSettings(Section):
    """How a dataset's training images are dealt to clients; see ``mfed_ray.data.partition``."""

    scheme: Literal["iid", "quantity", "label"] = "iid"
    alpha: float = 0.5
    """Dirichlet concentration of ``quantity`` and ``label``: smaller is more skewed."""
    minimum: int = 1
    """Fewest images of a shard."""
    across: Literal["dataset", "task"] = "dataset"
    """Disjoint among all clients of a dataset, or among those of one task group only (tasks then share images)."""

    @model_validator(mode="after")
    def _check(self) -> "PartitionSettings":
        self.build()
        return self

    def build(self) -> Partition:
        """The partition that deals the images."""
        return Partition(self.scheme, self.alpha, self.minimum)


class PanopticSettings(Section):
    """How objects and stuff become one panoptic map; see ``mfed_ray.models.contract.PanopticMerge``."""

    overlap: float = Field(0.5, ge=0, le=1)
    stuff_area: int = Field(4096, ge=0)
    score: float = Field(0.5, ge=0, le=1)


class Model(Section):
    """Encoder, decoders, and the one normalisation policy."""

    encoder: str = "resnet50"
    output_stride: Literal[8, 16, 32] = 16
    weights: str | None = None
    """None, ``torchvision``, or a .safetensors or .pth file."""
    normalisation: Literal["auto", "average", "local", "frozen", "group"] = "auto"
    """`auto`: `average`; with COCO's tasks, whose batches are small, `frozen` if there are weights, else `group`."""
    decoder: Literal["aspp", "light"] = "aspp"
    """Body of the decoders of PASCAL-Context's tasks; those of COCO's have their own."""
    decoder_width: int = Field(256, ge=8)
    """Channels of the decoders' layers; of COCO's the standard ones at 256, and in proportion else."""
    detector_normalisation: Literal["group"] | None = None
    """Of the feature pyramid and detectors' heads. None: nothing, as in Mask R-CNN, except under the policy `group`;
    `group`: GroupNorm, which learns in fewer steps."""
    fpn: Literal["auto", "encoder", "decoder"] = "auto"
    """Where the feature pyramid of COCO's tasks stands: shared with the encoder, or each decoder's own. `auto`: with
    the encoder if every client trains it there."""
    fpn_width: int = Field(256, ge=8)
    anchor_size: float = Field(32, gt=0)
    """Side of the finest anchors in pixels; each of the four further levels doubles it."""
    box_samples: int = Field(512, ge=1)
    """Boxes per image that a detector's box head is trained on."""
    score_threshold: float = Field(0.05, ge=0, lt=1)
    """Objects below are not given out."""
    max_detections: int = Field(100, ge=1)
    """Objects given out per image, at most."""
    panoptic: PanopticSettings = PanopticSettings()

    def decoder_settings(self) -> DecoderSettings:
        """What the decoders are built from."""
        return DecoderSettings(
            style=self.decoder,
            width=self.decoder_width,
            normalisation=self.normalisation,
            detector_normalisation=self.detector_normalisation,
            pyramid_width=self.fpn_width,
            anchor_size=self.anchor_size,
            box_samples=self.box_samples,
            score_threshold=self.score_threshold,
            max_detections=self.max_detections,
            panoptic=PanopticMerge(**dict(self.panoptic)),
        )


class Images(Section):
    """The size at which the network sees images, in training (before augmentation) and evaluation alike.

    Predictions and metrics are in the images' own size.
    """

    short_side: int | None = None
    """Pixels of the shorter side; None: the images' own size."""
    long_side: int = 1333
    """Pixels of the longer side, at most."""

    @model_validator(mode="after")
    def _check(self) -> "Images":
        self.build()
        return self

    def build(self) -> InputSize:
        """The input size."""
        return InputSize(self.short_side, self.long_side)


class AugmentationSettings(Section):
    """Training augmentation; crops are square. See ``mfed_ray.data.transforms``."""

    crop_size: int = 512
    scale: tuple[float, float] = (0.5, 2.0)
    flip: float = 0.5
    colour: float = 0.2

    @model_validator(mode="after")
    def _check(self) -> "AugmentationSettings":
        self.build()
        return self

    def build(self, input_size: InputSize = OWN_SIZE) -> Augmentation:
        """The augmentation of images at ``input_size``."""
        return Augmentation(self.crop_size, self.scale, self.flip, self.colour, input_size)


class LocalSettings(Section):
    """A client's training in one round."""

    epochs: int = Field(1, ge=1)
    max_steps: int | None = Field(None, ge=1)
    batch_size: int = Field(8, ge=1)
    optimizer: Literal["sgd", "adamw"] = "adamw"
    learning_rate: float = Field(1e-4, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    """SGD's momentum, AdamW's beta1."""
    weight_decay: float = Field(1e-4, ge=0)
    schedule: Literal["constant", "polynomial", "cosine"] = "constant"
    optimizer_state: Literal["reset", "keep"] = "reset"
    gradient_clip: float | None = Field(None, gt=0)
    loss_weights: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    """By task; the literature's weights where absent."""
    loading_workers: int = Field(0, ge=0)

    @field_validator("loss_weights")
    @classmethod
    def _known(cls, weights: dict[str, float]) -> dict[str, float]:
        _check_tasks(weights)
        return weights


class Evaluation(Section):
    """When clients are evaluated on the ``val`` split of their data."""

    every: int = Field(1, ge=1)
    stages: tuple[Stage, ...] = Field((AFTER_AGGREGATION,), min_length=1)
    max_images: int | None = Field(None, ge=1)
    """Only the first so many held-out images of each task."""
    batch_size: int = Field(8, ge=1)


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
    """One run."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    seed: int = Field(0, ge=0)
    rounds: int = Field(ge=1)
    algorithm: SerializeAsAny[Algorithm]
    data: dict[str, Data] = Field(min_length=1)
    clients: tuple[Clients, ...] = Field(min_length=1)
    clients_per_round: int | None = Field(None, ge=1)
    """Size of the cohort that trains in a round, drawn anew each round; None: everybody."""
    partition: PartitionSettings = PartitionSettings()
    images: Images = Images()
    model: Model = Model()
    augmentation: AugmentationSettings = AugmentationSettings()
    local: LocalSettings = LocalSettings()
    evaluation: Evaluation = Evaluation()
    runtime: Runtime = Runtime()

    @model_validator(mode="after")
    def _known_data(self) -> "Experiment":
        for index, clients in enumerate(self.clients):
            if clients.data not in self.data:
                raise ConfigError(
                    f"clients.{index}.data: {clients.data!r} is not one of data's {', '.join(self.data)}"
                    + _nearest(clients.data, list(self.data))
                )
        return self

    @model_validator(mode="after")
    def _one_structure_per_group(self) -> "Experiment":
        for index, clients in enumerate(self.clients):
            own, others = clients.encoder or self.model.encoder, self.encoder_of(clients.tasks)
            if own != others:
                raise ConfigError(
                    f"clients.{index}.encoder: {own} found, but other clients of {', '.join(clients.tasks)} have "
                    f"{others}; clients of the same tasks share one model structure"
                )
            if own != self.model.encoder and self.model.weights not in (None, "torchvision"):
                raise ConfigError(
                    f"clients.{index}.encoder: {own} found, but model.weights is a file for {self.model.encoder}; "
                    "allowed beside several encoders: null, torchvision"
                )
        return self

    @model_validator(mode="after")
    def _pyramids_stand_on_stride_32(self) -> "Experiment":
        if self.has_pyramid and self.model.output_stride != 32:
            tasks = sorted({task for one in self.clients for task in one.tasks if TASKS[task].pyramid})
            raise ConfigError(
                f"model.output_stride: {self.model.output_stride} found, but {', '.join(tasks)} stand on a feature "
                "pyramid, which needs 32"
            )
        return self

    @model_validator(mode="after")
    def _everyone_trains_the_pyramid(self) -> "Experiment":
        if self.model.fpn == "encoder" and self.has_pyramid:
            for index, one in enumerate(self.clients):
                if not _stands_on_pyramid(one):
                    raise ConfigError(
                        f"model.fpn: encoder found, but the clients of clients.{index} ({', '.join(one.tasks)}) would "
                        "share a feature pyramid that they never train; allowed here: decoder, auto"
                    )
        return self

    @property
    def has_pyramid(self) -> bool:
        """Whether a task of any client stands on a feature pyramid."""
        return any(_stands_on_pyramid(one) for one in self.clients)

    def settled(self) -> "Experiment":
        """The same with every `auto` of the model decided."""
        model = self.model
        if model.normalisation == "auto":
            careful = "frozen" if model.weights else "group"
            model = model.model_copy(update={"normalisation": careful if self.has_pyramid else "average"})
        if model.fpn == "auto":
            everyone = all(_stands_on_pyramid(one) for one in self.clients)
            model = model.model_copy(update={"fpn": "encoder" if everyone else "decoder"})
        return self.model_copy(update={"model": model})

    def encoder_of(self, tasks: Sequence[str]) -> str:
        """Name of the encoder of the clients with these tasks; of any other tasks, the one that all clients have."""
        by_tasks = {one.tasks: one.encoder or self.model.encoder for one in self.clients}
        return by_tasks.get(tuple(sorted(tasks)), next(iter(by_tasks.values())))

    @property
    def algorithm_name(self) -> str:
        """The name by which a configuration finds the algorithm."""
        return algorithm_name(self.algorithm)

    def located(self, folder: Path) -> "Experiment":
        """The same with relative paths made absolute, so that processes elsewhere on the machine find them."""
        data = {name: one.model_copy(update={"root": str(folder / one.root)}) for name, one in self.data.items()}
        weights = self.model.weights
        if weights not in (None, "torchvision"):
            weights = str(folder / str(weights))
        return self.model_copy(update={"data": data, "model": self.model.model_copy(update={"weights": weights})})

    def resolved(self) -> dict[str, Any]:
        """Every key with its value, defaults included, as plain YAML and JSON types."""
        tree = self.model_dump(mode="json")
        return {**tree, "algorithm": {"name": self.algorithm_name, **tree["algorithm"]}}


def parse_experiment(tree: Mapping[str, Any]) -> Experiment:
    """Check a plain tree. Raises ConfigError that names every wrong key, its value, and what is allowed."""
    rest = {key: value for key, value in tree.items() if key != "algorithm"}
    algorithm = _parse_algorithm(tree.get("algorithm"))
    try:
        return Experiment.model_validate({**rest, "algorithm": algorithm}).settled()
    except ValidationError as error:
        raise ConfigError(sentences(error, Experiment)) from error


def _parse_algorithm(tree: Any) -> Algorithm:
    if not isinstance(tree, Mapping) or "name" not in tree:
        raise ConfigError(f"algorithm: expected a mapping with a name ({', '.join(ALGORITHMS)}), found {tree!r}")
    kind = find_algorithm(str(tree["name"]))
    try:
        return kind.model_validate({key: value for key, value in tree.items() if key != "name"})
    except ValidationError as error:
        raise ConfigError(sentences(error, kind, ("algorithm",))) from error


def sentences(error: ValidationError, model: type[BaseModel], prefix: tuple[str, ...] = ()) -> str:
    """What is wrong, key by key, and what is allowed there."""
    found = error.errors()
    inner = {one["loc"][:depth] for one in found for depth in range(len(one["loc"]))}
    # a list none of whose entries is valid counts as empty to pydantic: what is wrong is said at the entries
    told = [one for one in found if one["type"] != "too_short" or one["loc"] not in inner]
    return "; ".join(_sentence(dict(one), model, prefix) for one in told)


def _sentence(one: dict[str, Any], model: type[BaseModel], prefix: tuple[str, ...]) -> str:
    loc = one["loc"]
    place = [*loc[:2], *loc[3:]] if loc[:1] == ("data",) else loc  # the third part is the format's name, not a key
    key = ".".join(str(part) for part in (*prefix, *place))
    if one["type"] == "extra_forbidden":
        allowed = _allowed(model, loc[:-1])
        return f"{key}: unknown key{_nearest(str(place[-1]), allowed)} (allowed: {', '.join(allowed)})"
    if one["type"].startswith("union_tag"):
        return f"{key}.format: {one['input'].get('format')!r} is not one of {', '.join(_DATA)}"
    if one["type"] == "missing":
        return f"{key}: missing, and has no default"
    if one["type"] in ("model_type", "model_attributes_type"):
        return f"{key}: expected a mapping, found {one['input']!r}"
    message = str(one["msg"]).removeprefix("Value error, ")
    told = one["type"] == "value_error" or isinstance(one["input"], BaseModel)  # our own sentences name the value
    found = "" if told else f", found {one['input']!r}"
    return f"{key}: {message[:1].lower()}{message[1:]}{found}" if key else message


def _allowed(model: type[BaseModel], loc: Sequence[Any]) -> list[str]:
    """Field names of the section at ``loc``."""
    in_collections: dict[str, type[BaseModel]] = {"clients": Clients, **_DATA}
    section = model
    for part in loc:
        section = in_collections.get(part) or _nested(section, part) or section
    is_algorithm = section is model and issubclass(model, Algorithm)
    return [*(("name",) if is_algorithm else ()), *section.model_fields]


def _nested(section: type[BaseModel], key: Any) -> type[BaseModel] | None:
    """The section that stands at a field, if one does."""
    field = section.model_fields.get(key)
    found = field.annotation if field else None
    return found if isinstance(found, type) and issubclass(found, BaseModel) else None


def _nearest(name: str, allowed: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, allowed, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""
