"""What a task's metric gives a constant prediction."""

from collections.abc import Iterator, Sequence

from mfed_ray.data.sample import Dataset, Sample
from mfed_ray.tasks.contract import Task


def floor(task: Task, dataset: Dataset, image_ids: Sequence[str]) -> dict[str, float]:
    """The metric's values by name for the task's constant prediction, which is chosen knowing all of these images.

    They are read twice, to choose and to measure, one at a time.
    """

    def samples() -> Iterator[Sample]:
        return (dataset.read(image_id, [task.name]) for image_id in image_ids)

    predict = task.constant(sample.targets[task.name] for sample in samples())
    metric = task.make_metric()
    for sample in samples():
        height, width = sample.image.shape[:2]
        metric.update(predict(height, width), sample.targets[task.name])
    return dict(metric.compute())
