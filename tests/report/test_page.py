"""The page of a run: what is on it, that it needs nothing else, and that strangers' names stay text."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from pumlc.engine.log import RunLog
from pumlc.report.__main__ import main
from pumlc.report.headline import headline
from pumlc.report.record import read_run
from tests.report.documents import Element, decode, parse
from tests.report.runs import CLASSES, STRANGE_CLASS, STRANGE_FILE, write_run


@pytest.fixture(scope="module")
def run(picture_table, tmp_path_factory) -> Path:
    folder = write_run(tmp_path_factory.mktemp("runs") / "run", picture_table)
    assert main([str(folder), "--device", "cpu"]) == 0
    return folder


@pytest.fixture
def copy(run, tmp_path) -> Path:
    """The run in a folder of its own, to be damaged."""
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    return folder


def read(folder: Path) -> Element:
    return parse((folder / "report.html").read_text(encoding="utf-8"))


def report(folder: Path, *arguments: str) -> Element:
    assert main([str(folder), "--device", "cpu", *arguments]) == 0
    return read(folder)


def section(page: Element, name: str) -> Element:
    return next(each for each in page.all("section") if each.attributes.get("id") == name)


def test_needs_nothing_but_itself(run):
    text = (run / "report.html").read_text(encoding="utf-8")
    page = parse(text)
    for element in page.everything:
        for name in ("src", "href", "action", "poster", "srcset", "data"):
            value = element.attributes.get(name, "#")
            assert value.startswith(("#", "data:image/jpeg;base64,")), (element.name, name, value[:80])
    style = page.all("style")[0].text
    assert not re.search(r"@import|url\(|https?:", style)
    assert len(text) < 2e6


def test_is_well_made(run):
    page = read(run)
    assert len(page.all("h1")) == 1
    ids = [each.attributes["id"] for each in page.everything if "id" in each.attributes]
    assert len(set(ids)) == len(ids)
    targets = [each.attributes["href"].removeprefix("#") for each in page.all("a")]
    assert len(targets) == 7
    assert set(targets) <= set(ids)
    for drawing in page.all("svg"):
        assert [len(drawing.all(name)[0].text) > 5 for name in ("title", "desc")] == [True, True]
        assert set(drawing.attributes["aria-labelledby"].split()) <= set(ids)
    for image in page.all("img"):
        assert image.attributes["alt"]
        assert max(decode(image.attributes["src"]).size) <= 320


def test_names_of_strangers_are_text(run):
    page = read(run)
    assert len(page.all("script")) == 1
    assert not [each for each in page.everything if any(key.startswith("on") for key in each.attributes)]
    names = [each.text for each in section(page, "classes").all("bdi")]
    assert STRANGE_CLASS in names
    assert [each for each in section(page, "pictures").all("bdi") if each.text == STRANGE_FILE]


def test_headline(run):
    header = read(run).all("header")[0].text
    numbers = ("87.2 %", "84.0 to 90.0", "83.0 / 84.0", "12.5 %", "3.2 %")
    for wanted in (
        *numbers,
        "test_resnet with semantic decoupling and a graph network, trained by pu-mlc on ",
        "(csv, 26 pictures, 4 classes) with 70 % of the labels, at 64 pixels for 2 epochs",
        "of epoch 2, chosen on val",
        "Time since resumed1:15",
        "has 0), mAP is 87.00 %",
    ):
        assert wanted in header
    warnings = [each.text for each in read(run).all("ul", "warnings")[0].all("li")]
    for wanted in ("weights are random", "1 of test", "no positive in test"):
        assert any(wanted in each for each in warnings), wanted


def test_curves(run):
    charts = section(read(run), "curves").all("figure")
    assert charts[3].all("li")[0].text == "training speed"
    titles = [each.all("figcaption")[0].text for each in charts]
    assert titles == [
        "Training loss",
        "mAP on val",
        "Learning rate",
        "Training speed",
        "Waiting for data",
        "Loss of the hidden labels",
    ]
    assert [len(each.all("circle")) for each in charts] == [0, 4, 0, 0, 0, 4]
    assert "resumed" in charts[0].text
    assert "weights kept" in charts[1].text


def test_classes_come_by_their_ap(run):
    rows = section(read(run), "classes").all("tbody")[0].all("tr")
    assert [row.all("bdi")[0].text for row in rows] == list(CLASSES)
    assert [row.all("td")[1].text for row in rows] == ["4", "5", "6", "0"]
    assert [row.all("b")[0].attributes["style"] for row in rows[:3]] == [f"width:{v}.00%" for v in (95, 85, 75)]


def test_pictures_have_labels_and_maps(run):
    pictures = section(read(run), "pictures")
    cards = pictures.all("article")
    assert len(cards) == 8  # all that can be used
    assert {len(each.all("article")) for each in pictures.all("div", "cards")} == {2, 4}
    for card in cards:
        for tile in card.all("figure"):
            assert re.search(r"true (yes|no).*model (yes|no) \d\.\d\d", tile.text)
            picture = decode(tile.all("img")[0].attributes["src"])
            assert len(np.unique(np.asarray(picture).reshape(-1, 3), axis=0)) > 50
    assert "semantic decoupling over 2 \N{MULTIPLICATION SIGN} 2" in pictures.text


def test_suspicious_labels_are_those_of_the_table(run):
    page = section(read(run), "suspicious")
    with (run / "suspicious.tsv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, dialect="excel-tab"))
    assert rows
    assert list(rows[0]) == ["file", "class", "given", "probability", "annotated"]
    assert {Path(row["file"]).name.split("_")[0] for row in rows} == {"train"}
    counts = {kind: sum(row["given"] == kind for row in rows) for kind in ("negative", "positive", "unknown")}
    assert [int(each.text) for each in page.all("span", "count")] == list(counts.values())
    assert counts["unknown"] > 0


def test_settings_name_what_differs_first(run):
    tables = section(read(run), "settings").all("table")
    first = [row.all("th")[0].text for row in tables[0].all("tbody")[0].all("tr")]
    assert {"--head", "--backbone", "--prob"} <= set(first)
    assert "--alpha" not in first
    assert "--alpha" in tables[1].text
    assert "packages" in section(read(run), "environment").text


def test_linear_head_has_class_activation_maps(picture_table, tmp_path):
    page = report(write_run(tmp_path / "run", picture_table, head="linear"))
    pictures = section(page, "pictures")
    assert "class activation maps" in pictures.text
    assert pictures.all("figure")[0].all("img")


def test_missing_pictures_and_weights_do_not_break_it(picture_table, tmp_path):
    folder = write_run(tmp_path / "run", picture_table)
    (folder / STRANGE_FILE).write_bytes(b"\xff\xd8\xff")
    pictures = section(report(folder), "pictures")
    assert len(pictures.all("img")) > 15
    (missing,) = pictures.all("div", "missing")
    assert missing.text.startswith("The picture is a JPEG whose header is damaged")
    (folder / STRANGE_FILE).unlink()
    (folder / "best.safetensors").unlink()
    pictures = section(report(folder), "pictures")
    (missing,) = pictures.all("div", "missing")
    assert missing.text == "The picture cannot be read: No such file or directory."
    assert len(pictures.all("img")) == 7
    assert "there are no maps" in pictures.text


def test_without_an_evaluation_the_log_speaks(copy, capsys):
    shutil.rmtree(copy / "evaluation")
    (copy / "suspicious.tsv").unlink()
    page = report(copy)
    assert "62.0 %" in page.all("header")[0].text
    assert page.text.count("python -m pumlc.evaluate") >= 3
    assert not (copy / "suspicious.tsv").exists()


def test_an_interval_of_few_positives_is_named(copy):
    remark = "mAP on test: the interval is not to be relied on: 1 class has fewer than 30 positives."
    assert remark in report(copy).all("header")[0].text
    path = copy / "evaluation" / "evaluation.json"
    summary = json.loads(path.read_text())
    del summary["splits"]["test"]["scores"]["kept"]["classes_with_few_positives"]  # as older runs have it
    path.write_text(json.dumps(summary))
    assert "relied on" not in report(copy).all("header")[0].text


def test_scores_that_flatter_are_named(copy):
    path = copy / "evaluation" / "evaluation.json"
    summary = json.loads(path.read_text())
    del summary["splits"]["test"]  # as where it was evaluated with other weights
    path.write_text(json.dumps(summary))
    page = report(copy)
    header = page.all("header")[0].text
    assert "Pictures of val" in section(page, "pictures").text
    assert "too high for new pictures: its own pictures were used for weights and calibration and thresholds" in header
    assert "Nothing was chosen on" not in header


def test_without_a_val_split_nothing_was_chosen_or_fitted(copy):
    path = copy / "evaluation" / "evaluation.json"
    summary = json.loads(path.read_text())
    summary |= dict.fromkeys(("selected_on", "fitted_on", "calibration", "thresholds"))
    scores = summary["splits"]["test"]["scores"]["kept"]
    scores |= {"CF1_thresholds": None, "OF1_thresholds": None, "mAP_published": scores["mAP"]}
    scores["reliability"]["after"] = None
    path.write_text(json.dumps(summary))
    page = report(copy)
    header = page.all("header")[0].text
    assert "of epoch 2: the last, nothing was chosen" in header
    assert "chosen thresholds" not in header
    assert "published codes" not in header
    assert "Nothing was calibrated" in section(page, "reliability").text
    assert "which is not calibrated" in section(page, "pictures").text


def test_changed_weights_and_an_unfinished_run_are_named(copy):
    path = copy / "evaluation" / "evaluation.json"
    path.write_text(path.read_text().replace('"epoch": 2', '"epoch": 1', 1))
    lines = (copy / "log.jsonl").read_text().splitlines(keepends=True)
    (copy / "log.jsonl").write_text("".join(lines[:-1]))
    header = report(copy).all("header")[0].text
    assert "The weights have changed since they were evaluated" in header
    assert "The run has not finished" in header


def length(folder: Path, **events: dict) -> str:
    """What the page says of how far the run was trained, after more events in its log."""
    log = RunLog(folder)
    for name, values in events.items():
        log.event(name, **values)
    log.close()
    lede = headline(read_run(folder))
    return parse(lede).all("p", "lede")[0].text.partition("pixels")[2]


END = {"split": "test", "mAP": 62.0, "CF1": 60.0, "OF1": 61.0, "seconds": 5.0, "bad_pictures": {}}


def test_says_how_far_it_was_trained(copy):
    about = {"last_step": 7, "steps_per_epoch": 5, "images": 26, "classes": 4, "warning": None}
    end = {**END, "step": 7, "images_per_second": 80.0, "data_wait": 0.0}
    assert length(copy, resume={"step": 5, **about}, end=end) == " for 7 of 10 steps, 1.4 of 2 epochs."
    early = {"step": 5, "epoch": 1, "best": 60.0, "mAP": 50.0}
    said = length(copy, resume={"step": 0, **about}, early_stop=early, end=end | {"step": 5})
    assert said == " for 5 of 10 steps, 1 of 2 epochs, stopped early."
    assert length(copy, resume={"step": 5, **about}, end=end | {"step": 10}) == " for 2 epochs."


def test_a_run_that_went_on_to_be_evaluated_has_no_pace(copy):
    about = {"last_step": 10, "steps_per_epoch": 5, "images": 26, "classes": 4, "warning": None}
    length(copy, resume={"step": 10, **about}, end=END | {"step": 10, "images_per_second": 0.0, "data_wait": 0.0})
    tile = parse(headline(read_run(copy))).all("dl", "tiles")[0].text
    assert "Time since resumed0:05\N{EN DASH} img/s, no step was trained" in tile
    assert "waiting" not in tile


def test_nothing_is_written_into_the_run_where_the_page_goes_elsewhere(copy, tmp_path):
    (copy / "suspicious.tsv").unlink()
    (copy / "report.html").unlink()
    before = sorted(copy.rglob("*"))
    (tmp_path / "pages").mkdir()
    out = tmp_path / "pages" / "page.html"
    assert main([str(copy), "--pictures", "0", "--out", str(out), "--device", "cpu"]) == 0
    assert sorted(copy.rglob("*")) == before
    assert {path.name for path in out.parent.iterdir()} == {"page.html", "suspicious.tsv"}


def test_no_pictures_and_another_place(copy, capsys):
    out = copy / "elsewhere.html"
    assert main([str(copy), "--pictures", "0", "--out", str(out), "--device", "cpu"]) == 0
    assert str(out) in capsys.readouterr().out
    assert "Pictures" not in [each.text for each in parse(out.read_text(encoding="utf-8")).all("h2")]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run: (run / "config.json").unlink(), "is no run folder"),
        (lambda run: (run / "log.jsonl").unlink(), "has no log.jsonl"),
        (lambda run: (run / "log.jsonl").write_text("{\n"), "is damaged"),
        (lambda run: (run / "evaluation" / "evaluation.json").write_text("{"), "cannot be read"),
        (lambda run: (run / "evaluation" / "test.safetensors").write_bytes(b"no"), "cannot be read"),
    ],
)
def test_bad_input(copy, capsys, damage, message):
    damage(copy)
    assert main([str(copy), "--device", "cpu"]) == 2
    assert message in capsys.readouterr().err


def test_out_without_a_folder(run, tmp_path, capsys):
    assert main([str(run), "--out", str(tmp_path / "nowhere" / "page.html"), "--pictures", "0"]) == 2
    assert "there is no folder" in capsys.readouterr().err
