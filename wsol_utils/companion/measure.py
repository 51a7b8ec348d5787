"""What takes data or time that a reader may not have: measured by a command, shipped, shown in the notebooks."""

import json
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from importlib import import_module
from pathlib import Path

import torch

from wsol_utils import __version__
from wsol_utils.companion import settings
from wsol_utils.companion.store import write_atomically
from wsol_utils.display.tables import markdown_table

MEASUREMENTS = {
    "boxes-tiny-imagenet": "measure_boxes:tiny_imagenet",
    "maps-voc2012": "measure_boxes:voc",
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


def measure(name: str) -> Path:
    """Measure a table and write it to the results that ship, with command, date and versions.

    Raises:
        ValueError: no measurement of that name.
        OSError: the data are not there, or the file cannot be written.
    """
    if name not in MEASUREMENTS:
        raise ValueError(f"There is no measurement {name!r}: choose from {', '.join(MEASUREMENTS)}.")
    module, function = MEASUREMENTS[name].split(":")
    make: Callable[[], Table] = getattr(import_module(f"wsol_utils.companion.{module}"), function)
    made = {
        **asdict(make()),
        "command": f"python -m wsol_utils measure {name}",
        "date": date.today().isoformat(),
        "versions": {"wsol_utils": __version__, "torch": torch.__version__, "python": platform.python_version()},
    }
    path = _path(name)
    write_atomically(path, lambda temporary: temporary.write_text(json.dumps(made, indent=1)))
    return path


def shown(name: str) -> str:
    """A measured table as it ships, in Markdown, with its data and command.

    Raises:
        RuntimeError: the file is not there or damaged.
    """
    try:
        made = json.loads(_path(name).read_text())
        table = markdown_table(made["header"], made["rows"])
        seeds = f"{len(made['seeds'])} seed{'s' if len(made['seeds']) > 1 else ''}"
        source = f"{made['data']}; {seeds}; measured {made['date']} by `{made['command']}`. {made['note']}"
        return f"**{made['title']}**\n\n{table}\n\n{source}"
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RuntimeError(f"{_path(name)} holds no table: restore it with git, or measure it again.") from error


def _path(name: str) -> Path:
    return settings.results_folder() / "measured" / f"{name}.json"
