"""The one way in which this package compiles a function: numba, cached on disk, free of the interpreter lock."""

from collections.abc import Callable
from contextlib import suppress
from typing import ParamSpec, TypeVar, cast

from numba import njit

P = ParamSpec("P")
R = TypeVar("R")


def jit(function: Callable[P, R]) -> Callable[P, R]:
    """``function`` compiled on its first call; its annotations survive, which numba's own decorator loses.

    The machine code is cached beside the source or, where that folder is read-only, in the user's cache folder;
    where there is neither, every process compiles for itself.
    """
    compiled = njit(nogil=True)(function)
    # What numba raises where it finds no folder for its cache, at import time.
    with suppress(RuntimeError):
        compiled.enable_caching()
    return cast("Callable[P, R]", compiled)
