"""Odd files through the loaders: right pixels, or out of the way with a reason and nothing else changed."""

from __future__ import annotations

import contextlib
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pumlc.data.augmentation import Augmentation, plan_epoch
from pumlc.data.loader import EvaluationLoader, TrainLoader
from pumlc.data.picture import UnusablePictureError, read_picture
from pumlc.data.quarantine import Quarantine, read_quarantine
from pumlc.data.reader import ImageReader, InterruptedPassError, Request
from pumlc.errors import InputError
from tests.data.odd_files import OUTSIDE, write_decodable, write_undecodable
from tests.data.photos import difference, grey_levels, on_each_device, photo, write_photos

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


def test_arithmetic_coding(tmp_path):
    """A JPEG of cjpeg -arithmetic; libjpeg reads it, on a CPU. On a GPU it may be read by Pillow instead."""
    path = Path(__file__).parent / "arithmetic.jpg"
    with Image.open(path) as picture:
        picture.convert("RGB").save(tmp_path / "decoded.png")
    quarantine = quarantine_of([path, tmp_path / "decoded.png"], tmp_path)
    (batch,) = evaluation_loader([path, tmp_path / "decoded.png"], quarantine, image_size=48)
    assert not quarantine.reasons
    found, wanted = grey_levels(batch.images)
    assert np.abs(found - wanted).mean() < 0.1
    assert found.std() > 10


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


def cut_copies(jpeg: bytes) -> dict[str, bytes]:
    """A JPEG file cut off in several places, also after a thumbnail, which has an end of its own."""
    exif = b"Exif\0\0" + jpeg[:-200] + b"\xff\xd9"
    with_thumbnail = jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]
    cuts = {f"{share:.2f}": jpeg[: int(share * len(jpeg))] for share in (0.6, 0.8, 0.93, 0.97)}
    return {**cuts, "1 byte": jpeg[:-1], "the end": jpeg[:-2], "thumbnail": with_thumbnail[:-300]}


@on_each_device
def test_what_is_cut_off_is_bad_in_every_region(tmp_path, device):
    """A region above the cut has all its pixels; the file is as bad as where the whole is asked for."""
    photo(1, 320, 240).save(tmp_path / "whole.jpg", quality=90)
    whole = (tmp_path / "whole.jpg").read_bytes()
    paths = [tmp_path / "whole.jpg"]
    for name, content in cut_copies(whole).items():
        paths.append(tmp_path / f"{name}.jpg")
        paths[-1].write_bytes(content)
    for number in range(len(paths)):  # the reader, which may know no others
        reader = evaluation_loader(paths, None, device=device)._reader
        one = np.array([number])
        top = Request(one, np.float32([[0, 0]]), np.float32([[0.3, 1]]), np.zeros(1, np.int32))
        if number == 0:
            assert len(list(reader.read([top]))) == 1
            continue
        with pytest.raises(InterruptedPassError) as interrupted:
            list(reader.read([top]))
        assert interrupted.value.reasons[number].startswith("is cut off or damaged"), paths[number]


@on_each_device
def test_what_goes_on_after_its_end_is_whole(tmp_path, device):
    """With zeros, a second picture or a film behind it: decoded by DALI, not copied."""
    photo(1).save(tmp_path / "whole.jpg", quality=90)
    whole = (tmp_path / "whole.jpg").read_bytes()
    after = {
        "a little": bytes(30),
        "zeros": bytes(4096),
        "text": b"<html>" * 50,
        "film": np.random.RandomState(0).bytes(200_000),
        "cut off picture": whole[:-500],
    }
    paths = [tmp_path / f"{name}.jpg" for name in after]
    for path, rest in zip(paths, after.values(), strict=True):
        path.write_bytes(whole + rest)
    quarantine = quarantine_of(paths, tmp_path)
    loader = evaluation_loader(paths, quarantine, device=device)
    for _ in range(2):
        (batch,) = loader
        reference = read_picture(tmp_path / "whole.jpg").resize((96, 96), Image.Resampling.BICUBIC)
        assert max(difference(image, reference) for image in grey_levels(batch.images)) <= SAME
    assert not quarantine.reasons
    assert not loader._reader._copied


def test_a_single_file_that_is_not_there_is_not_recorded(tmp_path):
    paths = write_photos(tmp_path / "data", 8)
    paths[2].rename(tmp_path / "away.jpg")
    (tmp_path / "data" / "004.jpg").write_bytes(b"")
    record, told = tmp_path / "run" / "quarantine.tsv", []
    options = {"record": record, "announce": lambda path, reason: told.append((os.path.basename(path), reason))}
    loader = evaluation_loader(paths, quarantine_of(paths, tmp_path / "data", **options))
    assert len(list(loader)) == len(list(loader)) == 1
    assert sorted(told) == [("002.jpg", "cannot be read: No such file or directory"), ("004.jpg", "is empty")]
    assert read_quarantine(record, tmp_path / "data") == {str(paths[4]): "is empty"}


@pytest.mark.parametrize("how", ["root", "unmounted", "pictures elsewhere"])
def test_a_data_folder_that_is_gone(tmp_path, how):
    """At once, with nothing recorded; and not because too many pictures are bad."""
    pictures = tmp_path / "pictures"
    paths = write_photos(pictures, 8)
    root = tmp_path / "table" if how == "pictures elsewhere" else pictures
    root.mkdir(exist_ok=True)
    (root / "labels.csv").touch()
    record, told = tmp_path / "quarantine.tsv", []
    options = {"record": record, "announce": lambda *entry: told.append(entry), "max_share": 1.0}
    batches = iter(evaluation_loader(paths, quarantine_of(paths, root, **options), batch_size=2))
    next(batches)
    pictures.rename(tmp_path / "away")
    if how == "unmounted":
        pictures.mkdir()
    reason = "it is empty" if how == "unmounted" else "No such file or directory"
    with pytest.raises(InputError, match=f"The data folder {pictures} is gone: {reason}"):
        list(batches)
    assert not told
    assert not record.exists()


class Failing:
    """A pipeline that fails the given number of times, as where memory is short, and then works."""

    def __init__(self, pipeline, times: list[None]) -> None:
        self._pipeline, self._times, self.reset = pipeline, times, pipeline.reset

    def run(self, *arguments):
        if self._times:
            self._times.pop()
            with contextlib.suppress(StopIteration):
                self._pipeline.run(*arguments)
            raise RuntimeError("Critical error in pipeline:\nout of memory")
        return self._pipeline.run(*arguments)


def test_an_error_that_is_of_no_file(tmp_path, monkeypatch):
    """Once, the batch is asked for again; twice in a row, the run ends with what DALI said."""
    paths = write_photos(tmp_path, 8)
    wanted = [batch.images for batch in evaluation_loader(paths, None, batch_size=4)]
    new = ImageReader._new_pipeline

    def fail(times: list[None]) -> None:
        def failing(self, batch_size, prefetch):
            pipeline, source = new(self, batch_size, prefetch)
            return (Failing(pipeline, times) if batch_size > 1 else pipeline), source

        monkeypatch.setattr(ImageReader, "_new_pipeline", failing)

    fail([None])
    quarantine = quarantine_of(paths, tmp_path)
    found = [batch.images for batch in evaluation_loader(paths, quarantine, batch_size=4)]
    assert all(map(torch.equal, found, wanted))
    fail([None, None])
    with pytest.raises(InputError, match=r"batch of 4 pictures that begins with .*000\.jpg cannot be decoded, twice"):
        list(evaluation_loader(paths, quarantine, batch_size=4))
    assert not quarantine.reasons
