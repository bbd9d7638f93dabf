"""Pictures small enough to lie within the page."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING

from pumlc.data.picture import UnusablePictureError, read_picture
from pumlc.report.markup import Markup, element, isolated

if TYPE_CHECKING:
    from PIL.Image import Image

LARGE, SMALL = 320, 128  # longest sides in pixels
QUALITY = 80  # of the JPEG


def thumbnail(path: str, side: int, max_megapixels: float) -> Image | str:
    """The picture, upright and of at most ``side`` pixels; or in words why there is none."""
    try:
        picture = read_picture(path, max_megapixels)
    except UnusablePictureError as error:
        return str(error)
    picture.thumbnail((side, side))
    return picture


def show(picture: Image | str, alternative: str) -> Markup:
    """An <img> that holds the picture, or a box that says why there is none."""
    if isinstance(picture, str):
        return element("div", f"The picture {picture}.", class_="missing", role="img", aria_label=alternative)
    width, height = picture.size
    return element("img", src=data_uri(picture), alt=alternative, width=width, height=height)


def data_uri(picture: Image) -> str:
    """The picture as a JPEG within an address."""
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def file_name(path: str) -> Markup:
    """The name of a file, with its whole path where the pointer rests."""
    return element("span", isolated(Path(path).name), title=path, class_="file")
