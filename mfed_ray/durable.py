"""Files that outlast a loss of power, and not only the process that wrote them."""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from errno import EINVAL
from pathlib import Path

_THREADS = 8  # one after the other, a hundred small files wait a hundred times for the disk


def flush(paths: Iterable[Path]) -> None:
    """Bring what files hold, and which names folders have, from the system's memory to the disk. Raises OSError."""
    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(_flush, paths))


def replace(temporary: Path, final: Path) -> None:
    """Give a file another's name, such that at any moment the one or the other is there, whole. Raises OSError.

    The new name itself is on the disk once its folder is flushed.
    """
    _flush(temporary)
    os.replace(temporary, final)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != EINVAL:  # a file system that cannot do it, as some that are mounted through FUSE
            raise
    finally:
        os.close(descriptor)
