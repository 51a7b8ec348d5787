"""What every committed notebook must have (DESIGN: the anatomy of a notebook)."""

import json
import re
from pathlib import Path

import nbformat
import pytest

from wsol_utils.companion import chapter
from wsol_utils.evaluation import claims

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
PATHS = sorted(FOLDER.glob("[0-9][0-9]_*.ipynb"))
NAMES = [path.stem for path in PATHS]
MOST_CELLS = {"09": 48, "10": 60}  # a dozen tools, and ten systems, each by hand and by the package
KNOWN_TAGS = {
    "parameters",
    "nbval-ignore-output",
    "depends-on-training",
    "depends-on-imagenet",
    "gallery",
    "widget",
}


@pytest.fixture(params=PATHS, ids=NAMES)
def path(request):
    return request.param


@pytest.fixture
def notebook(path):
    return nbformat.read(path, as_version=4)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def tags(cell):
    return set(cell.metadata.get("tags", []))


def pictures(cell):
    return [o for o in cell.outputs if {"image/png", "image/jpeg"} & set(o.get("data", {}))]


def test_metadata_is_clean(notebook):
    assert notebook.metadata.kernelspec.name == "python3"
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    for cell in notebook.cells:
        assert set(cell.metadata) <= {"tags"}
        assert tags(cell) <= KNOWN_TAGS


def test_one_parameters_cell_with_profile_dataset_and_seed(notebook):
    (cell,) = [cell for cell in notebook.cells if "parameters" in tags(cell)]
    for name, default in {"profile": '"laptop"', "dataset": '"scenes"', "seed": "0"}.items():
        assert re.search(rf"^{name} = {default}", cell.source, re.MULTILINE)


def test_cells_are_short(path, notebook):
    lines = [sum(bool(line.strip()) for line in cell.source.splitlines()) for cell in code(notebook)]
    assert max(lines) <= 25
    assert sorted(lines)[len(lines) // 2] <= 11
    assert (9 if path.stem.startswith("00") else 30) <= len(lines) <= MOST_CELLS.get(path.stem[:2], 45)


def test_title_links_and_one_gallery_picture(notebook):
    first = notebook.cells[0].source
    assert first.startswith("# ")
    assert "**You will" in first
    (gallery,) = [cell for cell in notebook.cells if "gallery" in tags(cell)]
    assert len(pictures(gallery)) == 1


def test_links_between_notebooks_lead_somewhere(notebook):
    for cell in notebook.cells:
        for target in re.findall(r"\]\(([\w./-]+\.(?:ipynb|md))(?:#[\w-]+)?\)", cell.source):
            assert (FOLDER / target).exists() or (FOLDER.parent / target.lstrip("./")).exists(), target


def test_executed_in_order_without_errors_and_with_pictures(path, notebook):
    counts = [cell.execution_count for cell in code(notebook)]
    assert counts == list(range(1, len(counts) + 1))
    assert not [o for cell in code(notebook) for o in cell.outputs if o.output_type == "error"]
    n_pictures = sum(len(pictures(cell)) for cell in code(notebook))
    assert n_pictures >= (2 if path.stem.startswith("00") else 7)
    assert path.stat().st_size < 1.5e6


def test_nothing_of_the_machine_or_of_widgets_is_kept(path):
    text = path.read_text()
    assert "widget-view" not in text
    assert not re.search(r'"/(?:home|root|work|Users|tmp)/', json.dumps(json.loads(text)))


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("00")])
def test_two_exercises_with_check_and_folded_solution(name):
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    text = "\n".join(cell.source for cell in notebook.cells)
    for number in (1, 2):
        assert f"### Exercise {number}" in text
        assert f"def check_{number}(" in text
    assert text.count("<summary>Solution</summary>") >= 2


@pytest.mark.parametrize("name", [name for name in NAMES if name[:2] >= "03"])
def test_one_widget_view(name):
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    assert len([cell for cell in notebook.cells if "widget" in tags(cell)]) == 1


@pytest.mark.parametrize("name", [name for name in NAMES if name[:2] != "00"])
def test_at_least_two_measured_claims(name):
    results = json.loads((FOLDER.parent / "data" / "results" / "claims" / f"{name}.json").read_text())
    assert len(results) >= 2


def test_overview_shows_the_claims_that_are_committed():
    outputs = [output for cell in code(nbformat.read(PATHS[0], as_version=4)) for output in cell.outputs]
    shown = [output.data.get("text/markdown") for output in outputs if "data" in output]
    assert claims.short_table(chapter.shipped_claims()) in shown
