"""The vocabularies that ship are whole, are what their command makes, and a damaged one is named."""

import json
from pathlib import Path

import numpy as np
import pytest

from wsol_utils.companion import recipes, settings, vocabularies
from wsol_utils.datasets import photographs
from wsol_utils.methods.encoding import FisherVector


@pytest.mark.parametrize("name", vocabularies.MADE_OF)
def test_what_ships_is_whole_and_says_how_it_was_made(name):
    vocabulary = vocabularies.shipped(name)
    n_components, n_dimensions = vocabularies.MADE_OF[name][3:]
    assert vocabulary.means.shape == vocabulary.variances.shape == (n_components, n_dimensions)
    assert vocabulary.weights.sum() == pytest.approx(1, abs=1e-6)
    assert (vocabulary.variances > 0).all()
    encoded = FisherVector(vocabulary=vocabulary, progress=False).transform(list(photographs.load().values())[:2])
    assert encoded.shape == (2, vocabulary.size)
    provenance = json.loads((settings.weights_folder() / "vocabularies" / f"{name}.json").read_text())
    assert provenance["command"] == f"python -m wsol_utils train vocabulary-{name}"


def test_a_vocabulary_comes_back_as_it_was_made(tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "weights_folder", lambda: tmp_path)
    monkeypatch.setitem(vocabularies.MADE_OF, "scenes", ("scenes", 20, 96, 3, 8))
    path = recipes.make_shipped("vocabulary-scenes")
    first = vocabularies.shipped("scenes")
    recipes.make_shipped("vocabulary-scenes")
    np.testing.assert_array_equal(vocabularies.shipped("scenes").means, first.means)
    path.write_bytes(b"")
    with pytest.raises(OSError, match=r"scenes\.safetensors is damaged: restore it with git, or make it again with"):
        vocabularies.shipped("scenes")


def test_errors_name_the_thing_and_the_cure(monkeypatch):
    with pytest.raises(ValueError, match="no vocabulary 'words': choose from scenes, voc2012"):
        vocabularies.shipped("words")
    monkeypatch.setattr(settings, "weights_folder", lambda: Path("nowhere"))
    with pytest.raises(OSError, match="is damaged"):
        vocabularies.shipped("scenes")
