"""The settings of a run, those first that are not the usual ones, and the machine that it ran on."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterable
from typing import Any

from pumlc.engine.config import Config
from pumlc.engine.presets import PRESETS
from pumlc.report.markup import Markup, element, isolated
from pumlc.report.record import Record

_OF_THE_RUN = ("data", "out", "resume")  # which differ from run to run anyway


def closest_preset(config: Config) -> tuple[str, dict[str, tuple[Any, Any]]]:
    """The preset that differs in the fewest settings, and these: by name, that of the preset and that of the run.

    A preset for another layout of data is none to compare with, unless there is no other.
    """
    values = dataclasses.asdict(config)
    found = {}
    of_layout = {name: preset for name, preset in PRESETS.items() if preset.config.layout == config.layout}
    for name, preset in (of_layout or PRESETS).items():
        usual = dataclasses.asdict(preset.config)
        found[name] = {
            key: (usual[key], value) for key, value in values.items() if key not in _OF_THE_RUN and usual[key] != value
        }
    return min(found.items(), key=lambda item: len(item[1]))


def settings(record: Record) -> Markup:
    """Two tables: what differs from the closest preset, and, folded, everything."""
    name, different = closest_preset(record.config)
    values = dataclasses.asdict(record.config)
    title = element("h3", f"Different from the preset {name}, the closest one")
    if different:
        header = element("tr", [element("th", text, scope="col") for text in ("setting", name, "this run")])
        rows = [
            element("tr", element("th", _flag(key), scope="row"), element("td", text(usual)), element("td", text(own)))
            for key, (usual, own) in different.items()
        ]
        table = element("table", element("thead", header), element("tbody", rows), class_="plain")
    else:
        table = element("p", "Nothing.", class_="quiet")
    everything = _pairs((_flag(key), text(value)) for key, value in values.items())
    return element(
        "div", title, table, element("details", element("summary", f"All {len(values)} settings"), everything)
    )


def environment(record: Record) -> Markup:
    """Command, versions and machine."""
    found = record.environment
    if not found:
        return element("p", "environment.json is missing or damaged.", class_="quiet")
    packages = found.get("packages", {})
    versions = ", ".join(f"{name} {version}" for name, version in packages.items() if version)
    rows = [
        ("command", shlex.join(map(str, found.get("command", [])))),
        ("packages", versions),
        ("GPUs", ", ".join(found.get("gpus", [])) or "none"),
        *((key, text(found.get(key))) for key in ("python", "cuda", "cpu", "processes", "platform")),
    ]
    return _pairs(rows)


def text(value: Any) -> str:
    """A setting as a person writes it."""
    if value is None:
        return "\N{EN DASH}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _flag(key: str) -> Markup:
    return element("code", f"--{key.replace('_', '-')}")


def _pairs(rows: Iterable[tuple[Markup | str, str]]) -> Markup:
    return element(
        "table",
        element("tbody", [element("tr", element("th", k, scope="row"), element("td", isolated(v))) for k, v in rows]),
        class_="plain",
    )
