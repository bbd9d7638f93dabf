"""What is written of an evaluation is what is read of it."""

from __future__ import annotations

import dataclasses
import math
import os

import pytest
import torch

from pumlc.engine.evaluation_files import (
    EvaluatedSplit,
    evaluated_splits,
    read_split,
    read_summary,
    update_summary,
    write_split,
    write_summary,
)
from pumlc.errors import InputError


@pytest.fixture
def evaluated() -> EvaluatedSplit:
    labels = torch.tensor([[1, -1], [0, 1], [-1, -1]], dtype=torch.int8)
    logits = torch.tensor([[1.5, -2.0], [0.1, 3.0], [0.0, 0.0]])
    usable = torch.tensor([True, True, False])
    paths = ("pictures/a.jpg", "/b b.jpg", "ü.jpg")
    return EvaluatedSplit(logits, labels, labels, usable, paths, ("cat", "dög"), "val", "ema", 7)


def test_a_split_comes_back(evaluated, tmp_path):
    assert evaluated_splits(tmp_path) == ()
    observed = torch.zeros_like(evaluated.labels)
    train = dataclasses.replace(evaluated, split="train", observed=observed)
    for each in (evaluated, train):
        write_split(tmp_path, each)
    assert evaluated_splits(tmp_path) == ("train", "val")
    for each in (evaluated, train):
        found = read_split(tmp_path, each.split)
        for name in ("logits", "labels", "observed", "usable"):
            torch.testing.assert_close(getattr(found, name), getattr(each, name), rtol=0, atol=0)
        assert found.paths == [os.path.abspath(path) for path in each.paths]
        assert (found.class_names, found.split, found.weights, found.epoch) == (["cat", "dög"], each.split, "ema", 7)


def test_what_is_missing_or_damaged_is_named(evaluated, tmp_path):
    with pytest.raises(InputError, match=r"no .*train\.safetensors. Write it with: python -m pumlc\.evaluate .* train"):
        read_split(tmp_path, "train")
    with pytest.raises(InputError, match=r"no .*evaluation\.json. Write it with: python -m pumlc\.evaluate"):
        read_summary(tmp_path)
    path = write_split(tmp_path, evaluated)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(InputError, match=r"val\.safetensors cannot be read"):
        read_split(tmp_path, "val")
    write_summary(tmp_path, {}).write_text("{")
    with pytest.raises(InputError, match=r"evaluation\.json cannot be read: .* Write it again"):
        read_summary(tmp_path)


def test_another_safetensors_file_is_refused(evaluated, tmp_path):
    import safetensors.torch

    path = write_split(tmp_path, evaluated)
    safetensors.torch.save_file({"logits": torch.zeros(1)}, path)
    with pytest.raises(InputError, match="is not of an evaluation: it lacks 'paths'"):
        read_split(tmp_path, "val")


def test_numbers_that_are_not_finite_become_null(tmp_path):
    write_summary(tmp_path, {"a": math.nan, "b": [math.inf, 1.5], "c": {"d": -math.inf}})
    assert read_summary(tmp_path) == {"a": None, "b": [None, 1.5], "c": {"d": None}}


def test_other_splits_of_the_same_weights_stay(tmp_path):
    def summary(epoch: int, **splits: dict) -> dict:
        return {"weights": "ema", "epoch": epoch, "splits": splits}

    def entry(images: int, **scores: float) -> dict:
        return {"images": images, "scores": scores}

    write_summary(tmp_path, summary(3, test=entry(5, kept=1.0, last=2.0), val=entry(4, kept=3.0, last=4.0)))
    found = update_summary(tmp_path, summary(3, train=entry(9, kept=5.0), val=entry(4, kept=6.0)))
    expected = {"train": entry(9, kept=5.0), "val": entry(4, kept=6.0, last=4.0), "test": entry(5, kept=1.0, last=2.0)}
    assert found == read_summary(tmp_path) == summary(3, **expected)
    assert list(found["splits"]) == ["train", "val", "test"]
    update_summary(tmp_path, summary(3, val=entry(3, kept=7.0)))  # fewer images: other ones
    assert read_summary(tmp_path)["splits"]["val"] == entry(3, kept=7.0)
    update_summary(tmp_path, summary(4, val=entry(3, kept=8.0)))
    assert read_summary(tmp_path) == summary(4, val=entry(3, kept=8.0))
