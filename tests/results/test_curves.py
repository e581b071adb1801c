from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mfed_ray.algorithms.contract import Diagnostics
from mfed_ray.evaluation import Headline
from mfed_ray.federation.events import Evaluated, Trained, ends_round
from mfed_ray.messages import ClientReport, ClientSpec, RunIdentity
from mfed_ray.progress import headlines
from mfed_ray.results.curves import Curve, read_curve
from mfed_ray.results.recorder import Recorder
from mfed_ray.results.run_folder import RunFolder
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


BOTH = {"evaluation": {"stages": ["before_aggregation", "after_aggregation"]}}


def record(folder: Path, *rounds: list[Trained | Evaluated], config: Mapping[str, Any] | None = None) -> None:
    clients = [ClientSpec.of(name, (), "scenes", ()) for name in ("a", "b")]
    run = RunIdentity("tiny-mfed-s-aa-seed0", "tiny", "mfed", 0, "s")
    recorder = Recorder(RunFolder(folder), run, clients, config or {}, HEADLINES)
    for events in rounds:
        for event in events:
            recorder.record(event)


def events_of(number: int, fitted: list[ClientReport], evaluated: list[ClientReport]) -> list[Trained | Evaluated]:
    """A round's; without an evaluation after aggregation where nobody was evaluated then."""
    trained = Trained(number, fitted, Diagnostics(), {}, 0, 0, is_evaluated=bool(evaluated))
    return [trained, *([Evaluated(number, evaluated, 0.0)] if evaluated else [])]


def test_a_curve_by_hand(tmp_path: Path) -> None:
    """After aggregation where a round has that, else before; nothing of a round that was not evaluated. The task depth
    is none of the package's own."""
    not_evaluated = [replace(client, held_out={}) for client in BEFORE]
    record(tmp_path, events_of(1, BEFORE, AFTER), events_of(2, BEFORE, []), events_of(3, not_evaluated, []))
    curve = read_curve(str(tmp_path))
    assert curve.rounds == {1: {"saliency": 0.625, "depth": 3.0}, 2: {"saliency": 0.25}}
    assert curve.headlines == HEADLINES
    assert read_curve(f"file://{tmp_path}") == curve


def test_a_round_whose_evaluation_is_still_to_come_is_left_out(tmp_path: Path) -> None:
    record(tmp_path, events_of(1, BEFORE, AFTER), events_of(2, BEFORE, []), config=BOTH)
    assert list(read_curve(str(tmp_path)).rounds) == [1]


def test_a_curve_tells_what_the_run_told_while_it_ran(tmp_path: Path) -> None:
    own = [ClientReport(name, {}, {"saliency": {"max_miou": value}}) for name, value in (("a", 0.1), ("b", 0.7))]
    rounds = [events_of(0, [], own), events_of(1, own, []), events_of(2, BEFORE, own)]
    record(tmp_path, *rounds)
    told = {event.round: headlines(event) for events in rounds for event in events if ends_round(event)}
    assert read_curve(str(tmp_path)).rounds == told


def test_before_the_first_round_it_is_empty(tmp_path: Path) -> None:
    assert read_curve(str(tmp_path)) == Curve()
    assert read_curve("memory://nowhere/run") == Curve()


def test_of_a_run_of_version_2(make_run: MakeRun) -> None:
    folder = make_run("old", value=0.5)
    rewrite_as_version_2(folder)
    curve = read_curve(str(folder))
    assert curve.rounds == {0: {"saliency": 0.0}, 1: {"saliency": 0.5}, 2: {"saliency": 0.5}}
    assert curve.headlines == {"saliency": Headline("max_miou", higher_is_better=True)}
