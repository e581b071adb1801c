"""Seeds derived from what they are for, so that no result depends on who ran first."""

import hashlib

import numpy as np


def derive(*parts: str | int) -> int:
    """A 63-bit seed that is a pure function of ``parts``, for instance (run seed, "shuffle", client, round)."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(*parts: str | int) -> np.random.Generator:
    """A NumPy generator seeded with ``derive(*parts)``."""
    return np.random.default_rng(derive(*parts))
