"""Runs side by side."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pumlc.report.__main__ import main
from tests.report.documents import Element, parse
from tests.report.runs import CLASSES, write_run


@pytest.fixture
def runs(picture_table, tmp_path) -> list[Path]:
    """The second one has a class that is better by 4 and another that is worse by 8."""
    found = [
        write_run(tmp_path / "first", picture_table),
        write_run(tmp_path / "<second>", picture_table, head="linear", finished=False),
    ]
    path = found[1] / "evaluation" / "evaluation.json"
    summary = json.loads(path.read_text())
    classes = summary["splits"]["test"]["scores"]["kept"]["classes"]
    classes[0]["AP"] += 4
    classes[1]["AP"] -= 8
    path.write_text(json.dumps(summary))
    return found


def compare(*arguments: Path | str) -> int:
    return main([str(argument) for argument in arguments])


def section(page: Element, name: str) -> Element:
    return next(each for each in page.all("section") if each.attributes.get("id") == name)


def test_scores_settings_and_classes(runs, capsys):
    assert compare(runs[0], "--compare", runs[1]) == 0
    path = runs[0] / "comparison.html"
    assert str(path) in capsys.readouterr().out
    page = parse(path.read_text(encoding="utf-8"))
    scores = [[cell.text for cell in row.all("td")] for row in page.all("header")[0].all("tbody")[0].all("tr")]
    assert scores[0] == ["test", "87.25 (84.0 to 90.0)", "81.00", "82.00", "83.00", "84.00", "3.25"]
    assert "Not finished: <second>" in page.all("header")[0].text

    settings = [[cell.text for cell in row.all("td")] for row in section(page, "settings").all("tbody")[0].all("tr")]
    assert settings == [["full", "linear"]]

    rows = section(page, "classes").all("tbody")[0].all("tr")
    assert [row.all("th")[0].text for row in rows] == [CLASSES[1], CLASSES[0], CLASSES[2], CLASSES[3]]
    assert [row.all("td")[1].text for row in rows] == ["77.0\N{MINUS SIGN}8.0", "99.0+4.0", "75.0+0.0", "\N{EN DASH}"]
    bars = [row.all("b")[0].attributes for row in rows[:2]]
    assert [bar["style"] for bar in bars] == ["left:0.00%;width:50.00%", "left:50.00%;width:25.00%"]
    assert [bar["class"] for bar in bars] == ["wrong", "right"]

    charts = section(page, "curves").all("figure")
    assert [len(each.all("path", "line")) for each in charts] == [2, 2, 2]
    assert [each.text for each in charts[0].all("li")] == ["first, val", "<second>, val"]
    assert [each.text for each in charts[1].all("li")] == ["first", "<second>"]


def test_runs_alone_are_given_after_the_flag(runs, tmp_path):
    assert compare("--compare", *runs, "--out", tmp_path / "page.html") == 0
    assert (tmp_path / "page.html").is_file()
    assert not (runs[0] / "comparison.html").exists()


def test_a_run_without_evaluation_is_named(runs):
    (runs[1] / "evaluation" / "evaluation.json").unlink()
    assert compare(runs[0], "--compare", runs[1]) == 0
    page = parse((runs[0] / "comparison.html").read_text(encoding="utf-8"))
    assert "Not evaluated, so without intervals: <second>" in page.all("header")[0].text
    assert "no scored class in common" in section(page, "classes").text


@pytest.mark.parametrize(
    ("pick", "message"),
    [
        (lambda runs: ["--compare", runs[0]], "at least two run folders"),
        (lambda runs: [runs[0], "--compare", runs[0]], "more than once"),
        (lambda runs: [runs[0], "--compare", runs[0].parent], "is no run folder"),
    ],
)
def test_bad_input(runs, capsys, pick, message):
    assert compare(*pick(runs)) == 2
    assert message in capsys.readouterr().err
