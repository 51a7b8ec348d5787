"""Downloads of data sets from their official addresses, checked by their SHA-256."""

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from .archives import data_root, open_tree

N_RETRIES = 1
TIMEOUT_S = (5, 30)  # to connect, and between two pieces


@dataclass(frozen=True)
class Archive:
    """An archive to download: file name, addresses tried in order, SHA-256 and size in bytes."""

    file: str
    addresses: tuple[str, ...]
    sha256: str
    n_bytes: int


REGISTRY = {
    "tiny-imagenet": Archive(
        "tiny-imagenet-200.zip",
        ("https://cs231n.stanford.edu/tiny-imagenet-200.zip", "http://cs231n.stanford.edu/tiny-imagenet-200.zip"),
        "6198c8ae015e2b3e007c7841da39ec069199b9aa3bfa943a462022fe5e43c821",
        248_100_043,
    ),
    "voc2007": Archive(
        "VOCtrainval_06-Nov-2007.tar",
        (
            "https://thor.robots.ox.ac.uk/pascal/VOC/voc2007/VOCtrainval_06-Nov-2007.tar",
            "http://host.robots.ox.ac.uk/pascal/VOC/voc2007/VOCtrainval_06-Nov-2007.tar",
        ),
        "7d8cd951101b0957ddfd7a530bdc8a94f06121cfc1e511bb5937e973020c7508",
        460_032_000,
    ),
    "voc2012": Archive(
        "VOCtrainval_11-May-2012.tar",
        (
            "https://thor.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
            "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
        ),
        "e14f763270cf193d0b5f74b169f44157a4b0c6efa708f4dd0ff78ee691763bcb",
        1_999_639_040,
    ),
}


def not_found(name: str, root: Path) -> FileNotFoundError:
    """Say where a data set was looked for and how to get it."""
    return FileNotFoundError(
        f"Data set {name} is not in {root} (choose another folder by root or WSOL_DATA_ROOT): "
        f"run `python -m wsol_utils fetch {name}`, or {_by_hand(name, root)}."
    )


def fetch(name: str, root: str | os.PathLike | None = None) -> Path:
    """Download a data set into `root` (default as in `datasets.load`) and return its archive, which is read as it is.

    It is downloaded beside its place, checked by SHA-256 and only then moved there; a failure is tried again; a second
    process that wants the same one waits for the first; an archive that is there already is kept. Raises ValueError for
    a data set that is not downloaded, OSError with the address and the manual road if there is no network or no space.
    """
    if name not in REGISTRY:
        raise ValueError(f"There is no download for {name!r}: choose one of {', '.join(REGISTRY)}.")
    from filelock import FileLock, Timeout

    archive = REGISTRY[name]
    root = data_root(root)
    path = root / archive.file
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(root / f".{archive.file}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            print(f"Waiting for another download of {name}.", file=sys.stderr)
            lock.acquire()
        try:
            if not path.exists():
                _download(archive, path)
        finally:
            lock.release()
    except Exception as error:
        raise OSError(
            f"Data set {name} cannot be downloaded ({_reason(error)}): try again, or {_by_hand(name, root)}."
        ) from error
    open_tree(path)
    return path


def _by_hand(name: str, root: Path) -> str:
    return f"download {REGISTRY[name].addresses[0]} by hand and put it into {root}"


def _reason(error: Exception) -> str:
    import requests

    if isinstance(error, requests.HTTPError):
        return f"the server answers {error.response.status_code}"
    if isinstance(error, requests.RequestException):
        return "no connection, or it broke off"
    if isinstance(error, ValueError):
        return "what came has another SHA-256"
    return getattr(error, "strerror", None) or str(error)


def _download(archive: Archive, path: Path) -> None:
    import pooch

    free = shutil.disk_usage(path.parent).free
    if free < archive.n_bytes:
        raise OSError(f"it needs {archive.n_bytes / 1e6:.0f} MB of disk space, {free / 1e6:.0f} MB are free")
    folder = path.with_name(f".{archive.file}.partial")
    shutil.rmtree(folder, ignore_errors=True)
    pooch.get_logger().setLevel("ERROR")
    try:
        for address in archive.addresses:
            store = pooch.create(
                folder,
                base_url="",
                registry={archive.file: archive.sha256},
                urls={archive.file: address},
                retry_if_failed=N_RETRIES,
            )
            print(f"Downloading {archive.n_bytes / 1e6:,.0f} MB from {address}.", file=sys.stderr)
            try:
                store.fetch(archive.file, downloader=pooch.HTTPDownloader(progressbar=True, timeout=TIMEOUT_S))
                break
            except Exception:
                if address == archive.addresses[-1]:
                    raise
        os.replace(folder / archive.file, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
