from dataclasses import replace

import nbformat
import pytest
import torch
import torchvision
from nbformat.v4 import new_code_cell, new_notebook

from wsol_utils.companion import chapter, reproduction, settings
from wsol_utils.evaluation import claims, statistics


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for variable, name in (("WSOL_NOTEBOOKS", "notebooks"), ("WSOL_OUTPUT", "output"), ("TORCH_HOME", "torch")):
        monkeypatch.setenv(variable, str(tmp_path / name))
    monkeypatch.setenv("WSOL_OFFLINE", "1")
    monkeypatch.setattr(settings, "photographs_folder", lambda: tmp_path / "photographs")
    parameters = new_code_cell('profile = "laptop"\ndataset = "scenes"', metadata={"tags": ["parameters"]})
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    (tmp_path / "notebooks").mkdir()
    nbformat.write(new_notebook(cells=[parameters], metadata=kernel), tmp_path / "notebooks" / "00_first.ipynb")
    return tmp_path


def test_a_notebook_is_made_again_when_photographs_or_weights_are_added(folder, capsys):
    def made_again() -> bool:
        assert reproduction.run([], "quick", "scenes", "squeezenet1_0", build_pages=False) == 0
        return "already made" not in capsys.readouterr().out

    assert made_again()
    assert not made_again()
    (folder / "photographs").mkdir()
    (folder / "photographs" / "mine.jpg").write_text("")
    assert made_again()
    (folder / "torch" / "hub" / "checkpoints").mkdir(parents=True)
    weights = folder / "torch" / "hub" / "checkpoints" / "squeezenet1_0-b66bff10.pth"
    weights.write_text("")
    assert not made_again(), "damaged weights are none"
    torch.save(torchvision.models.get_model("squeezenet1_0").state_dict(), weights)
    assert made_again()
    assert not made_again()


def test_a_folder_without_notebooks_is_named(folder):
    (folder / "notebooks" / "00_first.ipynb").unlink()
    with pytest.raises(ValueError, match="notebooks holds no notebooks: set WSOL_NOTEBOOKS"):
        reproduction.run([], "quick", "scenes", "squeezenet1_0", build_pages=False)


def test_damaged_claims_are_named(folder):
    path = folder / "output" / "quick" / "claims" / "00_first.json"
    path.parent.mkdir(parents=True)
    path.write_text("[{}]")
    with pytest.raises(RuntimeError, match=r"00_first\.json holds no claims: delete it and run its notebook again"):
        reproduction.run([], "quick", "scenes", "squeezenet1_0", build_pages=False)


def test_of_another_data_set_only_the_claims_are_kept(folder, monkeypatch):
    monkeypatch.setattr(settings, "results_folder", lambda: folder / "results")
    source = (
        "from wsol_utils.companion import settings\n"
        'path = settings.run_folder("laptop", dataset) / "claims" / "01_second.json"\n'
        "path.parent.mkdir(parents=True, exist_ok=True)\n"
        'path.write_text("[]")'
    )
    first = nbformat.read(folder / "notebooks" / "00_first.ipynb", as_version=4)
    second = new_notebook(cells=[first.cells[0], new_code_cell(source)], metadata=first.metadata)
    nbformat.write(second, folder / "notebooks" / "01_second.ipynb")
    before = (folder / "notebooks" / "01_second.ipynb").read_text()
    assert reproduction.update_committed([], "voc2012") == 0
    assert (folder / "notebooks" / "01_second.ipynb").read_text() == before
    (shown,) = chapter.on_photographs("01_second")
    assert shown.startswith("**voc2012**, by `wsol execute 01 --dataset voc2012`:")
    assert chapter.on_photographs("00_first") == []


def test_a_judged_claim_is_printed_and_returned(capsys):
    begun = chapter.begin("01_toy", "quick")
    value = statistics.Interval(3.14159, 1.0, 5.0)
    result = begun.judged("C8.1", "reproduced", value, {"mean box": 29.2468}, "a note", "ten images")
    assert (result.seeds, result.control_values, result.value) == ((0,), {"mean box": 29.2}, 3.14159)
    assert capsys.readouterr().out.endswith("C8.1 reproduced: 3.1 [1.0, 5.0] points {'mean box': 29.2}; a note\n")
    exact = begun.judged("C5.1", "reproduced", 1e-7, {}, unit="")
    assert (exact.value, exact.interval) == (1e-7, None)
    assert capsys.readouterr().out == "C5.1 reproduced: 1e-07\n"


def test_only_what_was_measured_on_a_data_set_is_kept_with_it(monkeypatch, tmp_path):
    results = [
        claims.ClaimResult("C4.5", 1.0, "points", where, [0], "reproduced")
        for where in ("scenes, 50 pairs", "20 scenes", "100 random images", "tiny-imagenet, 9 images")
    ]
    kept = {}
    for name in ("scenes", "tiny-imagenet"):
        begun = chapter.begin("01_toy", "quick")
        begun = replace(begun, dataset=replace(begun.dataset, name=name))
        monkeypatch.setattr(chapter.Chapter, "claims_path", tmp_path / name)
        begun.finish(results)
        kept[name] = chapter.read_claims(tmp_path / name)
    assert kept == {"scenes": results, "tiny-imagenet": results[-1:]}
