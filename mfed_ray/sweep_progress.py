"""A sweep's progress: a line for each trial that ends."""

from collections.abc import Callable

from rich.console import Console
from rich.text import Text

from mfed_ray.storage import shown
from mfed_ray.sweep import Sweep
from mfed_ray.sweep.points import label
from mfed_ray.sweep.tuning import TrialEvent


def following(sweep: Sweep, place: str) -> Callable[[TrialEvent], None]:
    """A callback that tells a sweep: a line for each trial that ends; on a terminal also where the others are."""
    console = Console()
    console.print(Text(f"{sweep.name}: {sweep.search.method} search, in {shown(place)}"), soft_wrap=True)

    def tell(event: TrialEvent) -> None:
        entry = event.entry
        score = "" if entry.objective is None else f", {sweep.objective} {entry.objective:+.4g}"
        line = f"{event.ended}/{event.total} {label(entry.point)}: {entry.state}, round {entry.round}/{event.rounds}"
        line += score + (f" ({entry.message})" if entry.message else "")
        if entry.state != "running":
            console.print(Text(line), soft_wrap=True)
        elif console.is_terminal:
            console.print(Text(line[: console.width - 1].ljust(console.width - 1)), end="\r")

    return tell
