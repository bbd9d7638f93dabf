"""One picture file by Pillow: its pixels, or the reason in words why it has none."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING

from pumlc.errors import require

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_MEGAPIXELS = 200
"""Largest picture by default, in millions of pixels: 600 MB once decoded."""

# Not all that Pillow knows (MPO counts as JPEG): EPS starts a program, and vector formats have no pixels of their own.
FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000", "GIF")


class PassingReason(str):
    """A reason that says nothing of the picture, such as a file that cannot be reached: it may be gone tomorrow."""


class UnusablePictureError(Exception):
    """The message goes on after the name of the file: ``is empty``, ``is damaged: …``."""

    @property
    def reason(self) -> str:
        return str(self)


class UnreachedPictureError(UnusablePictureError):
    """The picture was not seen, so that nothing is known of it."""

    @property
    def reason(self) -> PassingReason:
        return PassingReason(self)


def read_picture(path: str | os.PathLike[str], max_megapixels: float = MAX_MEGAPIXELS) -> Image:
    """The picture as RGB, upright by EXIF.

    Raises:
        UnreachedPictureError: it is missing, cannot be read, or there is too little memory.
        UnusablePictureError: it is empty, cut off, damaged, of no known format, or its header claims more than
            ``max_megapixels``; nothing is allocated for such a claim.
    """
    image = require("PIL.Image", "pillow")
    image.init()  # some of FORMATS are not among those that it begins with
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of metadata, which training has no use for
        try:
            with open(path, "rb") as file, _no_limit(image):
                picture = image.open(file, formats=FORMATS)
                _check_size(picture.size, max_megapixels)
                picture.load()
            return _upright(picture).convert("RGB")
        except UnusablePictureError:
            raise
        except MemoryError as error:
            raise UnreachedPictureError("needs more memory to decode than there is") from error
        except image.UnidentifiedImageError as error:
            raise UnusablePictureError(_unknown(path)) from error
        except OSError as error:
            if error.errno is not None:
                raise UnreachedPictureError(f"cannot be read: {error.strerror}") from error
            raise UnusablePictureError(f"is cut off or damaged: {error}") from error
        except Exception as error:  # whatever a decoder of Pillow makes of a stranger's bytes
            raise UnusablePictureError(f"is damaged: {type(error).__name__}: {error}") from error


def _check_size(size: tuple[int, int], max_megapixels: float) -> None:
    width, height = size
    if width * height > max_megapixels * 1e6:
        raise UnusablePictureError(
            f"claims {width} x {height} pixels, {width * height / 1e6:.4g} megapixels, more than the "
            f"{max_megapixels:g} allowed"
        )


def _unknown(path: str | os.PathLike[str]) -> str:
    """What to say of a file that no decoder knows."""
    with open(path, "rb") as file:
        beginning = file.read(16)
    if not beginning:
        return "is empty"
    if beginning.startswith(b"\xff\xd8\xff"):
        return "is a JPEG whose header is damaged, or of a rare kind (lossless, 12 bits) that no decoder here knows"
    return f"is not a picture of a known format: it begins with {beginning!r}"


@contextlib.contextmanager
def _no_limit(image: ModuleType) -> Iterator[None]:
    """Pillow's own limit, which is one number for the whole process, gives way to ours."""
    before, image.MAX_IMAGE_PIXELS = image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        image.MAX_IMAGE_PIXELS = before


def _upright(picture: Image) -> Image:
    try:
        return require("PIL.ImageOps", "pillow").exif_transpose(picture)
    except Exception:  # EXIF that cannot be parsed says nothing on orientation
        return picture
