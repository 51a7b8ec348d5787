"""Downloads, from a server of our own on this machine."""

import errno
import hashlib
import http.server
import io
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from collections import Counter
from contextlib import ExitStack

import pytest

from wsol_utils.datasets import downloads
from wsol_utils.datasets.downloads import REGISTRY, Archive, fetch


def _zip():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("tiny-imagenet-200/wnids.txt", "n01\n")
        archive.writestr("tiny-imagenet-200/noise", os.urandom(200_000))
    return stream.getvalue()


class _Server(http.server.ThreadingHTTPServer):
    """Serves one content at /good, breaks off at /short, sends something else at /wrong, fails once at /shaky."""

    daemon_threads = True

    def __init__(self, content):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content, self.asked, self.gate = content, Counter(), threading.Event()
        self.gate.set()

    def archive(self, *names, n_bytes=None):
        sha256 = hashlib.sha256(self.content).hexdigest()
        addresses = tuple(f"http://127.0.0.1:{self.server_port}/{name}" for name in names)
        return Archive("tiny-imagenet-200.zip", addresses, sha256, n_bytes or len(self.content))


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked[self.path] += 1
        content, length = self.server.content, len(self.server.content)
        if self.path == "/gone":
            self.send_error(404)
            return
        if self.path == "/wrong":
            content = content[::-1]
        if self.path == "/short" or (self.path == "/shaky" and self.server.asked["/shaky"] == 1):
            content = content[: length // 2]
        self.send_response(200)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(content[:1000])
        self.server.gate.wait(30)
        self.wfile.write(content[1000:])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    server = _Server(_zip())
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    monkeypatch.setattr("time.sleep", lambda _, sleep=time.sleep: sleep(0.01))
    yield server
    server.shutdown()
    server.server_close()


def _use(monkeypatch, archive):
    monkeypatch.setitem(REGISTRY, "tiny-imagenet", archive)


def _visible(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


def test_registry_is_well_formed():
    for archive in REGISTRY.values():
        assert re.fullmatch(r"[0-9a-f]{64}", archive.sha256)
        assert all(address.endswith("/" + archive.file) for address in archive.addresses)


def test_download_arrives_whole(server, monkeypatch, tmp_path, capsys):
    _use(monkeypatch, server.archive("good"))
    path = fetch("tiny-imagenet", tmp_path / "new" / "root")
    assert path.read_bytes() == server.content
    assert _visible(path.parent) == ["tiny-imagenet-200.zip"]
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "100%" in captured.err
    assert re.search(r"Downloading 0 MB from http://127\.0\.0\.1:\d+/good\.", captured.err)


def test_what_is_there_is_kept(server, monkeypatch, tmp_path):
    _use(monkeypatch, server.archive("good"))
    (tmp_path / "tiny-imagenet-200.zip").write_bytes(_zip())
    fetch("tiny-imagenet", tmp_path)
    assert not server.asked


def test_what_is_there_and_damaged_is_named(server, monkeypatch, tmp_path):
    _use(monkeypatch, server.archive("good"))
    (tmp_path / "tiny-imagenet-200.zip").write_bytes(_zip()[:1000])
    with pytest.raises(OSError, match="is not a whole zip or plain tar"):
        fetch("tiny-imagenet", tmp_path)


def test_second_try_and_second_address(server, monkeypatch, tmp_path):
    _use(monkeypatch, server.archive("shaky"))
    assert fetch("tiny-imagenet", tmp_path / "a").read_bytes() == server.content
    _use(monkeypatch, server.archive("gone", "good"))
    assert fetch("tiny-imagenet", tmp_path / "b").read_bytes() == server.content


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # a broken-off connection stays open
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("gone", "the server answers 404"),
        ("short", "no connection, or it broke off"),
        ("wrong", "what came has another SHA-256"),
    ],
)
def test_failure_gives_address_and_manual_road(server, monkeypatch, tmp_path, name, reason):
    archive = server.archive(name)
    _use(monkeypatch, archive)
    with pytest.raises(OSError, match="cannot be downloaded") as caught:
        fetch("tiny-imagenet", tmp_path)
    assert str(caught.value) == (
        f"Data set tiny-imagenet cannot be downloaded ({reason}): try again, or download {archive.addresses[0]} "
        f"by hand and put it into {tmp_path}."
    )
    assert server.asked[f"/{name}"] == 2
    assert _visible(tmp_path) == []


def test_no_network(server, monkeypatch, tmp_path):
    archive = server.archive("good")
    server.shutdown()
    server.server_close()
    _use(monkeypatch, archive)
    with pytest.raises(OSError, match=r"\(no connection, or it broke off\): try again, or download http://127"):
        fetch("tiny-imagenet", tmp_path)


def test_space_is_looked_at_first(server, monkeypatch, tmp_path):
    _use(monkeypatch, server.archive("good", n_bytes=10**18))
    with pytest.raises(OSError, match=r"\(it needs 1000000000000 MB of disk space, \d+ MB are free\)"):
        fetch("tiny-imagenet", tmp_path)
    assert not server.asked


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounting a small disk needs root on Linux")
def test_full_disk(server, monkeypatch, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this machine does not let us mount a small disk")
    try:
        _use(monkeypatch, server.archive("good", n_bytes=1))
        with pytest.raises(OSError, match=re.escape(f"({os.strerror(errno.ENOSPC)}): try again, or download")):
            fetch("tiny-imagenet", disk)
        assert _visible(disk) == []
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_folder_that_may_not_be_written(server, monkeypatch, tmp_path):
    _use(monkeypatch, server.archive("good"))
    tmp_path.chmod(0o500)
    with pytest.raises(OSError, match=r"cannot be downloaded \(Permission denied\)"):
        fetch("tiny-imagenet", tmp_path / "new")


def test_root_that_is_a_file(server, monkeypatch, tmp_path):
    _use(monkeypatch, server.archive("good"))
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"cannot be downloaded \(File exists\)"):
        fetch("tiny-imagenet", tmp_path / "file")


def test_leftovers_of_a_killed_download_go(server, monkeypatch, tmp_path):
    _use(monkeypatch, server.archive("good"))
    (tmp_path / ".tiny-imagenet-200.zip.partial").mkdir()
    (tmp_path / ".tiny-imagenet-200.zip.partial" / "tmpx").write_bytes(b"half")
    fetch("tiny-imagenet", tmp_path)
    assert _visible(tmp_path) == ["tiny-imagenet-200.zip"]


def test_two_processes_download_once(server, tmp_path):
    server.gate.clear()
    archive = server.archive("good")
    code = f"from wsol_utils.datasets import downloads as d; d.REGISTRY['tiny-imagenet'] = d.{archive}; "
    code += f"print(d.fetch('tiny-imagenet', {str(tmp_path)!r}).stat().st_size)"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    logs = [tmp_path / "a.log", tmp_path / "b.log"]
    with ExitStack() as stack:
        both = [
            subprocess.Popen(
                [sys.executable, "-c", code],
                stdout=subprocess.PIPE,
                stderr=stack.enter_context(open(log, "w")),
                text=True,
                env=environment,
            )
            for log in logs
        ]
        for _ in range(3000):
            if any("Waiting for another download of tiny-imagenet." in log.read_text() for log in logs):
                break
            time.sleep(0.01)
        server.gate.set()
        outputs = [process.communicate(timeout=60)[0] for process in both]
    assert [output.strip() for output in outputs] == [str(len(server.content))] * 2
    assert server.asked["/good"] == 1
    assert sum("Waiting for another" in log.read_text() for log in logs) == 1


@pytest.mark.parametrize("name", ["scenes", "folder", "imagenet"])
def test_nothing_to_download(name):
    with pytest.raises(ValueError, match=rf"There is no download for '{name}': choose one of tiny-imagenet, voc2007"):
        fetch(name)


def test_time_outs_are_short():
    assert max(downloads.TIMEOUT_S) <= 30
