"""LL-R and LL-Ct: which losses are large, epoch by epoch, and what becomes of them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from pumlc.methods.label_store import LabelStore
from pumlc.methods.large_loss import LargeLoss

MODES = ("reject", "correct")


@pytest.fixture
def batch():
    """Logits [2, 4] as images, for a model that passes them on."""
    logits = torch.tensor([[2.0, -1.0, 0.5, 3.0], [1.0, -2.0, 4.0, -3.0]], requires_grad=True)
    labels = torch.tensor([[0, 0, 1, -1], [0, 0, 1, 0]], dtype=torch.int8)
    return SimpleNamespace(images=logits, labels=labels, index=torch.arange(2))


def run(method, batch, epoch) -> tuple[torch.Tensor, torch.Tensor]:
    step = method(torch.nn.Identity(), batch, epoch)
    assert torch.equal(step.logits, batch.images.detach())
    assert not step.logits.requires_grad
    return step.loss.detach(), *torch.autograd.grad(step.loss, batch.images)


@pytest.mark.parametrize("mode", MODES)
def test_the_first_epoch_takes_every_unknown_for_negative(mode, batch):
    expected = binary_cross_entropy_with_logits(batch.images, (batch.labels == 1).float())
    loss, gradient = run(LargeLoss(mode, 20.0), batch, 0)
    torch.testing.assert_close(loss, expected.detach())
    torch.testing.assert_close(gradient, *torch.autograd.grad(expected, batch.images))


# of 8 entries 15 %: 1.2 in the second epoch, 2.4 in the third; the unknown logits are 2, 1, -1, -2 and -3
@pytest.mark.parametrize(("epoch", "least"), [(1, 1.0), (2, -1.0), (3, -2.0), (9, -3.0)])
@pytest.mark.parametrize("mode", MODES)
def test_later_epochs(mode, epoch, least, batch):
    logits, labels = batch.images.detach(), batch.labels
    large = (labels == 0) & (logits >= least)
    assert large.sum() == min(LargeLoss(mode, 15.0).large(8, epoch), 5)
    losses = torch.where(labels == 1, softplus(-logits), softplus(logits))
    losses = torch.where(large, softplus(-logits) if mode == "correct" else 0.0, losses)
    loss, gradient = run(LargeLoss(mode, 15.0), batch, epoch)
    torch.testing.assert_close(loss, losses.mean())
    assert (gradient[large] == 0).all() if mode == "reject" else (gradient[large] < 0).all()
    assert (gradient[~large] != 0).all()


@pytest.mark.parametrize(
    ("delta_rel", "epoch", "entries", "expected"),
    [(0.2, 0, 16 * 80, 0), (0.2, 1, 16 * 80, 3), (0.2, 9, 16 * 80, 24), (0.4, 9, 16 * 81, 47), (0.0, 5, 100, 0)],
)
def test_how_many_are_large(delta_rel, epoch, entries, expected):
    """16 x 80 entries: 2.56 more per epoch at 0.2 %; 16 x 81: 5.184 at 0.4 %."""
    assert LargeLoss("reject", delta_rel).large(entries, epoch) == expected


@pytest.mark.parametrize("delta_rel", [-0.1, 101.0, float("nan")])
def test_a_bad_share_is_named(delta_rel):
    with pytest.raises(ValueError, match=r"delta_rel: got .*, wanted a percentage from 0 to 100"):
        LargeLoss("reject", delta_rel)


def test_explains_what_is_off():
    logits = torch.tensor([[1.0, float("nan")], [0.0, 1.0]])
    assert "logits of 1 of 2 images" in LargeLoss("reject", 0.2).explain(logits, torch.zeros(2, 2), ("cat", "dog"))


def test_corrections_for_good(batch):
    """Three of the eight entries, in every epoch but the first: the unknown logits are 2, 1, -1, -2 and -3."""
    labels = torch.zeros(4, 4, dtype=torch.int8)
    batch.index = torch.tensor([3, 1])
    labels[batch.index] = batch.labels
    store = LabelStore(labels)
    method = LargeLoss("correct", 30.0, store=store)
    assert [method.large(8, epoch) for epoch in (0, 1, 2, 9)] == [0, 3, 3, 3]

    without = LargeLoss("correct", 30.0)
    for epoch in (0, 1):
        for ours, theirs in zip(run(method, batch, epoch), run(without, batch, epoch), strict=True):
            assert torch.equal(ours, theirs)
        assert torch.equal(labels[batch.index], batch.labels)
        numbers = method.end_epoch(epoch)
        assert (
            numbers
            == {"corrected": 3 * epoch, "corrected_for_good": 3 * epoch}
            == without.end_epoch(epoch) | {"corrected_for_good": 3 * epoch}
        )
    assert [column.tolist() for column in store.edits[:3]] == [[1, 3, 3], [0, 0, 1], [2, 2, 2]]

    batch.labels = labels[batch.index]
    run(method, batch, 2)  # the logits -2 and -3 are left
    assert method.end_epoch(2) == {"corrected": 2, "corrected_for_good": 5}
    assert (labels == 1).sum() == 7


def test_counts_go_on_from_a_checkpoint(batch):
    method = LargeLoss("reject", 15.0)
    run(method, batch, 1)
    fresh = LargeLoss("reject", 15.0)
    fresh.load_state_dict(method.state_dict())
    run(fresh, batch, 1)
    assert method.end_epoch(1) == {"rejected": 2}
    assert fresh.end_epoch(1) == {"rejected": 4}
    assert fresh.end_epoch(2) == {"rejected": 0}


def test_what_is_rejected_is_not_kept():
    with pytest.raises(ValueError, match=r"mode: got 'reject' with a store of labels, wanted \"correct\""):
        LargeLoss("reject", 0.2, store=LabelStore(torch.zeros(1, 1, dtype=torch.int8)))
