"""JSON that somebody else may have written."""

import json
from typing import Any


def from_json(text: str | bytes) -> Any:
    """What a text says. Raises ValueError, also where it is nested too deep."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("its lists and objects lie too deep in each other") from error
