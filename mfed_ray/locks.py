"""Files that processes lock, in folders that others may have written into."""

import os
from pathlib import Path
from typing import IO


def open_lock(path: Path) -> IO[str]:
    """The file to lock, made if need be. Nothing in it is changed, and no link is followed. Raises OSError."""
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666), "w")
