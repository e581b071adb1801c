"""The jobs of a round that are of one kind, and what has come of them."""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from mfed_ray.averages import PartialMean, mean
from mfed_ray.federation.backend import Done, Job, Kind
from mfed_ray.messages import ClientReport, Update


class Phase:
    """One kind of jobs of a round, and what has come of them. ``told_as``: by client, whose report is its report."""

    def __init__(self, kind: Kind, number: int, jobs: Sequence[Job], told_as: Mapping[str, str] | None = None) -> None:
        self.kind = kind
        self.round = number
        self.jobs = jobs
        self.seconds = 0.0
        self._told_as = told_as or {job.client: job.client for job in jobs}
        self._reports: dict[str, ClientReport] = {}
        self._updates: list[Update] = []
        self._means: dict[str, list[PartialMean]] = {}
        self._keeping: set[str] = set()
        self._dropped: set[str] = set()
        self._started = 0.0

    @property
    def clients(self) -> list[str]:
        """Names of the clients that were not dropped."""
        return [client for client, source in self._told_as.items() if source not in self._dropped]

    @property
    def open_jobs(self) -> list[Job]:
        """Those that are waited for."""
        return [job for job in self.jobs if job.client not in self._dropped and job.client not in self._reports]

    @property
    def finished_jobs(self) -> list[Job]:
        """Those that came to something."""
        return [job for job in self.jobs if job.client in self._reports]

    @property
    def is_over(self) -> bool:
        """Whether nobody is waited for any more."""
        return len(self._reports) + len(self._dropped) == len(self.jobs)

    def begin(self) -> None:
        """From here on time counts."""
        self._started = time.perf_counter()

    def take(self, done: Done) -> None:
        """Take in what some of the jobs came to."""
        self._reports |= {report.client: report for report in done.reports}
        self._updates += done.updates
        for group, means in done.means.items():
            self._means.setdefault(group, []).extend(means)
        self._keeping |= done.states.keys()
        self.seconds = time.perf_counter() - self._started

    def concerned(self, jobs: Collection[Job]) -> tuple[str, ...]:
        """The clients whose reports these jobs are."""
        sources = {job.client for job in jobs}
        return tuple(client for client, source in self._told_as.items() if source in sources)

    def drop(self, jobs: Collection[Job]) -> None:
        """These jobs are not waited for."""
        self._dropped |= {job.client for job in jobs}

    def keeping(self, before: Collection[str]) -> frozenset[str]:
        """Who keeps anything after it, given who did ``before``."""
        return frozenset(before) - self._reports.keys() | self._keeping

    def in_order(self) -> list[ClientReport]:
        """The reports that are there, in the order of the clients."""
        return [
            self._reports[client] if client == source else replace(self._reports[source], client=client, seconds=0.0)
            for client, source in self._told_as.items()
            if source in self._reports
        ]

    def server_updates(self) -> list[Update]:
        """What the server aggregates, by name: clients' updates as they are, and the mean of each group that was added
        up."""
        senders: dict[str, list[Update]] = {}
        for update in sorted(self._updates, key=_sender):
            senders.setdefault(update.group if update.group in self._means else update.client, []).append(update)
        return [
            _mean_update(members, self._means[name]) if name in self._means else members[0]
            for name, members in sorted(senders.items())
        ]


def _mean_update(members: Sequence[Update], means: Sequence[PartialMean]) -> Update:
    group, examples = members[0].group, sum(member.examples for member in members)
    return Update(group, group, examples, mean(means), members=tuple(members))


def _sender(update: Update) -> str:
    return update.client
