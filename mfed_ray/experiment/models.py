"""Models of an experiment: the network of each task group, and the parameters that it starts from."""

from collections.abc import Mapping, Sequence
from functools import partial

from mfed_ray.experiment.groups import structure_of
from mfed_ray.experiment.schema import Experiment
from mfed_ray.loaded_model import float_values
from mfed_ray.messages import ClientSpec, Params, group_name
from mfed_ray.models.contract import Decoder, Encoder
from mfed_ray.models.encoders import make_encoder
from mfed_ray.models.multitask import MultiTaskModel, build_model
from mfed_ray.models.normalisation import private_names
from mfed_ray.models.pyramid import PyramidEncoder, detector_policy
from mfed_ray.models.settings import ModelSettings
from mfed_ray.params import encoder_of
from mfed_ray.tasks import get_task


def make_model(experiment: Experiment, tasks: Sequence[str], model: str = "") -> MultiTaskModel:
    """A model with freshly initialised decoders for ``tasks``, on the CPU; ``model``: as ``ClientSpec`` has it."""
    structure = structure_of(experiment, group_name(sorted(tasks), model))
    settings = experiment.model.model_copy(update={"decoder_width": structure.decoder_width})
    decoders = {task: partial(_make_decoder, task, settings) for task in tasks}
    encoder = partial(_make_encoder, experiment.model, structure.encoder)
    return build_model(encoder, decoders, experiment.seed)


def make_encoder_model(experiment: Experiment, encoder: str) -> MultiTaskModel:
    """A model of the encoder of that name alone, without decoders, on the CPU."""
    return build_model(partial(_make_encoder, experiment.model, encoder), {}, experiment.seed)


def _make_decoder(task: str, settings: ModelSettings, channels: Mapping[str, int]) -> Decoder:
    return get_task(task).make_decoder(channels, settings)


def _make_encoder(settings: ModelSettings, name: str) -> Encoder:
    """The encoder, with the feature pyramid on it unless each decoder has its own."""
    encoder = make_encoder(name, settings.output_stride, settings.weights, settings.normalisation, settings.width)
    if settings.fpn == "decoder":
        return encoder
    return PyramidEncoder(encoder, settings.fpn_width, detector_policy(settings))


def make_initial(experiment: Experiment, clients: Sequence[ClientSpec]) -> dict[str, Params]:
    """The initial model of each task group, less what never leaves a client."""
    initial: dict[str, Params] = {}
    encoders: dict[str, Params] = {}
    for client in clients:
        if client.group not in initial:
            model = make_model(experiment, client.tasks, client.model)
            private = private_names(model, experiment.model.normalisation)
            values = {name: value for name, value in float_values(model).items() if name not in private}
            # groups with one encoder hold the same arrays, not equal ones
            encoder = encoders.setdefault(structure_of(experiment, client.group).encoder, encoder_of(values))
            initial[client.group] = {**values, **encoder}
    return initial
