"""Small odd files made here: what can be decoded and what cannot. And where the folder of those from outside is."""

from __future__ import annotations

import os
import struct
from pathlib import Path

from PIL import Image

from tests.data.photos import photo

OUTSIDE = Path(os.environ.get("PUMLC_TEST_DATA", Path(__file__).parents[2] / "../shared/data")) / "odd_jpegs"


def segments_end(jpeg: bytes) -> int:
    """Where the first segment after the start of the image ends."""
    return 4 + struct.unpack(">H", jpeg[4:6])[0]


def claiming(jpeg: bytes, width: int, height: int) -> bytes:
    """The same file with another size in its frame header."""
    place = max(jpeg.find(b"\xff\xc0"), jpeg.find(b"\xff\xc2"))
    return jpeg[: place + 5] + struct.pack(">HH", height, width) + jpeg[place + 9 :]


def write_decodable(folder: Path) -> list[Path]:
    """Files with a picture in them, whatever their name says."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []

    def save(name: str, picture: Image.Image, kind: str = "JPEG", **options) -> Path:
        made.append(folder / f"{name}.jpg")
        picture.save(made[-1], kind, **options)
        return made[-1]

    plain = save("baseline", photo(1), quality=90).read_bytes()
    save("progressive", photo(2), progressive=True)
    save("grey", photo(3).convert("L"))
    save("cmyk", photo(4).convert("CMYK"))
    save("no_subsampling", photo(5), subsampling=0)
    save("restarts", photo(6), restart_marker_blocks=2)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        save(f"orientation_{orientation}", photo(10 + orientation), exif=exif)
    for kind in ("PNG", "BMP", "TIFF", "WEBP", "PPM"):
        save(f"named_{kind.lower()}", photo(20), kind)
    save("palette_png", photo(21).quantize(16), "PNG")
    save("transparent_png", Image.merge("RGBA", (*photo(22).split(), photo(23).convert("L"))), "PNG")
    save("gif", photo(24).quantize(64), "GIF")
    save("one_pixel", photo(25, width=1, height=1))
    end = segments_end(plain)
    for name, content in {
        "trailing": plain + b"<html>" * 50,
        "junk_between_segments": plain[:end] + bytes(40) + plain[end:],
        "bad_exif": plain[:end] + b"\xff\xe1\x00\x0eExif\0\0MM\0\x2a\xff\xff" + plain[end:],
    }.items():
        made.append(folder / f"{name}.jpg")
        made[-1].write_bytes(content)
    return made


def write_undecodable(folder: Path) -> dict[Path, str]:
    """Files without a picture, and the beginning of what is to be said of each."""
    folder.mkdir(parents=True, exist_ok=True)
    photo(1).save(folder / "whole.jpg", quality=90)
    plain = (folder / "whole.jpg").read_bytes()
    (folder / "whole.jpg").unlink()
    photo(1).save(folder / "whole.png")
    png = (folder / "whole.png").read_bytes()
    (folder / "whole.png").unlink()
    contents = {
        "empty": (b"", "is empty"),
        "text": (b"<html>not found</html>", "is not a picture of a known format: it begins with b'<html>not found<'"),
        "cut_off": (plain[:3000], "is cut off or damaged"),
        "cut_off_in_header": (plain[:200], "is cut off or damaged"),
        "only_a_beginning": (plain[:2], "is"),
        "cut_off_png": (png[: len(png) // 2], "is"),
        "claim": (claiming(plain, 65535, 65535), "claims 65535 x 65535 pixels, 4295 megapixels, more than the 200"),
        "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is not a picture of a known format"),
    }
    reasons = {}
    for name, (content, reason) in contents.items():
        path = folder / f"{name}.jpg"
        path.write_bytes(content)
        reasons[path] = reason
    (folder / "folder.jpg").mkdir()
    return {
        **reasons,
        folder / "folder.jpg": "cannot be read: Is a directory",
        folder / "no.jpg": "cannot be read: No such",
    }
