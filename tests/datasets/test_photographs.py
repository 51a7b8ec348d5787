"""The photographs of installed packages and those of the reader."""

import socket

import numpy as np
import pytest
from PIL import Image

from wsol_utils.datasets import photographs

SHAPES = {
    "chelsea": (300, 451, 3),
    "coffee": (400, 600, 3),
    "rocket": (427, 640, 3),
    "astronaut": (512, 512, 3),
    "flower": (427, 640, 3),
    "china": (427, 640, 3),
    "grace_hopper": (600, 512, 3),
}


@pytest.fixture
def folder(tmp_path):
    for name in ("cat.png", "chelsea.png", "dog.jpg", "dog.png"):
        Image.new("RGB", (30, 20), "red").save(tmp_path / name)
    return tmp_path


def test_packages_carry_all_seven_without_network(monkeypatch, tmp_path, recwarn):
    def refuse(*_):
        raise AssertionError("a download was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setenv("SKIMAGE_DATADIR", str(tmp_path))
    found = photographs.load()
    assert {name: image.shape for name, image in found.items()} == SHAPES
    assert all(image.dtype == np.uint8 for image in found.values())
    assert not list(tmp_path.iterdir())
    assert not recwarn.list


def test_folder_comes_after_and_never_replaces(folder):
    names = list(photographs.load(folder))
    assert names == [*SHAPES, "cat", "chelsea.png", "dog", "dog.png"]


def test_unreadable_is_named_and_skipped(folder):
    (folder / "notes.txt").write_text("hello")
    (folder / ".hidden").write_text("hello")
    (folder / "sub").mkdir()
    with pytest.warns(UserWarning, match=r"Photograph skipped: .*notes\.txt is not an image") as warned:
        assert "notes" not in photographs.load(folder)
    assert len(warned) == 1


def test_large_photographs_are_shrunk(tmp_path):
    Image.new("RGB", (4000, 12)).save(tmp_path / "long.png")
    assert photographs.load(tmp_path)["long"].shape == (3, 1024, 3)


def test_missing_folder():
    with pytest.raises(FileNotFoundError, match="There is no folder no/such: give a folder that holds photographs"):
        photographs.load("no/such")
