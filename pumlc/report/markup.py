"""HTML and SVG from Python calls, with everything escaped that is not markup already."""

from __future__ import annotations

import html
import re
import shlex
from collections.abc import Iterable
from typing import TypeAlias

_VOID = frozenset({"br", "img", "input", "meta"})
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # which HTML has no place for

Content: TypeAlias = "str | int | Iterable[Content] | None"


class Markup(str):
    """Text that goes into the page as it is."""


def element(name: str, /, *content: Content, **attributes: str | float | None) -> Markup:
    """``<name attributes>content</name>``.

    Args:
        content: text, which is escaped, Markup, which is not, numbers, or these nested; None is nothing.
        attributes: without those that are None; ``class_`` is class, and ``aria_label`` is aria-label.
    """
    words = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Markup(f"<{name}{words}>")
    return Markup(f"<{name}{words}>{join(*content)}</{name}>")


def join(*content: Content) -> Markup:
    """The parts of a content as one."""
    return Markup("".join(_flat(content)))


def _flat(content: Iterable[Content]) -> Iterable[str]:
    for part in content:
        if isinstance(part, Markup):
            yield part
        elif isinstance(part, str | int):
            yield escape(part)
        elif part is not None:
            yield from _flat(part)


def escape(value: object) -> str:
    """A value as text of a page, also of file names that are no UTF-8 or hold control characters."""
    if isinstance(value, float):
        value = f"{value:.6g}"
    text = _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", str(value))
    return html.escape(text.encode(errors="surrogateescape").decode(errors="replace"))


def command(*words: object) -> Markup:
    """A command line to be copied into a shell."""
    return element("code", shlex.join(map(str, words)))


def isolated(text: str) -> Markup:
    """A stranger's text, whose direction of writing does not reach what stands around it."""
    return element("bdi", text)
