"""A data set without the images that cannot be read."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from mfed_ray.data.sample import Dataset, Sample
from mfed_ray.errors import DataError


@dataclass(frozen=True)
class Screened:
    """A dataset in which an image that cannot be read for a task has no target for it; a ``Dataset`` itself.

    Each image is read once for the tasks that are asked for together, so what is left out depends on the data alone.
    """

    dataset: Dataset
    _readable: dict[tuple[str, str], bool] = field(default_factory=dict)

    @property
    def tasks(self) -> frozenset[str]:
        """Names of the tasks that the dataset has targets for."""
        return self.dataset.tasks

    def image_ids(self, split: str) -> Sequence[str]:
        """Ids of the split's images, whether they can be read or not."""
        return self.dataset.image_ids(split)

    def usable(self, image_id: str, task: str) -> bool:
        """Whether the image has a target for the task, and both can be read."""
        return self._can_be_read(image_id, task) and self.dataset.usable(image_id, task)

    def trainable(self, image_id: str, task: str) -> bool:
        """Whether it is usable and has something to learn from."""
        return self._can_be_read(image_id, task) and self.dataset.trainable(image_id, task)

    def dominant_class(self, image_id: str) -> int:
        """The class that covers most of the image, background aside; 0 where its label cannot be read."""
        try:
            return self.dataset.dominant_class(image_id)
        except DataError:
            return 0

    def read(self, image_id: str, tasks: Sequence[str]) -> Sample:
        """The image with the targets of just these tasks. Raises DataError as the dataset does."""
        return self.dataset.read(image_id, tasks)

    def screen(self, image_id: str, tasks: Sequence[str]) -> None:
        """Read the image once for all of these tasks; task by task where that fails."""
        left = [task for task in tasks if (image_id, task) not in self._readable]
        together = len(left) > 1 and self._reads(image_id, left)
        for task in left:
            self._readable[image_id, task] = together or self._reads(image_id, [task])

    def has_image(self, image_id: str) -> bool:
        """Whether the image itself can be read."""
        return self._reads(image_id, ())

    def skipped(self, image_ids: Iterable[str], tasks: Sequence[str]) -> tuple[str, ...]:
        """Those of the images that were asked for and cannot be read for one of the tasks."""
        return tuple(i for i in image_ids if not all(self._readable.get((i, task), True) for task in tasks))

    def _can_be_read(self, image_id: str, task: str) -> bool:
        self.screen(image_id, [task])
        return self._readable[image_id, task]

    def _reads(self, image_id: str, tasks: Sequence[str]) -> bool:
        """Whether the image can be read with all targets that it has for the tasks; without any, it is not tried."""
        try:
            usable = [task for task in tasks if self.dataset.usable(image_id, task)]
            if usable or not tasks:
                self.dataset.read(image_id, usable)
        except DataError:
            return False
        return True
