"""Odd files through the loaders: right pixels, or out of the way with a reason and nothing else changed."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pumlc.data.augmentation import Augmentation, plan_epoch
from pumlc.data.loader import EvaluationLoader, TrainLoader
from pumlc.data.picture import UnusablePictureError, read_picture
from pumlc.data.quarantine import Quarantine, read_quarantine
from pumlc.errors import InputError
from tests.data.odd_files import OUTSIDE, write_decodable, write_undecodable
from tests.data.photos import difference, grey_levels, on_each_device, write_photos

SAME = 2.0
"""Mean absolute difference to Pillow, in grey levels of 255, that counts as the right pixels."""
CPU = torch.device("cpu")


def labels_for(count: int) -> np.ndarray:
    """int8 [count, 4], every row different: row i is i in base 3, minus one."""
    return (np.arange(count)[:, None] // 3 ** np.arange(4) % 3 - 1).astype(np.int8)


def evaluation_loader(paths, quarantine, *, device="cpu", batch_size=8, image_size=96, **options) -> EvaluationLoader:
    return EvaluationLoader(
        paths,
        labels_for(len(paths)),
        batch_size=batch_size,
        image_size=image_size,
        device=torch.device(device),
        threads=1,
        hw_decoder_load=0.0,
        quarantine=quarantine,
        **options,
    )


def train_loader(paths, quarantine, *, batch_size=4, **options) -> TrainLoader:
    return TrainLoader(
        paths,
        labels_for(len(paths)),
        batch_size=batch_size,
        augmentation=Augmentation(image_size=48),
        device=CPU,
        threads=1,
        quarantine=quarantine,
        **options,
    )


def quarantine_of(paths, root, **options) -> Quarantine:
    return Quarantine(paths, root, "train", **{"max_share": 0.5, **options})


def assert_right_or_named(paths: list[Path], root: Path, device: str) -> Quarantine:
    """Each file comes out as Pillow decodes it, or is set aside with the reason that Pillow's decoding gives."""
    quarantine = quarantine_of(paths, root)
    loader = evaluation_loader(paths, quarantine, device=device)
    seen = {row: image for batch in loader for row, image in zip(batch.index.tolist(), batch.images, strict=True)}
    assert sorted(seen) == list(range(len(paths)))
    for row, path in enumerate(paths):
        if row in quarantine.reasons:
            with pytest.raises(UnusablePictureError) as reason:
                read_picture(path)
            assert quarantine.reasons[row] == str(reason.value), path
            continue
        reference = read_picture(path).resize((96, 96), Image.Resampling.BICUBIC)
        assert difference(grey_levels(seen[row][None])[0], reference) <= SAME, path
    return quarantine


@on_each_device
def test_odd_files_made_here(tmp_path, device):
    decodable, undecodable = write_decodable(tmp_path / "good"), write_undecodable(tmp_path / "bad")
    files = [*decodable, *undecodable]
    quarantine = assert_right_or_named(files, tmp_path, device)
    found = {files[row]: reason for row, reason in quarantine.reasons.items()}
    assert set(found) == set(undecodable)
    for path, beginning in undecodable.items():
        assert found[path].startswith(beginning)


@on_each_device
def test_odd_files_from_outside(device):
    files = sorted(OUTSIDE.glob("*.jp*g"))
    if not files:
        pytest.skip(f"no files in {OUTSIDE}; PUMLC_TEST_DATA says where odd_jpegs is")
    quarantine = assert_right_or_named(files, OUTSIDE, device)
    giant = files.index(OUTSIDE / "giant-image.jpg")
    assert quarantine.reasons[giant].startswith("claims 20000 x 14000 pixels, 280 megapixels")


@on_each_device
def test_the_largest_picture_is_a_setting(tmp_path, device):
    paths = write_photos(tmp_path, 1) + write_photos(tmp_path / "large", 1, width=300, height=200)
    for limit, reasons in (
        (0.07, {}),
        (0.05, {1: "claims 300 x 200 pixels, 0.06 megapixels, more than the 0.05 allowed"}),
    ):
        quarantine = quarantine_of(paths, tmp_path)
        assert len(list(evaluation_loader(paths, quarantine, device=device, max_megapixels=limit))) == 1
        assert quarantine.reasons == reasons


@pytest.fixture
def mixed(tmp_path) -> list[Path]:
    """23 photos, of which 3, 4 and 17 are damaged."""
    paths = write_photos(tmp_path, 23)
    for row in (3, 4, 17):
        paths[row].write_bytes(paths[row].read_bytes()[:1500])
    return paths


BAD = {3, 4, 17}


def test_substitutes_are_the_next_good_images_with_their_labels(mixed, tmp_path):
    quarantine = quarantine_of(mixed, tmp_path)
    loader = train_loader(mixed, quarantine)
    batches = list(loader.epoch(1))
    order = plan_epoch(loader.augmentation, 23, seed=0, epoch=1).order.tolist()
    wanted = []
    for place in range(20):
        while order[place % 23] in BAD:
            place += 1
        wanted.append(order[place % 23])
    assert [row for batch in batches for row in batch.index.tolist()] == wanted
    assert set(quarantine.reasons) <= BAD
    for batch in batches:
        assert torch.equal(batch.labels, torch.from_numpy(labels_for(23))[batch.index])
    images = {row: image for batch in batches for row, image in zip(batch.index.tolist(), batch.images, strict=True)}
    for batch in batches:  # the pixels are those of the index, wherever it stands in
        assert all(
            torch.equal(images[row], image) for row, image in zip(batch.index.tolist(), batch.images, strict=True)
        )


def test_when_a_bad_file_is_found_does_not_matter(mixed, tmp_path):
    """The same batches whether it was known, was met in this epoch, or after resuming; on one rank or on two."""
    known = {os.path.abspath(mixed[row]): "is damaged" for row in BAD}
    first = list(train_loader(mixed, quarantine_of(mixed, tmp_path, known=known)).epoch(0))
    met = quarantine_of(mixed, tmp_path)
    ways = [
        list(train_loader(mixed, met).epoch(0)),
        list(train_loader(mixed, met).epoch(0)),
        first[:2] + list(train_loader(mixed, quarantine_of(mixed, tmp_path)).epoch(0, start_step=2)),
    ]
    assert set(met.reasons) <= BAD
    for batches in ways:
        assert [b.index.tolist() for b in batches] == [b.index.tolist() for b in first]
        assert all(torch.equal(b.images, a.images) for b, a in zip(batches, first, strict=True))
    shares = [
        list(train_loader(mixed, quarantine_of(mixed, tmp_path), batch_size=2, rank=r, world_size=2).epoch(0))
        for r in (0, 1)
    ]
    for batch, *parts in zip(first, *shares, strict=True):
        assert torch.equal(batch.index, torch.cat([part.index for part in parts]))


def test_good_files_cost_no_second_pipeline(tmp_path, monkeypatch):
    paths = write_photos(tmp_path, 9)
    loader = train_loader(paths, quarantine_of(paths, tmp_path))
    built = []
    new = type(loader._reader)._new_pipeline
    monkeypatch.setattr(type(loader._reader), "_new_pipeline", lambda *a, **k: built.append(1) or new(*a, **k))
    for epoch in range(3):
        assert len(list(loader.epoch(epoch))) == 2
    assert built == [1]


def test_named_once_and_recorded(mixed, tmp_path):
    told = []
    record = tmp_path / "run" / "quarantine.tsv"
    quarantine = quarantine_of(mixed, tmp_path, record=record, announce=lambda *entry: told.append(entry))
    loader = evaluation_loader(mixed, quarantine)
    for _ in range(2):
        assert [row for batch in loader for row in batch.index.tolist()] == list(range(23))
    assert sorted(path for path, _ in told) == sorted(str(mixed[row]) for row in BAD)
    assert read_quarantine(record, tmp_path) == dict(told)
    assert all(reason.startswith("is cut off or damaged") for _, reason in told)


def test_more_than_the_share_stops_with_the_list(mixed, tmp_path):
    quarantine = quarantine_of(mixed, tmp_path, max_share=2 / 23)
    with pytest.raises(InputError, match=r"(?s)3 of 23 train images cannot be used, 13.0%; .*003.jpg is cut off"):
        list(evaluation_loader(mixed, quarantine, batch_size=4))
    known = {os.path.abspath(mixed[row]): "is damaged" for row in BAD}
    with pytest.raises(InputError, match=r"--max-bad-share allows 1\.0%"):
        Quarantine(mixed, tmp_path, "train", known=known)


def test_no_usable_image(tmp_path):
    bad = list(write_undecodable(tmp_path))
    with pytest.raises(InputError, match=r"of 10 train images cannot be used, 100\.0%"):
        list(evaluation_loader(bad, quarantine_of(bad, tmp_path, max_share=1.0)))
