import pytest

from wsol_utils.companion import settings


@pytest.mark.parametrize("name", ["quick", "laptop", "paper"])
def test_profiles_load(name):
    assert settings.load_profile(name).name == name


def test_unknown_profile_names_the_choices():
    with pytest.raises(ValueError, match="no profile 'huge': choose one of quick, laptop, paper"):
        settings.load_profile("huge")


def test_folders_follow_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("WSOL_OUTPUT", str(tmp_path))
    assert settings.output_folder() == tmp_path
    monkeypatch.delenv("WSOL_OUTPUT")
    assert settings.output_folder() == settings.ROOT / "build"
