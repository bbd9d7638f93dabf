"""Escaping."""

from __future__ import annotations

import pytest

from pumlc.report.markup import Markup, element, isolated, join


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("<b>&'\"", "&lt;b&gt;&amp;&#x27;&quot;"),
        ("a\0b\x1b\x85c", "a\ufffdb\ufffd\ufffdc"),
        (b"caf\xe9".decode("utf-8", "surrogateescape"), "caf\ufffd"),
        ("猫\n", "猫\n"),
    ],
)
def test_text_and_attributes_are_escaped(text, escaped):
    made = element("p", text, title=text)
    assert made == f'<p title="{escaped}">{escaped}</p>'
    made.encode()


def test_markup_stays_and_nothing_is_left_out():
    assert join("a<", Markup("<i></i>"), None, 3, ["b", [element("br")]]) == "a&lt;<i></i>3b<br>"
    assert element("td", class_="x", aria_label="y", id=None) == '<td class="x" aria-label="y"></td>'
    assert isolated("<x>") == "<bdi>&lt;x&gt;</bdi>"
    assert element("path", x=1 / 3) == '<path x="0.333333"></path>'
