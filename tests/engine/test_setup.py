"""From settings to data: what is drawn, read and dropped, and how it is summed up."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import numpy as np
import pytest
import torch

from pumlc.data import demo
from pumlc.data.dropping import keep_proportion
from pumlc.engine.distributed import World
from pumlc.engine.presets import PRESETS
from pumlc.engine.setup import load_data, train_loader, use_threads
from pumlc.errors import InputError

ALONE = World(torch.device("cpu"))


@pytest.fixture
def config(picture_table: Path):
    return dataclasses.replace(PRESETS["csv"].config, data=str(picture_table))


def test_demo_is_drawn_where_it_is_absent(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "write_demo", functools.partial(demo.write_demo, train=50, test=6))
    config = dataclasses.replace(PRESETS["demo"].config, data=str(tmp_path / "demo"))
    data = load_data(config, ALONE)
    assert (len(data.splits.train), len(data.splits.val), len(data.splits.test)) == (45, 5, 6)
    assert (tmp_path / "demo" / "annotations" / "instances_train2014.json").is_file()
    assert data.splits.train.num_classes == 8
    assert 0 < np.count_nonzero(data.observed) < data.observed.size


def test_number_of_classes_is_checked(config):
    assert load_data(dataclasses.replace(config, num_classes=4), ALONE).splits.train.num_classes == 4
    with pytest.raises(InputError, match=r"--num-classes is 80, but csv in .* has 4 classes"):
        load_data(dataclasses.replace(config, num_classes=80), ALONE)


def test_crops_follow_the_scale(config):
    def sides(**settings):
        changed = dataclasses.replace(config, batch_size=8, **settings)
        return train_loader(changed, load_data(changed, ALONE), ALONE, 1, torch.float32).augmentation.crop_sizes

    assert sides(image_size=448) == sides(image_size=448, scale_size=512) == (512, 448, 384, 320, 256)
    assert sides(image_size=448, scale_size=640) == (640, 576, 512, 448, 384, 320)
    assert sides(image_size=32, scale_size=64) == (64, 56, 48, 40, 32)


def test_all_labels(config):
    data = load_data(config, ALONE)
    assert np.array_equal(data.observed, data.splits.train.labels)
    first, second, zeros = data.summary().splitlines()
    assert first == "data: csv, 26 train + 7 val + 9 test images, 4 classes"
    assert second.startswith("labels: 104 of 104 kept (100.0%)")
    assert second.endswith("; 1 classes have no positive label")
    assert zeros == data.splits.train.notes[0]  # what 0 means in this table


def test_dropped_labels_leave_the_true_ones(config):
    data = load_data(dataclasses.replace(config, prob=0.4), ALONE)
    labels = data.splits.train.labels
    assert np.array_equal(data.observed, keep_proportion(labels, 0.4))
    assert np.count_nonzero(labels) == labels.size


def test_single_positive_goes_before_prob(config):
    data = load_data(dataclasses.replace(config, prob=0.4, single_positive=True, seed=3), ALONE)
    assert (data.observed == 1).sum(1).tolist() == [1] * 26
    assert (data.observed >= 0).all()


@pytest.fixture
def config_without_val(config, tmp_path):
    """The same pictures, those of val in the train split."""
    lines = (Path(config.data) / "labels.csv").read_text().replace(",val,", ",train,")
    for picture in Path(config.data).glob("*.jpg"):
        (tmp_path / picture.name).symlink_to(picture)
    (tmp_path / "labels.csv").write_text(lines)
    return dataclasses.replace(config, data=str(tmp_path))


@pytest.mark.parametrize("dropping", [{"prob": 0.4}, {"single_positive": True}])
def test_images_are_held_out_after_their_labels_are_drawn(config_without_val, dropping):
    before = load_data(dataclasses.replace(config_without_val, seed=2, hold_out=0.0, **dropping), ALONE)
    after = load_data(dataclasses.replace(config_without_val, seed=2, hold_out=0.3, **dropping), ALONE)
    train, val = after.splits.train, after.splits.val
    assert (len(train), len(val), len(after.splits.test)) == (23, 10, 9)
    row = {path: number for number, path in enumerate(before.splits.train.paths)}
    assert np.array_equal(after.observed, before.observed[[row[path] for path in train.paths]])
    assert np.array_equal(val.labels, before.splits.train.labels[[row[path] for path in val.paths]])
    assert np.count_nonzero(val.labels) == val.labels.size
    text = after.summary().splitlines()
    assert text[0] == "data: csv, 23 train + 10 val + 9 test images, 4 classes"
    assert text[1].startswith(f"labels: {np.count_nonzero(after.observed)} of {23 * 4} kept")
    assert text[2:] == [*train.notes, *val.notes]  # test has the note of train


def test_a_tenth_is_held_out_where_there_is_no_val_split(config, config_without_val):
    data = load_data(config_without_val, ALONE)
    assert (len(data.splits.train), len(data.splits.val), len(data.observed)) == (30, 3, 30)
    asked = load_data(dataclasses.replace(config_without_val, hold_out=0.1), ALONE)
    assert asked.splits.val.paths == data.splits.val.paths
    assert data.notes[0].startswith("the data has no val split, so 3 training images are held out: weights, thresholds")
    assert not asked.notes
    with_val = load_data(config, ALONE)
    assert (len(with_val.splits.train), len(with_val.splits.val), with_val.notes) == (26, 7, ())


def test_nothing_is_held_out_on_request_or_where_it_cannot_be(config_without_val):
    config = config_without_val
    data = load_data(dataclasses.replace(config, hold_out=0.0), ALONE)
    assert (len(data.splits.train), data.splits.val) == (33, None)
    assert data.notes[0].startswith("no val split: the weights of the last step are kept, nothing is chosen")
    assert "--hold-out 0.1 would" in data.notes[0]

    table = Path(config.data) / "labels.csv"
    table.write_text(table.read_text().replace(",0", ","))  # an empty cell is unknown
    data = load_data(config, ALONE)
    assert (len(data.splits.train), data.splits.val) == (33, None)
    assert "; no images are held out: --hold-out is 0.1, but among the 3 images of csv that are" in data.notes[0]


def test_why_nothing_is_held_out_of_very_few_images(config_without_val):
    table = Path(config_without_val.data) / "labels.csv"
    lines = table.read_text().splitlines(keepends=True)
    table.write_text("".join([*lines[:5], *(line for line in lines if ",test," in line)]))
    data = load_data(config_without_val, ALONE)
    assert data.splits.val is None
    assert "; no images are held out: --hold-out is 0.1, which is 0 of the 4 training images" in data.notes[0]


@pytest.mark.parametrize(
    "cells", [",,,\n", "0,0,0,0\n", "1,1,1,1\n"], ids=["nothing known", "no positive", "no negative"]
)
def test_a_val_split_on_which_nothing_can_be_chosen_is_none(config, tmp_path, cells):
    for picture in Path(config.data).glob("*.jpg"):
        (tmp_path / picture.name).symlink_to(picture)
    lines = (Path(config.data) / "labels.csv").read_text().splitlines(keepends=True)
    lines = [line[: line.index(",val,") + 5] + cells if ",val," in line else line for line in lines]
    (tmp_path / "labels.csv").write_text("".join(lines))
    config = dataclasses.replace(config, data=str(tmp_path), hold_out=0.0)
    said = "the val split of 7 images counts as none: no class has both a positive and a known negative label there"
    data = load_data(config, ALONE)
    assert (len(data.splits.train), data.splits.val, len(data.splits.test)) == (26, None, 9)
    assert data.notes[0].startswith(said)
    assert data.notes[1].startswith("no val split: the weights of the last step are kept, nothing is chosen")
    data = load_data(dataclasses.replace(config, hold_out=None), ALONE)
    assert (len(data.splits.train), len(data.splits.val)) == (23, 3)
    assert data.notes[0].startswith(said)
    assert data.notes[1].startswith("the data has no val split, so 3 training images are held out")
    data = load_data(dataclasses.replace(config, hold_out=0.5), ALONE)
    assert len(data.splits.val) == 13
    assert len(data.notes) == 1


def test_nothing_is_held_out_where_there_is_a_val_split(config):
    with pytest.raises(InputError, match=r"--hold-out is 0\.2, but csv has a val split of 7 images"):
        load_data(dataclasses.replace(config, hold_out=0.2), ALONE)


@pytest.mark.parametrize(
    ("threads", "local_size", "network", "decoding"), [(4, 1, 4, 2), (1, 1, 1, 1), (None, 2, 3, 1), (None, 16, 1, 1)]
)
def test_processes_share_the_cores(config, monkeypatch, threads, local_size, network, decoding):
    monkeypatch.setattr("pumlc.engine.setup.cores", lambda: 6)
    before = torch.get_num_threads()
    try:
        world = World(torch.device("cpu"), local_size=local_size)
        assert use_threads(threads, world) == decoding
        assert torch.get_num_threads() == network
    finally:
        torch.set_num_threads(before)
