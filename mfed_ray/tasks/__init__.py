"""One file per task: decoder, loss, metric and target bound together. ``mfed_ray.registry`` lists them."""

import difflib
from collections.abc import Mapping

from mfed_ray.errors import ConfigError
from mfed_ray.registry import Registered
from mfed_ray.tasks.contract import Headline, Task

__all__ = ["TASKS", "Headline", "Task", "get_task"]

TASKS: Mapping[str, Task] = Registered("task")
"""The registered tasks by name, in the order in which tables and pages show them."""


def get_task(name: str) -> Task:
    """The task of that name.

    Raises ConfigError, with the nearest name, if there is none.
    """
    if name not in TASKS:
        nearest = difflib.get_close_matches(name, TASKS, n=1)
        hint = f" (did you mean {nearest[0]}?)" if nearest else ""
        raise ConfigError(f"tasks: unknown task {name!r}{hint}, allowed: {', '.join(TASKS)}")
    return TASKS[name]
