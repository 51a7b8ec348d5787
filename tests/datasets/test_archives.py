"""Data sets read in place from folders, zips and tars, none of which is trusted."""

import io
import os
import tarfile
import zipfile

import pytest

from wsol_utils.datasets import archives
from wsol_utils.datasets.archives import below, data_root, find_tree, fingerprint, open_tree, read_files, read_texts

FILES = {"set/marker.txt": b"here", "set/a/1.txt": b"one", "set/a/2.txt": b"two"}


def _pack(path, files):
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    elif path.suffix == ".tar":
        with tarfile.open(path, "w") as archive:
            for name, content in files.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    else:
        for name, content in files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)
    return path


@pytest.mark.parametrize("form", ["folder", "x.zip", "x.tar"])
def test_all_forms_give_the_same(tmp_path, form):
    path = _pack(tmp_path / form, FILES)
    tree = below(open_tree(path), "set/")
    assert tree.sizes == {"marker.txt": 4, "a/1.txt": 3, "a/2.txt": 3}
    assert read_texts(tree, "a/2.txt", "a/1.txt") == ["two", "one"]
    assert fingerprint(tree, tree.sizes, "label") == fingerprint(
        below(open_tree(_pack(tmp_path / "again.zip", FILES)), "set/"), reversed(tree.sizes), "label"
    )
    with pytest.raises(FileNotFoundError, match=r"There is no .*a/3\.txt.*: the data set is not whole, fetch it again"):
        list(read_files(tree, ["a/3.txt"]))


def test_fingerprint_sees_names_sizes_and_labels(tmp_path):
    tree = open_tree(_pack(tmp_path / "x.zip", FILES))
    other = open_tree(_pack(tmp_path / "y.zip", FILES | {"set/a/1.txt": b"longer"}))
    prints = [fingerprint(tree, FILES), fingerprint(other, FILES), fingerprint(tree, list(FILES)[:2])]
    prints += [fingerprint(tree, FILES, 1), fingerprint(tree, FILES, 2)]
    assert len(set(prints)) == 5


@pytest.mark.parametrize("place", [".", "outer", "outer/inner"])
def test_folder_is_found_two_levels_deep(tmp_path, place):
    _pack(tmp_path / place, FILES)
    assert find_tree(tmp_path, "set", "marker.txt").path == tmp_path / place / "set"
    assert find_tree(tmp_path / place / "set", "set", "marker.txt").path == tmp_path / place / "set"


@pytest.mark.parametrize("suffix", ["zip", "tar"])
@pytest.mark.parametrize("outer", ["", "./", "some/where/"])
def test_archive_is_found_under_any_name(tmp_path, suffix, outer):
    path = _pack(tmp_path / f"any.{suffix}", {outer + name: content for name, content in FILES.items()})
    for root in (tmp_path, path):
        tree = find_tree(root, "set", "marker.txt")
        assert read_texts(tree, "a/1.txt") == ["one"]


def test_folder_goes_before_archive_and_nothing_is_none(tmp_path):
    assert find_tree(tmp_path, "set", "marker.txt") is None
    assert find_tree(tmp_path / "none", "set", "marker.txt") is None
    _pack(tmp_path / "set.zip", FILES)
    _pack(tmp_path, FILES)
    assert find_tree(tmp_path, "set", "marker.txt").path == tmp_path / "set"


@pytest.mark.parametrize("suffix", ["zip", "tar"])
@pytest.mark.parametrize("share", [0, 0.3, 0.8])
def test_half_downloaded_archive(tmp_path, suffix, share):
    path = _pack(tmp_path / f"set.{suffix}", {"set/marker.txt": b"", "set/x": os.urandom(20_000)})
    path.write_bytes(path.read_bytes()[: int(20_000 * share)])
    sentence = rf"set\.{suffix} is not a whole zip or plain tar \(half downloaded\?\): remove it and fetch it again"
    with pytest.raises(OSError, match=sentence):
        open_tree(path)
    if share:
        with pytest.raises(OSError, match=sentence):
            find_tree(tmp_path, "set", "marker.txt")


def test_damaged_archive_of_something_else_does_not_matter(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"PK")
    assert find_tree(tmp_path, "set", "marker.txt") is None
    _pack(tmp_path / "b.zip", FILES)
    assert find_tree(tmp_path, "set", "marker.txt").path == tmp_path / "b.zip"


def test_damaged_file_inside_a_zip(tmp_path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("set/a", b"A" * 1000)
    path.write_bytes(path.read_bytes().replace(b"A" * 1000, b"B" * 1000))
    with pytest.raises(OSError, match=r"set/a in .*x\.zip is damaged: remove it or fetch it again"):
        list(read_files(open_tree(path), ["set/a"]))


def test_zip_bomb_is_not_inflated(tmp_path, monkeypatch):
    path = _pack(tmp_path / "x.zip", {"a": b"\0" * 5_000_000})
    monkeypatch.setattr(archives, "MAX_FILE_BYTES", 1_000_000)
    with pytest.raises(OSError, match=r"a in .*x\.zip is too large \(5,000,000 bytes\)"):
        list(read_files(open_tree(path), ["a"]))


@pytest.mark.parametrize("suffix", ["zip", "tar"])
def test_names_that_lead_out_lead_nowhere(tmp_path, suffix):
    inner = tmp_path / "inner"
    inner.mkdir()
    evil = {"../escaped.txt": b"evil", f"{tmp_path}/absolute.txt": b"evil", **FILES}
    find_tree(_pack(inner / f"x.{suffix}", evil), "set", "marker.txt")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["inner", f"x.{suffix}"]


def test_tar_links_and_devices_are_passed_over(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("secret")
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE):
            entry = tarfile.TarInfo(f"set/{kind}")
            entry.type, entry.linkname = kind, str(secret)
            archive.addfile(entry)
    assert open_tree(tmp_path / "x.tar").sizes == {}


@pytest.mark.skipif(os.name != "posix", reason="needs links")
def test_folder_that_links_to_itself(tmp_path):
    path = _pack(tmp_path / "folder", FILES)
    (path / "set" / "loop").symlink_to(path)
    (path / "set" / "gone").symlink_to(tmp_path / "nothing")
    assert open_tree(path).sizes.keys() == FILES.keys()


def test_data_root(monkeypatch, tmp_path):
    monkeypatch.setenv("WSOL_DATA_ROOT", str(tmp_path))
    assert data_root() == tmp_path
    assert data_root("else") == archives.Path("else")
    monkeypatch.setenv("WSOL_DATA_ROOT", "")
    assert data_root().parts[-2:] == ("data", "cache")
    monkeypatch.setattr(archives, "CHECKOUT", tmp_path)
    assert data_root().name == "wsol"
