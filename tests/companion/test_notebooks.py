import json
import re
import signal
import threading
import time

import nbformat
import psutil
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from papermill.exceptions import PapermillExecutionError

from wsol_utils.companion import notebooks, settings


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("WSOL_NOTEBOOKS", str(tmp_path / "notebooks"))
    monkeypatch.setenv("WSOL_OUTPUT", str(tmp_path / "output"))
    (tmp_path / "notebooks").mkdir()
    return tmp_path


def write(folder, name, *code):
    parameters = new_code_cell('profile = "laptop"\ndataset = "scenes"', metadata={"tags": ["parameters"]})
    cells = [new_markdown_cell(f"# {name}"), parameters, *map(new_code_cell, code)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(new_notebook(cells=cells, metadata=kernel), folder / "notebooks" / f"{name}.ipynb")


def run(folder, profile="quick"):
    return notebooks.reproduce(notebooks.available(), profile, "scenes")


def test_selection_by_number_or_name(folder):
    write(folder, "01_first")
    write(folder, "02_second")
    assert notebooks.select([]) == ["01_first", "02_second"]
    assert notebooks.select(["02"]) == notebooks.select(["02_second"]) == ["02_second"]
    with pytest.raises(ValueError, match="no notebook '07': choose from 01_first, 02_second"):
        notebooks.select(["07"])


def test_unknown_parameters_raise(folder):
    write(folder, "01_first")
    with pytest.raises(ValueError, match="no parameter 'sed': it takes profile, dataset"):
        notebooks.execute("01_first", folder / "out.ipynb", {"sed": 1}, print)


def test_a_failure_is_named_the_rest_runs_and_a_second_call_goes_on(folder, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "Agg")
    log = folder / "log"
    write(folder, "01_good", f"open({str(log)!r}, 'a').write('x'); print(profile)")
    write(folder, "02_bad", "raise RuntimeError('no luck')", "print('never')")
    write(folder, "03_plot", "import matplotlib.pyplot as plt; plt.plot([1, 2]); plt.show()")
    good, bad, plot = run(folder)
    assert not good.error
    assert bad.error == "cell [3]: RuntimeError: no luck"
    assert not plot.error, "the rest still runs"
    written = nbformat.read(plot.path, as_version=4)
    assert any("image/png" in output.get("data", {}) for output in written.cells[-1].outputs), "MPLBACKEND is cleared"
    assert nbformat.read(good.path, as_version=4).cells[-1].outputs[0].text == "quick\n"
    write(folder, "02_bad", "print('mended')")
    again = run(folder)
    assert [outcome.reused for outcome in again] == [True, False, True]
    assert not any(outcome.error for outcome in again)
    assert log.read_text() == "x"
    assert [outcome.reused for outcome in run(folder, "laptop")] == [False, False, False], "another profile runs anew"


@pytest.mark.parametrize("shown", ["weights/adaptation/layers.safetensors", "results/measured/table.json"])
def test_what_ships_and_is_shown_makes_a_run_stale_when_it_changes(folder, monkeypatch, shown):
    monkeypatch.setattr(settings, "weights_folder", lambda: folder / "weights")
    monkeypatch.setattr(settings, "results_folder", lambda: folder / "results")
    write(folder, "01_first", "print(1)")
    assert not run(folder)[0].reused
    assert run(folder)[0].reused
    (folder / shown).parent.mkdir(parents=True)
    (folder / shown).write_text("new")
    assert not run(folder)[0].reused


def test_two_notebooks_run_at_once(folder):
    for own, other in ("ab", "ba"):
        wait = f"import time\nwhile not pathlib.Path({str(folder / other)!r}).exists(): time.sleep(0.1)"
        write(folder, f"01_{own}", f"import pathlib; pathlib.Path({str(folder / own)!r}).touch()", wait)
    assert not any(outcome.error for outcome in run(folder))


def test_ctrl_c_stops_the_notebooks_at_work(folder, request):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where tests run in the background
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    for name in ("01_a", "02_b"):
        started = folder / f"{name} started"
        write(folder, name, f"import pathlib, time; pathlib.Path({str(started)!r}).touch(); time.sleep(600)")

    def interrupt():
        while len(list(folder.glob("* started"))) < 2:
            time.sleep(0.1)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        run(folder)
    assert not psutil.Process().children()
    assert not list((folder / "output" / "quick").glob("*.json"))


def test_a_killed_run_leaves_nothing_that_passes_for_a_result(folder):
    write(folder, "01_first", "print(1)")
    (outcome,) = run(folder)
    record = outcome.path.with_suffix(".json")
    for spoil in (record.unlink, lambda: record.write_text(""), lambda: record.write_text("[]")):
        spoil()
        (again,) = run(folder)
        assert not again.reused


def test_a_result_that_cannot_be_written_is_named_and_leaves_nothing_behind(folder):
    write(folder, "01_first", "print(1)")
    (folder / "output" / "quick" / "01_first.ipynb").mkdir(parents=True)
    (outcome,) = run(folder)
    assert re.fullmatch(r".*01_first.ipynb cannot be written \(.*\): free some space there\.", outcome.error)
    assert [path.name for path in (folder / "output" / "quick").iterdir()] == ["01_first.ipynb"]


def test_a_damaged_notebook_is_named(folder):
    for text in ("", "{", "{}", "[]"):
        (folder / "notebooks" / "01_first.ipynb").write_text(text)
        with pytest.raises(RuntimeError, match=r"01_first\.ipynb is no whole notebook: restore it"):
            run(folder)


def test_executed_notebooks_carry_no_metadata_of_the_run(folder):
    write(folder, "01_first", "import sys, ipywidgets; print('note', file=sys.stderr); ipywidgets.IntSlider()")
    (outcome,) = run(folder)
    written = json.loads(outcome.path.read_text())
    assert set(written["metadata"]) == {"kernelspec", "language_info"}
    assert all(set(cell["metadata"]) <= {"tags"} for cell in written["cells"])
    assert written["cells"][-1]["outputs"] == []


def test_failing_cell_keeps_its_traceback(folder):
    write(folder, "01_first", "1 / 0")
    with pytest.raises(PapermillExecutionError):
        notebooks.execute("01_first", folder / "out.ipynb", {}, lambda index: None)
    assert "ZeroDivisionError" in (folder / "out.ipynb").read_text()
    assert [path.name for path in folder.glob("*.ipynb")] == ["out.ipynb"]


def test_progress_bars_inside_a_cell_are_handed_on(folder):
    write(folder, "01_first", "from tqdm import tqdm\nfor i in tqdm(range(4), 'epoch 1/2', mininterval=0): pass")
    seen = []
    notebooks.execute("01_first", folder / "out.ipynb", {}, lambda index: None, seen.append)
    assert seen[-1] == "epoch 1/2: 100%"
