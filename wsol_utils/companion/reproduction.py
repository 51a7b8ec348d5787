"""The whole run behind `make reproduce`: checks first, then the notebooks, the pages and the closing table."""

import json
import os
import shutil
import sys
from pathlib import Path

from wsol_utils.companion import chapter, notebooks, pages, settings, weights
from wsol_utils.companion.notebooks import Outcome
from wsol_utils.companion.store import write_atomically
from wsol_utils.display.tables import markdown_table


def run(requested: list[str], profile: str, dataset: str, model: str, build_pages: bool) -> int:
    """Execute notebooks, build the pages, print the closing table; returns how many notebooks failed.

    Raises:
        ValueError: an unknown notebook, profile, data set or model, before anything is run.
        OSError: the data set is not there, or the output folder cannot be written.
    """
    names = notebooks.select(requested)
    settings.load_profile(profile)
    inputs = [chapter.open_dataset(dataset, profile).fingerprint, _photographs()]
    try:
        inputs.append(weights.by_name(model).source)
    except OSError as error:
        os.environ["WSOL_OFFLINE"] = "1"
        print(f"{error} Until then {weights.OFFLINE} stands in.", file=sys.stderr)
    outcomes = notebooks.reproduce(names, profile, dataset, {"model": model}, inputs)
    print(_closing_table(outcomes, profile, dataset))
    for outcome in outcomes:
        if outcome.error:
            print(f"{outcome.name} failed: {outcome.error}", file=sys.stderr)
            if outcome.path.exists():
                print(f"As far as it got: {outcome.path}", file=sys.stderr)
    if build_pages:
        print(f"Open {pages.build(profile, dataset)}")
    return sum(bool(outcome.error) for outcome in outcomes)


def update_committed(requested: list[str], dataset: str = "scenes") -> int:
    """Execute notebooks in the laptop profile; put them, their claims, pictures and times where git keeps them.

    The overview comes last, for it shows the claims of the others. Of another data set than scenes only the claims are
    kept. Returns how many notebooks failed; nothing is replaced then.

    Raises:
        ValueError: an unknown notebook or data set.
    """
    run, results = settings.run_folder("laptop", dataset), settings.results_folder()
    overview = notebooks.available()[0]
    others = [name for name in notebooks.select(requested) if name != overview]
    outcomes = notebooks.reproduce(others, "laptop", dataset)
    if not any(outcome.error for outcome in outcomes):
        for name in others:
            if (path := run / "claims" / f"{name}.json").exists():
                _copy(path, chapter.claims_folder(dataset) / path.name)
        if dataset == "scenes":
            outcomes += notebooks.reproduce([overview], "laptop", dataset)
    print(_closing_table(outcomes, "laptop", dataset))
    failed = [outcome for outcome in outcomes if outcome.error]
    for outcome in failed:
        print(f"{outcome.name} failed: {outcome.error}", file=sys.stderr)
    if failed or dataset != "scenes":
        return len(failed)
    seconds = notebooks.expected_seconds("laptop")
    for name in (overview, *others):
        _copy(run / f"{name}.ipynb", settings.notebooks_folder() / f"{name}.ipynb")
        pages.extract_picture(run / f"{name}.ipynb", settings.ROOT / "pages" / "gallery")
        seconds[name] = json.loads((run / f"{name}.json").read_text())["cell_seconds"]
    write_atomically(results / "cell_seconds.json", lambda path: path.write_text(json.dumps({"laptop": seconds})))
    return 0


def _copy(source: Path, target: Path) -> None:
    write_atomically(target, lambda path: shutil.copyfile(source, path))


def _photographs() -> list[tuple[str, int, float]]:
    """What tells the reader's own photographs apart without reading them: names, sizes, times of change."""
    paths = sorted(settings.photographs_folder().glob("*"))
    return [(path.name, path.lstat().st_size, path.lstat().st_mtime) for path in paths]


def _closing_table(outcomes: list[Outcome], profile: str, dataset: str) -> str:
    rows = []
    for outcome in outcomes:
        path = settings.run_folder(profile, dataset) / "claims" / f"{outcome.name}.json"
        results = chapter.read_claims(path) if path.exists() and not outcome.error else []
        reproduced = sum(result.verdict == "reproduced" for result in results)
        state = "FAILED" if outcome.error else "already made" if outcome.reused else f"{outcome.seconds:.0f} s"
        rows.append([outcome.name, state, f"{reproduced} of {len(results)}" if results else "-"])
    return markdown_table(["notebook", "time", "claims reproduced"], rows)
