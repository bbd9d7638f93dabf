"""The two command lines of the published code as they are printed, in two processes, on folders in the right layout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pumlc.data.voc import CLASS_NAMES
from pumlc.nn.backbone import create_backbone

ROOT = Path(__file__).parents[1]
TORCHRUN = ["torch.distributed.run", "--nproc_per_node=2"]
LAUNCH = ["torch.distributed.launch", "--nproc_per_node=2", "--use_env"]
COMMON = "--model-name=resnet101 --pretrainedModel={weights} --workers=8 --scaleSize=512 --cropSize=448 --topK=1"
COCO = f"{{data}} --dataset=COCO2014 {COMMON} --b=35 --num-classes=80 --lr=1e-4 --ema=0.9997 --Stop_epoch=40 \
--alpha=1.0 --prob=0.1 --gamma=0.55"
VOC = f"{{data}} --dataset=VOC2007 {COMMON} --b=45 --num-classes=20 --lr=4e-5 --Stop_epoch=55 --ema=0.991 \
--alpha=2.0 --prob=0.1 --gamma=0.85"
SHORT = ["--cropSize=32", "--scaleSize=36", "--steps=1", "--device=cpu", "--published-evaluation"]
TEST_IMAGES = 3


def draw(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.RandomState(number).randint(0, 255, (36, 48, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def coco_folder(folder: Path, images: int) -> Path:
    """Every class in turn, two of them an image."""
    (folder / "annotations").mkdir(parents=True)
    for split, count in (("train", images), ("val", TEST_IMAGES)):
        names = [f"COCO_{split}2014_{number:012}.jpg" for number in range(count)]
        for number, name in enumerate(names):
            draw(folder / f"{split}2014" / name, number)
        shown = [(number, (2 * number + k) % 80 + 1) for number in range(count) for k in range(2)]
        content = {
            "images": [{"id": number, "file_name": name} for number, name in enumerate(names)],
            "annotations": [
                {"id": i, "image_id": image, "category_id": thing} for i, (image, thing) in enumerate(shown)
            ],
            "categories": [{"id": number, "name": f"thing {number}"} for number in range(1, 81)],
        }
        (folder / "annotations" / f"instances_{split}2014.json").write_text(json.dumps(content))
    return folder


def voc_folder(folder: Path, images: int) -> Path:
    for part in ("Annotations", "ImageSets/Main"):
        (folder / part).mkdir(parents=True)
    names = [f"{number:06}" for number in range(images + TEST_IMAGES)]
    for number, name in enumerate(names):
        draw(folder / "JPEGImages" / f"{name}.jpg", number)
        things = "".join(
            f"<object><name>{CLASS_NAMES[(number + k) % 20]}</name><difficult>{k}</difficult></object>"
            for k in range(2)
        )
        (folder / "Annotations" / f"{name}.xml").write_text(f"<annotation>{things}</annotation>")
    (folder / "ImageSets/Main/trainval.txt").write_text("\n".join(names[:images]))
    (folder / "ImageSets/Main/test.txt").write_text("\n".join(names[images:]))
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """A state dict of a ResNet-101 with its classifier, as torchvision has it."""
    torch.manual_seed(0)
    state = create_backbone("resnet101", 448).state_dict()
    state |= {"fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}
    path = tmp_path_factory.mktemp("weights") / "resnet101.pth"
    torch.save(state, path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "make", "batch", "classes", "launcher"),
    [(COCO, coco_folder, 35, 80, TORCHRUN), (VOC, voc_folder, 45, 20, LAUNCH)],
    ids=["coco", "voc"],
)
def test_as_printed(line, make, batch, classes, launcher, weights, tmp_path):
    data, run = make(tmp_path / "data", 2 * batch), tmp_path / "run"
    words = line.format(data=data, weights=weights).split()
    command = [sys.executable, "-m", *launcher, str(ROOT / "train.py"), *words, *SHORT, f"--out={run}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    for flag in ("--model-name resnet101", "--topK 1", "--workers 8"):
        assert done.stdout.count(f"{flag} has no effect") == 1
    assert "33 convolutions with a global branch" in done.stdout
    assert "% of the time waiting for data" in done.stdout
    assert "published evaluation (test-set maxima): mAP " in done.stdout

    log = [json.loads(event) for event in (run / "log.jsonl").read_text().splitlines()]
    start, step = log[0], log[1]
    assert (start["processes"], start["classes"], start["head"]) == (2, classes, "full")
    assert any("--topK 1 has no effect" in note for note in start["notes"])
    assert (step["event"], step["step"], step["epoch"]) == ("train", 1, 1)
    assert step["loss"] == pytest.approx(step["loss_pu"] + step["loss_mixup"])
    assert 0 <= step["data_wait"] < 1
    assert log[-1]["event"] == "end"
    assert log[-1]["mAP"] == log[-1]["mAP_last"]  # of the last weights, whatever the maxima are
