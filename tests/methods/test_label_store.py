"""Labels that are changed at the end of an epoch."""

from __future__ import annotations

import pytest
import torch

from pumlc.methods.label_store import LabelStore


@pytest.fixture
def store() -> LabelStore:
    """Four images and three classes, one positive."""
    labels = torch.zeros(4, 3, dtype=torch.int8)
    labels[0, 0] = 1
    return LabelStore(labels)


def propose(store: LabelStore, pairs: list[tuple[int, int]], epoch: int, logit: float = 2.0) -> None:
    """Pairs of image and class, in batches of two images."""
    for first in (2, 0):
        index = torch.tensor([first + 1, first])
        chosen = torch.tensor([[(row, label) in pairs for label in range(3)] for row in index.tolist()])
        store.propose(index, chosen, torch.full((2, 3), logit), epoch)


def test_labels_change_at_the_end_of_the_epoch(store):
    before = store.labels.clone()
    propose(store, [(3, 1), (0, 2)], epoch=1)
    assert torch.equal(store.labels, before)
    assert store.commit() == 2
    before[3, 1] = before[0, 2] = 1
    assert torch.equal(store.labels, before)
    propose(store, [(1, 1)], epoch=2, logit=-1.0)
    assert store.commit() == 1
    assert [column.tolist() for column in store.edits[:3]] == [[0, 3, 1], [2, 1, 1], [2, 2, 3]]
    torch.testing.assert_close(store.edits.probability, torch.tensor([2.0, 2.0, -1.0]).sigmoid())
    assert store.commit() == 0


def test_a_copy_goes_on_from_the_middle_of_an_epoch(store, tmp_path):
    fresh = LabelStore(store.labels.clone())
    propose(store, [(3, 1)], epoch=1)
    store.commit()
    propose(store, [(2, 2), (1, 0)], epoch=2)
    torch.save(store.state_dict(), tmp_path / "state.pt")
    fresh.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert fresh.labels[3, 1] == 1
    assert fresh.labels[2, 2] == 0
    for each in (store, fresh):
        assert each.commit() == 2
    assert torch.equal(store.labels, fresh.labels)
    assert all(map(torch.equal, store.edits, fresh.edits))


def test_what_is_proposed_twice_changes_once(store):
    for logit in (2.0, 3.0):
        propose(store, [(3, 1), (0, 2)], epoch=1, logit=logit)
    assert store.commit() == 2
    assert [column.tolist() for column in store.edits[:2]] == [[0, 3], [2, 1]]
    torch.testing.assert_close(store.edits.probability, torch.tensor([2.0, 2.0]).sigmoid())
