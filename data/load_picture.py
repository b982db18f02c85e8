"""Load pictures as users give them to a predictor: arrays, files and PIL pictures."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from pathlib import Path
from typing import Union

import numpy as np
from PIL import Image, ImageOps

from config.errors import InputError, printable, shorten
from data.images import ORIENTATION, read_image
from data.stretch import stretch_picture

PICTURE_FORMS = (
    "give uint8 [H, W, 3] RGB, a path or a PIL picture; PIL.Image.open reads open files, and bytes in io.BytesIO"
)
Picture = Union[np.ndarray, str, Path, Image.Image]


def load_picture(picture: Picture, stretch: Sequence[float] = ()) -> np.ndarray:
    """Return a picture as an array; files and PIL pictures become uint8 [H, W, 3] RGB.

    A PIL picture is turned upright by its EXIF orientation, and its alpha is dropped, as `read_image` does it.
    stretch: `data.stretch` of a config, for files, for PIL pictures of 16 and 32 bits (modes I;16, I and F) and for
        arrays of numbers [H, W] or [H, W, 3] that are not uint8. Those of 8 bits, and all other arrays, are taken as
        they are.
    Raises InputError if it cannot be read, and for objects that are no pictures.
    """
    if isinstance(picture, np.ndarray):
        return stretch_picture(picture, stretch) if stretch and _has_deep_values(picture) else picture
    if isinstance(picture, (str, Path)):
        return read_image(picture, stretch)
    if not isinstance(picture, Image.Image):
        raise not_a_picture(picture)
    if picture.mode in ("I", "F") and not stretch:
        raise InputError(
            f"a PIL picture of mode {picture.mode}, whose value for white is unknown; give 8 or 16 bits, or set "
            "data.stretch of the config"
        )
    if picture.format == "TIFF" and picture.getexif().get(ORIENTATION, 1) != 1:
        raise InputError(f"{picture!r}: a TIFF with an orientation, which Pillow reads wrongly; give its path")
    try:
        upright = ImageOps.exif_transpose(picture)
        if stretch and upright.mode.startswith(("I", "F")):
            return stretch_picture(np.asarray(upright), stretch)
        if upright.mode.startswith("I;16"):  # `convert` would clip at 255
            upright = Image.fromarray((np.asarray(upright) // 256).astype(np.uint8))
        return np.array(upright.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:  # a file that is decoded only now may be damaged
        raise InputError(f"{picture!r}: cannot be decoded ({error}); load it again") from error


def _has_deep_values(array: np.ndarray) -> bool:
    """Return whether an array is a picture [H, W] or [H, W, 3] of other numbers than uint8."""
    is_picture = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)
    return is_picture and array.size > 0 and array.dtype.kind in "iuf" and array.dtype != np.uint8


def not_a_picture(value: object) -> InputError:
    """Return the InputError for an object that is neither a picture nor an iterable of pictures."""
    return InputError(f"{shorten(printable(reprlib.repr(value)))} is not a picture; {PICTURE_FORMS}")
