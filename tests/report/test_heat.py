"""The maps of the classes: in the order of the pictures, and over the place that they are of."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from pumlc.data import load_splits
from pumlc.data.loader import EvaluationLoader
from pumlc.engine.recogniser import load_recogniser
from pumlc.report.heat import BATCH_SIZE, class_maps, overlay
from tests.report.runs import CLASSES, IMAGE_SIZE, write_run


@pytest.mark.parametrize("head", ["full", "linear"])
def test_maps_are_those_of_the_model(head, picture_table, tmp_path):
    recogniser = load_recogniser(write_run(tmp_path / "run", picture_table, head=head))
    split = load_splits("csv", picture_table).train
    paths = split.paths[::-1]
    maps = class_maps(recogniser, paths, torch.device("cpu"))
    assert len(paths) > BATCH_SIZE
    assert maps.shape == (len(paths), len(CLASSES), 2, 2)
    loader = EvaluationLoader(
        paths[-1:], split.labels[:1], batch_size=1, image_size=IMAGE_SIZE, device=torch.device("cpu"), threads=1
    )
    with torch.no_grad():
        images = next(iter(loader)).images
        logits = recogniser.model(images)[0].numpy()
        expected = recogniser.model.class_maps(images)[0].numpy()
    np.testing.assert_allclose(maps[-1], expected, rtol=1e-4, atol=1e-5)
    total = maps[-1].sum((1, 2)) if head == "full" else maps[-1].mean((1, 2))
    np.testing.assert_allclose(total, np.ones(len(CLASSES)) if head == "full" else logits, rtol=1e-4, atol=1e-5)


def test_the_glow_is_where_the_map_is_high():
    picture = Image.new("RGB", (90, 60), (60, 120, 200))
    heat = np.zeros((3, 3), np.float32)
    heat[0, 2] = 1  # top right
    found = np.asarray(overlay(picture, heat), np.int16)
    assert found.shape == (60, 90, 3)
    warmth = found[..., 0] - found[..., 2]
    top, left = np.unravel_index(warmth.argmax(), warmth.shape)
    assert (top < 20, left > 60) == (True, True)
    assert warmth.max() > 50
    cold = found[30:, :45]
    assert (cold.max(2) == cold.min(2)).all()  # grey
    assert cold.max() < 120


def test_a_map_of_nothing_leaves_a_grey_picture():
    picture = Image.new("RGB", (8, 8), (200, 10, 10))
    found = np.asarray(overlay(picture, np.zeros((2, 2), np.float32)))
    assert (found == found[0, 0, 0]).all()
