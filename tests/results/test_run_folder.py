import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml

from mfed_ray.errors import RunFolderError
from mfed_ray.federation.events import Failure
from mfed_ray.results.failures import append
from mfed_ray.results.run_folder import RunFolder, parse_config
from mfed_ray.results.tables import write_table

CONFIG: dict[str, Any] = {
    "seed": 0,
    "algorithm": {"name": "mfed", "decoder_proximal_weight": 1e-05, "correlation_matrix": None},
    "clients": [{"tasks": ["saliency"], "count": 2}],
    "runtime": {"backend": "ray", "max_actors": 4, "threads_per_client": 1},
}
FREE = frozenset({"runtime.backend", "runtime.max_actors"})


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A folder in which a run of CONFIG began."""
    made = RunFolder(tmp_path / "runs" / "one")
    made.write_config(CONFIG)
    return made


def changed(**sections: Any) -> dict[str, Any]:
    return {
        key: {**CONFIG[key], **new} if isinstance(new, dict) else new for key, new in {**CONFIG, **sections}.items()
    }


@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        changed(runtime={"backend": "serial", "max_actors": None}),
        {key: CONFIG[key] for key in reversed(CONFIG)},
    ],
    ids=["equal", "free keys differ", "other order of keys"],
)
def test_an_equal_run_goes_on(folder: RunFolder, config: dict[str, Any]) -> None:
    folder.check(config, FREE)
    assert yaml.safe_load((folder.path / "config.yaml").read_text()) == CONFIG


@pytest.mark.parametrize(
    ("config", "keys"),
    [
        (changed(seed=1), "seed"),
        (changed(runtime={"threads_per_client": 2, "backend": "serial"}), "runtime.threads_per_client"),
        (
            changed(algorithm={"decoder_proximal_weight": 2e-05, "correlation_matrix": {"a": {"b": 1.0}}}, seed=3),
            "algorithm.correlation_matrix, algorithm.decoder_proximal_weight, seed",
        ),
        (changed(clients=[{"tasks": ["saliency"], "count": 3}]), "clients"),
        ({**CONFIG, "algorithm": {"name": "local"}}, "algorithm.decoder_proximal_weight, algorithm.name"),
        ({**CONFIG, "rounds": 3}, "rounds"),
    ],
)
def test_another_run_is_refused_by_its_differing_keys(folder: RunFolder, config: dict[str, Any], keys: str) -> None:
    message = f"{folder.path} holds a run with another {keys}; choose another folder with --out"
    with pytest.raises(RunFolderError, match=f"^{re.escape(message)}$"):
        folder.check(config, FREE)


def test_a_key_is_free_only_if_it_is_said_to_be(folder: RunFolder) -> None:
    with pytest.raises(RunFolderError, match=r"with another runtime\.backend; choose"):
        folder.check(changed(runtime={"backend": "serial"}), frozenset({"runtime.max_actors"}))


def test_a_new_and_an_empty_folder_are_taken(tmp_path: Path) -> None:
    RunFolder(tmp_path / "new").check(CONFIG, FREE)
    RunFolder(tmp_path).check(CONFIG, FREE)
    assert not any(tmp_path.iterdir())  # a check writes nothing


def test_what_a_kill_leaves_of_a_runs_first_moments_is_no_hindrance(tmp_path: Path) -> None:
    for name in (".lock", ".config.yaml.tmp"):
        (tmp_path / name).touch()
    RunFolder(tmp_path).check(CONFIG, FREE)
    (tmp_path / "mine.tmp").touch()
    with pytest.raises(RunFolderError, match="is no run's folder and not empty"):
        RunFolder(tmp_path).check(CONFIG, FREE)


def test_a_foreign_folder_and_a_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    for path in (tmp_path, tmp_path / "thesis.tex"):
        message = f"{path} is no run's folder and not empty; choose another with --out"
        with pytest.raises(RunFolderError, match=f"^{re.escape(message)}$"):
            RunFolder(path).check(CONFIG, FREE)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"seed: [0", r"config\.yaml: cannot be read as a run's config \(while parsing a flow sequence .*line 1"),
        (b"seed: \xff", r"config\.yaml: cannot be read as a run's config \('utf-8' codec"),
        (b"", r"config\.yaml: expected a run's config, a mapping, found NoneType"),
    ],
)
def test_a_damaged_config_is_named(folder: RunFolder, content: bytes, message: str) -> None:
    (folder.path / "config.yaml").write_bytes(content)
    with pytest.raises(RunFolderError, match=message):
        folder.check(CONFIG, FREE)


def test_config_keeps_its_order_and_its_numbers(folder: RunFolder) -> None:
    text = (folder.path / "config.yaml").read_text()
    assert list(yaml.safe_load(text)) == list(CONFIG)
    assert yaml.safe_load(text)["algorithm"]["decoder_proximal_weight"] == 1e-05


def test_json_files_are_replaced_and_appended_to(folder: RunFolder) -> None:
    folder.write_json("partition.json", {"saliency-0": ["a"]})
    folder.write_json("partition.json", {"saliency-0": ["b", "c"]})
    for start in (1, 2):
        folder.append_json("environment.json", {"start": start})
    assert json.loads((folder.path / "partition.json").read_text()) == {"saliency-0": ["b", "c"]}
    assert json.loads((folder.path / "environment.json").read_text()) == [{"start": 1}, {"start": 2}]
    assert {path.name for path in folder.path.iterdir()} == {"config.yaml", "environment.json", "partition.json"}


def test_a_write_that_fails_leaves_the_old_file(folder: RunFolder) -> None:
    folder.write_json("partition.json", {"saliency-0": ["a"]})
    with pytest.raises(TypeError, match="not JSON serializable"):
        folder.write_json("partition.json", {"saliency-0": {"a", "b"}})
    assert json.loads((folder.path / "partition.json").read_text()) == {"saliency-0": ["a"]}


def test_checkpoints_lie_in_the_folder(folder: RunFolder) -> None:
    assert folder.checkpoints == folder.path / "checkpoints"


def test_a_folder_serves_one_run_at_a_time(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    message = "run: another process runs here; wait for it, or choose another --out"
    with folder.locked(), pytest.raises(RunFolderError, match=message), RunFolder(folder.path).locked(patience=0.0):
        pass
    with folder.locked():
        folder.check({"seed": 0}, frozenset())  # a lock alone makes no run


def test_a_folder_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    message = r"file/run: cannot be written to .*; choose a folder with --out"
    with pytest.raises(RunFolderError, match=message), RunFolder(tmp_path / "file" / "run").locked():
        pass


def test_a_lock_that_is_a_link_changes_no_file(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").symlink_to(tmp_path / "victim")
    with (
        pytest.raises(RunFolderError, match=r"run: cannot be written to \(.*Too many levels of symbolic links"),
        RunFolder(tmp_path / "run").locked(),
    ):
        pass
    assert (tmp_path / "victim").read_text() == "precious"


WRITERS: dict[str, Callable[[Path], object]] = {
    ".config.yaml.tmp": lambda folder: RunFolder(folder).write_config(CONFIG),
    ".partition.json.tmp": lambda folder: RunFolder(folder).write_json("partition.json", {}),
    ".rounds.parquet.tmp": lambda folder: write_table(folder / "rounds.parquet", pa.table({"a": [1]}), {}),
    "failures.jsonl": lambda folder: append(folder, "one", Failure(1, "fit", ("a",), "it died", "dropped")),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_planted_link_is_not_written_through(tmp_path: Path, name: str) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match=rf"Too many levels of symbolic links: .*{name}"):
        WRITERS[name](tmp_path / "run")
    assert (tmp_path / "victim").read_text() == "precious"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("environment.json", "[" * 100_000),
        ("environment.json", "[1]"),
        ("partition.json", '{"a": 1}'),
        ("skipped.json", "[]"),
    ],
)
def test_json_that_is_not_a_runs_is_refused(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(RunFolderError, match=rf"{name}: cannot be read as JSON of a run \(.*choose another folder"):
        RunFolder(tmp_path).read_json(name)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("a0: &a0 [1]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)), "2"),
        ("a: &a [*a]", "inf"),
    ],
)
def test_a_config_of_aliases_of_aliases_is_refused(text: str, values: str) -> None:
    """Each of eight lists holds the one before ten times: 10^8 values in 400 bytes."""
    with pytest.raises(RunFolderError, match=rf"^x: its aliases make {values}\d* values, too many .*allowed: 1000000$"):
        parse_config(io.BytesIO(text.encode()), "x")


def test_a_config_may_have_aliases() -> None:
    assert parse_config(io.BytesIO(b"a: &a [1, 2]\nb: [*a, *a]"), "x") == {"a": [1, 2], "b": [[1, 2], [1, 2]]}


def test_a_config_nested_deeper_than_anything_is_refused() -> None:
    with pytest.raises(RunFolderError, match=r"^x: cannot be read as a run's config"):
        parse_config(io.BytesIO(b"[" * 100_000), "x")
