"""What a process that trains keeps of its memory."""

import ctypes
import resource
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of glibc's malloc.h
_ONE_GIB = 1 << 30


def keep_freed_memory() -> None:
    """Have the C library keep freed blocks for the next ones, in place of giving them back to the system.

    By default glibc maps every block of 32 MB or more anew, and the system clears each of its pages when it is first
    touched: gradients and activations of a large model pay for that in every step. The process stays as large as it
    has been. Where the C library is another, nothing happens.
    """
    if sys.platform == "linux":
        library = ctypes.CDLL(None)
        if hasattr(library, "mallopt"):
            library.mallopt(_MMAP_THRESHOLD, _ONE_GIB)
            library.mallopt(_TRIM_THRESHOLD, _ONE_GIB)


def peak_memory() -> int:
    """Largest resident size of this process so far, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
