"""From round reports to the rows of a run's tables."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mfed_ray.durable import flush
from mfed_ray.evaluation import AFTER_AGGREGATION, BEFORE_AGGREGATION, FLOOR, HELD_OUT, TRAIN, TRAINING, Headline
from mfed_ray.federation.events import Evaluated, Trained
from mfed_ray.messages import ClientReport, ClientSpec, RunIdentity
from mfed_ray.results.find import FUSING_FILE
from mfed_ray.results.growing import Table
from mfed_ray.results.run_folder import RunFolder
from mfed_ray.results.tables import CORRELATIONS, FUSING, METRICS, ROUNDS, Row


class Recorder:
    """Writes a run's rounds to its tables. ``headlines``: what each task is judged by."""

    def __init__(
        self,
        folder: RunFolder,
        run: RunIdentity,
        clients: Sequence[ClientSpec],
        config: Mapping[str, Any],
        headlines: Mapping[str, Headline],
    ) -> None:
        self._folder, self._run, self._headlines = folder.path, run, headlines
        self._clients = {client.name: client for client in clients}
        self._metrics = Table(folder.path / "metrics.parquet", METRICS, config)
        self._rounds = Table(folder.path / "rounds.parquet", ROUNDS, config)
        self._correlations = Table(folder.path / "correlations.parquet", CORRELATIONS, config)
        self._fusing = Table(folder.path / FUSING_FILE, FUSING, config)
        self._has_fusing = (folder.path / FUSING_FILE).is_file()
        # written in this order: values after aggregation say that all of the round's evaluation is in the tables
        self._tables = (self._rounds, self._correlations, self._fusing, self._metrics)

    def resume(self, last_round: int) -> bool:
        """Take up the tables as they stood after ``last_round``; whether its evaluation is in them.

        A run of an older version has no table of fusing; it begins with the next round.
        """
        for table in self._tables:
            if table is not self._fusing or self._has_fusing:
                table.restore(last_round)
        return self._metrics.has(AFTER_AGGREGATION)

    def record(self, event: Trained | Evaluated) -> None:
        """Add what a round came to, and write it; then it outlasts a loss of power. Raises OSError."""
        if isinstance(event, Trained):
            self._metrics.add(self._trained_rows(event))
            self._rounds.add([self._round_row(event)])
            self._correlations.add(self._correlation_rows(event))
            self._fusing.add(self._fusing_rows(event))
        else:
            self._metrics.add(self._evaluated_rows(event))
            self._rounds.change(event.round, evaluate_seconds=event.seconds, peak_memory_bytes=_peak(event.reports))
        for table in self._tables:
            table.write()
        flush([self._folder])

    def finish(self) -> None:
        """After the last round: leave one file for each table."""
        for table in self._tables:
            table.finish()

    def _trained_rows(self, event: Trained) -> Iterator[Row]:
        for client in event.reports:
            yield from self._rows(event.round, TRAINING, TRAIN, client.client, client.training)
            yield from self._rows(event.round, BEFORE_AGGREGATION, HELD_OUT, client.client, client.held_out)

    def _evaluated_rows(self, event: Evaluated) -> Iterator[Row]:
        for client in event.reports:
            yield from self._rows(event.round, AFTER_AGGREGATION, HELD_OUT, client.client, client.held_out)
            yield from self._rows(event.round, FLOOR, HELD_OUT, client.client, client.floors)

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

    def _round_row(self, event: Trained) -> Row:
        return {
            "run_id": self._run.run_id,
            "round": event.round,
            **{f"{phase}_seconds": event.seconds.get(phase, 0.0) for phase in ("fit", "aggregate", "evaluate")},
            "bytes_up": event.bytes_up,
            "bytes_down": event.bytes_down,
            "peak_memory_bytes": _peak(event.reports),
        }

    def _correlation_rows(self, event: Trained) -> Iterator[Row]:
        for (other, group), value in event.diagnostics.correlations.items():
            yield {
                "run_id": self._run.run_id,
                "round": event.round,
                "group": group,
                "other": other,
                "correlation": value,
                "fused": (other, group) in event.diagnostics.fused,
            }

    def _fusing_rows(self, event: Trained) -> Iterator[Row]:
        return ({"run_id": self._run.run_id, "round": event.round, **vars(one)} for one in event.diagnostics.blocks)


def _peak(reports: Sequence[ClientReport]) -> int:
    return max((report.peak_memory_bytes for report in reports), default=0)


def is_evaluated(folder: RunFolder, round_number: int) -> bool:
    """Whether a run's tables have the evaluation after the round. Raises RunFolderError where they cannot be read."""
    table = Table(folder.path / "metrics.parquet", METRICS, {})
    table.restore(round_number)
    return table.has(AFTER_AGGREGATION)
