"""The files of a data set, read in place from a folder, a zip or a tar.

Nothing is ever unpacked, so no name inside an archive can lead out of it.
"""

import hashlib
import os
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

MAX_FILE_BYTES = 256_000_000
CHECKOUT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Tree:
    """A folder, possibly inside an archive, with the sizes in bytes of all files below it by their "/" names."""

    path: Path
    prefix: str
    sizes: dict[str, int]
    offsets: dict[str, int] | None = None

    def where(self, name: str) -> str:
        """Say where a file lies, for a message."""
        return str(self.path / name) if self.path.is_dir() else f"{self.prefix}{name} in {self.path}"


def data_root(root: str | os.PathLike | None = None) -> Path:
    """Return the folder in which data sets lie: `root`, else WSOL_DATA_ROOT, else data/cache in the checkout."""
    root = root or os.environ.get("WSOL_DATA_ROOT")
    if root:
        return Path(root).expanduser()
    if (CHECKOUT / "pyproject.toml").is_file():
        return CHECKOUT / "data" / "cache"
    import pooch

    return Path(pooch.os_cache("wsol"))


def find_tree(root: Path, base: str, marker: str) -> Tree | None:
    """Find the folder named `base` that holds the file `marker`: `root` itself, one below it, or one in a zip or tar.

    Folders are looked for two levels deep; `root` may also be the archive itself. Returns None where there is none.
    Raises OSError if the only archive with a fitting name is damaged.
    """
    folders = [root] if root.name == base else []
    for pattern in (base, f"*/{base}", f"*/*/{base}"):
        folders += sorted(root.glob(pattern))
    for folder in folders:
        if (folder / marker).is_file():
            return open_tree(folder)
    damaged = None
    for path in [root] if root.is_file() else sorted([*root.glob("*.zip"), *root.glob("*.tar")]):
        try:
            tree = open_tree(path)
        except OSError as error:
            if path == root or base[:3].lower() in path.name.lower():
                damaged = damaged or error
            continue
        found = [name for name in tree.sizes if f"/{name}".endswith(f"/{base}/{marker}")]
        if found:
            return below(tree, min(found, key=len).removesuffix(marker))
    if damaged:
        raise damaged
    return None


def open_tree(path: Path) -> Tree:
    """List the files of a folder, a zip or an uncompressed tar; raises OSError if it is damaged or none of these."""
    if path.is_dir():
        return Tree(path, "", dict(_walk(path)))
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            return Tree(path, "", {entry.filename: entry.file_size for entry in entries})
        with tarfile.open(path, "r:") as archive:
            members = {member.name.removeprefix("./"): member for member in archive if member.isreg()}
    except Exception as error:  # a broken archive may raise anything
        raise OSError(
            f"{path} is not a whole zip or plain tar (half downloaded?): remove it and fetch it again, or unpack it."
        ) from error
    offsets = {name: member.offset_data for name, member in members.items()}
    return Tree(path, "", {name: member.size for name, member in members.items()}, offsets)


def below(tree: Tree, prefix: str) -> Tree:
    """Return the part of a tree whose names begin with `prefix` (a folder with its "/"), named from there on."""

    def cut(table: dict[str, int]) -> dict[str, int]:
        return {name[len(prefix) :]: value for name, value in table.items() if name.startswith(prefix)}

    path = tree.path / prefix if tree.path.is_dir() else tree.path
    return replace(
        tree, path=path, prefix=tree.prefix + prefix, sizes=cut(tree.sizes), offsets=tree.offsets and cut(tree.offsets)
    )


def read_files(tree: Tree, names: Iterable[str]) -> Iterator[bytes]:
    """Give the contents of files of the tree, in the order of `names`; raises OSError for a missing or damaged one."""
    with ExitStack() as stack:
        if tree.path.is_dir():
            archive = None
        elif tree.offsets is None:
            archive = stack.enter_context(zipfile.ZipFile(tree.path))
        else:
            archive = stack.enter_context(open(tree.path, "rb"))
        for name in names:
            size = tree.sizes.get(name)
            if size is None:
                raise FileNotFoundError(f"There is no {tree.where(name)}: the data set is not whole, fetch it again.")
            if size > MAX_FILE_BYTES:
                raise OSError(f"{tree.where(name)} is too large ({size:,} bytes): remove it or fetch it again.")
            try:
                content = _read(tree, archive, name, size)
            except Exception as error:  # a broken archive may raise anything
                raise OSError(f"{tree.where(name)} is damaged: remove it or fetch it again.") from error
            yield content


def read_texts(tree: Tree, *names: str) -> list[str]:
    """Read small text files of the tree."""
    return [content.decode("utf-8", errors="replace") for content in read_files(tree, names)]


def fingerprint(tree: Tree, names: Iterable[str], *labels: object) -> str:
    """Hash the names and sizes of files, and the labels as they print: cheap, and it changes when the data do."""
    digest = hashlib.sha256()
    for name in sorted(names):
        digest.update(f"{name}\t{tree.sizes.get(name)}\n".encode())
    for label in labels:
        digest.update(repr(label).encode())
    return digest.hexdigest()[:16]


def progress(items: Iterable, what: str, total: int) -> Iterable:
    """Pass items on, with a bar on stderr once it takes more than five seconds."""
    return tqdm(items, desc=what, total=total, delay=5, mininterval=1, leave=False)


def _walk(folder: Path) -> Iterator[tuple[str, int]]:
    seen = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        for file in files:
            path = os.path.join(place, file)
            if os.path.isfile(path):
                yield os.path.relpath(path, folder).replace(os.sep, "/"), os.path.getsize(path)


def _read(tree: Tree, archive: object, name: str, size: int) -> bytes:
    if archive is None:
        return (tree.path / name).read_bytes()
    if tree.offsets is None:
        return archive.read(tree.prefix + name)
    archive.seek(tree.offsets[name])
    return archive.read(size)
