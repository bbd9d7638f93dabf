"""The training step against the published one: equality, and a row for each of ours."""

from __future__ import annotations

import pytest
import torch

from bench import published_step
from bench.bars import read_rows
from pumlc.nn.gated_graph import GatedGraphNetwork


def test_equal_in_float64():
    published_step.prove_equal_in_float64()


def test_a_difference_is_found(monkeypatch):
    forward = GatedGraphNetwork.forward
    monkeypatch.setattr(GatedGraphNetwork, "forward", lambda self, h: forward(self, h) * (1 + 1e-6))
    with pytest.raises(AssertionError):
        published_step.prove_equal_in_float64()


@pytest.mark.slow
def test_measures_and_keeps(tmp_path, capfd):
    out = tmp_path / "results.jsonl"
    words = "--device cpu --backbone test_resnet --image-size 256 --batch-size 2 --rounds 1 --precision fp32"
    published_step.main([*words.split(), "--out", str(out)])
    rows = read_rows(out)
    assert [(row["part"], row["batch_size"], row["precision"]) for row in rows] == [
        ("step", 2, "fp32"),
        ("head", 16, "fp32"),
    ]
    for row in rows:
        assert row["benchmark"] == "published_step"
        assert row["times_published"] == pytest.approx(
            row["milliseconds"]["published"] / row["milliseconds"]["pumlc fp32"]
        )
        assert 0 < row["memory_share"] == row["peak_bytes"]["pumlc fp32"] / row["peak_bytes"]["published"]
        assert row["times_published_compiled"] is None
    assert "equal in float64" in capfd.readouterr().out


def test_small_images_are_refused(capsys):
    with pytest.raises(SystemExit):
        published_step.main(["--image-size", "224"])
    assert "--image-size 224: below 256" in capsys.readouterr().err


def test_the_published_step_moves_weights_and_average():
    torch.manual_seed(0)
    network = published_step.PublishedRecogniser("test_resnet", torch.randn(3, 300), torch.eye(3), local_global=True)
    network.train_as_published()
    labels = torch.tensor([[1, 0, 0], [0, 1, 1]], dtype=torch.int8)
    batch = published_step.Batch(torch.randn(2, 3, 256, 256), labels, torch.arange(2))
    step = published_step.PublishedStep(network, published_step.FULL_RECIPE, batch)
    weight, average = network.fc.weight.detach().clone(), [tensor.clone() for tensor in step.average]
    step()
    assert not torch.equal(network.fc.weight, weight)
    assert any(not torch.equal(now, before) for now, before in zip(step.average, average, strict=True))
