"""The exception tree. Every message names the place, the value found, and what is allowed.

MfedError                 exit code 1: the run failed
├── InputError            exit code 2: the input is wrong, nothing was overwritten
│   ├── ConfigError       a key or value of a YAML file or an override
│   ├── DataError         a dataset folder, an image, a label, a client's shard
│   ├── PlacementError    resources asked for that no node has
│   ├── WeightsError      a weights file that does not fit the encoder
│   └── RunFolderError    a run folder that holds something else
├── ClientError           a client failed while it trained or was evaluated, and would fail again
│   ├── ClientLostError   its process or node was lost, or it was late, which may pass
│   └── ClientMemoryError for want of memory, which may pass
├── AggregationError      what the server made of the clients' updates is not finite
├── CheckpointError       an algorithm's state cannot be written
├── StorageError          a disk is full, a network does not answer; what is there stays as it is
├── DriverError           the driver actor died
├── SweepError            trials of a sweep failed
└── RunInterruptedError   exit code 130: the user stopped a run that can go on

ResultsWarning            a run that cannot be read, or not to its end; the others are
"""


class MfedError(Exception):
    """Base of every error that mfed_ray raises on purpose."""

    exit_code = 1
    may_pass = True
    """Whether the same command may come further another time."""


class InputError(MfedError):
    """The user's input is wrong; the message says where, what, and what is allowed."""

    exit_code = 2
    may_pass = False


class ConfigError(InputError):
    """A configuration key or value is wrong."""


class DataError(InputError):
    """A dataset folder, image, label or client shard is wrong."""


class PlacementError(InputError):
    """The resources asked for exist on no node, or the cluster cannot be joined."""


class WeightsError(InputError):
    """A weights file cannot be read or does not fit the encoder."""


class RunFolderError(InputError):
    """A run folder is missing, unreadable, or holds another experiment."""


class ClientError(MfedError):
    """A client failed while it trained or was evaluated."""

    may_pass = False


class ClientLostError(ClientError):
    """A client's process or node was lost, or did not answer in time."""

    may_pass = True


class ClientMemoryError(ClientError):
    """A client's process or GPU had no memory left for it."""

    may_pass = True


class AggregationError(MfedError):
    """What the server made of the clients' updates is not finite, and would not be another time."""

    may_pass = False


class CheckpointError(MfedError):
    """An algorithm keeps something in its state that a checkpoint cannot hold."""

    may_pass = False


class StorageError(MfedError):
    """A run's folder cannot be written or reached at the moment: a full disk, a network that does not answer."""


class DriverError(MfedError):
    """The driver actor died."""


class SweepError(MfedError):
    """Trials of a sweep failed; the others finished."""


class RunInterruptedError(MfedError):
    """The user stopped a run that can go on."""

    exit_code = 130


class ResultsWarning(UserWarning):
    """A run that could not be read, or is not finished."""
