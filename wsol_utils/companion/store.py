"""The store keeps what is expensive: named arrays under a key of function, arguments and package version."""

import hashlib
import json
import os
import platform
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
from filelock import FileLock

from wsol_utils import __version__
from wsol_utils.companion import settings

Arrays = dict[str, np.ndarray]


def remember(function: Callable[..., Arrays], **arguments: object) -> Arrays:
    """`function(**arguments)`, computed once and kept as an npz file without pickle.

    Arguments are plain values, arrays, or objects with a `fingerprint` (data sets). Two processes that want
    the same result wait for one; a damaged file is made again with a warning.

    Raises:
        OSError: the store cannot be written.
    """
    path = settings.store_folder() / f"{function.__name__}-{_key(function, arguments)}.npz"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_suffix(".lock")).acquire()
    except OSError as error:
        raise OSError(
            f"The store {path.parent} cannot be written ({error.strerror or error}): "
            "free some space, or set WSOL_STORE to a folder that can be."
        ) from error
    with lock:
        arrays = _read(path)
        if arrays is None:
            arrays = function(**arguments)
            _write(path, arrays)
    return arrays


def versions() -> dict[str, str]:
    """The versions that a number or a weight depends on."""
    packages = {name: version(name) for name in ("torch", "numpy", "scikit-learn")}
    return {"wsol_utils": __version__, **packages, "python": platform.python_version()}


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file beside `path`, then rename it, so that no half-written file is ever seen.

    Raises:
        OSError: the folder cannot be written or is full; nothing is left behind.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
        os.close(handle)
    except OSError as error:
        raise OSError(f"{path.parent} cannot be written ({error.strerror or error}): choose another folder.") from error
    try:
        write(Path(temporary))
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OSError(f"{path} cannot be written ({error.strerror or error}): free some space there.") from error
        raise


def _key(function: Callable[..., Arrays], arguments: dict[str, object]) -> str:
    parts = [function.__module__, function.__qualname__, __version__, arguments]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=_describe).encode()).hexdigest()[:20]


def _describe(value: object) -> str:
    if isinstance(value, np.ndarray):
        return hashlib.sha256(np.ascontiguousarray(value)).hexdigest() + str((value.shape, value.dtype))
    if hasattr(value, "fingerprint"):
        return value.fingerprint
    raise TypeError(f"A {type(value).__name__} cannot be part of a key of the store: pass plain values or arrays.")


def _read(path: Path) -> Arrays | None:
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        warnings.warn(f"{path.name} in the store is damaged: it is made again.", stacklevel=3)
        return None


def _write(path: Path, arrays: Arrays) -> None:
    def save(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.savez(file, **arrays)

    write_atomically(path, save)
