"""Where a JPEG ends: a file that was cut off lacks its end, and a decoder of a part may not see that."""

from __future__ import annotations

import os
import re

TAIL = 64
"""Bytes at the end of a file in which the end of the image is looked for first; some writers add a few."""

START, END = b"\xff\xd8", b"\xff\xd9"
SCAN = 0xDA
ALONE = frozenset({0x00, 0x01, *range(0xD0, 0xD9)})  # codes of markers without a segment, and of stuffed bytes
AFTER_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # what ends the entropy-coded data of a scan


def ends_early(path: str | os.PathLike[str]) -> bool:
    """Whether the file is a JPEG with its end, after which it goes on for more than ``TAIL`` bytes.

    So do pictures with a film, a second picture or a note of the camera behind them. False also where the file cannot
    be read.
    """
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError:
        return False
    return content.startswith(START) and END not in content[-TAIL:] and _has_end(content)


def _has_end(content: bytes) -> bool:
    """Whether an end follows the scans of the first image, whose thumbnail, in a segment of its own, has one too."""
    place, scanned = len(START), False
    while 0 <= (place := content.find(b"\xff", place)) < len(content) - 1:
        code = content[place + 1]
        if code == END[1]:
            return scanned
        if code == 0xFF:
            place += 1
        elif code in ALONE:
            place += 2
        else:
            place += 2 + int.from_bytes(content[place + 2 : place + 4], "big")
        if code == SCAN:
            scanned, found = True, AFTER_SCAN.search(content, place)
            if found is None:
                return False
            place = found.start()
    return False
