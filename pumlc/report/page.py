"""The page around its sections: one file that needs nothing else, and asks for nothing."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import pumlc
from pumlc.report.markup import Markup, element
from pumlc.report.style import SCRIPT, STYLE


class Section(NamedTuple):
    anchor: str
    title: str
    content: Markup


def size_text(size: int) -> str:
    """Bytes as people say them."""
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"


def page(title: str, header: Markup, sections: Sequence[Section]) -> bytes:
    """The document in UTF-8, which says how large it is.

    Its content security policy lets the browser fetch nothing, and run no script but its own: names of classes and
    files are from strangers.
    """
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    links = [element("a", each.title, href=f"#{each.anchor}") for each in sections]
    blocks = [element("section", element("h2", each.title), each.content, id=each.anchor) for each in sections]
    head = element(
        "head",
        element("meta", charset="utf-8"),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("style", Markup(STYLE)),
    )

    def document(last_words: str) -> bytes:
        navigation = element("nav", links, aria_label="Sections")
        main = element("main", header, blocks, element("footer", last_words))
        body = element("body", navigation, main, element("script", Markup(SCRIPT)))
        return ("<!doctype html>\n" + element("html", head, body, lang="en") + "\n").encode()

    size = size_text(len(document("")))
    return document(f"pumlc {pumlc.__version__}. This page is one file of {size} and fetches nothing.")
