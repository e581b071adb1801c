"""Commands that are measured: run to their end or ended with all that they started, and their memory."""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.surroundings import ROOT


@dataclass(frozen=True)
class Called:
    """A command that has ended: its exit status, its wall time, and the most memory of its tree, if it was asked for.

    Memory is the sum of PSS over the command and all its descendants at one moment: a page that several processes share
    counts once, divided among them.
    """

    status: int
    seconds: float
    peak_memory_bytes: int


def call(
    command: Sequence[str],
    log: Path,
    environment: Mapping[str, str],
    patience: float = 900.0,
    sample_seconds: float | None = None,
) -> Called:
    """Run the command in the checkout's root, what it prints going to ``log``; after ``patience`` seconds it is ended.

    It sees no GPU, finds no running Ray, sends no statistics, and has ``environment`` besides. With ``sample_seconds``
    its memory is looked at that often, which slows it down: do not time it as well.
    """
    began, peak = time.perf_counter(), 0
    with log.open("w") as file:
        process = psutil.Popen(command, cwd=ROOT, env={**_environment(), **environment}, stdout=file, stderr=file)
        try:
            while time.perf_counter() - began < patience:
                try:
                    process.wait(sample_seconds or patience)
                    break
                except psutil.TimeoutExpired:
                    peak = max(peak, memory(process))
        finally:
            seconds = time.perf_counter() - began
            end(process)
        status = process.wait()
    return Called(status, seconds, peak)


def _environment() -> dict[str, str]:
    """This process's, and what all commands have in common."""
    kept = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    silent = {"RAY_USAGE_STATS_ENABLED": "0", "FLWR_TELEMETRY_ENABLED": "0"}
    return {**kept, **silent, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}


def memory(process: psutil.Process) -> int:
    """Bytes of the process and all its descendants, shared pages counted once."""
    return sum(_proportional(one) for one in tree(process))


def end(process: psutil.Process) -> None:
    """End the process and all its descendants."""
    for one in tree(process):
        try:
            one.kill()
        except psutil.NoSuchProcess:
            continue


def tree(process: psutil.Process) -> list[psutil.Process]:
    """The process and all its descendants that are alive."""
    try:
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _proportional(process: psutil.Process) -> int:
    """PSS; 0 for a process that has just ended."""
    try:
        return int(process.memory_full_info().pss)
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0


def last_lines(log: Path) -> str:
    """The end of what a command printed."""
    return log.read_text(encoding="utf-8", errors="replace")[-2000:]
