"""Run the numbered notebooks through papermill, with progress, resume and clean metadata."""

import hashlib
import json
import os
import re
import time
from ast import literal_eval
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import joblib
import nbformat
import papermill
import psutil
from papermill.exceptions import PapermillExecutionError
from tqdm import tqdm
from traitlets.config import Config

from wsol_utils.companion import settings
from wsol_utils.companion.store import write_atomically

WIDGET = "application/vnd.jupyter.widget-view+json"
AT_ONCE = 2  # notebooks, each with its share of the cores: much of a notebook keeps only one busy


@dataclass(frozen=True)
class Outcome:
    """What became of one notebook: seconds it took, where it is, and the error that stopped it, if any."""

    name: str
    path: Path
    seconds: float
    error: str = ""
    reused: bool = False


def available() -> list[str]:
    """Names of the notebooks of this checkout, in reading order."""
    return sorted(path.stem for path in settings.notebooks_folder().glob("[0-9][0-9]_*.ipynb"))


def select(requested: list[str]) -> list[str]:
    """The notebooks asked for by number or name; all when none is named.

    Raises:
        ValueError: no notebook of that name, or none at all.
    """
    names = available()
    if not names:
        raise ValueError(f"{settings.notebooks_folder()} holds no notebooks: set WSOL_NOTEBOOKS to their folder.")
    for wanted in requested:
        if wanted not in names and wanted not in [name[:2] for name in names]:
            raise ValueError(f"There is no notebook {wanted!r}: choose from {', '.join(names)}, or their numbers.")
    return [name for name in names if not requested or name in requested or name[:2] in requested]


@dataclass
class _Ticker:
    """A file for what a cell writes to stderr: of a progress bar, it hands on the text and the percentage."""

    on_progress: Callable[[str], None]

    def write(self, text: str) -> None:
        for progress in re.findall(r"([^\r\n]*\d%)\|", text)[-1:]:
            self.on_progress(progress)

    def flush(self) -> None:
        pass


def execute(
    name: str,
    output: Path,
    parameters: dict[str, object],
    on_cell: Callable[[int], None],
    on_progress: Callable[[str], None] = lambda text: None,
) -> None:
    """Execute one notebook with `parameters` and write it to `output`, without papermill's or widgets' metadata.

    `on_cell` is called with the index of each cell as it starts, `on_progress` when a progress bar in it moves.

    Raises:
        ValueError: a parameter that the notebook does not declare.
        PapermillExecutionError: a cell failed; the notebook up to there stands at `output`.
        OSError: `output` cannot be written.
    """
    source = settings.notebooks_folder() / f"{name}.ipynb"
    declared = papermill.inspect_notebook(str(source))
    for parameter in parameters:
        if parameter not in declared:
            raise ValueError(f"Notebook {name} has no parameter {parameter!r}: it takes {', '.join(declared)}.")
    os.environ.pop("MPLBACKEND", None)  # a kernel brings its own
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    with TemporaryDirectory(prefix="wsol-") as folder:
        working = Path(folder, output.name)
        try:
            papermill.execute_notebook(
                str(source),
                str(working),
                parameters=parameters,
                kernel_name="python3",
                progress_bar=False,
                start_timeout=180,
                config=_kernel_config(folder),
                stderr_file=_Ticker(on_progress),
                on_cell_start=lambda cell, cell_index: on_cell(cell_index),
            )
        except OSError as error:
            raise OSError(
                f"{folder} cannot be written ({error.strerror or error}): free some space there, or set TMPDIR."
            ) from error
        finally:
            with suppress(FileNotFoundError, RuntimeError):  # stopped before there was anything whole to keep
                notebook = clean(read(working))
                write_atomically(output, lambda path: nbformat.write(notebook, path))


def read(path: Path) -> nbformat.NotebookNode:
    """A notebook from its file.

    Raises:
        RuntimeError: the file is damaged.
    """
    try:
        return nbformat.read(path, as_version=4)
    except (ValueError, AttributeError, nbformat.ValidationError) as error:
        raise RuntimeError(f"{path} is no whole notebook: restore it with git, or delete what was made.") from error


def clean(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook without what changes from run to run or machine to machine (metadata, widgets, progress)."""
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
            "language_info": {"name": "python"},
        }
    )
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({"tags": cell.metadata.get("tags", [])})
        if cell.cell_type == "code":
            cell.outputs = [
                output
                for output in cell.outputs
                if WIDGET not in output.get("data", {}) and output.get("name") != "stderr"
            ]
    return notebook


def reproduce(
    names: list[str], profile: str, dataset: str, parameters: dict[str, object] | None = None, inputs: object = None
) -> list[Outcome]:
    """Execute notebooks into the output folder, two at a time, the longest first, going on after failures.

    What an earlier call has already made from the same notebook, package, parameters and `inputs` (plain values that
    name the data) is not made again. Returns an `Outcome` for each, in the order of the names.

    Raises:
        OSError: the output folder cannot be written.
    """
    folder = settings.run_folder(profile, dataset)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(
            f"{folder} cannot be written ({error.strerror}): set WSOL_OUTPUT to a folder that can."
        ) from error
    n_cores = joblib.cpu_count()
    n_at_once = min(AT_ONCE, n_cores, len(names)) or 1
    os.environ.setdefault("OMP_NUM_THREADS", str(n_cores // n_at_once))
    expected = expected_seconds(profile)
    seconds = {name: expected.get(name, [1.0] * len(_source(name).cells)) for name in names}
    wanted = {"profile": profile, "dataset": dataset, **(parameters or {})}
    total = sum(map(sum, seconds.values()))
    with (
        tqdm(total=total, bar_format="{desc} |{bar}| {percentage:3.0f} % left {remaining}") as bar,
        ThreadPoolExecutor(n_at_once) as pool,
    ):
        progress = _Progress(bar)
        outcomes = {
            name: pool.submit(_reproduce_one, name, folder, wanted, inputs, seconds[name], progress)
            for name in sorted(names, key=lambda name: -sum(seconds[name]))
        }
        try:
            return [outcomes[name].result() for name in names]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            while not all(outcome.done() for outcome in outcomes.values()):
                for kernel in psutil.Process().children():
                    with suppress(psutil.NoSuchProcess):
                        kernel.terminate()  # else Ctrl-C would wait for the notebooks at work
                time.sleep(0.1)
            raise


class _Progress:
    """One bar for all notebooks: how far each has come, in expected seconds, and what those at work are doing."""

    def __init__(self, bar: tqdm) -> None:
        self.bar, self.seconds, self.doing = bar, {}, {}

    def at(self, name: str, seconds: float, doing: str = "") -> None:
        """A notebook has come so far; without `doing` it has ended."""
        self.seconds[name], self.doing[name] = seconds, doing
        self.bar.n = sum(list(self.seconds.values()))
        at_work = [f"{name[:2]} {doing}" for name, doing in sorted(self.doing.items()) if doing]
        self.bar.set_description_str(" · ".join(at_work))


def _reproduce_one(
    name: str, folder: Path, wanted: dict[str, object], inputs: object, expected: list[float], progress: _Progress
) -> Outcome:
    output = folder / f"{name}.ipynb"
    declared = papermill.inspect_notebook(str(settings.notebooks_folder() / f"{name}.ipynb"))
    defaults = {key: literal_eval(entry["default"]) for key, entry in declared.items()}
    parameters = {key: value for key, value in wanted.items() if key in defaults and value != defaults[key]}
    if parameters:
        expected = [*expected[:2], 0.0, *expected[2:]]  # papermill injects a cell after the parameters
    signature = _signature(name, [wanted, inputs])
    record = folder / f"{name}.json"
    if output.exists() and record.exists():
        with suppress(ValueError, KeyError, TypeError):  # a damaged record counts as none
            made = json.loads(record.read_text())
            if made["signature"] == signature:
                progress.at(name, sum(expected))
                return Outcome(name, output, made["seconds"], reused=True)
    starts: list[float] = []

    def on_cell(index: int) -> None:
        starts.append(time.monotonic())
        progress.at(name, sum(expected[:index]), f"cell {index + 1}/{len(expected)}")

    def on_progress(text: str) -> None:
        progress.at(name, sum(expected[: len(starts) - 1]), f"cell {len(starts)}/{len(expected)}, {text}")

    began = time.monotonic()
    record.unlink(missing_ok=True)
    try:
        execute(name, output, parameters, on_cell, on_progress)
    except PapermillExecutionError as error:
        return Outcome(
            name, output, time.monotonic() - began, f"cell [{error.exec_count}]: {error.ename}: {error.evalue}"
        )
    except (OSError, RuntimeError) as error:
        return Outcome(name, output, time.monotonic() - began, str(error))
    finally:
        progress.at(name, sum(expected))
    ended = time.monotonic()
    cell_seconds = [round(b - a, 2) for a, b in zip(starts, [*starts[1:], ended], strict=True)]
    made = {"signature": signature, "seconds": ended - began, "cell_seconds": cell_seconds}
    write_atomically(record, lambda path: path.write_text(json.dumps(made)))
    return Outcome(name, output, ended - began)


def _kernel_config(folder: str) -> Config:
    """How a kernel is started: its sockets in a folder of its own, for two runs must not answer each other."""
    local = {"transport": "tcp"} if os.name == "nt" else {"transport": "ipc", "ip": f"{folder}/kernel"}
    return Config(KernelManager=local, NotebookClient={"shutdown_kernel": "immediate"})


def _signature(name: str, run: object) -> str:
    sources = [cell.source for cell in _source(name).cells]
    digest = hashlib.sha256(json.dumps([run, sources], sort_keys=True).encode())
    package = sorted(path for path in (settings.ROOT / "wsol_utils").rglob("*") if path.suffix in {".py", ".toml"})
    shown = [*settings.weights_folder().rglob("*.safetensors"), *settings.results_folder().glob("*/*.json")]
    for path in [*package, *sorted(shown)]:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _source(name: str) -> nbformat.NotebookNode:
    return read(settings.notebooks_folder() / f"{name}.ipynb")


def expected_seconds(profile: str) -> dict[str, list[float]]:
    """Seconds of each cell as measured when the committed notebooks were made; they only feed the time left."""
    path = settings.results_folder() / "cell_seconds.json"
    measured = json.loads(path.read_text()) if path.exists() else {}
    known = {name: cells for name, cells in measured.get(profile, {}).items() if name in available()}
    return {name: cells for name, cells in known.items() if len(cells) == len(_source(name).cells)}
