"""Results made by hand, real small runs, and a headless Chromium driven through a pipe: no port, no library."""

import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mfed_ray.driver import run
from mfed_ray.experiment import Experiment
from mfed_ray.report import write_report
from mfed_ray.report.study import Study, studies
from mfed_ray.report.style import styled
from mfed_ray.results.loading import Results, load
from mfed_ray.results.tables import CORRELATIONS, FAILURES, FUSING, ROUNDS
from mfed_ray.tasks import TASKS

MakeExperiment = Callable[..., Experiment]


def _results(runs: Sequence[Mapping[str, Any]]) -> Results:
    """Results of runs told by ``algorithm``, ``seed``, ``values``: by task, each client's values from round 0 on.

    And where it matters ``floors`` (by task, each client's), ``keys`` (dotted), ``planned`` rounds, ``stage``,
    ``experiment``, ``seconds`` and ``bytes`` of every round, ``correlations`` (round, group, other, value, fused),
    ``fusing`` (round, group, other, block, agreement, own and fused length).
    """
    metrics: list[dict[str, Any]] = []
    rounds: list[dict[str, Any]] = []
    correlations: list[dict[str, Any]] = []
    fusing: list[dict[str, Any]] = []
    folders = {}
    for one in runs:
        keys = one.get("keys", {})
        short = [f"{key.removeprefix('algorithm.')}={value}" for key, value in keys.items()]
        last = len(next(iter(one["values"].values()))[0]) - 1
        experiment = one.get("experiment", "trial")
        digest = "d" + "".join(short).replace("-", "m")  # a run's id has dashes between its parts
        run_id = "-".join([experiment, one["algorithm"], "setting", digest, f"seed{one['seed']}"])
        about = {
            "run_id": run_id,
            "experiment": experiment,
            "algorithm": one["algorithm"],
            "seed": one["seed"],
            "rounds": one.get("planned", last),
            "variant": " ".join([one["algorithm"], *short]),
            **keys,
        }
        metrics += [{**about, **row} for row in _metric_rows(one)]
        cost = dict(zip(ROUNDS, ("", 0, *one.get("seconds", (1, 1, 1)), *one.get("bytes", (10, 20)), 0), strict=True))
        rounds += [{**about, **cost, "run_id": run_id, "round": number} for number in range(last + 1)]
        names = ("round", "group", "other", "correlation", "fused")
        correlations += [{**about, **dict(zip(names, row, strict=True))} for row in one.get("correlations", ())]
        fusing += [{**about, **dict(zip([*FUSING][1:], row, strict=True))} for row in one.get("fusing", ())]
        folders[run_id] = f"/nowhere/{run_id}"
    extra = ["experiment", "algorithm", "seed", "rounds", "variant"]
    return Results(
        pd.DataFrame(metrics),
        pd.DataFrame(rounds, columns=None if rounds else [*ROUNDS, *extra]),
        pd.DataFrame(correlations, columns=None if correlations else [*CORRELATIONS, *extra]),
        pd.DataFrame(fusing, columns=None if fusing else [*FUSING, *extra]),
        pd.DataFrame(columns=[*FAILURES, *extra]),
        folders,
        [],
    )


def _metric_rows(one: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for task, clients in one["values"].items():
        for client, values in enumerate(clients):
            for number, value in enumerate(values):
                stage = one.get("stage", "after_aggregation") if number else "after_aggregation"
                row = (number, stage, f"{task}-{client}", task, "scenes", "val")
                told = dict(zip(("round", "stage", "client", "task", "dataset", "split"), row, strict=True))
                headline = vars(TASKS[task].headline)
                yield {**told, **headline, "value": value, "headline": True, "setting": "setting"}
                other = {"metric": "other", "value": 99.0, "headline": False}  # no figure shows it
                yield {**told, **other, "higher_is_better": None, "setting": "setting"}
            for floor in one.get("floors", {}).get(task, [])[client : client + 1]:
                told |= {"round": 0, "stage": "floor"}
                yield {**told, **headline, "value": floor, "headline": True, "setting": "setting"}


def _study(*runs: Mapping[str, Any]) -> Study:
    (study,) = studies(_results(runs))
    return study


@pytest.fixture(scope="session")
def make_results() -> Callable[[Sequence[Mapping[str, Any]]], Results]:
    """``_results`` above."""
    return _results


@pytest.fixture(scope="session")
def make_study() -> Callable[..., Study]:
    """``make_study(run, ...)``: the one experiment of such results."""
    return _study


@pytest.fixture
def style() -> Iterator[None]:
    """Figures as reports have them."""
    with styled():
        yield


@pytest.fixture(scope="session")
def real_runs(tmp_path_factory: pytest.TempPathFactory, tiny: MakeExperiment) -> Path:
    """Three finished runs of a federation of three tasks: local, and M-Fed with two regularisation weights."""
    folder = tmp_path_factory.mktemp("runs")
    algorithms = [{"name": "local"}, *({"name": "mfed", "decoder_proximal_weight": weight} for weight in (0.01, 0.1))]
    tasks = ("semantic_segmentation", "saliency", "surface_normals")
    small = {
        "rounds": 1,
        "clients": [{"tasks": [task], "data": "scenes"} for task in tasks],
        "local": {"max_steps": 1},
        "model": {"width": 64},  # a narrow one finds nothing yet, and no change in percent is of nothing
        "evaluation": {"max_images": 1, "stages": ["after_aggregation"]},
    }
    for number, algorithm in enumerate(algorithms):
        for _ in run(tiny(algorithm=algorithm, **small), folder / str(number)):
            pass
    return folder


@pytest.fixture(scope="session")
def real_page(real_runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Their report."""
    (file,) = write_report(load(real_runs), tmp_path_factory.mktemp("page") / "report.html")
    return file


class Browser:
    """One page of a running Chromium; ``events`` are those that it has reported so far."""

    def __init__(self, process: "subprocess.Popen[bytes]", commands: int, replies: int) -> None:
        self._process, self._commands, self._replies = process, commands, replies
        self._buffer, self._number, self._session = b"", 0, ""
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command of the DevTools protocol; its result."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while (reply := self._next()).get("id") != self._number:
            self.events.append(reply)
        assert "error" not in reply, reply
        result: dict[str, Any] = reply["result"]
        return result

    def open(self, path: Path, width: int, height: int = 900) -> None:
        """Load the page in a window of this size in CSS pixels."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **metrics)
        self.events.clear()
        self.call("Page.navigate", url=path.as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._next())

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"]["value"]

    def _next(self) -> dict[str, Any]:
        deadline = time.monotonic() + 30
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._replies], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, "Chromium does not answer"
            self._buffer += os.read(self._replies, 1 << 20)
        message, _, self._buffer = self._buffer.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Skips where this machine has no Chromium."""
    names = ("chromium", "chromium-browser", "google-chrome")
    binary = next((path for name in names if (path := shutil.which(name))), None)
    if binary is None:
        pytest.skip(f"none of {', '.join(names)} found")
    to_child, commands = os.pipe()
    replies, from_child = os.pipe()
    profile = tmp_path_factory.mktemp("chromium")
    flags = "--headless=new --no-sandbox --disable-gpu --no-first-run --disable-background-networking"
    start = f'exec "$0" {flags} --remote-debugging-pipe --user-data-dir="$1" 3<&{to_child} 4>&{from_child}'
    with subprocess.Popen(
        ["bash", "-c", start, binary, str(profile)], pass_fds=(to_child, from_child), stderr=subprocess.DEVNULL
    ) as process:
        os.close(to_child)
        os.close(from_child)
        try:
            yield Browser(process, commands, replies)
        finally:
            process.terminate()
            process.wait(20)
            os.close(commands)
            os.close(replies)
