"""Run folders as training and evaluation leave them, written without either."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from pumlc.data import load_splits
from pumlc.engine.checkpoint import save_weights
from pumlc.engine.config import Config
from pumlc.engine.evaluation_files import EvaluatedSplit, write_split, write_summary
from pumlc.engine.log import RunLog, start_run_folder
from pumlc.engine.recogniser import HEADS
from tests.engine.runs import tiny_run

STRANGE_CLASS = "</th><script>document.title = 'taken'</script>"
STRANGE_FILE = "'\"><img src=x onerror=alert(1)>.jpg"
CLASSES = ("red", "green", STRANGE_CLASS, "absent")  # of the fixture picture_table; the last has no positives
STEPS_PER_EPOCH = 5
IMAGE_SIZE = 64


def write_run(folder: Path, pictures: Path, *, head: str = "full", finished: bool = True, seed: int = 0) -> Path:
    """A run of two epochs on the pictures of ``picture_table``, interrupted and resumed, with weights that are random.

    Its logits agree with most labels. A third of the training labels is hidden, and the name of a picture is
    markup.
    """
    config = dataclasses.replace(tiny_run(pictures, folder), head=head, epochs=2, prob=0.7, seed=seed)
    start_run_folder(folder, config)
    torch.manual_seed(seed)
    model = HEADS[head](config.backbone, len(CLASSES), image_size=IMAGE_SIZE, train_all=True)
    header = {"class_names": CLASSES, "backbone": config.backbone, "image_size": IMAGE_SIZE, "head": head}
    save_weights(folder / "best.safetensors", model.state_dict(), header | {"weights": "ema", "epoch": 2})
    _write_log(folder, config, finished)
    _write_evaluation(folder, pictures)
    return folder


def _write_log(folder: Path, config: Config, finished: bool) -> None:
    log = RunLog(folder)
    about = {"last_step": 10, "steps_per_epoch": STEPS_PER_EPOCH, "images": 26, "classes": len(CLASSES), "notes": []}
    log.event("start", step=0, warning="The weights are random.", **about)
    for step in range(1, 11):
        epoch = (step - 1) // STEPS_PER_EPOCH + 1
        if step == 8:
            log.event("interrupted", step=7, status=130)
            log.event("resume", step=7, warning=None, **about)
        numbers = {"loss": 3 / step, "lr": 1e-3, "images_per_second": 100.0 + step, "data_wait": 0.05}
        log.event("train", epoch=epoch, step=step, **numbers)
        if step % STEPS_PER_EPOCH == 0:
            scores = {"mAP": 50.0 + step, "mAP_ema": 52.0 + step, "AP": dict.fromkeys(CLASSES, 50.0), "AP_ema": None}
            log.event("eval", epoch=epoch, step=step, split="val", weights="last", **scores)
            log.event("memorisation", epoch=epoch, step=step, true_negatives=0.5, false_negatives=1.0)
    if finished:
        best = {"mAP": 62.0, "epoch": 2, "weights": "ema"}
        pace = {"images_per_second": 105.0, "data_wait": 0.05, "seconds": 75.0}
        scores = {"split": "test", "mAP": 62.0, "CF1": 60.0, "OF1": 61.0}
        log.event("end", step=10, best_on_val=best, bad_pictures={"train": 0, "test": 1}, **scores, **pace)
    log.close()


def _write_evaluation(folder: Path, pictures: Path) -> None:
    splits = load_splits("csv", pictures)
    random = torch.Generator().manual_seed(1)
    summary: dict[str, Any] = {}
    for split in (splits.train, splits.val, splits.test):
        labels = torch.from_numpy(split.labels)
        logits = 2.5 * labels + torch.randn(labels.shape, generator=random)
        observed = torch.where(torch.rand(labels.shape, generator=random) < 0.3, 0, labels).to(torch.int8)
        usable = torch.ones(len(labels), dtype=torch.bool)
        usable[-1] = split.split != "test"
        paths = list(split.paths)
        if split.split == "test":
            strange = folder / STRANGE_FILE
            shutil.copy(paths[0], strange)
            paths[0] = str(strange)
        given = observed if split.split == "train" else labels.clone()
        write_split(folder, EvaluatedSplit(logits, labels, given, usable, paths, CLASSES, split.split, "ema", 2))
        flattered = {"train": ["training"], "val": ["weights", "calibration", "thresholds"], "test": []}
        summary[split.split] = {
            "images": int(usable.sum()),
            "unusable": int((~usable).sum()),
            "flattered_by": flattered[split.split],
            "scores": {"kept": _scores(CLASSES)},
        }
    calibration = {"temperature": [1.5] * len(CLASSES), "bias": [0.1] * len(CLASSES)}
    chosen = {"weights": "ema", "epoch": 2, "selected_on": "val", "fitted_on": "val"}
    thresholds = {"calibration": calibration, "thresholds": [0.4] * len(CLASSES)}
    write_summary(folder, {"class_names": CLASSES, **chosen, **thresholds, "splits": summary})


def with_classes(folder: Path, count: int) -> None:
    """Give the scores of the run as many classes."""
    path = folder / "evaluation" / "evaluation.json"
    summary = json.loads(path.read_text())
    summary["splits"]["test"]["scores"]["kept"] = _scores([f"class {number}" for number in range(count)])
    path.write_text(json.dumps(summary))


def _scores(class_names: Sequence[str]) -> dict[str, Any]:
    """Of the shape that pumlc.engine.evaluation_files promises; AP falls from class to class, the last has none."""
    last = len(class_names) - 1
    bins = [
        {"low": low / 10, "high": (low + 1) / 10, "count": 10 * low, "probability": low / 10 + 0.05, "positives": 0.1}
        if low
        else {"low": 0.0, "high": 0.1, "count": 0, "probability": None, "positives": None}
        for low in range(10)
    ]
    return {
        "weights": "ema",
        "epoch": 2,
        "mAP": 87.25,
        "mAP_interval": [84.0, 90.0],
        "mAP_published": 87.0,
        "classes_without_positives": 1,
        "classes_with_few_positives": 1,
        "CF1": 81.0,
        "OF1": 82.0,
        "CF1_thresholds": 83.0,
        "OF1_thresholds": 84.0,
        "classes": [
            {
                "name": name,
                "positives": 0 if c == last else 4 + c,
                "known_negatives": 5,
                "AP": None if c == last else 95.0 - 30 * c / last,
                "AP_published": None,
                "ECE": 5.0,
                "ECE_calibrated": 2.0,
            }
            for c, name in enumerate(class_names)
        ],
        "reliability": {
            "before": {"ECE": 12.5, "ECE_classes": 14.0, "bins": bins},
            "after": {"ECE": 3.25, "ECE_classes": 4.5, "bins": bins},
        },
    }
