"""Exit status 0 well, 1 failed, 2 wrong usage; an error is one sentence, without a traceback unless asked for."""

import subprocess
import sys

import pytest

from wsol_utils.companion import cli


@pytest.fixture
def wsol(monkeypatch, capfd):
    """Run the command line in this process; returns exit status, standard output and standard error."""
    monkeypatch.setenv("WSOL_OFFLINE", "1")

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["wsol", *arguments])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return stop.value.code or 0, *capfd.readouterr()

    return run


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["reproduce", "99"], "There is no notebook '99': choose from"),
        (["reproduce", "--profile", "huge"], "There is no profile 'huge': choose one of quick, laptop, paper."),
        (["reproduce", "--dataset", "imagenet-22k"], "imagenet-22k"),
        (["reproduce", "--model", "resnet51"], "torchvision has no classifier 'resnet51'"),
        (["train", "scenes-xl"], "There is no recipe 'scenes-xl'"),
        (["fetch", "nothing"], "nothing"),
        (["reproduce", "--no-such-option"], "No such option"),
        (["no-such-command"], "No such command"),
    ],
)
def test_wrong_usage_is_status_2_and_names_the_thing(wsol, arguments, words):
    status, _, errors = wsol(*arguments)
    assert status == 2
    assert words in errors.replace("\n", " ")


@pytest.mark.parametrize("dataset", ["tiny-imagenet", "voc2012", "folder"])
def test_missing_data_is_status_1_and_says_where_it_was_looked_for(wsol, dataset, tmp_path):
    status, _, errors = wsol("reproduce", "--dataset", dataset, "--root", str(tmp_path))
    assert status == 1
    assert str(tmp_path) in errors


def test_an_output_folder_that_cannot_be_written_is_status_1(wsol, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("WSOL_OUTPUT", str(tmp_path / "file" / "output"))
    status, _, errors = wsol("reproduce", "01", "--profile", "quick", "--no-pages")
    assert status == 1
    assert "cannot be written" in errors


def test_a_real_process_prints_one_sentence_and_a_traceback_only_when_asked():
    def run(*arguments):
        command = [sys.executable, "-m", "wsol_utils", *arguments, "train", "scenes-xl"]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    plain, debug = run(), run("--debug")
    assert plain.returncode == 2
    assert plain.stderr.startswith("error: There is no recipe 'scenes-xl'")
    assert plain.stderr.count("\n") == 1
    assert "Traceback" in debug.stderr


def test_check_prints_what_a_bug_report_needs(wsol):
    status, output, _ = wsol("check")
    assert status == 0
    for word in ("python", "torch", "device", "OpenCV: opencv-python", "store folder writable"):
        assert word in output


def test_the_command_line_starts_without_loading_networks():
    code = "import sys, wsol_utils.companion.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
