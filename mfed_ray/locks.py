"""Files in folders that others may have written into, some of which processes lock."""

import os
from pathlib import Path
from typing import IO


def not_followed(path: str, flags: int) -> int:
    """For ``open(opener=...)``: the file itself, never what a link in its place points to. Raises OSError."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


def open_lock(path: Path) -> IO[str]:
    """The file to lock, made if need be. Nothing in it is changed, and no link is followed. Raises OSError."""
    return open(path, "a", encoding="utf-8", opener=not_followed)
