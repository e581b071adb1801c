import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mfed_ray.algorithms.contract import Diagnostics
from mfed_ray.experiment import Experiment
from mfed_ray.federation.events import Evaluated, Event, Failure, Progress, Trained, Waiting
from mfed_ray.messages import ClientReport
from mfed_ray.progress import counting, headlines, show

MakeExperiment = Callable[..., Experiment]
FOLDER = Path("runs/tiny")


def report(number: int, miou: tuple[float, ...] = (), error: float | None = None) -> Event:
    clients = [ClientReport(f"s-{i}", {}, {"semantic_segmentation": {"miou": v}}) for i, v in enumerate(miou)]
    if error is not None:
        clients.append(ClientReport("n-0", {}, {"surface_normals": {"mean_error": error}}))
    if not clients:
        return Trained(number, [], Diagnostics(), {}, 0, 0, is_evaluated=False)
    return Evaluated(number, clients, 0.0)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard output passes for a terminal of 100 columns."""
    for name, value in {"FORCE_COLOR": "1", "TERM": "xterm", "COLUMNS": "100"}.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard output is what pytest makes it: no terminal, and narrow."""
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "20")


def without_seconds(text: str) -> str:
    return re.sub(r"\[\d+ s\]", "[_ s]", text)


@pytest.mark.usefixtures("plain")
def test_plain_lines_exactly(tiny: MakeExperiment, capsys: pytest.CaptureFixture[str]) -> None:
    """One line a round, never broken however narrow; nothing for single clients, no metrics where none are."""
    events: list[Event] = [
        Progress(0, "evaluate", 1, 4),
        report(0, (0.1, 0.2), 40.0),
        Progress(1, "fit", 1, 4),
        report(1),
        report(2, (0.25, 0.5), 30.12346),
    ]
    show(iter(events), tiny(seed=3), FOLDER)
    assert without_seconds(capsys.readouterr().out).splitlines() == [
        "tiny: mfed, seed 3, in runs/tiny",
        "round 0/2  semantic_segmentation miou 0.1500  surface_normals mean_error 40.0000  [_ s]",
        "round 1/2  [_ s]",
        "round 2/2  semantic_segmentation miou 0.3750  surface_normals mean_error 30.1235  [_ s]",
    ]


@pytest.mark.usefixtures("plain")
def test_notes_are_told_before_the_first_round(tiny: MakeExperiment, capsys: pytest.CaptureFixture[str]) -> None:
    begun = Trained(0, [], Diagnostics(), {}, 0, 0, is_evaluated=True, notes=("a and b differ",))
    show(iter([begun, report(0)]), tiny(), FOLDER)
    assert without_seconds(capsys.readouterr().out).splitlines()[1:] == ["a and b differ", "round 0/2  [_ s]"]


@pytest.mark.usefixtures("terminal")
def test_notes_stay_on_the_live_board(tiny: MakeExperiment, capsys: pytest.CaptureFixture[str]) -> None:
    begun = Trained(0, [], Diagnostics(), {}, 0, 0, is_evaluated=True, notes=("a and b differ",))
    show(iter([begun, report(1)]), tiny(), FOLDER)
    lines = [line.strip() for line in screen(capsys).splitlines()]
    assert lines[-2:] == ["a and b differ", "round 1/2 done"]


@pytest.mark.usefixtures("plain")
def test_a_line_is_printed_as_soon_as_its_round_is_done(
    tiny: MakeExperiment, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[str] = []

    def events() -> Iterator[Event]:
        for number in (1, 2):
            yield report(number, (0.5,))
            seen.append(without_seconds(capsys.readouterr().out).splitlines()[-1])

    show(events(), tiny(), FOLDER)
    assert seen == [f"round {number}/2  semantic_segmentation miou 0.5000  [_ s]" for number in (1, 2)]


@pytest.mark.usefixtures("plain")
def test_a_finished_run_says_so(tiny: MakeExperiment, capsys: pytest.CaptureFixture[str]) -> None:
    show(iter([]), tiny(), FOLDER)
    assert capsys.readouterr().out.splitlines() == [
        "tiny: mfed, seed 0, in runs/tiny",
        "already finished: 2 rounds in runs/tiny",
    ]


@pytest.mark.usefixtures("plain")
def test_a_folders_name_is_printed_as_it_is(tiny: MakeExperiment, capsys: pytest.CaptureFixture[str]) -> None:
    show(iter([]), tiny(), Path("runs/[bold]:car:"))
    assert capsys.readouterr().out.count("in runs/[bold]:car:\n") == 2


@pytest.mark.usefixtures("terminal")
def test_a_finished_run_says_so_on_a_terminal(tiny: MakeExperiment, capsys: pytest.CaptureFixture[str]) -> None:
    show(iter([]), tiny(), FOLDER)
    assert screen(capsys).endswith("already finished: 2 rounds in runs/tiny\n")


def screen(capsys: pytest.CaptureFixture[str]) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().out)


def cells(text: str) -> list[list[str]]:
    """The rows of the last table drawn, header aside."""
    last = text[text.rindex("┏") :]
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in last.splitlines() if line.startswith("│")]


@pytest.mark.usefixtures("terminal")
def test_live_board_shows_first_now_and_best(tiny: MakeExperiment, capsys: pytest.CaptureFixture[str]) -> None:
    """Best is the highest miou, the lowest error; a round without evaluation changes no cell."""
    events = [report(0, (0.1, 0.2), 40.0), report(1, (0.6,), 25.0), report(2, (0.4,), 30.0), report(3)]
    show(iter(events), tiny(rounds=3), Path("runs/[bold]"))
    text = screen(capsys)
    assert "tiny: mfed, seed 0, in runs/[bold]" in text
    assert cells(text) == [
        ["semantic_segmentation", "miou", "0.1500", "0.4000", "0.6000"],
        ["surface_normals", "mean_error (lower is better)", "40.0000", "30.0000", "25.0000"],
    ]
    assert text.rstrip().endswith("round 3/3 done")


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize(
    ("events", "status"),
    [
        ([], "starting"),
        ([Progress(1, "fit", 2, 4)], "round 1/5: fit 2/4 clients"),
        ([report(0)], "round 0/5 done"),  # a single round tells nothing about the time that the others take
        ([report(0), report(1)], "round 1/5 done, about _ s to go"),
        ([report(3), report(4), Progress(5, "evaluate", 4, 4)], "round 5/5: evaluate 4/4 clients"),
        ([report(4), report(5)], "round 5/5 done"),
    ],
)
def test_live_boards_status(
    tiny: MakeExperiment,
    capsys: pytest.CaptureFixture[str],
    events: list[Event],
    status: str,
) -> None:
    show(iter(events), tiny(rounds=5), FOLDER)
    lines = screen(capsys).splitlines()
    board = [line for line in lines if line.strip() and "already finished" not in line]
    assert re.sub(r"about \d+ s", "about _ s", board[-1]) == status


def test_headlines_are_means_over_clients_after_aggregation_else_before() -> None:
    before = [ClientReport("a", {}, {"saliency": {"max_miou": 0.25, "max_f": 0.9}})]
    after = [
        ClientReport("a", {}, {"saliency": {"max_miou": 0.5}, "human_parts": {"miou": 0.125}}),
        ClientReport("b", {}, {"saliency": {"max_miou": 0.75}}),
    ]
    assert headlines(Evaluated(1, after, 0.0)) == {"saliency": 0.625, "human_parts": 0.125}
    trained = Trained(1, before, Diagnostics(), {}, 0, 0, is_evaluated=False)
    assert headlines(trained) == {"saliency": 0.25}
    assert headlines(replace(trained, reports=[])) == {}


@pytest.mark.usefixtures("plain")
def test_counting_says_once_that_work_began(capsys: pytest.CaptureFixture[str]) -> None:
    count = counting("data.scenes: drawing images")
    for done in (1, 2, 3):
        count(done, 3)
    assert capsys.readouterr().out == "data.scenes: drawing images: 3\n"


@pytest.mark.usefixtures("terminal")
def test_counting_stays_on_one_line_of_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    count = counting("drawing images")
    for done in (1, 2):
        count(done, 2)
    assert screen(capsys) == "drawing images 1/2\rdrawing images 2/2\n"


@pytest.mark.usefixtures("plain")
def test_failures_and_whom_a_run_waits_for_are_lines(tiny: MakeExperiment, capsys: pytest.CaptureFixture[str]) -> None:
    many = tuple(f"s-{n}" for n in range(7))
    events: list[Event] = [
        Waiting(1, "fit", (), 10.0),
        Failure(1, "fit", many, "their process\ndied", "retried"),
        Failure(1, "evaluate", ("s-0",), "image 7 is broken", "dropped"),
        Waiting(2, "evaluate", ("s-0", "n-0"), 10.2),
        report(2, (0.5,)),
        Failure(2, "fit", ("n-0",), "a bug", "stopped"),
    ]
    show(iter(events), tiny(), FOLDER)
    lines = without_seconds(capsys.readouterr().out).splitlines()
    assert [line for line in lines[1:] if "miou" not in line] == [
        "round 1: fit: no process has taken on a client yet (10 s without news)",
        "round 1: fit of s-0, s-1, s-2, s-3, s-4 and 2 more failed, run again: their process died",
        "round 1: evaluate of s-0 failed, left out of this round: image 7 is broken",
        "round 2: evaluate: waiting for s-0, n-0 (10 s without news)",
        "round 2: fit of n-0 failed, the run ends: a bug",
    ]


@pytest.mark.usefixtures("plain")
def test_waits_are_told_ever_more_seldom(tiny: MakeExperiment, capsys: pytest.CaptureFixture[str]) -> None:
    """At 10, 20, 40 s and so on; after any news anew."""

    def waits(until: int) -> list[Event]:
        return [Waiting(1, "fit", ("s-0",), seconds + 0.01) for seconds in range(10, until + 1, 10)]

    def told(*events: Event) -> list[int]:
        show(iter([*events, report(2)]), tiny(), FOLDER)
        return [int(number) for number in re.findall(r"\((\d+) s without", capsys.readouterr().out)]

    news, failure = Progress(1, "fit", 1, 4), Failure(1, "fit", ("s-0",), "it died", "retried")
    assert told(*waits(100)) == [10, 20, 40, 80]
    assert told(*waits(30), news, *waits(30), news, *waits(60)) == [10, 20, 10, 20, 10, 20, 40]
    assert told(*waits(30), failure, *waits(30)) == [10, 20, 10, 20]


@pytest.mark.usefixtures("terminal")
def test_a_terminal_shows_the_last_failures(tiny: MakeExperiment, capsys: pytest.CaptureFixture[str]) -> None:
    events: list[Event] = [Failure(1, "fit", (f"s-{n}",), "it died", "retried") for n in range(9)]
    show(iter([*events, report(1, (0.5,))]), tiny(), FOLDER)
    shown = capsys.readouterr().out.rpartition("task")[2]
    assert [n for n in range(9) if f"fit of s-{n} failed, run again: it died" in shown] == list(range(1, 9))


@pytest.mark.usefixtures("plain")
def test_titles_have_no_secret_of_a_place(tiny: MakeExperiment, capsys: pytest.CaptureFixture[str]) -> None:
    place = "s3://KEY:SECRET@bucket/runs?token=SECRET"
    show(iter([report(0), report(1), report(2)]), tiny(seed=3), place)
    show(iter([]), tiny(seed=3), place)
    told = capsys.readouterr().out
    assert told.count("s3://***@bucket/runs?***") == 3
    assert "SECRET" not in told
