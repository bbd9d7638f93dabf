"""Runs on data with damaged pictures end well, and name what was left out once, count it and keep it."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
import torch

from pumlc.data.__main__ import main as data_main
from pumlc.data.quarantine import read_quarantine
from pumlc.engine.config import Config
from pumlc.engine.distributed import World
from pumlc.engine.setup import load_data
from pumlc.engine.trainer import fit
from pumlc.errors import InputError
from tests.engine.runs import events, tiny_run

BAD = ("train_2.jpg", "train_11.jpg", "val_3.jpg", "test_0.jpg")


@pytest.fixture
def config(picture_table: Path, tmp_path: Path) -> Config:
    """Two epochs over pictures of which BAD are damaged."""
    data = tmp_path / "data"
    shutil.copytree(picture_table, data)
    for name in BAD:
        (data / name).write_bytes((data / name).read_bytes()[:400])
    run = dataclasses.replace(tiny_run(data, tmp_path / "run"), image_size=32, epochs=2)
    return dataclasses.replace(run, max_bad_share=0.2)


def losses(config: Config) -> list[float]:
    return [event["loss"] for event in events(config, "train")]


def test_a_run_goes_on_without_them(config, capsys):
    assert fit(config) == 0
    output = capsys.readouterr().out
    data = Path(config.data)
    for name in BAD:
        assert output.count(f"left out from now on: {data / name} is cut off or damaged") == 1
    assert "images that cannot be used: 2 of train, 1 of val, 1 of test; they were left out" in output
    assert {event["file"] for event in events(config, "bad_picture")} == {str(data / name) for name in BAD}
    assert len(events(config, "bad_picture")) == len(BAD)
    assert events(config, "end")[0]["bad_pictures"] == {"train": 2, "val": 1, "test": 1}
    assert {event["bad_pictures"] for event in events(config, "eval")} == {1}
    found = read_quarantine(Path(config.out) / "quarantine.tsv", data)
    assert set(found) == {str(data / name) for name in BAD}

    # Known from the beginning, by a check or by the list of that run: the same run, quietly.
    assert data_main(["check", config.data, "--workers", "1"]) == 0
    capsys.readouterr()
    for number, given in enumerate((None, str(Path(config.out) / "quarantine.tsv"))):
        again = dataclasses.replace(config, out=f"{config.out}{number}", quarantine=given)
        assert fit(again) == 0
        assert losses(again) == losses(config)
        assert events(again, "end")[0]["mAP"] == events(config, "end")[0]["mAP"]
        assert "from now on" not in capsys.readouterr().out
        (data / "quarantine.tsv").unlink(missing_ok=True)


def test_scores_are_those_of_the_usable_pictures(config, picture_table, tmp_path):
    """As if the test split had never had the damaged ones."""
    assert fit(config) == 0
    rows = (picture_table / "labels.csv").read_text().splitlines()
    kept = [row for row in rows if not row.startswith(("val_3.jpg", "test_0.jpg"))]
    (Path(config.data) / "labels.csv").write_text("\n".join(kept) + "\n")
    without = dataclasses.replace(config, out=str(tmp_path / "without"))
    assert fit(without) == 0
    assert losses(without) == losses(config)
    for event, other in zip(events(config, "eval"), events(without, "eval"), strict=True):
        assert event["AP"] == other["AP"]
        assert other["bad_pictures"] == 0


def test_too_many_stop_with_the_list(config):
    with pytest.raises(InputError, match=r"2 of 26 train images cannot be used, 7\.7%; --max-bad-share allows 5"):
        fit(dataclasses.replace(config, max_bad_share=0.05))


def test_a_quarantine_that_is_not_there(config):
    with pytest.raises(InputError, match=r"The quarantine .*nowhere\.tsv cannot be read"):
        fit(dataclasses.replace(config, quarantine=str(Path(config.data) / "nowhere.tsv")))


class Two(World):
    """The first of two processes, of which the other one met the pictures ``others``."""

    others: dict[str, dict[int, str]]

    def gather(self, value):
        return [value, self.others]


def test_processes_tell_each_other(config, capsys):
    world = Two(torch.device("cpu"), size=2)
    object.__setattr__(world, "others", {"train": {7: "is empty", 2: "is empty"}, "val": {}, "test": {}})
    pictures = load_data(config, world).pictures
    pictures.quarantines["train"].add({2: "is empty"})

    told = []

    class Log:
        def event(self, name, **values):
            told.append((name, values["split"], Path(values["file"]).name))

    for _ in range(2):
        pictures.share(world, Log())
    assert sorted(pictures.quarantines["train"].reasons) == [2, 7]
    assert told == [("bad_picture", "train", "train_2.jpg"), ("bad_picture", "train", "train_7.jpg")]
    assert capsys.readouterr().out.count("from now on") == 2
    assert len(read_quarantine(Path(config.out) / "quarantine.tsv", config.data)) == 2
    world.others["train"] = dict.fromkeys(range(8, 20), "is empty")
    with pytest.raises(InputError, match="14 of 26 train images"):
        pictures.share(world, Log())
