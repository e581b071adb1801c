import re
import traceback
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec  # type: ignore[import-untyped]
import pytest

from mfed_ray.errors import RunFolderError, StorageError
from mfed_ray.storage import Mirror, files_below, is_remote, locate, reason, refusal, shown


@pytest.fixture(params=["file", "local", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place that is not there yet: through pyarrow, and through fsspec, which calls it ``local`` too."""
    if request.param == "memory":
        return f"memory://{uuid4().hex}/run"  # memory outlives a test
    return f"{request.param}://{tmp_path}/remote/run"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run's folder after round 1."""
    made = tmp_path / "run"
    put(made, "metrics.parquet", "one")
    put(made, ".lock", "")
    checkpoint(made, 1)
    return made


def put(folder: Path, name: str, text: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


def checkpoint(folder: Path, number: int) -> None:
    """As ``mfed_ray.federation.checkpoint.save`` leaves it: the rounds before are gone."""
    for old in folder.glob("checkpoints/round_*"):
        for path in old.iterdir():
            path.unlink()
        old.rmdir()
    put(folder, f"checkpoints/round_{number:06d}/server.json", str(number))
    put(folder, f"checkpoints/round_{number:06d}/index.json", "{}")


def there(place: str) -> dict[str, str]:
    """What is at the place, by name."""
    system, root = locate(place)
    return {name: system.open_input_file(f"{root}/{name}").read().decode() for name in files_below(system, root)}


def here(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


FIRST = {
    "metrics.parquet": "one",
    "checkpoints/round_000001/server.json": "1",
    "checkpoints/round_000001/index.json": "{}",
}
SECOND = {
    "metrics.parquet": "two",
    "checkpoints/round_000002/server.json": "2",
    "checkpoints/round_000002/index.json": "{}",
}


def test_a_place_is_remote_if_it_is_a_uri() -> None:
    assert [is_remote(place) for place in ("s3://bucket/x", "/runs/x", Path("x"), "runs:x")] == [
        True,
        False,
        False,
        False,
    ]


def test_places_are_located(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    kinds = [("runs", "local", f"{tmp_path}/runs"), ("file:///x/y", "local", "/x/y")]
    kinds += [("s3://bucket/x?region=us-east-1", "s3", "bucket/x"), ("memory://x/y", "py::fsspec+memory", "/x/y")]
    assert [(system.type_name, path) for system, path in (locate(place) for place, *_ in kinds)] == [
        (kind, path) for _, kind, path in kinds
    ]


def test_an_unknown_scheme_is_refused_with_what_both_libraries_say() -> None:
    message = (
        "bogus://x: cannot be reached (Unrecognized filesystem type in URI: bogus://x; Protocol not known: bogus); "
        "expected a path, or a URI that pyarrow or fsspec knows, as s3://bucket/folder"
    )
    with pytest.raises(RunFolderError, match=f"^{re.escape(message)}$"):
        Mirror("bogus://x")


def test_a_folder_goes_there_and_comes_back(place: str, folder: Path, tmp_path: Path) -> None:
    Mirror(place).push(folder)
    assert there(place) == FIRST  # what begins with a dot stays here
    Mirror(place).pull(tmp_path / "copy")
    assert here(tmp_path / "copy") == FIRST


def test_a_place_that_is_not_there_yet_gives_an_empty_folder(place: str, tmp_path: Path) -> None:
    Mirror(place).pull(tmp_path / "copy")
    assert list((tmp_path / "copy").iterdir()) == []


def test_what_changed_is_sent_and_what_is_gone_is_removed(place: str, folder: Path) -> None:
    mirror = Mirror(place)
    mirror.push(folder)
    put(folder, "metrics.parquet", "two")
    checkpoint(folder, 2)
    mirror.push(folder)
    assert there(place) == SECOND


def test_only_what_changed_is_sent(folder: Path, tmp_path: Path) -> None:
    """What the mirror pulled counts as sent. Seen from files that somebody else changed there meanwhile."""
    place = f"file://{tmp_path}/remote"
    Mirror(place).push(folder)
    mirror, copy = Mirror(place), tmp_path / "copy"
    mirror.pull(copy)
    put(tmp_path / "remote", "metrics.parquet", "theirs")
    put(copy, "rounds.parquet", "new")
    mirror.push(copy)
    assert there(place) == {**FIRST, "metrics.parquet": "theirs", "rounds.parquet": "new"}


def test_what_others_keep_there_stays(place: str, folder: Path) -> None:
    """A sweep's folder has trials below it, each with a mirror of its own."""
    whole, trial = Mirror(place), Mirror(f"{place}/trials/a")
    trial.push(folder)
    sweep = folder.parent / "sweep"
    put(sweep, "trials.jsonl", "{}")
    whole.push(sweep)
    (sweep / "trials.jsonl").unlink()
    whole.push(sweep)
    assert there(place) == {f"trials/a/{name}": text for name, text in FIRST.items()}


def test_a_checkpoint_counts_only_with_its_index(place: str, folder: Path, tmp_path: Path) -> None:
    """Killed while round 2 was sent: its tables are there, its checkpoint is not whole, that of round 1 still is."""
    mirror = Mirror(place)
    mirror.push(folder)
    half = tmp_path / "half"
    put(half, "metrics.parquet", "two")
    put(half, "checkpoints/round_000002/server.json", "2")
    put(half, "trials/a/checkpoints/round_000009/server.json", "9")
    Mirror(place).push(half)
    resumed = Mirror(place)
    resumed.pull(tmp_path / "copy")
    assert here(tmp_path / "copy") == {**FIRST, "metrics.parquet": "two"}
    checkpoint(tmp_path / "copy", 2)
    resumed.push(tmp_path / "copy")
    found = there(place)
    assert {name: found[name] for name in found if not name.startswith("trials")} == SECOND


def test_pull_makes_the_folder_equal_to_the_place(place: str, folder: Path, tmp_path: Path) -> None:
    """An earlier attempt on this machine got further than the place knows."""
    Mirror(place).push(folder)
    copy = tmp_path / "copy"
    for name in (
        "metrics.parquet",
        "checkpoints/round_000007/server.json",
        "checkpoints/round_000007/index.json",
        ".lock",
    ):
        put(copy, name, "stale")
    Mirror(place).pull(copy)
    assert here(copy) == {**FIRST, ".lock": "stale"}
    assert [path.name for path in (copy / "checkpoints").iterdir()] == ["round_000001"]


def test_a_push_that_fails_leaves_a_place_to_go_on_from(folder: Path, tmp_path: Path) -> None:
    """Tables first, then states, then their index, and only then is anything removed: here a state cannot be sent."""
    remote = tmp_path / "remote"
    mirror = Mirror(f"file://{remote}")
    mirror.push(folder)
    (remote / "checkpoints/round_000002/server.json/in_the_way").mkdir(parents=True)
    put(folder, "metrics.parquet", "two")
    checkpoint(folder, 2)
    message = f"^file://{re.escape(str(remote))}: cannot be written to \\(.*server.json"
    with pytest.raises(StorageError, match=message):
        mirror.push(folder)
    left = {name: text for name, text in here(remote).items() if not Path(name).name.startswith(".")}
    assert left == {**FIRST, "metrics.parquet": "two"}
    (remote / "checkpoints/round_000002/server.json/in_the_way").rmdir()
    (remote / "checkpoints/round_000002/server.json").rmdir()
    mirror.push(folder)
    assert here(remote) == SECOND


def test_a_checkpoint_that_is_half_removed_does_not_count(folder: Path, tmp_path: Path) -> None:
    remote = tmp_path / "remote"
    mirror = Mirror(f"file://{remote}")
    mirror.push(folder)
    state = remote / "checkpoints/round_000001/server.json"
    state.unlink()
    state.mkdir()  # which cannot be removed as a file
    checkpoint(folder, 2)
    with pytest.raises(StorageError, match="cannot be written to"):
        mirror.push(folder)
    assert not (state.parent / "index.json").exists()


def test_a_place_below_a_file_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    place = f"file://{tmp_path}/file/run"
    with pytest.raises(RunFolderError, match=f"^{re.escape(place)}: cannot be written to \\(.*"):
        Mirror(place).push(folder)
    with pytest.raises(RunFolderError, match=f"^file://{re.escape(str(tmp_path))}/file: cannot be read \\(.*"):
        Mirror(f"file://{tmp_path}/file").pull(tmp_path / "copy")


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("s3://KEY:pass@bucket/runs/a", "s3://***@bucket/runs/a"),
        ("s3://KEY:pa/ss@bucket/runs", "s3://***@bucket/runs"),
        ("s3://KEY:pa?s's@bucket/runs?region=x", "s3://***@bucket/runs?***"),
        ("https://token@host/x?sig=abc&expires=1", "https://***@host/x?***"),
        ("s3://bucket/a@b", "s3://bucket/a@b"),
        ("hdfs://host:8020/runs", "hdfs://host:8020/runs"),
        ("runs/a?b@c", "runs/a?b@c"),
        (Path("/runs/a"), "/runs/a"),
    ],
)
def test_a_place_is_shown_without_what_may_be_secret(place: str | Path, told: str) -> None:
    assert shown(place) == told


def test_an_error_is_told_without_the_secrets_of_its_place() -> None:
    """Whether it has the whole URI, another of the place, or the secret alone, as it stands there or unquoted."""
    place = "s3://KEYID:se%2Fcret@bucket/runs?session=abcd1234"
    error = OSError(f"GET {place}\n'{place}/x' and s3://u:p@other/y?z=1 KEYID se/cret se%2Fcret abcd1234 is wrong")
    assert reason(error, place) == (
        "GET s3://***@bucket/runs?*** 's3://***@bucket/runs?***' and s3://***@other/y?*** *** *** *** *** is wrong"
    )


@pytest.mark.parametrize("scheme", ["bogus", "s3"])
def test_no_secret_stands_in_a_refusal_or_its_causes(scheme: str) -> None:
    secrets = [uuid4().hex for _ in range(3)]
    place = "{}://{}:{}@x/y?unheard={}".format(scheme, *secrets)
    with pytest.raises(RunFolderError, match=rf"^{scheme}://\*\*\*@x/y\?\*\*\*: cannot be reached ") as refused:
        Mirror(place)
    told = "".join(traceback.format_exception(refused.value))
    assert not any(secret in told for secret in secrets)


@pytest.mark.parametrize("name", ["//etc/passwd", "/../outside", "/checkpoints/../../outside", "/./metrics.parquet"])
def test_a_name_that_leads_out_of_the_folder_is_refused(name: str, tmp_path: Path) -> None:
    """An object's name may be any text. Nothing is fetched, wherever the others lead."""

    class Store(fsspec.AbstractFileSystem):  # type: ignore[misc] # fsspec has no types
        protocol = "hostile"

        def info(self, path: str, **_: Any) -> dict[str, Any]:
            return {"name": path, "type": "directory", "size": 0}

        def find(self, path: str, *_: Any, **__: Any) -> dict[str, Any]:
            found = (f"{path}{one}" for one in ("/metrics.parquet", name))
            return {one: {"name": one, "type": "file", "size": 1} for one in found}

    fsspec.register_implementation("hostile", Store, clobber=True)
    with pytest.raises(RunFolderError, match=rf"^hostile://bucket/run: cannot be read \(has a file named '{name[1:]}'"):
        Mirror("hostile://bucket/run").pull(tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


WRONG = [FileNotFoundError("gone"), NotADirectoryError("a file"), PermissionError("denied"), ValueError("bad option")]
SILENT = [
    OSError("When reading: AWS Error NETWORK_CONNECTION during GetObject operation: curlCode: 28, Timeout was reached"),
    TimeoutError("timed out"),
    ConnectionResetError("reset by peer"),
]


@pytest.mark.parametrize("error", [*WRONG, *SILENT])
def test_a_wrong_place_is_wrong_input_and_one_that_does_not_answer_may_pass(error: Exception) -> None:
    kind = StorageError if error in SILENT else RunFolderError
    told = refusal(error, "s3://bucket/run", "read")
    assert (type(told), told.may_pass, told.exit_code) == (kind, kind is StorageError, 1 if kind is StorageError else 2)
    assert str(told) == f"s3://bucket/run: cannot be read ({error})"


def test_a_place_that_was_there_is_not_wrong_when_it_is_gone() -> None:
    assert isinstance(refusal(FileNotFoundError("gone"), "s3://bucket/run", "read", was_there=True), StorageError)
