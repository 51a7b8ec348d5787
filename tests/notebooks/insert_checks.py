"""`python -m tests.notebooks.insert_checks FOLDER`: copy the notebooks with exercises solved and controls moved."""

import re
import sys
from pathlib import Path

import nbformat

from wsol_utils.companion import settings

SOLUTION = re.compile(r"<details>.*?```python\n(.*?)```.*?</details>", re.DOTALL)
MOVE_CONTROLS = """
for control in view.children[:-1]:
    before, old = view.children[-1].value, control.value
    if hasattr(control, "options"):
        others = [value for _, value in control._options_full]
    else:
        others = [control.min, control.max]
    for other in others:
        control.value = other
        if view.children[-1].value != before:
            break
    assert view.children[-1].value != before, f"moving {control.description!r} changes nothing"
    control.value = old
print(f"{len(view.children) - 1} controls change the picture")
"""


def with_checks(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook with its folded solutions as cells of their own, and a check after each widget."""
    cells = []
    for cell in notebook.cells:
        cells.append(cell)
        if cell.cell_type == "markdown":
            cells += [nbformat.v4.new_code_cell(code) for code in SOLUTION.findall(cell.source)]
        elif "widget" in cell.metadata.get("tags", []):
            cells.append(nbformat.v4.new_code_cell(MOVE_CONTROLS))
    notebook.cells = cells
    return notebook


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for path in settings.notebooks_folder().glob("[0-9][0-9]_*.ipynb"):
        nbformat.write(with_checks(nbformat.read(path, as_version=4)), folder / path.name)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
