"""Places on this machine or anywhere else: a path, or a URI that pyarrow or fsspec knows (``s3://bucket/runs``)."""

import re
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import TypeVar
from urllib.parse import unquote

import pyarrow as pa
from pyarrow import fs

from mfed_ray.errors import MfedError, RunFolderError, StorageError

T = TypeVar("T")

_CHECKPOINTS, _INDEX = "checkpoints", "index.json"  # a checkpoint's folder is complete when it has its index
_THREADS = 8
_WRONG = (FileExistsError, FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError, ValueError)
_HIDDEN = "***"
_SECRET = 4  # characters of a secret that is looked for in errors; shorter ones stand in any text
_URI = re.compile(r"\w[\w+.-]*://[^\s'\"()]+")
_ATOMIC = ("s3", "gcs", "abfs")  # an object appears when it is whole; elsewhere a file is renamed when it is


def is_remote(place: str | Path) -> bool:
    """Whether the place is a URI."""
    return "://" in str(place)


def shown(place: str | Path) -> str:
    """The place as it may be shown: a URI without what may be secret, who asks (``user:password@``) and its options.

    Where an ``@`` may end a password or stand in a path, all before it is left out.
    """
    scheme, mark, rest = str(place).partition("://")
    if not mark:
        return scheme
    user = _user(rest)
    path, query, _ = rest[len(user) :].partition("?")
    return scheme + mark + (f"{_HIDDEN}@" if user else "") + path + (query and f"?{_HIDDEN}")


def reason(error: Exception, place: str) -> str:
    """What an error at the place says, as one line without the place's secrets.

    Its cause would tell them in a traceback: whoever raises it again does so ``from None``.
    """
    text = " ".join(str(error).split()).replace(place, shown(place))
    for secret in sorted(_secrets(place), key=len, reverse=True):
        text = text.replace(secret, _HIDDEN)
    return _URI.sub(lambda uri: shown(uri[0]), text)


def refusal(error: Exception, place: str, verb: str, *, was_there: bool = False) -> MfedError:
    """What to raise ``from None`` where a place cannot be ``verb``, for instance read.

    RunFolderError where the place is wrong: nothing there, a file for a folder, no permission. StorageError where it
    does not answer at the moment, whatever the file system says of a place that ``was_there`` before.
    """
    kind = RunFolderError if isinstance(error, _WRONG) and not was_there else StorageError
    return kind(f"{shown(place)}: cannot be {verb} ({reason(error, place)})")


def _user(rest: str) -> str:
    """``user:password@`` at the beginning of what follows a URI's scheme, whatever is unquoted in the password."""
    server = rest.partition("/")[0]
    return rest[: rest.rfind("@") + 1] if "@" in server or ":" in server else ""


def _secrets(place: str) -> set[str]:
    """The parts of what ``shown`` leaves out, as they stand in the URI and unquoted."""
    rest = place.partition("://")[2]
    user = _user(rest)
    options = rest[len(user) :].partition("?")[2]
    parts = [*user.rstrip("@").split(":"), *(pair.partition("=")[2] for pair in options.split("&"))]
    return {form for part in parts for form in (part, unquote(part)) if len(form) >= _SECRET}


def below(place: str, name: str) -> str:
    """The place of a file or folder in another; a URI keeps its query at its end."""
    path, mark, query = place.partition("?") if is_remote(place) else (place, "", "")
    return f"{path}/{name}{mark}{query}"


def locate(place: str | Path) -> tuple[fs.FileSystem, str]:
    """The file system of a place, and the place's path there. Raises RunFolderError where no such system is known."""
    if not is_remote(place):
        return fs.LocalFileSystem(), str(Path(place).absolute())
    try:
        found: tuple[fs.FileSystem, str] = fs.FileSystem.from_uri(str(place))
    except (OSError, pa.ArrowException) as error:
        found = _through_fsspec(str(place), error)
    return found


def _through_fsspec(place: str, first: Exception) -> tuple[fs.FileSystem, str]:
    import fsspec  # type: ignore[import-untyped] # only for schemes that pyarrow does not know

    try:
        system, path = fsspec.core.url_to_fs(place)
    except (OSError, ValueError, ImportError) as error:
        raise RunFolderError(
            f"{shown(place)}: cannot be reached ({reason(first, place)}; {reason(error, place)}); expected a path, or "
            "a URI that pyarrow or fsspec knows, as s3://bucket/folder"
        ) from None
    return fs.PyFileSystem(fs.FSSpecHandler(system)), path


def files_below(system: fs.FileSystem, root: str) -> dict[str, fs.FileInfo]:
    """Every file below a folder by its path from there; none where there is no such folder. Raises OSError."""
    found = system.get_file_info(fs.FileSelector(root, recursive=True, allow_not_found=True))
    start = len(root.rstrip("/")) + 1
    return {info.path[start:]: info for info in found if info.type == fs.FileType.File}


def _check_inside(names: Iterable[str]) -> None:
    """Raises ValueError for a name that leads out of the folder: an object store allows any text as a name."""
    for name in names:
        if {"", ".", ".."} & set(name.split("/")):
            raise ValueError(f"has a file named {name!r}, which would lie outside of its folder")


class Mirror:
    """A place that holds a copy of a local folder, such that whoever finds it at any moment can go on from it.

    Whatever has a name that begins with a dot stays where it is. A folder ``checkpoints/round_NNNNNN`` counts only with
    its ``index.json``, which is sent after all else and removed before all else. Raises as ``refusal`` where the place
    cannot be read or written.
    """

    def __init__(self, place: str) -> None:
        self._place = place
        self._system, self._root = locate(place)
        self._same: dict[str, _State] = {}  # the local files that the place has too, as they were then

    def pull(self, folder: Path) -> None:
        """Make the folder equal to the place: what is not there, is not in the folder afterwards either."""
        remote = self._try("read", self._listed)
        folder.mkdir(parents=True, exist_ok=True)
        for name in _states(folder).keys() - remote:
            (folder / name).unlink()
            _drop_empty((folder / name).parent, folder)
        self._each("read", lambda name: self._fetch(name, folder), remote)
        self._same = _states(folder)

    def push(self, folder: Path) -> None:
        """Make the place equal to the folder: new and changed files are sent, then those that are gone are removed.

        The place may hold other files, which stay: only what this mirror pulled or pushed can be gone.
        """
        local = _states(folder)
        changed = [name for name, state in local.items() if self._same.get(name) != state]
        for names in _in_order(changed):
            self._each("written to", lambda name: self._send(name, folder), names)
        for names in reversed(_in_order(self._same.keys() - local)):
            self._each("written to", lambda name: self._system.delete_file(self._path(name)), names)
        self._same = local

    def _listed(self) -> set[str]:
        names = files_below(self._system, self._root)
        _check_inside(names)
        return _complete(names)

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def _fetch(self, name: str, folder: Path) -> None:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        fs.copy_files(self._path(name), str(target.absolute()), self._system, fs.LocalFileSystem())

    def _send(self, name: str, folder: Path) -> None:
        source, target = str((folder / name).absolute()), PurePosixPath(self._path(name))
        if self._system.type_name in _ATOMIC:
            fs.copy_files(source, str(target), fs.LocalFileSystem(), self._system)
            return
        temporary = str(target.with_name(f".{target.name}.tmp"))
        self._system.create_dir(str(target.parent), recursive=True)
        fs.copy_files(source, temporary, fs.LocalFileSystem(), self._system)
        self._system.move(temporary, str(target))

    def _each(self, verb: str, do: Callable[[str], None], names: Iterable[str]) -> None:
        with ThreadPoolExecutor(_THREADS) as pool:
            self._try(verb, lambda: list(pool.map(do, names)))

    def _try(self, verb: str, do: Callable[[], T]) -> T:
        try:
            return do()
        except (OSError, ValueError, pa.ArrowException) as error:
            raise refusal(error, self._place, verb, was_there=bool(self._same)) from None


def read_text(place: str) -> str | None:
    """A text file at a path or URI; None where there is none. Raises as ``refusal``."""
    system, path = locate(place)
    try:
        with system.open_input_stream(path) as stream:
            return str(stream.read(), "utf-8")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, pa.ArrowException) as error:
        raise refusal(error, place, "read") from None


def replace_text(place: str, text: str) -> None:
    """Write a text file at a path or URI, whole or not at all. Raises as ``refusal``."""
    system, path = locate(place)
    target = PurePosixPath(path)
    written = path if system.type_name in _ATOMIC else str(target.with_name(f".{target.name}.tmp"))
    try:
        system.create_dir(str(target.parent), recursive=True)
        with system.open_output_stream(written) as stream:
            stream.write(text.encode())
        if written != path:
            system.move(written, path)
    except (OSError, pa.ArrowException) as error:
        raise refusal(error, place, "written to") from None


_State = tuple[int, int]  # size and time of the last change: a file that is replaced gets another


def _states(folder: Path) -> dict[str, _State]:
    found = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        if not any(part.startswith(".") for part in name.parts) and path.is_file():
            found[name.as_posix()] = (path.stat().st_size, path.stat().st_mtime_ns)
    return found


def _complete(names: Iterable[str]) -> set[str]:
    """Without what is hidden, and checkpoints that lack their index."""
    shown = {name for name in names if not any(part.startswith(".") for part in name.split("/"))}
    return {name for name in shown if not _is_state(name) or str(PurePosixPath(name).with_name(_INDEX)) in shown}


def _in_order(names: Collection[str]) -> tuple[list[str], list[str], list[str]]:
    """Tables, then the states of checkpoints, then the indices that make these count."""
    states = [name for name in names if _is_state(name)]
    indices = [name for name in states if PurePosixPath(name).name == _INDEX]
    return [name for name in names if name not in states], [name for name in states if name not in indices], indices


def _is_state(name: str) -> bool:
    return PurePosixPath(name).parent.parent.name == _CHECKPOINTS


def _drop_empty(folder: Path, root: Path) -> None:
    """Remove the folder, and those above it up to the root, where nothing is in them."""
    while folder != root and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent
