"""From round reports to the rows of a run's tables."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mfed_ray.evaluation import AFTER_AGGREGATION, BEFORE_AGGREGATION, HELD_OUT, TRAIN, TRAINING, Headline
from mfed_ray.messages import ClientReport, ClientSpec
from mfed_ray.results.run_folder import RunFolder
from mfed_ray.results.tables import CORRELATIONS, METRICS, ROUNDS, Row, Table
from mfed_ray.simulation import RoundReport


@dataclass(frozen=True)
class RunIdentity:
    """What tells a run's rows from those of other runs."""

    run_id: str
    experiment: str
    algorithm: str
    seed: int
    setting: str
    """A digest of the configuration by which runs may be compared."""


class Recorder:
    """Writes the three tables of a run, whole, after every round. ``headlines``: what each task is judged by."""

    def __init__(
        self,
        folder: RunFolder,
        run: RunIdentity,
        clients: Sequence[ClientSpec],
        config: Mapping[str, Any],
        headlines: Mapping[str, Headline],
    ) -> None:
        self._run, self._headlines = run, headlines
        self._clients = {client.name: client for client in clients}
        self._metrics = Table(folder.path / "metrics.parquet", METRICS, config)
        self._rounds = Table(folder.path / "rounds.parquet", ROUNDS, config)
        self._correlations = Table(folder.path / "correlations.parquet", CORRELATIONS, config)

    def resume(self, last_round: int) -> None:
        """Take up the tables as they stood after ``last_round``."""
        for table in (self._metrics, self._rounds, self._correlations):
            table.restore(last_round)

    def record(self, report: RoundReport) -> None:
        """Add a round and replace the files."""
        self._metrics.add(self._metric_rows(report))
        self._rounds.add([self._round_row(report)])
        self._correlations.add(self._correlation_rows(report))
        for table in (self._metrics, self._rounds, self._correlations):
            table.write()

    def _metric_rows(self, report: RoundReport) -> Iterator[Row]:
        for client in report.fitted:
            yield from self._rows(report.round, TRAINING, TRAIN, client.client, client.training)
            yield from self._rows(report.round, BEFORE_AGGREGATION, HELD_OUT, client.client, client.held_out)
        for client in report.evaluated:
            yield from self._rows(report.round, AFTER_AGGREGATION, HELD_OUT, client.client, client.held_out)

    def _rows(
        self, number: int, stage: str, split: str, client: str, values: Mapping[str, Mapping[str, float]]
    ) -> Iterator[Row]:
        for task, metrics in values.items():
            headline = self._headlines.get(task)
            for metric, value in metrics.items():
                judged = headline is not None and metric == headline.metric
                yield {
                    "run_id": self._run.run_id,
                    "experiment": self._run.experiment,
                    "algorithm": self._run.algorithm,
                    "seed": self._run.seed,
                    "round": number,
                    "stage": stage,
                    "client": client,
                    "task": task,
                    "dataset": self._clients[client].dataset,
                    "split": split,
                    "metric": metric,
                    "value": value,
                    "headline": judged,
                    "higher_is_better": headline.higher_is_better if headline and judged else None,
                    "setting": self._run.setting,
                }

    def _round_row(self, report: RoundReport) -> Row:
        reports: Iterable[ClientReport] = (*report.fitted, *report.evaluated)
        return {
            "run_id": self._run.run_id,
            "round": report.round,
            **{f"{phase}_seconds": report.seconds.get(phase, 0.0) for phase in ("fit", "aggregate", "evaluate")},
            "bytes_up": report.bytes_up,
            "bytes_down": report.bytes_down,
            "peak_memory_bytes": max((one.peak_memory_bytes for one in reports), default=0),
        }

    def _correlation_rows(self, report: RoundReport) -> Iterator[Row]:
        for (other, group), value in report.diagnostics.correlations.items():
            yield {
                "run_id": self._run.run_id,
                "round": report.round,
                "group": group,
                "other": other,
                "correlation": value,
                "fused": (other, group) in report.diagnostics.fused,
            }
