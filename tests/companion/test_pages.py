import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output, writes

from wsol_utils.companion import pages

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


@pytest.fixture
def site(tmp_path, monkeypatch):
    notebooks, output = tmp_path / "notebooks", tmp_path / "output"
    notebooks.mkdir()
    monkeypatch.setenv("WSOL_NOTEBOOKS", str(notebooks))
    monkeypatch.setenv("WSOL_OUTPUT", str(output))
    picture = new_output("display_data", data={"image/png": PIXEL, "text/plain": "<Figure>"})
    plot = new_code_cell("plot()", outputs=[picture], execution_count=1, metadata={"tags": ["gallery"]})
    table = new_output("execute_result", data={"text/markdown": "| claim | verdict |\n|---|---|\n| C1.1 | holds |"})
    judged = new_code_cell("judge()", outputs=[table], execution_count=2)
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    for name, other in (("01_first", "02_second"), ("02_second", "01_first")):
        text = f"# Title of {name}\n\nThe equation $S_c = \\sum_k w_k^c F_k$ of figure F25, see [other]({other}.ipynb)."
        book = new_notebook(cells=[new_markdown_cell(text), plot, judged], metadata=kernel)
        (notebooks / f"{name}.ipynb").write_text(writes(book))
    return pages.build("quick")


def test_pages_show_gallery_notebooks_figures_and_work_offline(site):
    index = site.read_text()
    assert "Title of 01_first" in index
    assert "_images/01_first.png" in index
    notebook = (site.parent / "01_first.html").read_text()
    assert 'href="02_second.html"' in notebook, "links between notebooks work"
    assert "<td><p>C1.1</p></td>" in notebook, "a table that code made is a table"
    assert "F25" in (site.parent / "figures.html").read_text()
    for page in site.parent.glob("*.html"):
        text = page.read_text()
        assert 'src="http' not in text, f"{page.name} loads something from the network"
        assert 'rel="stylesheet" type="text/css" href="http' not in text


def test_an_output_folder_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("WSOL_OUTPUT", str(tmp_path / "file"))
    with pytest.raises(OSError, match=r"cannot be written to .*: free some space there, or set WSOL_OUTPUT"):
        pages.build("quick")
