"""Task groups of an experiment: what tells models of the same tasks apart, and how each group's is made."""

from typing import NamedTuple

from mfed_ray.errors import ConfigError
from mfed_ray.experiment.schema import Clients, Experiment
from mfed_ray.messages import group_name


class Structure(NamedTuple):
    """What may differ between the models of task groups: the encoder's name, and the decoders' width."""

    encoder: str
    decoder_width: int


def structure_of(experiment: Experiment, group: str) -> Structure:
    """The structure of the task group's model; of any other name, that of the first clients.

    Raises ConfigError for another name where clients have decoders of several widths.
    """
    found = {
        group_name(clients.tasks, model_name(experiment, clients)): _structure(experiment, clients)
        for clients in experiment.clients
    }
    if group not in found and len({one.decoder_width for one in found.values()}) > 1:
        raise ConfigError(
            f"clients.decoder_width: clients have decoders of several widths, but {group} is trained as one model; "
            "give them one width, or take another algorithm"
        )
    return found.get(group, next(iter(found.values())))


def model_name(experiment: Experiment, clients: Clients) -> str:
    """``ClientSpec.model`` of the clients of an entry, such as `resnet18`, `w16` or `resnet18-w16`.

    It has what the entry has other than ``model``. It is empty where all clients of these tasks have one structure.
    """
    own = _structure(experiment, clients)
    if all(_structure(experiment, other) == own for other in experiment.clients if other.tasks == clients.tasks):
        return ""
    usual = experiment.model
    encoder = own.encoder if own.encoder != usual.encoder else ""
    width = f"w{own.decoder_width}" if own.decoder_width != usual.decoder_width else ""
    return "-".join(filter(None, (encoder, width)))


def _structure(experiment: Experiment, clients: Clients) -> Structure:
    usual = experiment.model
    return Structure(clients.encoder or usual.encoder, clients.decoder_width or usual.decoder_width)
