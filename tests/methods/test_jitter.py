import numpy as np
import pytest
import torch

from wsol_utils.methods.jitter import jitter

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 32, 40, 3), np.uint8)
OFF = {"crop": 0, "flip": 0, "colour": 0, "occlusion": 0}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_size_and_kind_stay_and_the_generator_decides(kind):
    images = kind(IMAGES)
    first, again, other = (jitter(images, generator(seed)) for seed in (0, 0, 1))
    assert type(first) is type(images)
    assert first.shape == IMAGES.shape
    assert (first == again).all()
    assert not (first == other).all()
    assert not (first == images).all()


def test_everything_off_changes_nothing():
    assert (jitter(IMAGES, generator(), **OFF) == IMAGES).all()


def test_flips_only_mirror():
    jittered = jitter(IMAGES, generator(), **OFF | {"flip": 0.5})
    mirrored = [(new == old[:, ::-1]).all() for new, old in zip(jittered, IMAGES, strict=True)]
    same = [(new == old).all() for new, old in zip(jittered, IMAGES, strict=True)]
    assert [a != b for a, b in zip(mirrored, same, strict=True)] == [True] * 6
    assert 0 < sum(mirrored) < 6


def test_a_crop_is_a_window_of_the_reflected_image():
    jittered = jitter(IMAGES, generator(), **OFF | {"crop": 0.25})
    found = []
    for new, old in zip(jittered, IMAGES, strict=True):
        padded = np.pad(old, ((4, 4), (5, 5), (0, 0)), mode="reflect")
        found += [
            (row, column)
            for row in range(9)
            for column in range(11)
            if (padded[row : row + 32, column : column + 40] == new).all()
        ]
    assert len(found) == 6
    assert len(set(found)) > 3


def test_zoom_enlarges_a_window_of_the_image():
    across = np.tile(np.arange(40, dtype=np.uint8)[None, None, :, None] * 6, (200, 32, 1, 3))
    zoomed = jitter(across, generator(), **OFF, zoom=0.5).astype(float)
    assert (zoomed == zoomed[:, :1]).all(), "columns stay columns"
    steps = np.diff(zoomed[:, 0, 2:-2, 0]).mean(1) / 6
    assert steps.min() > 0.48
    assert steps.max() < 1.02
    assert steps.mean() == pytest.approx(0.75, abs=0.03)
    assert zoomed[:, :, 0].min() < 6
    assert zoomed[:, :, -1].max() > 38 * 6
    down = jitter(across.transpose(0, 2, 1, 3).copy(), generator(), **OFF, zoom=0.5).astype(float)
    assert not np.allclose(np.diff(down[:, 2:-2, 0, 0]).mean(1) / 6, steps, atol=0.1), "height and width on their own"


def test_colour_noise_lies_on_the_principal_axes():
    colours = np.random.default_rng(1).normal(size=(4, 32, 32, 1)) * [30, 20, 10] + 128
    images = colours.clip(60, 200).astype(np.uint8)
    jittered = jitter(images, generator(), **OFF | {"colour": 5.0})
    change = jittered.astype(int) - images
    assert (change == change[:, :1, :1]).all()
    axis = np.array([30, 20, 10]) / np.hypot(np.hypot(30, 20), 10)
    for shift in change[:, 0, 0]:
        assert np.linalg.norm(shift - shift @ axis * axis) < 1.5
    variance = np.cov(images[:, ::4, ::4].reshape(-1, 3).T / 255, bias=True).trace()
    drawn = jitter(np.repeat(images, 200, 0), generator(), **OFF | {"colour": 5.0}).astype(int)
    spread = (drawn[:, 0, 0] - np.repeat(images, 200, 0)[:, 0, 0]) @ axis
    assert spread.std() == pytest.approx(5 * variance * 255, rel=0.1)


def test_occlusion_covers_one_rectangle_with_the_mean():
    jittered = jitter(IMAGES, generator(), **OFF | {"occlusion": 0.5})
    areas = []
    for new, old in zip(jittered, IMAGES, strict=True):
        changed = (new != old).any(-1)
        assert (new[changed] == [124, 116, 104]).all()
        rows, columns = changed.any(1), changed.any(0)
        areas.append(int(rows.sum() * columns.sum()))
        assert changed.sum() >= 0.98 * areas[-1]
    assert 0 < max(areas) <= 16 * 20


def test_errors_name_the_thing_and_the_cure():
    with pytest.raises(ValueError, match=r"images must be uint8 \(B, H, W, 3\)"):
        jitter(IMAGES[0], generator())
    with pytest.raises(ValueError, match=r"crop is a share from 0 to 1, not 4"):
        jitter(IMAGES, generator(), crop=4)
    with pytest.raises(ValueError, match=r"zoom is a share from 0 to 1, not -0.5"):
        jitter(IMAGES, generator(), zoom=-0.5)
