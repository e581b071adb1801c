"""The command ``mfed``: arguments only."""

import os
import sys
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from mfed_ray.errors import ConfigError, DataError, MfedError, RunInterruptedError
from mfed_ray.evaluation import AFTER_AGGREGATION, BEFORE_AGGREGATION

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="M-Fed: multi-task federated learning with an encoder-decoder structure, simulated on Ray.",
)
data = typer.Typer(no_args_is_help=True, help="Make and check data sets.")
app.add_typer(data, name="data")

Experiment = Annotated[Path, typer.Argument(metavar="EXPERIMENT.yaml", help="The experiment's file.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Overrides, values in YAML: rounds=3 algorithm='{name: fedavg}'"),
]

Trust = Annotated[
    list[str] | None,
    typer.Option(
        metavar="package.module:Class",
        help="An algorithm of one's own, whose code may run where a folder names it. Without, no folder's code runs.",
    ),
]

Address = Annotated[
    str | None,
    typer.Option(
        metavar="auto|HOST:PORT",
        help="A running Ray cluster (default: RAY_ADDRESS, else a Ray on this machine that ends with the command).",
    ),
]


@app.callback()
def _common(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    _Settings.debug = debug


class _Settings:
    debug = False


@app.command()
def run(
    experiment: Experiment,
    overrides: Overrides = None,
    out: Annotated[
        str | None,
        typer.Option(
            help="The run's folder, a path or URI (default: runs/NAME/ALGORITHM-seedSEED). A second run there resumes; "
            "one at a time: a URI cannot be locked."
        ),
    ] = None,
    address: Address = None,
) -> None:
    """Run an experiment, or go on with it where its folder left off."""
    from mfed_ray.experiment import load_experiment

    _import_from_here()
    checked = load_experiment(experiment, _on(address, overrides))  # before the imports that take seconds
    from mfed_ray.driver import run as run_experiment
    from mfed_ray.driver import start_beside

    def prepare() -> None:
        """Open the data, drawn by several processes first, while the user can watch."""
        from mfed_ray.experiment.clients import open_datasets
        from mfed_ray.progress import counting

        open_datasets(checked, _processes(), counting("drawing images"))

    start_beside(checked, prepare)
    from mfed_ray.progress import show

    algorithm = checked.algorithm_name.replace(":", ".")
    folder = out or str(Path("runs") / checked.name / f"{algorithm}-seed{checked.seed}")
    try:
        show(run_experiment(checked, folder), checked, folder)
    except KeyboardInterrupt:
        raise RunInterruptedError("interrupted; the same command goes on from the last finished round") from None


@app.command()
def sweep(
    file: Annotated[Path, typer.Argument(metavar="SWEEP.yaml", help="The sweep's file.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Overrides of its keys: experiment.rounds=3 space.seed='[0, 1]'"),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            help="The sweep's folder, a path or URI (default: runs/NAME). A second sweep there resumes; one at a "
            "time: a URI cannot be locked."
        ),
    ] = None,
    address: Address = None,
) -> None:
    """Run an experiment at many points with Ray Tune, or go on with a sweep where its folder left off."""
    from mfed_ray.experiment.clients import open_datasets
    from mfed_ray.progress import counting
    from mfed_ray.results.loading import load
    from mfed_ray.results.rendering import render
    from mfed_ray.results.summary import summarise
    from mfed_ray.sweep import load_sweep
    from mfed_ray.sweep.run import run as run_sweep
    from mfed_ray.sweep_progress import following

    _import_from_here()
    checked = load_sweep(file, overrides or [])
    place = out or str(Path("runs") / checked.name)
    draw = partial(open_datasets, processes=_processes(), on_progress=counting("drawing images"))
    try:
        run_sweep(checked, place, address, draw, following(checked, place))
    except KeyboardInterrupt:
        raise RunInterruptedError("interrupted; the same command goes on, finished rounds are kept") from None
    found = load(place)
    _warn(found.problems)
    typer.echo(render(summarise(found.metrics), "table"))


@app.command()
def results(
    paths: Annotated[list[str], typer.Argument(metavar="PATH...", help="Runs, sweeps, or folders or URIs of them.")],
    form: Annotated[str, typer.Option("--format", help="table, csv, markdown, latex or json")] = "table",
    stage: Annotated[
        str | None,
        typer.Option(help=f"{AFTER_AGGREGATION} or {BEFORE_AGGREGATION} (default: the first, where a run has it)"),
    ] = None,
) -> None:
    """Headline metrics per task, mean and spread over seeds, with Delta_m against local training and a paired test."""
    from mfed_ray.results.loading import load
    from mfed_ray.results.rendering import FORMATS, render
    from mfed_ray.results.summary import summarise

    if form not in FORMATS:
        raise ConfigError(f"--format: {form!r} is not one of {', '.join(FORMATS)}")
    found = load(paths)
    _warn(found.problems)
    typer.echo(render(summarise(found.metrics, stage), form))


def _warn(problems: Sequence[str]) -> None:
    from mfed_ray.results.loading import shortened

    for problem in shortened(problems):
        typer.echo(f"mfed: warning: {problem}", err=True)


@app.command()
def report(
    paths: Annotated[list[str], typer.Argument(metavar="PATH...", help="Runs, sweeps, or folders or URIs of them.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The page, or the folder of the figures (default: report.html, figures)."),
    ] = None,
    form: Annotated[
        str, typer.Option("--format", help="html: one page that opens offline; png, svg or pdf: a file for each plot")
    ] = "html",
    trust: Trust = None,
) -> None:
    """Show runs and sweeps: learning curves, Delta_m over hyper-parameters, correlations, costs, clients, pictures."""
    from mfed_ray.report import write_report
    from mfed_ray.results.loading import load

    found = load(paths)
    _warn(found.problems)
    target = out or Path("report.html" if form == "html" else "figures")
    files = write_report(found, target, form, _trusted(trust))
    size = sum(file.stat().st_size for file in files) / 1e6
    typer.echo(f"{target}: {len(files)} {'file' if len(files) == 1 else 'files'}, {size:.1f} MB")


@app.command()
def predict(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.")],
    client: Annotated[str, typer.Option(help="The client whose model predicts, for instance saliency-0.")],
    images: Annotated[Path, typer.Option(help="A folder of .jpg or .png images.")],
    out: Annotated[Path | None, typer.Option(help="A new folder (default: RUN/predictions/CLIENT).")] = None,
    trust: Trust = None,
) -> None:
    """Write a client's predictions of images: COCO results, panoptic or label PNGs, and overlays to look at."""
    from mfed_ray.predict import predict as predict_images
    from mfed_ray.progress import counting

    target = out or run / "predictions" / client
    try:
        folders = predict_images(run, client, images, target, counting("predicting images"), _trusted(trust))
    except KeyboardInterrupt:
        raise RunInterruptedError("interrupted; nothing was written, the same command starts over") from None
    for folder in folders:
        typer.echo(f"{folder}: predictions, and overlays in {folder / 'overlays'}")


@data.command()
def generate(
    root: Annotated[Path, typer.Argument(help="A new folder.")],
    images: Annotated[int, typer.Option(help="Number of images, both splits together.")] = 500,
    size: Annotated[int, typer.Option(help="Height and width in pixels.")] = 96,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 0,
    layout: Annotated[str, typer.Option(help="pascal_context, coco or textures")] = "pascal_context",
) -> None:
    """Draw scenes with PASCAL-Context's five targets (PASCAL_MT's layout) or COCO 2017's four, or boards of texture."""
    from mfed_ray.data.generated import LAYOUTS
    from mfed_ray.progress import counting

    if layout not in LAYOUTS:
        raise ConfigError(f"--layout: {layout!r} is not one of {', '.join(LAYOUTS)}")
    LAYOUTS[layout](root, images, size, seed, on_progress=counting("drawing images"), processes=_processes())
    typer.echo(f"{images} images of {size} px in {root}")


@data.command()
def check(root: Annotated[Path, typer.Argument(metavar="DIR", help="A data set's folder.")]) -> None:
    """Read everything in a data set's folder: list all that is wrong with it, count its images and targets."""
    from mfed_ray.data.check import check as check_folder
    from mfed_ray.data.check import contents
    from mfed_ray.progress import counting_by_file

    problems = check_folder(root, counting_by_file("checking"))
    for problem in problems:
        typer.echo(str(problem))
    for line in contents(root):
        typer.echo(line)
    if problems:
        counts = Counter(problem.kind for problem in problems)
        told = ", ".join(f"{count} {kind}" for kind, count in counts.most_common())
        noun = "problem" if len(problems) == 1 else "problems"
        raise DataError(f"{root}: {len(problems)} {noun}: {told}")
    typer.echo(f"{root}: no problems")


def _import_from_here() -> None:
    """For algorithms of one's own; Ray gives its workers the same folder. Who only looks at results imports nothing
    from where he stands, which may be the folder that he looks at."""
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)


def _trusted(names: list[str] | None) -> list[str]:
    if names:
        _import_from_here()
    return names or []


def _processes() -> int:
    return os.cpu_count() or 1


def _on(address: str | None, overrides: list[str] | None) -> list[str]:
    """The overrides; with an address, the experiment's clients run on that cluster, whatever its file says."""
    here = [f'runtime.address="{address}"', "runtime.backend=ray"] if address else []
    return [*(overrides or []), *here]


@app.command()
def doctor(
    experiment: Annotated[Path | None, typer.Argument(metavar="EXPERIMENT.yaml")] = None,
    overrides: Overrides = None,
    address: Address = None,
) -> None:
    """Say what Ray, torch and this machine offer, and where an experiment's clients would go."""
    from mfed_ray.experiment import load_experiment

    _import_from_here()
    checked = load_experiment(experiment, _on(address, overrides)) if experiment else None
    from mfed_ray.doctor import report

    for line in report(checked, address):
        typer.echo(line)


def main(arguments: list[str] | None = None) -> None:
    """Run ``mfed``. Exits with 0 when done, 1 when the run failed, 2 when the input is wrong, 130 when interrupted."""
    try:
        app(arguments)
    except MfedError as error:
        if _Settings.debug:
            raise
        typer.echo("\n".join([f"mfed: {error}", *getattr(error, "__notes__", [])]), err=True)
        sys.exit(error.exit_code)
