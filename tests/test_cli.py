"""The real command in processes of its own: exit codes, one clear sentence, resume after a kill."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from mfed_ray.algorithms import ALGORITHMS
from mfed_ray.cli import main
from mfed_ray.results.loading import load_results

MFED = [sys.executable, "-m", "mfed_ray"]


@pytest.fixture
def config(tiny_tree: dict[str, Any], tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(tiny_tree))
    return path


def mfed(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*MFED, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=300)


def here(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str]:
    """The same entry point in this process: exit code and standard error."""
    with pytest.raises(SystemExit) as stop:
        main([*map(str, arguments)])
    return int(stop.value.code or 0), capsys.readouterr().err


def test_run_then_results(config: Path, tmp_path: Path) -> None:
    for algorithm in ("local", "mfed"):
        done = mfed(
            "run", config, "rounds=1", f"algorithm={{name: {algorithm}}}", "--out", tmp_path / "out" / algorithm
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert "round 1/1  semantic_segmentation miou 0." in done.stdout
    again = mfed("run", config, "rounds=1", "--out", tmp_path / "out" / "mfed")
    assert again.returncode == 0
    assert "already finished: 1 rounds in" in again.stdout
    table = json.loads(mfed("results", tmp_path / "out", "--format", "json").stdout)
    assert [row["variant"] for row in table] == ["local", "mfed"]
    assert table[0]["Delta_m [%] mean"] == 0.0


def test_a_run_lives_at_a_uri_as_it_does_in_a_folder(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    place = f"file://{tmp_path}/there"
    assert here(capsys, "run", config, "rounds=1", "--out", place) == (0, "")
    assert here(capsys, "run", config, "rounds=1", "--out", "folder") == (0, "")
    pd.testing.assert_frame_equal(load_results(place), load_results("folder"), check_exact=True)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name in ("there", "folder", "file:")) == [
        "folder",
        "there",
    ]
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "there").rglob("*")}
    assert here(capsys, "run", config, "rounds=1", "--out", place) == (0, "")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "there").rglob("*")} == before
    code, told = here(capsys, "run", config, "rounds=2", "--out", place)
    assert (code, told) == (2, f"mfed: {place} holds a run with another rounds; choose another folder with --out\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.yaml"], "nowhere.yaml: cannot be read"),
        (["SWEEP", "spaec.seed=[1]"], "spaec: unknown key; did you mean 'space'?"),
        (["SWEEP", "experiment.rounds=0"], "trial seed=0: rounds: input should be greater than or equal to 1, found 0"),
        (["SWEEP", "--out", "s4://bucket/x"], "s4://bucket/x/sweep.yaml: cannot be reached"),
    ],
)
def test_what_is_wrong_with_a_sweep_is_one_sentence(
    config: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    tree = {"name": "s", "experiment": {"base": str(config)}, "space": {"seed": [0, 1]}}
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    before = sorted(tmp_path.iterdir())
    code, told = here(capsys, "sweep", *("sweep.yaml" if one == "SWEEP" else one for one in arguments))
    assert code == 2
    assert told.startswith(f"mfed: {message}")
    assert told.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.usefixtures("ray_cluster")
def test_ray_run_resumes_after_a_kill_and_equals_an_undisturbed_one(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """SIGKILL leaves no time to tidy up; the same command goes on and the tables come out the same."""
    command = [*MFED, "run", str(config), "rounds=3", "runtime.backend=ray", "--out", str(tmp_path / "killed")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(tmp_path / "killed" / "checkpoints", "round_000001")
    process.send_signal(signal.SIGKILL)
    process.wait()
    with pytest.raises(SystemExit) as stop:  # here, where a Ray runs already
        main(command[len(MFED) :])
    assert stop.value.code in (0, None)
    shown = capsys.readouterr().out
    assert "round 3/3" in shown
    assert "round 0/3" not in shown
    assert here(capsys, "run", config, "rounds=3", "--out", tmp_path / "whole") == (0, "")
    killed, whole = (load_results(tmp_path / name) for name in ("killed", "whole"))
    pd.testing.assert_frame_equal(killed, whole, check_exact=True)
    assert len(json.loads((tmp_path / "killed" / "environment.json").read_text())) == 2


def test_interrupt_says_how_to_go_on(config: Path, tmp_path: Path) -> None:
    command = [*MFED, "run", str(config), "rounds=1000", "--out", str(tmp_path / "run")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    wait_for(tmp_path / "run" / "checkpoints", "round_000001")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (
        130,
        "mfed: interrupted; the same command goes on from the last finished round\n",
    )


def wait_for(folder: Path, name: str) -> None:
    """Until a checkpoint of this round or a later one is there."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if any(path.name >= name for path in folder.glob("round_*")):
            return
        time.sleep(0.05)
    raise AssertionError(f"no {name} in {folder}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["roundz=3"], "roundz: unknown key; did you mean 'rounds'?"),
        (["local.learning_rat=1"], "local.learning_rat: unknown key; did you mean 'learning_rate'?"),
        (
            ["rounds=many"],
            "rounds: input should be a valid integer, unable to parse string as an integer, found 'many'",
        ),
        (["algorithm={name: fedaverage}"], f"algorithm.name: 'fedaverage' is not one of {', '.join(ALGORITHMS)}, "),
        (["data.scenes.root=/nowhere/at/all"], "/nowhere/at/all"),
        (["clients=[{tasks: [saliency], data: scenes, count: 40}]"], "partition"),
        (["runtime.backend=ray", "runtime.gpus_per_client=64"], "runtime.gpus_per_client: 64: no node has room"),
        (["rounds"], "override 'rounds': expected KEY=VALUE"),
    ],
)
@pytest.mark.usefixtures("ray_cluster")
def test_wrong_input_is_one_sentence_and_exit_code_2(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    code, errors = here(capsys, "run", config, *arguments, "--out", tmp_path / "out")
    assert code == 2
    assert errors.startswith("mfed: ")
    assert message in errors
    assert errors.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "missing.yaml"], "mfed: missing.yaml: cannot be read"),
        (["results", "missing"], "mfed: missing: no such folder"),
        (
            ["results", ".", "--format", "word"],
            "mfed: --format: 'word' is not one of table, csv, markdown, latex, json",
        ),
        (["run"], "Missing argument 'EXPERIMENT.yaml'"),
        (["fly"], "No such command 'fly'"),
        (["data", "generate", "x", "--size", "8"], "mfed: size: 8 found, must be from 32 to 1024 pixels"),
    ],
)
def test_wrong_commands(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    code, errors = here(capsys, *arguments)
    assert code == 2
    assert message in errors


def test_debug_shows_the_traceback() -> None:
    done = mfed("--debug", "run", "missing.yaml")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out
    assert all(command in shown for command in ("run", "results", "data", "doctor"))


def test_data_generate(tmp_path: Path) -> None:
    done = mfed("data", "generate", tmp_path / "set", "--images", "4", "--size", "32")
    assert done.returncode == 0
    assert done.stdout.endswith(f"4 images of 32 px in {tmp_path / 'set'}\n")
    assert len(list((tmp_path / "set" / "JPEGImages").iterdir())) == 4


@pytest.mark.usefixtures("ray_cluster")
def test_doctor_says_where_clients_would_go(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for override, where in (
        ("runtime.backend=ray", "placement: 4 clients on 4 actors (4 on "),
        ("runtime.backend=serial", "placement: 4 clients one after the other in one process (runtime.backend: serial)"),
    ):
        with pytest.raises(SystemExit):
            main(["doctor", str(config), override])
        shown = capsys.readouterr().out
        assert "versions: mfed-ray" in shown
        assert where in shown
