"""The command line: `python -m wsol_utils …`, also installed as `wsol`."""

import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from wsol_utils.companion import settings

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)

ProfileOption = Annotated[str, typer.Option(help="Size of the run: quick, laptop or paper.")]


@app.callback()
def _common(debug: Annotated[bool, typer.Option(help="Show the traceback of an error.")] = False) -> None:
    """Run the companion to the early papers on weakly supervised object localisation."""


@app.command()
def reproduce(
    notebooks: Annotated[list[str] | None, typer.Argument(help="Numbers or names; all when none is given.")] = None,
    profile: ProfileOption = "laptop",
    dataset: Annotated[str, typer.Option(help="Data set that the measured parts run on.")] = "scenes",
    root: Annotated[Path | None, typer.Option(help="Folder of the data set.")] = None,
    model: Annotated[str, typer.Option(help="torchvision classifier for photographs.")] = "squeezenet1_0",
    build_pages: Annotated[bool, typer.Option("--pages/--no-pages", help="Build the pages at the end.")] = True,
) -> None:
    """Execute the notebooks, build the pages, and say what was reproduced."""
    from wsol_utils.companion import reproduction

    if root is not None:
        os.environ["WSOL_DATA_ROOT"] = str(root.expanduser().resolve())
    failed = reproduction.run(notebooks or [], profile, dataset, model, build_pages)
    raise typer.Exit(1 if failed else 0)


@app.command()
def localise(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PHOTO|FOLDER …", help="Photographs of up to 64 million pixels, or folders of them."),
    ],
    output: Annotated[Path | None, typer.Option(help="Folder for pictures, CSV and JSON.")] = None,
    model: Annotated[str, typer.Option(help="torchvision classifier, or tiny-imagenet-gap.")] = "squeezenet1_0",
) -> None:
    """Name what photographs show and where: saliency, GraphCut box, class activation map."""
    from wsol_utils.companion import localise as localising
    from wsol_utils.companion import weights

    output = output or settings.output_folder() / "localised"
    found = localising.localise_all(paths, output, weights.by_name(model))
    for entry in found:
        names = ", ".join(f"{name} {share:.2f}" for name, share in entry["classes"])
        typer.echo(f"{entry['file']}: {names}\n  {output / entry['picture']}")
    raise typer.Exit(0 if found else 1)


@app.command()
def execute(
    notebooks: Annotated[list[str] | None, typer.Argument(help="Numbers or names; all when none is given.")] = None,
    dataset: Annotated[str, typer.Option(help="Of another than scenes only the claims are kept.")] = "scenes",
) -> None:
    """Execute the notebooks in the laptop profile and write them back into the checkout, with claims and pictures."""
    from wsol_utils.companion import reproduction

    raise typer.Exit(1 if reproduction.update_committed(notebooks or [], dataset) else 0)


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="tiny-imagenet, voc2007, voc2012, or a torchvision classifier.")],
) -> None:
    """Download a data set, or the ImageNet weights of a classifier."""
    from wsol_utils.companion import weights
    from wsol_utils.datasets import downloads

    path = downloads.fetch(name) if name in downloads.REGISTRY else weights.fetch_imagenet(name)
    typer.echo(path)


@app.command()
def train(name: Annotated[str, typer.Argument(help="For instance scenes-gap or tiny-imagenet.")]) -> None:
    """Make weights that ship with the project; goes on where a killed run stopped."""
    from wsol_utils.companion import recipes

    typer.echo(recipes.make_shipped(name))


@app.command()
def measure(name: Annotated[str, typer.Argument(help="For instance boxes-tiny-imagenet.")]) -> None:
    """Measure a table that ships with the project, on data or in time that a reader may not have."""
    from wsol_utils.companion import measure as measuring

    typer.echo(measuring.measure(name))


@app.command()
def pages(profile: ProfileOption = "laptop", dataset: str = "scenes") -> None:
    """Build the pages from the notebooks executed last."""
    from wsol_utils.companion import pages as site

    settings.load_profile(profile)
    typer.echo(site.build(profile, dataset))


@app.command()
def check() -> None:
    """Print what a bug report needs: versions, device, folders."""
    import torch

    from wsol_utils.methods.networks import pick_device

    typer.echo(f"python {platform.python_version()} on {platform.platform()}, {os.cpu_count()} cores")
    for name in ("wsol-utils", "torch", "torchvision", "numpy", "scikit-learn", "matplotlib", "papermill", "nbval"):
        typer.echo(f"{name} {metadata.version(name)}")
    opencv = [name for name in ("opencv-python", "opencv-python-headless") if _installed(name)]
    typer.echo(f"OpenCV: {', '.join(opencv)}" + ("; keep one of the two" if len(opencv) > 1 else ""))
    typer.echo(f"device {pick_device()}, {torch.get_num_threads()} threads")
    for what, folder in (("store", settings.store_folder()), ("output", settings.output_folder())):
        folder = next(parent for parent in (folder, *folder.parents) if parent.exists())
        typer.echo(f"{what} folder {'writable' if os.access(folder, os.W_OK) else 'NOT WRITABLE'}")


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def main() -> None:
    """Entry point: one sentence for an error, exit status 2 for wrong usage and 1 for a failure."""
    try:
        app()
    except (ValueError, OSError, RuntimeError) as error:
        if "--debug" in sys.argv:
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, ValueError) else 1)
