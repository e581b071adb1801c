"""One experiment's part of the results, reduced to what its figures show."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from mfed_ray.evaluation import Headline
from mfed_ray.report.style import BASELINE, LOOKS, Look
from mfed_ray.results.built_in import in_order
from mfed_ray.results.comparison import LOCAL
from mfed_ray.results.delta import DELTA
from mfed_ray.results.headline import chosen_stage, headline_rows, headlines_of, over_clients
from mfed_ray.results.loading import Results
from mfed_ray.results.rows import FLOOR
from mfed_ray.results.summary import summarise
from mfed_ray.results.tables import METRICS


@dataclass(frozen=True)
class Study:
    """One experiment.

    ``headlines``: run_id, variant, algorithm, seed, task, client, round, value of the task's headline metric, round 0
    included. ``runs``: one row per run, with ``rounds`` planned, the ``last`` one evaluated, and the ``keys`` that
    differ. Where a variant has runs that finished, the others are left out; where it has none, ``stopped`` says so.
    ``summary``: of all its runs, by ``mfed_ray.results.summarise``. ``judged_by``: what each task's headline metric is.
    """

    name: str
    stage: str
    headlines: pd.DataFrame
    judged_by: Mapping[str, Headline]
    runs: pd.DataFrame
    keys: Sequence[str]
    rounds: pd.DataFrame
    correlations: pd.DataFrame
    fusing: pd.DataFrame
    summary: pd.DataFrame
    stopped: Mapping[str, str]

    @cached_property
    def deltas(self) -> dict[str, float]:
        """Mean Delta_m in percent by variant; NaN where there is none."""
        return dict(zip(self.summary["variant"], self.summary[DELTA, "mean"], strict=True))

    @cached_property
    def tasks(self) -> list[str]:
        """In the order of the summary's columns."""
        return in_order(self.headlines["task"])

    @cached_property
    def floors(self) -> dict[str, float]:
        """What the best constant predictions reach, by task: the mean over variants, where it is known."""
        names = {task: f"{task} {self.judged_by[task].metric}" for task in self.tasks}
        means = {task: float(self.summary[name, FLOOR].mean()) for task, name in names.items()}
        return {task: mean for task, mean in means.items() if not math.isnan(mean)}

    @cached_property
    def curves(self) -> pd.DataFrame:
        """mean and sd over seeds, by variant, task and round, of the mean over clients."""
        return _over_seeds(self.headlines, ["variant", "task", "round"])

    @cached_property
    def final(self) -> pd.DataFrame:
        """Rows of ``headlines`` of each run's last round."""
        last = self.headlines.merge(self.runs[["run_id", "last"]], on="run_id")
        return last[last["round"] == last["last"]]

    @cached_property
    def ends(self) -> pd.DataFrame:
        """mean and sd over seeds at the last round, by variant and task, of the mean over clients."""
        return _over_seeds(self.final, ["variant", "task"])

    @cached_property
    def variants(self) -> list[str]:
        """Best first: by Delta_m, and those that have none by their mean rank over tasks."""
        ranks = {
            task: self.ends[self.ends["task"] == task]
            .set_index("variant")["mean"]
            .rank(ascending=not self.judged_by[task].higher_is_better)
            for task in self.tasks
        }
        mean_rank = pd.DataFrame(ranks).mean(axis=1)

        def order(variant: str) -> tuple[bool, float, float, str]:
            delta = self.deltas.get(variant, math.nan)
            return math.isnan(delta), -delta if delta == delta else 0.0, float(mean_rank[variant]), variant

        return sorted(mean_rank.index, key=order)

    @cached_property
    def looks(self) -> dict[str, Look]:
        """The variants that figures tell apart, best first: as many as there are colours, and the baseline."""
        looks = dict(zip((variant for variant in self.variants if variant != LOCAL), LOOKS, strict=False))
        looks[LOCAL] = BASELINE
        return {variant: looks[variant] for variant in self.variants if variant in looks}

    def best(self, algorithm: str) -> str:
        """The algorithm's best variant."""
        own = set(self.runs.loc[self.runs["algorithm"] == algorithm, "variant"])
        return next(variant for variant in self.variants if variant in own)

    @cached_property
    def algorithms(self) -> list[str]:
        """Best first, by their best variants."""
        of = dict(zip(self.runs["variant"], self.runs["algorithm"], strict=True))
        return list(dict.fromkeys(of[variant] for variant in self.variants))


def _over_seeds(headlines: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """The mean over clients first."""
    values = over_clients(headlines, [*keys, "run_id"]).groupby(level=keys)
    return pd.DataFrame({"mean": values.mean(), "sd": values.std()}).reset_index()


def studies(results: Results) -> list[Study]:
    """One per experiment that has runs evaluated after round 0, by name."""
    headline = headline_rows(results.metrics)
    trained = headline[headline["round"] > 0]
    found = []
    for name in sorted({str(one) for one in trained["experiment"].unique()}):
        stages = {str(stage) for stage in trained.loc[trained["experiment"] == name, "stage"].unique()}
        stage = chosen_stage(stages)
        own = headline[headline["experiment"] == name]
        found.append(_study(name, stage, own[(own["stage"] == stage) | (own["round"] == 0)], results))
    return found


def _study(name: str, stage: str, headline: pd.DataFrame, results: Results) -> Study:
    keys = [str(column) for column in headline.columns if column not in {*METRICS, "rounds", "variant"}]
    texts = ["run_id", "algorithm", "variant", "client", "task"]
    headline = headline.astype(dict.fromkeys(texts, "str"))
    last = headline[headline["round"] > 0].groupby("run_id")["round"].max().rename("last").reset_index()
    runs = headline.drop_duplicates("run_id").drop(columns=["client", "task", "round", "value"])
    runs = runs.merge(last, on="run_id")
    finished = runs["last"] >= runs["rounds"]
    settled = runs[finished | ~runs["variant"].isin(runs.loc[finished, "variant"])]
    stopped = {
        str(variant): f"stopped at {part['last'].max()} of {part['rounds'].max()}"
        for variant, part in runs[~runs["variant"].isin(runs.loc[finished, "variant"])].groupby("variant")
    }
    ids = set(settled["run_id"])
    shown = headline.loc[headline["run_id"].isin(ids), [*texts, "seed", "round", "value"]]
    return Study(
        name,
        stage,
        shown,
        headlines_of(headline),
        settled.reset_index(drop=True),
        keys,
        results.rounds[results.rounds["run_id"].isin(ids)],
        results.correlations[results.correlations["run_id"].isin(ids)],
        results.fusing[results.fusing["run_id"].isin(ids)],
        summarise(results.metrics[results.metrics["experiment"] == name], stage),
        stopped,
    )
