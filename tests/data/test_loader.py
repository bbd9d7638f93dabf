"""The loaders: who sees which image when, in what form, and what happens when something is wrong with a file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from pumlc.data.augmentation import Augmentation, plan_epoch
from pumlc.data.loader import EvaluationLoader, TrainLoader
from pumlc.errors import InputError
from tests.data.photos import CLOSE, difference, grey_levels, on_each_device, photo, pillow_region, write_photos

SIZE = 56
COUNT = 23
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("photos"), COUNT)


def labels_for(count: int) -> np.ndarray:
    """int8 [count, 4], every row different: row i is i in base 3, minus one."""
    return (np.arange(count)[:, None] // 3 ** np.arange(4) % 3 - 1).astype(np.int8)


def train_loader(paths, *, batch_size=4, device=CPU, **options) -> TrainLoader:
    options = {"augmentation": Augmentation(image_size=SIZE), "threads": 2, "hw_decoder_load": 0.0, **options}
    return TrainLoader(paths, labels_for(len(paths)), batch_size=batch_size, device=torch.device(device), **options)


def evaluation_loader(paths, *, batch_size=4, device=CPU, **options) -> EvaluationLoader:
    options = {"image_size": SIZE, "threads": 2, "hw_decoder_load": 0.0, **options}
    return EvaluationLoader(
        paths, labels_for(len(paths)), batch_size=batch_size, device=torch.device(device), **options
    )


def rows(batches) -> list[int]:
    return [row for batch in batches for row in batch.index.tolist()]


def assert_same(batches, others) -> None:
    assert len(batches) == len(others)
    for batch, other in zip(batches, others, strict=True):
        assert torch.equal(batch.index, other.index)
        assert torch.equal(batch.labels, other.labels)
        assert torch.equal(batch.images, other.images)


@on_each_device
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_form_of_a_batch(paths, device, dtype):
    for loader in (
        train_loader(paths, device=device, dtype=dtype),
        evaluation_loader(paths, device=device, dtype=dtype),
    ):
        batch = next(loader.epoch(0) if isinstance(loader, TrainLoader) else iter(loader))
        assert batch.images.shape == (4, 3, SIZE, SIZE)
        assert batch.images.stride() == (3 * SIZE * SIZE, 1, 3 * SIZE, 3)
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
        assert batch.images.dtype == dtype
        assert batch.labels.dtype == torch.int8
        assert batch.index.dtype == torch.int64
        assert {tensor.device.type for tensor in (batch.images, batch.labels, batch.index)} == {device}


@on_each_device
def test_train_images_are_the_planned_regions(paths, device):
    loader = train_loader(paths, seed=5, device=device)
    plan = plan_epoch(loader.augmentation, COUNT, seed=5, epoch=2)
    for batch in loader.epoch(2):
        for image, row in zip(grey_levels(batch.images), batch.index.tolist(), strict=True):
            reference = pillow_region(Image.open(paths[row]), plan.start[row], plan.end[row], SIZE, plan.mirror[row])
            assert difference(image, reference) < CLOSE


@on_each_device
def test_evaluation_images_are_whole(paths, device):
    for batch in evaluation_loader(paths, device=device):
        for image, row in zip(grey_levels(batch.images), batch.index.tolist(), strict=True):
            assert difference(image, Image.open(paths[row]).resize((SIZE, SIZE), Image.Resampling.BICUBIC)) < CLOSE


def test_labels_belong_to_the_images(paths):
    loader = train_loader(paths)
    for batch in loader.epoch(0):
        assert torch.equal(batch.labels, torch.from_numpy(labels_for(COUNT))[batch.index])


def test_labels_may_be_edited_and_are_a_copy(paths):
    mine = torch.from_numpy(labels_for(COUNT))
    for given in (mine, mine.numpy()):
        loader = TrainLoader(paths, given, batch_size=4, augmentation=Augmentation(image_size=SIZE), device=CPU)
        loader.labels.fill_(1)
        assert next(loader.epoch(0)).labels.eq(1).all()
        assert torch.equal(mine, torch.from_numpy(labels_for(COUNT)))


def test_an_epoch_repeats_bit_for_bit_and_the_next_differs(paths):
    loader = train_loader(paths)
    first, second = list(loader.epoch(0)), list(loader.epoch(1))
    assert len(loader) == len(first) == 5
    assert len(set(rows(first))) == 20
    assert rows(first) != rows(second)
    assert_same(first, list(loader.epoch(0)))
    assert_same(first, list(train_loader(paths, threads=1, prefetch=3).epoch(0)))
    assert rows(train_loader(paths, seed=1).epoch(0)) != rows(first)


def test_resume_anywhere(paths):
    whole = list(train_loader(paths).epoch(3))
    for step in range(6):
        assert_same(whole[step:], list(train_loader(paths).epoch(3, start_step=step)))


def test_ranks_share_the_global_batch(paths):
    alone = list(train_loader(paths, batch_size=6).epoch(0))
    shares = [list(train_loader(paths, batch_size=2, rank=rank, world_size=3).epoch(0)) for rank in range(3)]
    assert [len(share) for share in shares] == [3, 3, 3]
    for batch, *parts in zip(alone, *shares, strict=True):
        assert torch.equal(batch.index, torch.cat([part.index for part in parts]))
        assert torch.equal(batch.images, torch.cat([part.images for part in parts]))


@pytest.mark.parametrize(
    ("count", "batch_size", "world_size"), [(23, 4, 1), (23, 4, 3), (4, 8, 1), (2, 1, 3), (1, 1, 1)]
)
def test_evaluation_sees_every_image_once(paths, count, batch_size, world_size):
    seen = []
    for rank in range(world_size):
        loader = evaluation_loader(paths[:count], batch_size=batch_size, rank=rank, world_size=world_size)
        batches = list(loader)
        assert len(batches) == len(loader)
        assert all(len(batch.index) == batch_size for batch in batches[:-1])
        assert all(len(batch.images) == len(batch.labels) == len(batch.index) for batch in batches)
        seen += rows(batches)
        assert rows(loader) == rows(batches)
    assert sorted(seen) == list(range(count))


@on_each_device
def test_held_batches_are_never_overwritten(paths, device):
    loader = train_loader(paths, batch_size=2, device=device)
    held = [(batch, batch.images.clone()) for epoch in range(3) for batch in loader.epoch(epoch)]
    assert len(held) == 33
    assert all(torch.equal(batch.images, copy) for batch, copy in held)


def test_a_dropped_iterator_leaves_no_trace(paths):
    loader = train_loader(paths)
    whole = list(loader.epoch(0))
    threads = len(os.listdir("/proc/self/task"))
    for _ in range(3):
        iterator = loader.epoch(0)
        assert torch.equal(next(iterator).index, whole[0].index)
        del iterator
    assert_same(whole, list(loader.epoch(0)))
    assert len(os.listdir("/proc/self/task")) <= threads


def test_two_iterators_of_one_loader(paths):
    loader = train_loader(paths)
    pairs = list(zip(loader.epoch(0), loader.epoch(1), strict=True))
    assert_same([first for first, _ in pairs], list(loader.epoch(0)))
    assert_same([second for _, second in pairs], list(loader.epoch(1)))


def damaged(tmp_path: Path, kind: str) -> Path:
    path = tmp_path / f"{kind}.jpg"
    if kind == "truncated":
        photo(0).save(path)
        path.write_bytes(path.read_bytes()[:2000])
    elif kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("<html>not found</html>")
    elif kind == "folder":
        path.mkdir()
    return path


@on_each_device
@pytest.mark.parametrize("kind", ["truncated", "empty", "text", "folder", "missing"])
def test_a_bad_file_is_named(paths, tmp_path, device, kind):
    bad = damaged(tmp_path, kind)
    mixed = [*paths[:9], bad, *paths[9:]]
    with pytest.raises(InputError, match=str(bad)):
        list(evaluation_loader(mixed, device=device))
    with pytest.raises(InputError, match=str(bad)):
        list(train_loader(mixed, batch_size=8, device=device).epoch(0))


def test_batches_before_a_bad_file_arrive_and_the_loader_lives_on(paths, tmp_path):
    bad = damaged(tmp_path, "truncated")
    loader = evaluation_loader([*paths[:10], bad])
    for _ in range(2):
        seen = []
        with pytest.raises(InputError, match="is cut off or damaged"):
            seen.extend(batch.index.tolist() for batch in loader)
        assert seen == [[0, 1, 2, 3], [4, 5, 6, 7]]
    photo(0).save(bad)
    assert len(rows(loader)) == 11


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 24}, "larger than the training data: 23 images"),
        ({"batch_size": 12, "world_size": 2}, "larger than the training data: 23 images"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"rank": 2, "world_size": 2}, "rank is 2 of 2"),
        ({"dtype": torch.bfloat16}, "torch.float32 or torch.float16"),
        ({"threads": 0}, "threads is 0"),
        ({"prefetch": 0}, "prefetch is 0"),
    ],
    ids=str,
)
def test_arguments_that_do_not_fit(paths, options, message):
    with pytest.raises(InputError, match=message):
        train_loader(paths, **options)


def test_labels_that_do_not_fit(paths):
    common = {"batch_size": 4, "image_size": SIZE, "device": CPU}
    with pytest.raises(InputError, match=r"shape \(22, 4\); 23 images"):
        EvaluationLoader(paths, labels_for(22), **common)
    with pytest.raises(InputError, match="float32; they must be int8"):
        EvaluationLoader(paths, labels_for(COUNT).astype(np.float32), **common)


def test_start_step_outside_the_epoch(paths):
    with pytest.raises(InputError, match="an epoch has 5 steps"):
        train_loader(paths).epoch(0, start_step=6)


LOOP = """
import sys, numpy as np, torch
from pumlc.data.loader import Augmentation, TrainLoader
paths = sys.argv[1:]
loader = TrainLoader(paths, np.zeros((len(paths), 1), np.int8), batch_size=2, device=torch.device("cpu"),
                     augmentation=Augmentation(image_size=56))
epoch = 0
while True:
    for batch in loader.epoch(epoch):
        if epoch == 2:
            print("running", flush=True)
    epoch += 1
"""


def test_interrupt_ends_the_process_at_once(paths):
    process = subprocess.Popen(
        [sys.executable, "-c", LOOP, *map(str, paths)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    try:
        assert process.stdout.readline() == "running\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode != 0
    assert "KeyboardInterrupt" in errors


def test_real_photographs():
    root = Path(os.environ.get("PUMLC_TEST_DATA", Path(__file__).parents[2] / "../shared/data")) / "coco_native"
    photos = sorted(root.glob("*2014/*.jpg"))
    if not photos:
        pytest.skip(f"no photographs under {root}; PUMLC_TEST_DATA says where they are")
    for batch in evaluation_loader(photos[:12], image_size=224):
        for image, row in zip(grey_levels(batch.images), batch.index.tolist(), strict=True):
            upright = ImageOps.exif_transpose(Image.open(photos[row]).convert("RGB"))
            assert difference(image, upright.resize((224, 224), Image.Resampling.BICUBIC)) < CLOSE
