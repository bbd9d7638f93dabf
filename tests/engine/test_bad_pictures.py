"""Runs on data with damaged pictures end well, and name what was left out once, count it and keep it."""

from __future__ import annotations

import dataclasses
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pumlc.data.__main__ import main as data_main
from pumlc.data.picture import PassingReason
from pumlc.data.quarantine import read_quarantine
from pumlc.engine.checkpoint import load_checkpoint
from pumlc.engine.config import Config
from pumlc.engine.distributed import World
from pumlc.engine.setup import load_data
from pumlc.engine.trainer import Trainer, fit
from pumlc.errors import InputError
from tests.engine.runs import events, tiny_run

BAD = ("train_2.jpg", "train_11.jpg", "val_3.jpg", "test_0.jpg")


def damaged(picture_table: Path, folder: Path) -> Config:
    """Two epochs over pictures of which BAD are damaged."""
    data = folder / "data"
    shutil.copytree(picture_table, data)
    for name in BAD:
        (data / name).write_bytes((data / name).read_bytes()[:400])
    run = dataclasses.replace(tiny_run(data, folder / "run"), image_size=32, epochs=2)
    return dataclasses.replace(run, max_bad_share=0.2)


@pytest.fixture
def config(picture_table: Path, tmp_path: Path) -> Config:
    return damaged(picture_table, tmp_path)


@pytest.fixture(scope="module")
def whole(picture_table: Path, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Such a run, to which nothing happened."""
    config = saving_often(damaged(picture_table, tmp_path_factory.mktemp("whole")), "whole")
    assert fit(config) == 0
    return config


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
    unreached = pickle.loads(pickle.dumps(PassingReason("cannot be read: Stale file handle")))  # as processes tell it
    world.others["train"] = {9: unreached}
    pictures.share(world, Log())
    assert pictures.quarantines["train"].reasons[9] == "cannot be read: Stale file handle"
    assert len(read_quarantine(Path(config.out) / "quarantine.tsv", config.data)) == 2
    world.others["train"] = dict.fromkeys(range(8, 20), "is empty")
    with pytest.raises(InputError, match="14 of 26 train images"):
        pictures.share(world, Log())


def end_of(config: Config) -> dict:
    return {key: events(config, "end")[-1][key] for key in ("mAP", "mAP_last", "step", "bad_pictures")}


def saving_often(config: Config, name: str) -> Config:
    """The same run in a folder of its own, with a checkpoint after every second step."""
    return dataclasses.replace(config, out=f"{config.out}-{name}", checkpoint_steps=2, resume="auto")


def at_step(monkeypatch, step: int, happen: Callable[[], object]) -> None:
    """Let something happen before the next run takes this step."""
    train_step = Trainer.train_step

    def taking_it(self, *arguments):
        if self.step == step:
            happen()
        return train_step(self, *arguments)

    monkeypatch.setattr(Trainer, "train_step", taking_it)


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("step", [2, 7])
def test_a_data_folder_that_vanishes_and_comes_back(step, config, whole, monkeypatch, tmp_path):
    """The run ends, has recorded nothing of that, and goes on as if nothing had been."""
    broken = saving_often(config, "broken")
    data, away = Path(config.data), tmp_path / "away"
    with monkeypatch.context() as patch:
        at_step(patch, step, lambda: data.rename(away))
        with pytest.raises(InputError, match=f"The data folder {data} is gone"):
            fit(broken)
    assert load_checkpoint(Path(broken.out) / "checkpoints")[1]["step"] >= step - 1
    away.rename(data)
    recorded = read_quarantine(Path(broken.out) / "quarantine.tsv", data)
    assert set(recorded) <= {str(data / name) for name in BAD}
    assert fit(broken) == 0
    assert losses(broken) == losses(whole)
    assert end_of(broken) == end_of(whole)
    named = [event["file"] for event in events(broken, "bad_picture")]
    assert sorted(named) == sorted(str(data / name) for name in BAD)


@pytest.mark.parametrize("size", [0, 60], ids=["empty", "half a row"])
def test_a_torn_record_does_not_keep_a_run_from_going_on(size, config, whole, monkeypatch):
    broken = saving_often(config, "broken")
    with monkeypatch.context() as patch:
        at_step(patch, 8, interrupt)
        with pytest.raises(KeyboardInterrupt):
            fit(broken)
    record = Path(broken.out) / "quarantine.tsv"
    before = read_quarantine(record, config.data)
    assert before
    record.write_bytes(record.read_bytes()[:size])
    assert fit(broken) == 0
    assert losses(broken) == losses(whole)
    assert {**end_of(broken), "bad_pictures": None} == {**end_of(whole), "bad_pictures": None}  # of those met again
    named = [event["file"] for event in events(broken, "bad_picture")]
    assert sorted(named) == sorted(str(Path(config.data) / name) for name in BAD)


def test_a_repaired_picture_is_used_again(config, picture_table):
    """By the next run that is told of the list of this one."""
    assert fit(config) == 0
    for name in BAD:
        shutil.copy(picture_table / name, Path(config.data) / name)
    told = dataclasses.replace(config, out=f"{config.out}-told", quarantine=str(Path(config.out) / "quarantine.tsv"))
    untold = dataclasses.replace(config, out=f"{config.out}-untold")
    for each in (told, untold):
        assert fit(each) == 0
    assert losses(told) == losses(untold)
    assert events(told, "end")[0]["bad_pictures"] == {"train": 0, "val": 0, "test": 0}


def test_cut_off_pictures_met_or_known_give_the_same_losses(config, picture_table, monkeypatch):
    """Cut off near their end, where most regions lie above the cut."""
    for name in BAD:
        content = (picture_table / name).read_bytes()
        (Path(config.data) / name).write_bytes(content[: int(0.93 * len(content))])
    assert fit(config) == 0
    met = losses(config)
    again = dataclasses.replace(config, out=f"{config.out}-2", quarantine=str(Path(config.out) / "quarantine.tsv"))
    assert fit(again) == 0
    assert losses(again) == met
    assert events(config, "end")[0]["bad_pictures"] == {"train": 2, "val": 1, "test": 1}
