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
from mfed_ray.federation.events import (
    Evaluated,
    Event,
    Failure,
    Notice,
    Progress,
    Resumed,
    Trained,
    Waiting,
    ends_round,
    named,
)
from mfed_ray.registry import find
from mfed_ray.results.built_in import HEADLINES
from mfed_ray.results.headline import Scores, scores
from mfed_ray.storage import shown

_SHOWN = 8
"""Failures below the live table."""


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
            for line in board.take(event):
                console.print(Text(line), soft_wrap=True)
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


def failure_line(event: Failure) -> str:
    """A failure as one line: where, who, why, and what was done."""
    done = {"retried": "run again", "dropped": "left out of this round", "stopped": "the run ends"}[event.outcome]
    return (
        f"round {event.round}: {event.phase} of {named(event.clients)} failed, {done}: {' '.join(event.error.split())}"
    )


def _waiting_line(event: Waiting) -> str:
    who = f"waiting for {named(event.clients)}" if event.clients else "no process has taken on a client yet"
    return f"round {event.round}: {event.phase}: {who} ({event.seconds:.0f} s without news)"


class _Board:
    def __init__(self, experiment: Experiment, title: str) -> None:
        self._rounds, self._title = experiment.rounds, title
        self._started = time.monotonic()
        self._status = "starting"
        self._last = 0
        self._told_from = 0  # seconds of a wait
        self._told: list[str] = []
        self._failures: list[str] = []
        self.history: list[tuple[int, Scores]] = []

    def take(self, event: Event) -> Sequence[str]:
        """Note an event; what there is to say of it beside a round's numbers."""
        lines: Sequence[str] = ()
        if isinstance(event, Waiting):
            self._status = _waiting_line(event)
            if round(event.seconds) < self._told_from:
                return []
            self._told_from = 2 * round(event.seconds)  # so each line comes after twice the time
            return [self._status]
        self._told_from = 0
        if isinstance(event, Failure | Notice):
            lines = [failure_line(event) if isinstance(event, Failure) else event.text]
            self._failures = [*self._failures, *lines][-_SHOWN:]
        elif isinstance(event, Progress):
            self._status = f"round {event.round}/{self._rounds}: {event.phase} {event.done}/{event.total} clients"
        else:
            lines = event.notes if isinstance(event, Trained | Resumed) else ()
            self._told += lines
            if not isinstance(event, Resumed) and ends_round(event):
                self._last = event.round
                self.history.append((event.round, headlines(event)))
                self._status = f"round {event.round}/{self._rounds} done{self._remaining()}"
        return lines

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
        return Group(table, *map(Text, (*self._told, *self._failures, self._status)))
