"""Damaged versions of JPEG files, each a function of its seed."""

from __future__ import annotations

import io
import struct

import numpy as np

from tests.data.photos import photo

DIMENSIONS = (0, 1, 7, 255, 256, 4000, 65535)


def seeds() -> list[bytes]:
    """Small JPEG files of several kinds: baseline, progressive, grey, CMYK, with EXIF, with restart markers."""
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6
    kinds = [
        (photo(0, 64, 48), {"quality": 80}),
        (photo(1, 64, 48), {"progressive": True, "quality": 60}),
        (photo(2, 48, 64).convert("L"), {}),
        (photo(3, 32, 32).convert("CMYK"), {}),
        (photo(4, 50, 30), {"exif": exif, "subsampling": 0}),
        (photo(5, 70, 20), {"restart_marker_blocks": 1, "optimize": True}),
    ]
    files = []
    for picture, options in kinds:
        file = io.BytesIO()
        picture.save(file, "JPEG", **options)
        files.append(file.getvalue())
    return files


def mutated(files: list[bytes], seed: int) -> bytes:
    """One of ``files`` after one or two mutations."""
    random = np.random.RandomState(seed)
    content = bytearray(files[random.randint(len(files))])
    for _ in range(random.randint(1, 3)):
        if len(content) > 4:
            MUTATIONS[random.randint(len(MUTATIONS))](content, random)
    return bytes(content)


def _flip_bits(content: bytearray, random: np.random.RandomState) -> None:
    for _ in range(random.randint(1, 9)):
        content[random.randint(len(content))] ^= 1 << random.randint(8)


def _flip_in_header(content: bytearray, random: np.random.RandomState) -> None:
    content[random.randint(min(len(content), 650))] = random.randint(256)


def _cut_off(content: bytearray, random: np.random.RandomState) -> None:
    del content[random.randint(1, len(content)) :]


def _take_out(content: bytearray, random: np.random.RandomState) -> None:
    start = random.randint(len(content))
    del content[start : start + random.randint(1, 60)]


def _double(content: bytearray, random: np.random.RandomState) -> None:
    start = random.randint(len(content))
    content[start:start] = content[start : start + random.randint(1, 200)]


def _put_in(content: bytearray, random: np.random.RandomState) -> None:
    start = random.randint(len(content))
    content[start:start] = random.bytes(random.randint(1, 40))


def _marker(content: bytearray, random: np.random.RandomState) -> None:
    start = random.randint(len(content) - 1)
    content[start : start + 2] = bytes((0xFF, random.randint(0xC0, 0x100)))


def _resize(content: bytearray, random: np.random.RandomState) -> None:
    """Another size in the frame header."""
    place = max(content.find(b"\xff\xc0"), content.find(b"\xff\xc2"))
    if place >= 0:
        content[place + 5 : place + 9] = struct.pack(">HH", *random.choice(DIMENSIONS, 2))


def _segment_length(content: bytearray, random: np.random.RandomState) -> None:
    """Another length of a segment of the header."""
    places = [i for i in range(2, min(len(content) - 4, 700)) if content[i] == 0xFF and content[i + 1] >= 0xC0]
    if places:
        place = places[random.randint(len(places))]
        content[place + 2 : place + 4] = struct.pack(">H", random.choice((0, 1, 2, 3, 17, 255, 65535)))


MUTATIONS = (
    _flip_bits,
    _flip_in_header,
    _cut_off,
    _take_out,
    _double,
    _put_in,
    _marker,
    _resize,
    _segment_length,
)
