"""What takes data or time that a reader may not have: measured by a command, shipped, shown in the notebooks."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from importlib import import_module
from pathlib import Path

from wsol_utils.companion import settings
from wsol_utils.companion.store import versions, write_atomically
from wsol_utils.display.tables import markdown_table
from wsol_utils.evaluation.claims import ClaimResult, claims_table, from_json

MEASUREMENTS = {  # name: the notebook that shows the table, and the function that makes it
    "fisher-scenes": ("01_fisher_vectors", "fisher:scenes"),
    "fisher-caltech": ("01_fisher_vectors", "fisher:photographs"),
    "fisher-voc2012": ("01_fisher_vectors", "fisher:voc"),
    "fisher-and-convnet-scenes": ("02_convnet", "fisher_and_convnet:scenes"),
    "fisher-and-convnet-tiny-imagenet": ("02_convnet", "fisher_and_convnet:tiny_imagenet"),
    "training-tiny-imagenet": ("02_convnet", "training:tiny_imagenet"),
    "boxes-tiny-imagenet": ("06_class_activation_maps", "boxes:tiny_imagenet"),
    "maps-voc2012": ("06_class_activation_maps", "boxes:voc"),
    "settings-voc2012": ("07_weak_max_pooling", "pooling:choice"),
    "pooling-voc2012": ("07_weak_max_pooling", "pooling:voc"),
    "patches-voc2012": ("07_weak_max_pooling", "patches:voc"),
    "evidence-voc2012": ("07_weak_max_pooling", "evidence:voc"),
    "detectors-scenes": ("10_boxes_with_supervision", "detectors:scenes"),
    "detectors-voc2012": ("10_boxes_with_supervision", "detectors:voc"),
    "layers-scenes": ("10_boxes_with_supervision", "detectors:layers"),
    "thresholds-scenes": ("10_boxes_with_supervision", "evaluation:thresholds"),
    "centre-scenes": ("10_boxes_with_supervision", "evaluation:centre"),
    "tied-scenes": ("10_boxes_with_supervision", "evaluation:tied"),
}


@dataclass(frozen=True)
class Table:
    """A measured table: what it shows, on which data, from which seeds, and what a reader must know about it."""

    title: str
    data: str
    seeds: Sequence[int]
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str
    claims: Sequence[ClaimResult] = ()


def measure(name: str) -> Path:
    """Measure a table and write it to the results that ship, with command, date and versions.

    Raises:
        ValueError: no measurement of that name.
        OSError: the data are not there, or the file cannot be written.
    """
    if name not in MEASUREMENTS:
        raise ValueError(f"There is no measurement {name!r}: choose from {', '.join(MEASUREMENTS)}.")
    module, function = MEASUREMENTS[name][1].split(":")
    make: Callable[[], Table] = getattr(import_module(f"wsol_utils.companion.measurements.{module}"), function)
    made = {
        **asdict(make()),
        "command": f"python -m wsol_utils measure {name}",
        "date": date.today().isoformat(),
        "versions": versions(),
    }
    path = _path(name)
    write_atomically(path, lambda temporary: temporary.write_text(json.dumps(made, indent=1)))
    return path


def tables_of(notebook: str) -> list[str]:
    """The measured tables of a notebook that ship, in Markdown, each with its data and command.

    Raises:
        RuntimeError: a file is damaged.
    """
    names = [name for name, (shown_in, _) in MEASUREMENTS.items() if shown_in == notebook]
    return [_markdown(_path(name)) for name in names if _path(name).exists()]


def claims_of(notebook: str) -> list[ClaimResult]:
    """The claims that were judged with a notebook's measured tables.

    Raises:
        RuntimeError: a file is damaged.
    """
    names = [name for name, (shown_in, _) in MEASUREMENTS.items() if shown_in == notebook]
    return [result for name in names if _path(name).exists() for result in _read(_path(name))[1]]


def _markdown(path: Path) -> str:
    made, results = _read(path)
    try:
        table = markdown_table(made["header"], made["rows"])
        seeds = f"{len(made['seeds'])} seed{'s' if len(made['seeds']) > 1 else ''}"
        source = f"{made['data']}; {seeds}; measured {made['date']} by `{made['command']}`. {made['note']}"
        parts = [f"**{made['title']}**", table, source]
        return "\n\n".join([*parts, claims_table(results)] if results else parts)
    except (KeyError, TypeError) as error:
        raise _damaged(path) from error


def _read(path: Path) -> tuple[dict, list[ClaimResult]]:
    try:
        made = json.loads(path.read_text())
        return made, from_json(json.dumps(made.get("claims", [])))
    except (ValueError, AttributeError) as error:
        raise _damaged(path) from error


def _damaged(path: Path) -> RuntimeError:
    return RuntimeError(f"{path} holds no table: restore it with git, or measure it again.")


def _path(name: str) -> Path:
    return settings.results_folder() / "measured" / f"{name}.json"
