"""What every notebook does first and last: open its data at the profile's size, write down its claims."""

import os
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch

from wsol_utils import __version__
from wsol_utils.companion import measure, settings, weights
from wsol_utils.companion.settings import Profile
from wsol_utils.companion.store import write_atomically
from wsol_utils.datasets import load
from wsol_utils.datasets.splits import DataSet
from wsol_utils.display import plots
from wsol_utils.evaluation import claims
from wsol_utils.evaluation.claims import ClaimResult
from wsol_utils.evaluation.statistics import Interval
from wsol_utils.methods.networks import pick_device

N_CLASSES = {"quick": 5, "laptop": 20}  # of tiny-imagenet, known to the shipped networks; the paper profile: all


@dataclass(frozen=True)
class Chapter:
    """One notebook at work: its number and name, the profile's sizes, the data set, the seed, the device."""

    name: str
    profile: Profile
    dataset: DataSet
    seed: int
    device: str

    @property
    def claims_path(self) -> Path:
        return settings.run_folder(self.profile.name, self.dataset.name) / "claims" / f"{self.name}.json"

    def judged(
        self,
        number: str,
        verdict: str,
        value: Interval | float,
        controls: dict[str, float],
        note: str = "",
        data: str = "",
        seeds: tuple[int, ...] = (),
        unit: str = "points",
    ) -> ClaimResult:
        """The result of a claim, its controls rounded; prints number, verdict, value with its interval, the rest."""
        controls = {control: float(f"{float(number):.3g}") for control, number in controls.items()}
        interval = value if isinstance(value, Interval) else None
        value = interval.mean if interval else float(value)
        shown = f"{interval:{'' if unit.startswith('points') else '.2f'}}" if interval else f"{value:.2g}"
        print(f"{number} {verdict}: {' '.join(filter(None, [shown, unit, str(controls or '')]))}; {note}".rstrip("; "))
        return ClaimResult(number, value, unit, data, seeds or (self.seed,), verdict, interval, controls, note)

    def finish(self, results: list[ClaimResult], measured: str = "on photographs") -> str:
        """Write the claims measured in this notebook where the pages find them, those of its data set only.

        Returns Markdown: their table and rules, then what was `measured` elsewhere and ships with the project.
        """
        name = self.dataset.name
        own = [result for result in results if name == "scenes" or result.data.startswith(name)]
        write_atomically(self.claims_path, lambda path: path.write_text(claims.to_json(own)))
        parts = [claims.claims_table(results), claims.rules_in_words([*results, *measure.claims_of(self.name)])]
        if photographs := on_photographs(self.name):
            parts += [f"### Measured {measured}, shipped with the project", *photographs]
        return "\n\n".join(parts)


def begin(name: str, profile: str, dataset: str = "scenes", seed: int = 0) -> Chapter:
    """Set the figure style and torch's seed and open the data set; prints profile, device and versions.

    Raises:
        ValueError: unknown profile or data set.
        OSError: the data set is not there, with where it was looked for.
    """
    plots.use_house_style()
    torch.manual_seed(seed)  # torch starts at a random one
    chapter = Chapter(name, settings.load_profile(profile), open_dataset(dataset, profile), seed, str(pick_device()))
    print(f"profile {profile} · data set {dataset} · seed {seed} · device {chapter.device}")
    packages = ("torch", "torchvision", "matplotlib")
    versions = " · ".join(f"{package} {version(package).split('+')[0]}" for package in packages)
    print(f"wsol_utils {__version__} · {versions}")
    return chapter


def open_dataset(name: str, profile: str) -> DataSet:
    """The data set at the profile's number of classes; `WSOL_DATA_ROOT` (the option --root) says where it is.

    Raises:
        ValueError: unknown data set, or a folder that is not named.
        OSError: the data set is not there, with where it was looked for.
    """
    if name == "tiny-imagenet":
        return load(name, n_classes=N_CLASSES.get(profile), first=weights.shipped_classes())
    if name == "folder":
        return load(name, root=os.environ.get("WSOL_DATA_ROOT"))
    return load(name)


def claims_folder(dataset: str = "scenes") -> Path:
    """Where the claims lie that ship with the project: those of the committed notebooks, or of another data set."""
    return settings.results_folder() / ("claims" if dataset == "scenes" else f"claims-{dataset}")


def shipped_claims() -> list[ClaimResult]:
    """All claims as measured by the run that was committed with the notebooks, and with the tables that ship."""
    return [
        result
        for path in sorted(claims_folder().glob("*.json"))
        for result in read_claims(path) + measure.claims_of(path.stem)
    ]


def on_photographs(name: str) -> list[str]:
    """The claims and tables of a notebook as measured on photographs, in Markdown; they ship, so no data are needed."""
    measured = {dataset: claims_folder(dataset) / f"{name}.json" for dataset in ("tiny-imagenet", "voc2012")}
    of_claims = [
        f"**{dataset}**, by `wsol execute {name[:2]} --dataset {dataset}`:\n\n" + claims.claims_table(read_claims(path))
        for dataset, path in measured.items()
        if path.exists()
    ]
    return of_claims + measure.tables_of(name)


def read_claims(path: Path) -> list[ClaimResult]:
    """The claims that a notebook wrote down when it finished.

    Raises:
        RuntimeError: the file is damaged.
    """
    try:
        return claims.from_json(path.read_text())
    except ValueError as error:
        raise RuntimeError(f"{path} holds no claims: delete it and run its notebook again.") from error
