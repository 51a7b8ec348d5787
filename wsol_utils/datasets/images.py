"""Photographs from files of any kind, as RGB uint8 arrays."""

import contextlib
import io
import os
import warnings
from collections.abc import Callable, Iterable
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

MAX_PIXELS = 64_000_000
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM")


def read_image(path: str | os.PathLike) -> np.ndarray:
    """Read a picture of any common kind as RGB uint8 (H, W, 3).

    It is turned upright as its EXIF entry says; greyscale, CMYK, 16-bit and palette pictures are converted, transparent
    ones laid over white. Raises OSError if the file is missing, is not a picture, is cut off, or has more than
    `MAX_PIXELS` pixels.
    """
    if not os.path.exists(path):
        raise FileNotFoundError(f"There is no file {path}: check the name and the folder.")
    if os.path.isdir(path):
        raise IsADirectoryError(f"{path} is a folder, not an image: give the name of one file in it.")
    if not os.path.isfile(path):
        raise OSError(f"{path} is not an ordinary file: give the name of an image file.")
    if not os.access(path, os.R_OK):
        raise PermissionError(f"{path} may not be read: check its permissions.")
    with open(path, "rb") as stream:
        return _decode(stream, os.fspath(path), _to_rgb)


def decode_image(content: bytes, name: str) -> np.ndarray:
    """Decode the bytes of a picture as `read_image` does; `name` stands in the error."""
    return _decode(io.BytesIO(content), name, _to_rgb)


def decode_indices(content: bytes, name: str) -> np.ndarray:
    """Decode the bytes of a palette or greyscale picture as its values, uint8 (H, W); raises OSError for another."""

    def convert(picture: Image.Image) -> np.ndarray:
        if picture.mode not in ("P", "L"):
            raise ValueError("no palette")
        return np.array(picture)

    return _decode(io.BytesIO(content), name, convert)


def _decode(stream: BinaryIO, name: str, convert: Callable[[Image.Image], np.ndarray]) -> np.ndarray:
    if not stream.read(1):
        raise OSError(f"{name} is empty (0 bytes): copy or download it again.")
    stream.seek(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            picture = Image.open(stream, formats=FORMATS)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            raise _too_large(name) from None
        except Exception as error:
            raise OSError(
                f"{name} is not an image that can be read: save it as JPEG or PNG, or copy it again if it is damaged."
            ) from error
        if picture.width * picture.height > MAX_PIXELS:
            raise _too_large(name)
        try:
            picture.load()
            _turn_upright(picture)
            return convert(picture)
        except Exception as error:  # fed with broken bytes, a decoder may raise anything
            raise OSError(f"{name} is damaged or cut off: copy or download it again.") from error


def _too_large(name: str) -> OSError:
    return OSError(f"{name} has more than {MAX_PIXELS // 1_000_000} million pixels: make it smaller first.")


def _turn_upright(picture: Image.Image) -> None:
    with contextlib.suppress(Exception):  # a broken EXIF entry must not hide a sound picture
        ImageOps.exif_transpose(picture, in_place=True)


def _to_rgb(picture: Image.Image) -> np.ndarray:
    if picture.mode.startswith("I") or picture.mode == "F":
        return np.repeat(_to_bytes(np.asarray(picture), picture.mode)[..., None], 3, axis=2)
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return np.array(picture if picture.mode == "RGB" else picture.convert("RGB"))


def _to_bytes(values: np.ndarray, mode: str) -> np.ndarray:
    """Scale 16-bit grey values by 1/257; floating-point ones, which have no white point, from their range."""
    values = values.astype(np.float64)
    if mode == "F":
        values = np.nan_to_num(values, posinf=0, neginf=0)
        values = (values - values.min()) / max(np.ptp(values), 1e-12) * 65535
    return np.rint(np.clip(values, 0, 65535) / 257).astype(np.uint8)


def resize_image(image: np.ndarray, size: int) -> np.ndarray:
    """Resize an image to a square of `size` pixels, as wsolevaluation does: the aspect ratio is lost.

    Bilinear and antialiased (Pillow's, which torchvision uses for pictures). Takes and returns RGB uint8. Raises
    ValueError for another kind of array.

    >>> resize_image(np.zeros((12, 4000, 3), np.uint8), 96).shape
    (96, 96, 3)
    """
    _check(image, size)
    return _resize(image, size, size)


def fit_image(image: np.ndarray, max_side: int) -> np.ndarray:
    """Shrink an image so that its long side has at most `max_side` pixels; the aspect ratio is kept.

    A smaller image is returned as it is. Raises ValueError for anything but an RGB uint8 array.

    >>> fit_image(np.zeros((300, 600, 3), np.uint8), 200).shape
    (100, 200, 3)
    """
    _check(image, max_side)
    height, width = image.shape[:2]
    scale = max_side / max(height, width)
    if scale >= 1:
        return image
    return _resize(image, max(1, round(width * scale)), max(1, round(height * scale)))


def resize_mask(mask: np.ndarray, size: int) -> np.ndarray:
    """Resize a bool (H, W) mask to a square of `size` pixels by nearest neighbour, as `resize_image` does its image."""
    return np.array(Image.fromarray(mask).resize((size, size), Image.Resampling.NEAREST))


def _resize(image: np.ndarray, width: int, height: int) -> np.ndarray:
    if image.shape[:2] == (height, width):
        return image.copy()
    picture = Image.fromarray(np.ascontiguousarray(image))
    return np.array(picture.resize((width, height), Image.Resampling.BILINEAR))


def _check(image: np.ndarray, size: int) -> None:
    shape, dtype = np.shape(image), getattr(image, "dtype", type(image).__name__)
    if len(shape) != 3 or shape[2] != 3 or dtype != np.uint8 or 0 in shape:
        raise ValueError(f"An image is RGB uint8 of shape (H, W, 3), not {dtype} of shape {shape}: convert it first.")
    if size < 1:
        raise ValueError(f"An image cannot have a side of {size} pixels: give 1 or more.")


def cut_tiles(images: Iterable[np.ndarray], side: int) -> np.ndarray:
    """Cut images uint8 (H, W, 3) of any sizes into square tiles beside one another, (N, side, side, 3).

    What is left at the right and at the bottom is dropped. Raises ValueError if no image holds a tile.

    >>> cut_tiles([np.zeros((5, 8, 3), np.uint8), np.zeros((4, 4, 3), np.uint8)], 4).shape
    (3, 4, 4, 3)
    """
    tiles = [
        image[y : y + side, x : x + side]
        for image in images
        for y in range(0, image.shape[0] - side + 1, side)
        for x in range(0, image.shape[1] - side + 1, side)
    ]
    if not tiles:
        raise ValueError(f"No image holds a tile of {side} x {side} pixels; choose smaller tiles.")
    return np.stack(tiles)


def crop_image(image: np.ndarray, size: int) -> np.ndarray:
    """Cut the largest centred square out of an image and resize it to `size` pixels: the aspect ratio is kept.

    >>> crop_image(np.zeros((300, 600, 3), np.uint8), 224).shape
    (224, 224, 3)
    """
    _check(image, size)
    height, width = image.shape[:2]
    side = min(height, width)
    y, x = (height - side) // 2, (width - side) // 2
    return _resize(image[y : y + side, x : x + side], size, size)
