import multiprocessing
import os
import subprocess
import time

import numpy as np
import pytest

from wsol_utils.companion import store


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("WSOL_STORE", str(tmp_path / "store"))
    return tmp_path / "store"


CALLS = []


def squares(n, seed=0):
    CALLS.append(n)
    return {"squares": np.arange(n) ** 2, "seed": np.array(seed)}


def slow(path):
    with open(path, "a") as file:
        file.write("made\n")
    time.sleep(0.3)
    return {"x": np.ones(3)}


def test_a_result_is_computed_once_per_set_of_arguments():
    CALLS.clear()
    first, again, other = (store.remember(squares, n=n) for n in (5, 5, 6))
    assert CALLS == [5, 6]
    np.testing.assert_array_equal(first["squares"], again["squares"])
    assert len(other["squares"]) == 6
    assert set(first) == {"squares", "seed"}


def test_arrays_and_fingerprints_are_part_of_the_key():
    def total(values):
        CALLS.append(0)
        return {"total": values.sum()}

    CALLS.clear()
    assert store.remember(total, values=np.arange(3))["total"] == 3
    assert store.remember(total, values=np.arange(4))["total"] == 6
    assert len(CALLS) == 2
    with pytest.raises(TypeError, match="cannot be part of a key"):
        store.remember(total, values=object())


@pytest.mark.parametrize("damage", [b"", b"not a zip", None])
def test_a_damaged_file_is_made_again_with_a_warning(folder, damage):
    CALLS.clear()
    store.remember(squares, n=4)
    (path,) = folder.glob("*.npz")
    path.write_bytes(path.read_bytes()[:-20] if damage is None else damage)
    with pytest.warns(UserWarning, match="damaged: it is made again"):
        assert len(store.remember(squares, n=4)["squares"]) == 4
    assert CALLS == [4, 4]


def test_pickled_arrays_are_never_loaded(folder):
    store.remember(squares, n=2)
    (path,) = folder.glob("*.npz")
    np.savez(path, squares=np.array([{"a": 1}], dtype=object))
    with pytest.warns(UserWarning, match="damaged"):
        assert store.remember(squares, n=2)["squares"].dtype != object


def test_two_processes_wait_for_one(tmp_path):
    path = tmp_path / "log"
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=store.remember, args=(slow,), kwargs={"path": str(path)}) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert path.read_text() == "made\n"


def test_a_failed_write_leaves_nothing(tmp_path):
    target = tmp_path / "results" / "x.json"
    with pytest.raises(OSError, match=r"x\.json cannot be written \(No space left"):
        store.write_atomically(target, lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    assert list(target.parent.iterdir()) == []


def test_a_folder_that_is_a_file_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"cannot be written .* choose another folder"):
        store.write_atomically(tmp_path / "file" / "x", lambda path: None)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path, monkeypatch):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], check=False).returncode:
        pytest.skip("tmpfs cannot be mounted here")
    try:
        monkeypatch.setenv("WSOL_STORE", str(disk))
        with pytest.raises(OSError, match=r"cannot be written .* free some space"):
            store.remember(squares, n=100_000)
        assert not list(disk.glob("*.npz"))
    finally:
        subprocess.run(["umount", disk], check=True)
