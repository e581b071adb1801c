from dataclasses import replace
from pathlib import Path

from mfed_ray.algorithms.contract import Diagnostics
from mfed_ray.evaluation import Headline
from mfed_ray.messages import ClientReport, ClientSpec
from mfed_ray.progress import headlines
from mfed_ray.results.curves import Curve, read_curve
from mfed_ray.results.recorder import Recorder, RunIdentity
from mfed_ray.results.run_folder import RunFolder
from mfed_ray.simulation import RoundReport
from tests.results.conftest import MakeRun, rewrite_as_version_2

HEADLINES = {
    "saliency": Headline("max_miou", higher_is_better=True),
    "depth": Headline("rmse", higher_is_better=False),
}
BEFORE = [ClientReport("a", {"saliency": {"loss": 1.0}}, {"saliency": {"max_miou": 0.25, "max_f": 0.9}})]
AFTER = [
    ClientReport("a", {}, {"saliency": {"max_miou": 0.5}}),
    ClientReport("b", {}, {"saliency": {"max_miou": 0.75}, "depth": {"rmse": 3.0, "delta_1": 0.8}}),
]


def record(folder: Path, *reports: RoundReport) -> None:
    clients = [ClientSpec(name, (), "scenes", (), ()) for name in ("a", "b")]
    run = RunIdentity("tiny-mfed-s-aa-seed0", "tiny", "mfed", 0, "s")
    recorder = Recorder(RunFolder(folder), run, clients, {}, HEADLINES)
    for report in reports:
        recorder.record(report)


def report(number: int, fitted: list[ClientReport], evaluated: list[ClientReport]) -> RoundReport:
    return RoundReport(number, fitted, evaluated, Diagnostics(), {}, 0, 0)


def test_a_curve_by_hand(tmp_path: Path) -> None:
    """After aggregation where a round has that, else before; nothing of a round that was not evaluated. The task depth
    is none of the package's own."""
    not_evaluated = [replace(client, held_out={}) for client in BEFORE]
    record(tmp_path, report(1, BEFORE, AFTER), report(2, BEFORE, []), report(3, not_evaluated, []))
    curve = read_curve(str(tmp_path))
    assert curve.rounds == {1: {"saliency": 0.625, "depth": 3.0}, 2: {"saliency": 0.25}}
    assert curve.headlines == HEADLINES
    assert read_curve(f"file://{tmp_path}") == curve


def test_a_curve_tells_what_the_run_told_while_it_ran(tmp_path: Path) -> None:
    own = [ClientReport(name, {}, {"saliency": {"max_miou": value}}) for name, value in (("a", 0.1), ("b", 0.7))]
    reports = [report(0, [], own), report(1, own, []), report(2, BEFORE, own)]
    record(tmp_path, *reports)
    assert read_curve(str(tmp_path)).rounds == {one.round: headlines(one) for one in reports}


def test_before_the_first_round_it_is_empty(tmp_path: Path) -> None:
    assert read_curve(str(tmp_path)) == Curve()
    assert read_curve("memory://nowhere/run") == Curve()


def test_of_a_run_of_version_2(make_run: MakeRun) -> None:
    folder = make_run("old", value=0.5)
    rewrite_as_version_2(folder)
    curve = read_curve(str(folder))
    assert curve.rounds == {0: {"saliency": 0.0}, 1: {"saliency": 0.5}, 2: {"saliency": 0.5}}
    assert curve.headlines == {"saliency": Headline("max_miou", higher_is_better=True)}
