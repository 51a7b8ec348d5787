"""Reading, resizing and fitting pictures of every odd kind."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from wsol_utils.datasets import images
from wsol_utils.datasets.images import cut_tiles, decode_image, fit_image, read_image, resize_image


@pytest.fixture
def gradient() -> np.ndarray:
    rows, columns = np.mgrid[:60, :80]
    return np.stack([rows * 4, columns * 3, 255 - rows * 2 - columns], axis=2).astype(np.uint8)


def _save(path, array):
    Image.fromarray(array).save(path)
    return path


def _png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_colour_is_read_as_it_is(tmp_path, gradient):
    image = read_image(_save(tmp_path / "a.png", gradient))
    assert image.dtype == np.uint8
    assert image.flags.writeable
    np.testing.assert_array_equal(image, gradient)


def test_path_may_be_text(tmp_path, gradient):
    assert read_image(str(_save(tmp_path / "ä ö.png", gradient))).shape == (60, 80, 3)


def test_greyscale_gets_three_equal_channels(tmp_path, gradient):
    image = read_image(_save(tmp_path / "a.png", gradient[..., 0]))
    np.testing.assert_array_equal(image, np.repeat(gradient[..., :1], 3, axis=2))


def test_bilevel(tmp_path):
    Image.new("1", (4, 3), 1).save(tmp_path / "a.png")
    assert (read_image(tmp_path / "a.png") == 255).all()


def test_16_bit_grey_is_scaled_not_cut(tmp_path):
    values = np.array([[0, 257, 32896, 65535]], np.uint16)
    image = read_image(_save(tmp_path / "a.png", values))
    np.testing.assert_array_equal(image[0, :, 0], [0, 1, 128, 255])


@pytest.mark.parametrize("suffix", ["tif", "ppm"])
def test_16_bit_grey_of_other_formats(tmp_path, suffix):
    image = read_image(_save(tmp_path / f"a.{suffix}", np.array([[0, 32896, 65535]], np.uint16)))
    np.testing.assert_array_equal(image[0, :, 0], [0, 128, 255])


def test_floating_point_is_stretched_from_its_range(tmp_path):
    image = read_image(_save(tmp_path / "a.tif", np.array([[-1, 0, np.nan, 1]], np.float32)))
    np.testing.assert_array_equal(image[0, :, 0], [0, 128, 128, 255])


def test_constant_floating_point(tmp_path):
    assert read_image(_save(tmp_path / "a.tif", np.full((2, 2), 3.5, np.float32))).shape == (2, 2, 3)


def test_cmyk(tmp_path, gradient):
    Image.fromarray(gradient).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - gradient).mean() < 6


def test_palette(tmp_path):
    Image.new("RGB", (5, 4), (255, 0, 0)).quantize(4).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[0, 0].tolist() == [255, 0, 0]


def test_transparent_lies_over_white(tmp_path):
    pixels = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 0, 0, 128]]], np.uint8)
    image = read_image(_save(tmp_path / "a.png", pixels))
    assert image[0].tolist() == [[10, 20, 30], [255, 255, 255], [127, 127, 127]]


def test_transparent_palette_and_grey(tmp_path):
    Image.new("P", (2, 2), 0).save(tmp_path / "a.gif", transparency=0)
    Image.new("LA", (2, 2), (0, 0)).save(tmp_path / "b.png")
    assert (read_image(tmp_path / "a.gif") == 255).all()
    assert (read_image(tmp_path / "b.png") == 255).all()


def test_webp_and_bmp(tmp_path, gradient):
    for name in ("a.webp", "a.bmp"):
        assert read_image(_save(tmp_path / name, gradient)).shape == (60, 80, 3)


def test_exif_rotation_is_applied(tmp_path, gradient):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(gradient).save(tmp_path / "a.jpg", exif=exif, quality=95)
    image = read_image(tmp_path / "a.jpg")
    assert image.shape == (80, 60, 3)
    assert np.abs(image.astype(int) - np.rot90(gradient, -1)).mean() < 6


def test_broken_exif_does_not_hide_the_picture(tmp_path, gradient):
    Image.fromarray(gradient).save(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff\x12")
    assert read_image(tmp_path / "a.jpg").shape == (60, 80, 3)


@pytest.mark.parametrize("size", [(1, 1), (4000, 12), (12, 4000)])
def test_extreme_sizes(tmp_path, size):
    Image.new("RGB", size, "red").save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert image.shape == (size[1], size[0], 3)
    assert resize_image(image, 96).shape == (96, 96, 3)
    assert min(fit_image(image, 100).shape[:2]) >= 1


def test_missing_file():
    with pytest.raises(FileNotFoundError, match=r"^There is no file no/such\.jpg: check the name"):
        read_image("no/such.jpg")
    with pytest.raises(FileNotFoundError, match="There is no file"):
        read_image("a" * 5000)


def test_folder_instead_of_file(tmp_path):
    with pytest.raises(IsADirectoryError, match="is a folder, not an image: give"):
        read_image(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipe_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(OSError, match="is not an ordinary file"):
        read_image(tmp_path / "pipe.jpg")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read every file")
def test_unreadable_file(tmp_path):
    (tmp_path / "a.jpg").touch(mode=0)
    with pytest.raises(OSError, match="may not be read"):
        read_image(tmp_path / "a.jpg")


def test_empty_file(tmp_path):
    (tmp_path / "a.jpg").touch()
    with pytest.raises(OSError, match=r"a\.jpg is empty \(0 bytes\)"):
        read_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("content", [b"hello", b"\0" * 1000, b"%!PS-Adobe-3.0 EPSF-3.0\n", b"\xff\xd8\xff"])
def test_not_an_image(tmp_path, content):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(OSError, match=r"a\.jpg is not an image that can be read: save it"):
        read_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "tif", "bmp", "webp", "ppm"])
def test_any_cut_is_one_sentence(tmp_path, gradient, suffix):
    content = _save(tmp_path / f"a.{suffix}", gradient).read_bytes()
    for length in np.linspace(1, len(content) * 0.8, 25).astype(int):
        with pytest.raises(OSError, match=r"^b (is not an image|is damaged|is empty).*\.$"):
            decode_image(content[:length], "b")


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "tif", "bmp", "webp", "ppm"])
def test_broken_bytes_are_read_or_refused_in_one_sentence(tmp_path, gradient, suffix):
    content = bytearray(_save(tmp_path / f"a.{suffix}", gradient).read_bytes())
    generator = np.random.default_rng(0)
    for _ in range(60):
        broken = content.copy()
        for place in generator.integers(0, min(len(content), 400), 4):
            broken[place] = generator.integers(256)
        try:
            assert decode_image(bytes(broken), "b").ndim == 3
        except OSError as error:
            sentence = str(error)
        else:
            continue
        assert sentence.startswith("b ")
        assert "\n" not in sentence


@pytest.mark.parametrize("side", [8001, 14_000, 60_000, 2**31 - 1])
def test_huge_picture_is_refused_before_it_is_decoded(side):
    with pytest.raises(OSError, match="has more than 64 million pixels: make it smaller"):
        decode_image(_png_header(side, side), "bomb.png")


def test_largest_picture_is_read(monkeypatch, tmp_path, gradient):
    monkeypatch.setattr(images, "MAX_PIXELS", gradient.shape[0] * gradient.shape[1])
    assert read_image(_save(tmp_path / "a.png", gradient)).shape == (60, 80, 3)


def test_many_pages_give_the_first(tmp_path):
    pages = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    assert read_image(tmp_path / "a.tif")[0, 0].tolist() == [255, 0, 0]


def test_resize_is_antialiased():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    assert abs(resize_image(stripes, 16)[8, 8, 0].astype(int) - 127) <= 2


def test_resize_keeps_corners():
    image = np.zeros((2, 2, 3), np.uint8)
    image[0, 0] = 255
    large = resize_image(image, 8)
    assert large[0, 0, 0] == 255
    assert large[7, 7, 0] == 0


def test_fit_never_enlarges(gradient):
    assert fit_image(gradient, 500) is gradient
    assert fit_image(gradient, 40).shape == (30, 40, 3)
    assert fit_image(np.zeros((12, 4000, 3), np.uint8), 100).shape == (1, 100, 3)


def test_views_are_accepted(gradient):
    assert resize_image(gradient[::-1, :, ::-1], 10).shape == (10, 10, 3)


@pytest.mark.parametrize("wrong", [np.zeros((4, 4)), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8), None])
def test_wrong_array(wrong):
    for function in (resize_image, fit_image):
        with pytest.raises(ValueError, match=r"An image is RGB uint8 of shape \(H, W, 3\), not .*: convert"):
            function(wrong, 8)


def test_wrong_size(gradient):
    with pytest.raises(ValueError, match="cannot have a side of 0 pixels"):
        resize_image(gradient, 0)


def test_decoding_leaves_no_warning(recwarn, gradient):
    stream = io.BytesIO()
    Image.fromarray(gradient).save(stream, "TIFF", tiffinfo=TiffImagePlugin.ImageFileDirectory_v2())
    decode_image(stream.getvalue(), "a.tif")
    assert not recwarn.list


def test_tiles_lie_side_by_side_and_fill_what_they_can():
    wide = np.arange(2 * 3 * 4 * 5 * 3, dtype=np.uint16).reshape(8, 15, 3).astype(np.uint8)
    tiles = cut_tiles([wide, wide[:3], wide[:4, :4]], 4)
    assert tiles.shape == (2 * 3 + 1, 4, 4, 3)
    np.testing.assert_array_equal(tiles[5], wide[4:, 8:12])
    np.testing.assert_array_equal(tiles[6], wide[:4, :4])
    with pytest.raises(ValueError, match="No image holds a tile of 16 x 16 pixels"):
        cut_tiles([wide], 16)
