"""Data sets by name."""

import subprocess
import sys

import pytest

from wsol_utils import datasets


def test_names():
    assert datasets.NAMES == ("scenes", "tiny-imagenet", "voc2007", "voc2012", "folder")


@pytest.mark.parametrize("name", ["imagenet", "", None, "Scenes"])
def test_unknown_name(name):
    with pytest.raises(
        ValueError, match=r"^There is no data set .*: choose one of scenes, tiny-imagenet, voc2007, voc2"
    ):
        datasets.load(name)


def test_unknown_option(tmp_path):
    with pytest.raises(ValueError, match=r"Data set voc2012 has no option 'n_classes': it takes none\."):
        datasets.load("voc2012", tmp_path, n_classes=3)
    with pytest.raises(ValueError, match=r"tiny-imagenet has no option 'classes': it takes n_classes, first\."):
        datasets.load("tiny-imagenet", tmp_path, classes=3)


def test_options_of_scenes_pass_through():
    assert datasets.load("scenes", "root is not needed", view="tied", strength=0.5).name == "scenes"


def test_import_is_cheap():
    code = "import sys, wsol_utils.datasets; print('numpy' in sys.modules, 'PIL' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.split() == ["False"] * 2
