"""The static pages: executed notebooks, a picture gallery, the table of claims; no execution, readable offline."""

import base64
import contextlib
import io
import re
import shutil
import tempfile
from pathlib import Path

from sphinx.cmd.build import main as sphinx_build

from wsol_utils.companion import chapter, measure, notebooks, settings
from wsol_utils.evaluation import claims

PICTURES = {"image/jpeg": "jpg", "image/png": "png"}


def build(profile: str, dataset: str = "scenes") -> Path:
    """Build the pages from the notebooks of a run (those it lacks are taken as committed); returns the page to open.

    Raises:
        RuntimeError: Sphinx failed, with its last words.
        OSError: the output folder cannot be written.
    """
    output = settings.output_folder()
    target = output / "pages"
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".pages-", dir=output) as building:
            source, html = Path(building, "source"), Path(building, "html")
            _write_source(source, settings.run_folder(profile, dataset))
            _run_sphinx(source, html)
            shutil.rmtree(target, ignore_errors=True)
            html.rename(target)
    except OSError as error:
        raise OSError(
            f"The pages cannot be written to {output}: free some space there, or set WSOL_OUTPUT to another folder."
        ) from error
    return target / "index.html"


def _write_source(source: Path, run: Path) -> None:
    """Notebooks, gallery and filled-in pages, as Sphinx reads them."""
    shutil.copytree(settings.ROOT / "pages", source)
    titles, cards = {}, []
    for name in notebooks.available():
        executed = run / f"{name}.ipynb"
        shutil.copy(executed if executed.exists() else settings.notebooks_folder() / f"{name}.ipynb", source)
        titles[name] = _title(source / f"{name}.ipynb")
        cards.append(_card(name, titles[name], extract_picture(source / f"{name}.ipynb", source / "gallery")))
    (source / "index.md").write_text(_fill(source / "index.md", gallery="\n".join(cards), toc="\n".join(titles)))
    (source / "claims.md").write_text(_fill(source / "claims.md", **_all_claims(run, titles)))
    (source / "figures.md").write_text(_fill(source / "figures.md", figures=_all_figures(source, titles)))


def _run_sphinx(source: Path, html: Path) -> None:
    words = io.StringIO()
    with contextlib.redirect_stdout(words), contextlib.redirect_stderr(words):
        status = sphinx_build(["-q", "-b", "html", str(source), str(html)])
    if status:
        said = words.getvalue().strip()
        if "No space left" in said:
            raise OSError(said)
        raise RuntimeError(f"Sphinx could not build the pages: {said[-500:]}")


def extract_picture(notebook: Path, folder: Path) -> Path | None:
    """Write the picture of the cell tagged `gallery` into `folder`; returns its path, None where there is none."""
    for cell in notebooks.read(notebook).cells:
        if "gallery" in cell.metadata.get("tags", []):
            for output in cell.get("outputs", []):
                for kind, suffix in PICTURES.items():
                    if kind in output.get("data", {}):
                        folder.mkdir(parents=True, exist_ok=True)
                        path = folder / f"{notebook.stem}.{suffix}"
                        path.write_bytes(base64.b64decode(output.data[kind]))
                        return path
    return None


def _title(notebook: Path) -> str:
    first = notebooks.read(notebook).cells[0].source
    return first.splitlines()[0].lstrip("# ")


def _card(name: str, title: str, picture: Path | None) -> str:
    image = f"![{title}](gallery/{picture.name})\n\n" if picture else ""
    return f"## [{title}]({name}.ipynb)\n\n{image}"


def _fill(page: Path, **parts: str) -> str:
    text = page.read_text()
    for name, part in parts.items():
        text = text.replace(f"<!-- {name} -->", part)
    return text


def _all_claims(run: Path, titles: dict[str, str]) -> dict[str, str]:
    parts, every = [], []
    for name, title in titles.items():
        path = run / "claims" / f"{name}.json"
        path = path if path.exists() else settings.results_folder() / "claims" / f"{name}.json"
        if path.exists():
            results = chapter.read_claims(path) + measure.claims_of(name)
            every += results
            parts.append(f"## [{title}]({name}.ipynb)\n\n{claims.claims_table(results)}\n")
    return {"claims": "\n".join(parts), "rules": claims.rules_in_words(every)}


def _all_figures(source: Path, titles: dict[str, str]) -> str:
    """Every mention of a figure of the papers' index (F1 ...) in a notebook, with the heading it stands under."""
    rows = []
    for name, title in titles.items():
        heading = title
        for cell in notebooks.read(source / f"{name}.ipynb").cells:
            if cell.cell_type == "markdown":
                for line in cell.source.splitlines():
                    heading = line.lstrip("# ") if line.startswith("#") else heading
                    rows += [(int(number), name, heading) for number in re.findall(r"\bF(\d+)\b", line)]
    lines = [f"| F{number} | [{heading}]({name}.ipynb) |" for number, name, heading in sorted(set(rows))]
    return "\n".join(["| figure | stands under |", "|---|---|", *lines])
