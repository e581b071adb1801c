"""Every shipped experiment loads; those of the paper build and take one step on two generated images."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
import torchvision.models

from mfed_ray.experiment import load_experiment, parse_experiment
from mfed_ray.experiment.clients import make_clients
from mfed_ray.experiment.loading import load_tree, merge
from mfed_ray.experiment.trainers import TrainerFactory
from mfed_ray.messages import State
from mfed_ray.tasks import TASKS

FOLDER = Path(__file__).resolve().parents[1] / "experiments"
FILES = sorted(path for path in FOLDER.rglob("*.yaml"))
PAPER = {
    folder: [
        FOLDER / folder / f"{algorithm}_resnet{depth}.yaml"
        for algorithm in ("local", "fedavg", "mfed")
        for depth in (50, 101)
    ]
    for folder in ("pascal_context", "coco")
}
TASKS_OF = {
    "pascal_context": {"semantic_segmentation", "human_parts", "saliency", "edge_detection"},
    "coco": {"instance_segmentation", "keypoint_detection", "stuff_segmentation", "panoptic_segmentation"},
}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_loads_and_says_how_to_run_it(path: Path) -> None:
    assert load_experiment(path).rounds > 0
    assert "#   mfed run experiments/" in path.read_text()


@pytest.fixture(scope="module")
def random_weights(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Files as torchvision distributes them, by depth: the ImageNet weights themselves cannot be had offline."""
    folder = tmp_path_factory.mktemp("weights")
    for depth in ("50", "101"):
        network = getattr(torchvision.models, f"resnet{depth}")(weights=None)
        torch.save(network.state_dict(), folder / f"{depth}.pth")
    return {path.stem: path for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("path", "number"),
    [(path, number) for paths in PAPER.values() for number, path in enumerate(paths)],
    ids=lambda value: f"{value.parent.stem}-{value.stem}" if isinstance(value, Path) else str(value),
)
def test_paper_experiment_builds_and_takes_a_step(
    path: Path, number: int, scenes: Path, coco_scenes: Path, random_weights: Mapping[str, Path]
) -> None:
    """Each with the clients of another task."""
    tree = load_tree(path)
    algorithm, depth = path.stem.split("_resnet")
    assert (tree["algorithm"]["name"], tree["model"]["encoder"]) == (algorithm, f"resnet{depth}")
    assert tree["model"]["weights"] == "torchvision"
    small = {
        "data": {"pascal": {"root": str(scenes)}} if "pascal" in tree["data"] else {"coco": {"root": str(coco_scenes)}},
        "model": {"weights": str(random_weights[depth])},
        "images": {"short_side": 64},
        "augmentation": {"crop_size": 64},
        "local": {"batch_size": 2, "max_steps": 1, "loading_workers": 0},
        "runtime": {"gpus_per_client": 0},
    }
    experiment = parse_experiment(merge(tree, small))
    torch.set_num_threads(2)
    clients = make_clients(experiment)
    client = clients[2 * number % len(clients)]
    trainer = TrainerFactory(experiment)(client)
    server = experiment.algorithm.init([client], {client.group: trainer.model.initial})
    fit = experiment.algorithm.fit(trainer, experiment.algorithm.instruct(server, client, 1), State())
    assert fit.metrics[client.group]["steps"] == 1
    assert fit.metrics[client.group]["loss"] > 0
    after = fit.params or fit.state.params["model"]
    moved = {name for name, value in after.items() if not (value == trainer.model.initial[name]).all()}
    assert {name.split(".")[0] for name in moved} == {"encoder", "decoders"}


@pytest.mark.parametrize("folder", PAPER)
def test_paper_experiments_have_the_papers_tasks(folder: str) -> None:
    for path in PAPER[folder]:
        tasks = {task for clients in load_experiment(path).clients for task in clients.tasks}
        assert tasks == TASKS_OF[folder]


def test_quickstart_is_a_federation_of_eight_or_more_clients_and_four_or_more_tasks() -> None:
    experiment = load_experiment(FOLDER / "quickstart.yaml")
    assert sum(clients.count for clients in experiment.clients) >= 8
    assert len({task for clients in experiment.clients for task in clients.tasks} & set(TASKS)) >= 4
