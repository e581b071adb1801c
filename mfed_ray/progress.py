"""A run's progress: a live table on a terminal, plain lines elsewhere."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mfed_ray.evaluation import AFTER_AGGREGATION, BEFORE_AGGREGATION, Headline
from mfed_ray.experiment import Experiment
from mfed_ray.federation.simulation import Evaluated, Event, Progress, Trained, ends_round
from mfed_ray.registry import find
from mfed_ray.results.built_in import HEADLINES
from mfed_ray.results.headline import Scores, scores
from mfed_ray.storage import shown


def show(events: Iterator[Event], experiment: Experiment, folder: str | Path) -> None:
    """Follow a run to its end."""
    console = Console()
    place = shown(folder)
    title = f"{experiment.name}: {experiment.algorithm_name}, seed {experiment.seed}, in {place}"
    board = _Board(experiment, title)
    if console.is_terminal:
        with Live(board.render(), console=console, refresh_per_second=4) as live:
            for event in events:
                board.take(event)
                live.update(board.render())
    else:
        console.print(Text(title), soft_wrap=True)
        for event in events:
            board.take(event)
            for note in _notes(event):
                console.print(Text(note), soft_wrap=True)
            if ends_round(event):
                console.print(Text(board.line()), soft_wrap=True)
    if not board.history:
        console.print(Text(f"already finished: {experiment.rounds} rounds in {place}"), soft_wrap=True)


def counting(label: str) -> Callable[[int, int], None]:
    """A callback that counts on the terminal's last line; elsewhere it says once that the work has begun."""
    console = Console()

    def count(done: int, total: int) -> None:
        if console.is_terminal:
            console.print(Text(f"{label} {done}/{total}"), end="\n" if done == total else "\r")
        elif done == 1:
            console.print(Text(f"{label}: {total}"), soft_wrap=True)

    return count


def counting_by_file(label: str) -> Callable[[Path, int, int], None]:
    """As ``counting``, anew for each file."""
    counters: dict[Path, Callable[[int, int], None]] = {}

    def count(path: Path, done: int, total: int) -> None:
        counters.setdefault(path, counting(f"{label} {path.name}"))(done, total)

    return count


def headlines(event: Trained | Evaluated) -> Scores:
    """Each task's headline metric in a round, by the rule of ``mfed_ray.results.headline``."""
    stage = AFTER_AGGREGATION if isinstance(event, Evaluated) else BEFORE_AGGREGATION
    return scores(
        (stage, task, metrics[_headline(task).metric])
        for client in event.reports
        for task, metrics in client.held_out.items()
    )


def _headline(task: str) -> Headline:
    """What the task is judged by. The package's own are not imported for it: a process that looks on needs no torch."""
    return HEADLINES[task] if task in HEADLINES else find("task", task).headline


def _notes(event: Event) -> Sequence[str]:
    return event.notes if isinstance(event, Trained) else ()


class _Board:
    def __init__(self, experiment: Experiment, title: str) -> None:
        self._rounds, self._title = experiment.rounds, title
        self._started = time.monotonic()
        self._status = "starting"
        self._last = 0
        self._told: list[str] = []
        self.history: list[tuple[int, Scores]] = []

    def take(self, event: Event) -> None:
        """Note an event."""
        self._told += _notes(event)
        if isinstance(event, Progress):
            self._status = f"round {event.round}/{self._rounds}: {event.phase} {event.done}/{event.total} clients"
        elif ends_round(event):
            self._last = event.round
            self.history.append((event.round, headlines(event)))
            self._status = f"round {event.round}/{self._rounds} done{self._remaining()}"

    def _remaining(self) -> str:
        finished = self._last - self.history[0][0]
        if finished < 1 or self._last == self._rounds:
            return ""
        seconds = (time.monotonic() - self._started) / (finished + 1) * (self._rounds - self._last)
        return f", about {math.ceil(seconds)} s to go"

    def line(self) -> str:
        """The last round as one line."""
        number, values = self.history[-1]
        cells = (f"  {task} {_headline(task).metric} {value:.4f}" for task, value in values.items())
        return f"round {number}/{self._rounds}{''.join(cells)}  [{time.monotonic() - self._started:.0f} s]"

    def render(self) -> Group:
        """Every task's headline metric at the first round shown, now, and at its best."""
        table = Table(title=Text(self._title, style="table.title"), title_justify="left")
        for column in ("task", "metric", "first", "now", "best"):
            table.add_column(column, justify="left" if column in ("task", "metric") else "right")
        seen = [values for _, values in self.history if values]
        for task in dict.fromkeys(task for values in seen for task in values):  # a cohort need not have every task
            headline = _headline(task)
            values = [one[task] for one in seen if task in one]
            best = (max if headline.higher_is_better else min)(values)
            arrow = "" if headline.higher_is_better else " (lower is better)"
            table.add_row(task, headline.metric + arrow, *(f"{value:.4f}" for value in (values[0], values[-1], best)))
        return Group(table, *map(Text, self._told), Text(self._status))
