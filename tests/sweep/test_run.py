"""Sweeps that run for real, on the tests' Ray."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import ray
import yaml
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from mfed_ray import load_results
from mfed_ray.errors import ConfigError, PlacementError, RunFolderError, SweepError
from mfed_ray.federation import checkpoint
from mfed_ray.federation.checkpoint import Checkpoint
from mfed_ray.progress import headlines
from mfed_ray.results.delta import delta_m, gain
from mfed_ray.results.recorder import is_evaluated
from mfed_ray.results.run_folder import RunFolder
from mfed_ray.sweep import Sweep, load_sweep
from mfed_ray.sweep.ledger import Ledger
from mfed_ray.sweep.planning import plan
from mfed_ray.sweep.points import label
from mfed_ray.sweep.trial import check_shared, reserved
from mfed_ray.tasks import TASKS
from tests.results.conftest import whole_table
from tests.rounds import Round
from tests.sweep.conftest import MakeSweep, run_all

Rounds = list[tuple[Round, Checkpoint]]

pytestmark = pytest.mark.usefixtures("ray_cluster")

SWEEPS = Path(__file__).resolve().parents[2] / "sweeps"
TWO_ROUNDS: dict[str, Any] = {"rounds": 2, "evaluation": {"stages": ["after_aggregation"], "max_images": 1}}

WATCHED = '''
"""FedAvg whose clients write down when they trained, and on which GPU."""

import json
import os
import time

import ray

from mfed_ray.algorithms.contract import Fit
from mfed_ray.algorithms.fedavg import FedAvg


class Watched(FedAvg, frozen=True):
    log: str

    def fit(self, trainer, instruction, state) -> Fit:
        started = time.time()
        done = super().fit(trainer, instruction, state)
        entry = {"pid": os.getpid(), "gpus": ray.get_gpu_ids(), "driver": os.getppid(), "times": [started, time.time()],
                 "group": ray.util.get_current_placement_group().id.hex()}
        with open(self.log, "a") as file:
            file.write(json.dumps(entry) + "\\n")
        return done
'''

FAULTY = '''
"""FedAvg whose server fails in round 2: for want of a network the first time only, or always, or as a client whose loss
is NaN would; or dies there, with the whole process."""

import os
import signal
from pathlib import Path

from mfed_ray.algorithms.fedavg import FedAvg
from mfed_ray.errors import ClientError, StorageError


class Faulty(FedAvg, frozen=True):
    marker: str

    def aggregate(self, state, updates, probe):
        marker = Path(self.marker)
        seen = len(marker.read_text()) if marker.exists() else 0
        marker.parent.mkdir(exist_ok=True)
        marker.write_text("x" * (seen + 1))
        if seen == 1 and marker.name == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if seen == 1 and marker.name == "once":
            raise StorageError("the network broke")
        if seen and marker.name == "diverged":
            raise ClientError("the loss is nan")
        if seen and marker.name == "always":
            raise RuntimeError("the server broke")
        return super().aggregate(state, updates, probe)
'''


MARKERS = ("once", "always", "killed", "diverged")
SERVERS: list[dict[str, Any]] = [{"name": "average"}, {"name": "adam", "learning_rate": 0.1}]


def finished_rounds(place: Path) -> dict[str, pd.DataFrame]:
    """By trial, the rows of the rounds that its checkpoint says are whole, wall times included.

    A last round that was killed while it was evaluated is not finished: it is evaluated again.
    """
    found = {}
    for run in sorted((place / "trials").iterdir()):
        last = checkpoint.latest_round(run / "checkpoints")
        if last is not None:
            rows = whole_table(run, "rounds")
            finished = last if is_evaluated(RunFolder(run), last) else last - 1
            found[run.name] = rows[rows["round"] <= finished]
    return found


def table(place: Path) -> pd.DataFrame:
    frame: pd.DataFrame = load_results(place)
    return frame.astype(str).sort_values(list(frame.columns)).reset_index(drop=True)


def test_a_killed_sweep_goes_on_and_ends_as_an_undisturbed_one(tiny_file: Path, tmp_path: Path) -> None:
    """SIGKILL leaves no time to tidy up. Seconds of a round that is trained again would differ."""
    overrides = [
        f"experiment.base={tiny_file}",
        "experiment.rounds=2",
        "experiment.evaluation={max_images: 1, stages: [after_aggregation]}",
        "experiment.local.max_steps=1",
        "experiment.clients=[{tasks: [saliency], data: scenes}, {tasks: [surface_normals], data: scenes}]",
        "experiment.runtime.backend=serial",
        "space.algorithm.decoder_proximal_weight=[0.0, 0.1]",
        "space.algorithm.correlation_threshold=[-1.0, 0.5]",
        "space.seed=[0, 1]",
        "baselines=[{algorithm: {name: local}}]",
    ]
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    command = [sys.executable, "-m", "mfed_ray", "sweep", str(SWEEPS / "mfed_lambda_tau.yaml"), *overrides]
    with subprocess.Popen([*command, "--out", str(killed)], stdout=subprocess.DEVNULL) as process:
        while sum(entry.state == "finished" for entry in Ledger(str(killed))) < 4:
            assert process.poll() is None
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
    before = finished_rounds(killed)
    assert 4 <= len(before) < 10
    sweep = load_sweep(SWEEPS / "mfed_lambda_tau.yaml", overrides)
    events = run_all(sweep, killed)
    assert {event.entry.state for event in events} == {"running", "finished"}
    run_all(sweep, whole)
    after = finished_rounds(killed)
    assert len(after) == 10
    for name, rows in before.items():
        pd.testing.assert_frame_equal(after[name][after[name]["round"].isin(rows["round"])], rows)
    pd.testing.assert_frame_equal(table(killed), table(whole))
    assert run_all(sweep, killed) == []


def test_two_trials_share_two_gpus_and_none_is_overbooked(
    tiny_sweep: MakeSweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four trials of four clients, a quarter of a GPU each: two trials at a time, whose actors serve the next two."""
    (tmp_path / "watched.py").write_text(WATCHED, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    log = tmp_path / "log"
    sweep = tiny_sweep(
        {"seed": [0, 1, 2, 3]},
        {
            "algorithm": {"name": "watched:Watched", "log": str(log)},
            "runtime": {"backend": "ray", "gpus_per_client": 0.25, "cpus_per_client": 0.25, "device": "cpu"},
        },
    )
    free: list[float] = []
    run_all_sampled(sweep, tmp_path / "sweep", free)
    fits = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    assert len(fits) == 16
    actors = {fit["pid"]: (tuple(fit["gpus"]), fit["group"]) for fit in fits}
    assert len(actors) == 8, "four actors for each of two trials at a time, kept for the next two"
    shares: dict[Any, float] = defaultdict(float)
    for gpus, _ in actors.values():
        (gpu,) = gpus
        shares[gpu] += 0.25
    assert shares == {0: 1.0, 1: 1.0}
    groups = defaultdict(list)
    for fit in fits:
        groups[fit["group"]].append(fit["times"])
    assert len(groups) == 2
    assert min(free) == 0.0, "the samples saw both GPUs full"


def run_all_sampled(sweep: Sweep, place: Path, free: list[float]) -> None:
    """Run the sweep, and sample how much of the two GPUs is free meanwhile."""
    done = threading.Event()

    def sample() -> None:
        while not done.wait(0.1):
            free.append(ray.available_resources().get("GPU", 0.0))

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        run_all(sweep, place)
    finally:
        done.set()
        sampler.join()


@pytest.mark.parametrize(
    ("runtime", "error", "message"),
    [
        (
            {"backend": "ray", "gpus_per_client": 3},
            PlacementError,
            r"^trial seed=0: runtime.cpus_per_client: 0.5, runtime.gpus_per_client: 3: no node has room",
        ),
        (
            {"backend": "serial", "cpus_per_client": 64},
            PlacementError,
            "^trial seed=0: runtime.cpus_per_client: 64, runtime.gpus_per_client: 0: no node has room",
        ),
        (
            {"backend": "ray", "gpus_per_client": 0.4},
            ConfigError,
            "^trial seed=0: runtime.gpus_per_client: 0.4 of a GPU does not pack; expected 0, 1/k",
        ),
    ],
)  # fmt: skip
def test_what_fits_nowhere_is_refused_within_ten_seconds_and_before_anything_is_written(
    tiny_sweep: MakeSweep, tmp_path: Path, runtime: dict[str, Any], error: type[Exception], message: str
) -> None:
    started = time.monotonic()
    with pytest.raises(error, match=message):
        run_all(tiny_sweep({"seed": [0, 1]}, {"runtime": runtime}), tmp_path / "sweep")
    assert time.monotonic() - started < 10
    assert not (tmp_path / "sweep").exists()


def test_a_placement_group_that_holds_no_client_is_told_and_not_waited_for() -> None:
    """What Ray itself would answer by waiting for ever."""
    group = placement_group([{"CPU": 0.5}, {"CPU": 0.25, "GPU": 0.25}, {"CPU": 0.5, "GPU": 0.25}])
    inside = PlacementGroupSchedulingStrategy(group, 0, placement_group_capture_child_tasks=True)
    asking = ray.remote(num_cpus=0.5, scheduling_strategy=inside)(reserved)
    message = (
        r"runtime.cpus_per_client: 1, runtime.gpus_per_client: 0.5: none of the 3 bundles of the trial's placement"
    )
    try:
        assert ray.get(asking.remote(0.5, 0.25)) == 1
        assert ray.get(asking.remote(0.25, 0.0)) == 3
        with pytest.raises(PlacementError, match=message):
            ray.get(asking.remote(1, 0.5))
    finally:
        remove_placement_group(group)


def test_a_folder_that_a_trial_does_not_see_is_told(tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").touch()
    check_shared(str(tmp_path))
    check_shared("s3://bucket/sweep")
    with pytest.raises(
        RunFolderError, match=r"elsewhere: not to be seen on .*, where a trial was placed; choose with --out"
    ):
        check_shared(f"{tmp_path}/elsewhere")


def test_a_failed_trial_goes_on_from_its_last_round_and_the_others_finish(
    tiny_sweep: MakeSweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "faulty.py").write_text(FAULTY, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    missing = {"scenes": {"format": "pascal_context", "root": str(tmp_path / "nowhere")}}
    trials = [
        *({"name": name, "algorithm": {"name": "faulty:Faulty", "marker": str(tmp_path / name)}} for name in MARKERS),
        {"name": "missing", "data": missing},
    ]
    place = tmp_path / "sweep"
    with pytest.raises(SweepError, match=r"^3 trials failed, the same command tries again: experiment=") as failed:
        run_all(tiny_sweep({"experiment": trials}, TWO_ROUNDS), place)
    assert "experiment=always: RuntimeError: the server broke" in str(failed.value)
    assert "experiment=diverged: the loss is nan" in str(failed.value)
    assert f"experiment=missing: data.scenes: {tmp_path / 'nowhere'}" in str(failed.value)
    entries = {label(entry.point): (entry.state, entry.round) for entry in Ledger(str(place))}
    assert entries == {
        "experiment=once": ("finished", 2),
        "experiment=always": ("failed", 1),
        "experiment=killed": ("finished", 2),
        "experiment=diverged": ("failed", 1),
        "experiment=missing": ("failed", 0),
    }
    for name in ("once", "killed"):
        (again,) = place.glob(f"trials/experiment={name}*")
        starts = json.loads((again / "environment.json").read_text(encoding="utf-8"))
        assert len(starts) == 2, "begun, and begun again"
        assert (tmp_path / name).read_text(encoding="utf-8") == "xxx", "round 1 once, round 2 twice"
    assert (tmp_path / "always").read_text(encoding="utf-8") == "xxx", "round 1 once, round 2 in vain, twice"
    assert (tmp_path / "diverged").read_text(encoding="utf-8") == "xx", "would come again: not retried"


def test_asha_stops_trials_and_a_resumed_sweep_leaves_them_stopped(
    tiny_sweep: MakeSweep, serially: Callable[..., Rounds], tmp_path: Path
) -> None:
    """One trial at a time, so that the second is compared with the first, which is the better one after a round."""
    keys: dict[str, Any] = {
        "objective": "delta_m",
        "baselines": [{"algorithm": {"name": "local"}}],
        "scheduler": {"name": "asha", "reduction_factor": 2},
        "max_concurrent": 1,
        "log_to": ["tensorboard"],
    }
    local, *two = (
        headlines(serially(experiment, until=1)[1][0].last)
        for experiment in plan(tiny_sweep({"algorithm.server": SERVERS}, TWO_ROUNDS, **keys)).experiments.values()
    )
    gains = [
        delta_m([float(gain(values[task], local[task], TASKS[task].headline.higher_is_better)) for task in local])
        for values in two
    ]
    worse, better = sorted(zip(gains, SERVERS, strict=True), key=lambda pair: pair[0])
    place = tmp_path / "sweep"
    ordered = {"algorithm.server": [better[1], worse[1]]}
    events = run_all(tiny_sweep(ordered, TWO_ROUNDS, **keys), place)
    ended = [event.entry for event in events if event.entry.state != "running"]
    assert [entry.state for entry in ended] == ["finished", "finished", "stopped"]
    assert ended[2].objective == pytest.approx(worse[0], abs=1e-9)
    stopped = events[-1].entry
    assert (stopped.round, events[-1].rounds, events[-1].ended, events[-1].total) == (1, 2, 3, 3)
    assert checkpoint.latest_round(place / "trials" / stopped.folder / "checkpoints") == 1
    assert list((place / "logs").rglob("events.out.tfevents.*"))
    assert run_all(tiny_sweep(ordered, TWO_ROUNDS, **keys), place) == []
    wider = {"algorithm.server": [*ordered["algorithm.server"], {"name": "momentum"}]}
    again = run_all(tiny_sweep(wider, TWO_ROUNDS, **keys), place)
    entries = {event.entry.folder: event.entry for event in again if event.entry.state != "running"}
    assert entries[stopped.folder] == stopped, "told again from its folder, not trained"
    assert len(entries) == 3


def test_optuna_proposes_and_goes_on_with_what_it_has_learned(tiny_sweep: MakeSweep, tmp_path: Path) -> None:
    place = f"file://{tmp_path}/sweep"
    space = {"local.learning_rate": {"log_uniform": [1e-4, 1e-2]}, "seed": {"choice": [0, 1]}}

    def searched(samples: int) -> list[dict[str, Any]]:
        keys = {"objective": "surface_normals", "search": {"method": "optuna", "samples": samples}}
        run_all(tiny_sweep(space, **keys), place)
        assert {entry.state for entry in Ledger(place)} == {"finished"}
        assert all(entry.objective is not None and entry.objective < 0 for entry in Ledger(place)), (
            "degrees: less is more"
        )
        return [dict(entry.point) for entry in Ledger(place)]

    first = searched(2)
    assert len(first) == 2
    assert all(1e-4 <= point["local.learning_rate"] <= 1e-2 and point["seed"] in (0, 1) for point in first)
    more = searched(3)
    assert more[:2] == first
    assert len(more) == 3
    assert load_results(place)["run_id"].nunique() == 3


def test_a_folder_of_something_else_is_refused(tiny_sweep: MakeSweep, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    with pytest.raises(RunFolderError, match="is no run's folder and not empty; choose another with --out"):
        run_all(tiny_sweep({"seed": [0]}), tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    (other / "sweep.yaml").write_text(
        yaml.safe_dump(tiny_sweep({"seed": [0]}, {"rounds": 7}).resolved()), encoding="utf-8"
    )
    with pytest.raises(
        RunFolderError, match=r"other holds a sweep with another experiment.rounds; choose another folder"
    ):
        run_all(tiny_sweep({"seed": [0]}), other)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"log_to": ["mlflow"]}, r"^log_to: mlflow needs the package mlflow: pip install 'mfed-ray\[mlflow\]'$"),
        ({"log_to": ["wandb"]}, r"^log_to: wandb needs the package wandb: pip install 'mfed-ray\[wandb\]'$"),
    ],
)
def test_an_optional_package_that_is_not_there_is_named(
    tiny_sweep: MakeSweep, tmp_path: Path, keys: dict[str, Any], message: str
) -> None:
    if importlib.util.find_spec(keys["log_to"][0]):
        pytest.skip(f"{keys['log_to'][0]} is installed")
    with pytest.raises(ConfigError, match=message):
        run_all(tiny_sweep({"seed": [0]}, **keys), tmp_path / "sweep")


def test_the_median_rule_stops_a_trial_that_learns_nothing(tiny_sweep: MakeSweep, tmp_path: Path) -> None:
    """Both start with the same error in degrees; at round 1 the second still has it, and the first, which is all that
    it is compared with, less: so its best objective is below the first's mean over rounds 0 and 1."""
    sweep = tiny_sweep(
        {"local.learning_rate": [3e-3, 1e-9]},
        {**TWO_ROUNDS, "local": {"max_steps": 6}},
        objective="surface_normals",
        scheduler={"name": "median", "min_trials": 1},
        max_concurrent=1,
    )
    ended = [event.entry for event in run_all(sweep, tmp_path) if event.entry.state != "running"]
    assert [(entry.state, entry.round) for entry in ended] == [("finished", 2), ("stopped", 1)]
