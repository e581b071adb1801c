from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mfed_ray.cli import main
from mfed_ray.errors import ConfigError, RunFolderError
from mfed_ray.report import write_report
from mfed_ray.results.loading import Results

MakeResults = Callable[[Any], Results]
MAGIC = {"png": b"\x89PNG", "svg": b"<?xml"}


@pytest.fixture
def results(make_results: MakeResults) -> Results:
    values = {"saliency": [[0, 0.5]]}
    pairs = [(1, "a", "b", 0.1, True), (1, "b", "a", 0.1, True)]
    return make_results([
        {"experiment": "a/b c", "algorithm": "local", "seed": 0, "values": values},
        {"experiment": "a/b c", "algorithm": "mfed", "seed": 0, "values": values, "correlations": pairs},
    ])  # fmt: skip


@pytest.mark.parametrize("form", ["png", "svg"])
def test_a_file_for_each_plot(results: Results, tmp_path: Path, form: str) -> None:
    files = write_report(results, tmp_path / "figures", form)
    assert [file.name for file in files] == [
        f"a_b_c-{name}.{form}"
        for name in ("curves-saliency", "correlations-mfed", "costs-seconds", "costs-bytes", "clients-saliency")
    ]  # fmt: skip
    assert all(file.read_bytes().startswith(MAGIC[form]) for file in files)


def test_the_same_results_give_the_same_pdfs(results: Results, tmp_path: Path) -> None:
    first, second = (write_report(results, tmp_path / name, "pdf") for name in ("one", "two"))
    assert all(file.read_bytes().startswith(b"%PDF") for file in first)
    assert [file.read_bytes() for file in first] == [file.read_bytes() for file in second]


def test_names_that_come_out_the_same_are_numbered(make_results: MakeResults, tmp_path: Path) -> None:
    values = {"saliency": [[0, 0.5]]}
    runs = [{"experiment": name, "algorithm": "local", "seed": 0, "values": values} for name in ("a b", "a/b")]
    names = [file.name for file in write_report(make_results(runs), tmp_path, "svg")]
    assert names[0] == "a_b-curves-saliency.svg"
    assert names[len(names) // 2] == "a_b-curves-saliency-2.svg"


def test_the_command_writes_the_same_page_again(
    real_runs: Path,
    real_page: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["report", str(real_runs)])
    assert stop.value.code == 0
    assert capsys.readouterr().out.startswith("report.html: 1 file, ")
    assert (tmp_path / "report.html").read_bytes() == real_page.read_bytes()


def test_the_command_warns_and_writes_figures(
    real_runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "metrics.parquet").write_bytes(b"nothing")
    with pytest.raises(SystemExit) as stop:
        main(["report", str(real_runs / "0"), "bad", "--format", "svg"])
    assert stop.value.code == 0
    told = capsys.readouterr()
    assert told.out.startswith("figures: 9 files, ")  # curves and clients of three tasks, two costs, pictures
    assert told.err.startswith("mfed: warning: bad")
    assert (tmp_path / "figures" / "tiny-pictures-local.svg").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("out", "form", "message"),
    [
        ("report.gif", "gif", "--format: 'gif' is not one of html, png, svg, pdf"),
        (
            "/proc/zz/report.html",
            "html",
            r"--out: /proc/zz/report.html: cannot be written \(.*\); choose another place",
        ),
        ("/proc/zz", "png", r"--out: /proc/zz: cannot be written \(.*\); choose another place"),
    ],
)
def test_what_is_wrong_is_one_sentence(results: Results, out: str, form: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        write_report(results, Path(out), form)


def test_runs_without_a_round_have_no_figure(make_results: MakeResults, tmp_path: Path) -> None:
    begun = make_results([{"algorithm": "mfed", "seed": 0, "values": {"saliency": [[0.1]]}, "planned": 2}])
    with pytest.raises(RunFolderError, match="no run was evaluated after round 0 yet, so there is no figure to draw"):
        write_report(begun, tmp_path / "report.html")
