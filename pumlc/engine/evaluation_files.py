"""The folder ``evaluation`` of a run: what the kept weights say of each image, and how good that is.

``<split>.safetensors`` holds, of N images and C classes,

- ``logits`` [N, C] float32, as the network gives them, before any calibration;
- ``labels`` [N, C] int8, all that is known: 1 positive, 0 unknown, -1 known negative;
- ``observed`` [N, C] int8, what training sees of them: the same where nothing was dropped;
- ``usable`` [N] bool, False where the picture cannot be read, and the row of logits means nothing;

and in its header, each as JSON, ``paths`` (N, absolute), ``class_names``, ``split``, ``weights`` ("model" or "ema") and
``epoch`` (from 1).

``evaluation.json`` holds the scores, in percent where nothing else is said, null for what cannot be computed:

- ``class_names``; ``weights`` and ``epoch`` of the kept weights;
- ``selected_on``: the split on which those were chosen, null where they are simply the last;
- ``fitted_on``: the split of the calibration and of the thresholds, null where there are none;
- ``calibration``: {"temperature": [C], "bias": [C]}, or null; ``thresholds``: [C] calibrated probabilities, or null;
- ``splits``: by name {"images": usable ones, "unusable": the others, "flattered_by": a list of what was chosen or
  trained on these very images, so that the scores are too high: "training", "weights", "calibration", "thresholds";
  "scores": by kind "kept" (the weights above) and maybe "last" (those of the last step)}.

The scores of a kind are

- ``weights``, ``epoch``;
- ``mAP``, ``mAP_interval``: [low, high] with a confidence of 95 %; ``mAP_published``: by the convention of the
  published codes; ``classes_without_positives``: their number; they are left out of all means;
  ``classes_with_few_positives``: how many of the others have fewer than 30; with any, the interval is not to be relied
  on;
- ``CF1``, ``OF1``: at a probability of 0.5, not calibrated; ``CF1_thresholds``, ``OF1_thresholds``: of the calibrated
  probabilities at ``thresholds``, null where there are none;
- ``classes``: for each of C {"name", "positives", "known_negatives", "AP", "AP_published", "ECE", "ECE_calibrated"};
- ``reliability``: {"before": …, "after": …}, before and after calibration ("after" is null where there is none), each
  {"ECE": of all known entries as one, "ECE_classes": mean over the classes, "bins": of all known entries, a list of
  {"low", "high": the range of probability; "count"; "probability": their mean; "positives": the share that is positive}
  with probabilities and shares between 0 and 1, both null where the count is 0}.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pumlc.engine.checkpoint import save_weights
from pumlc.engine.log import finite
from pumlc.engine.whole_files import write_atomically
from pumlc.errors import InputError
from pumlc.nn.pretrained import read_metadata, read_tensors

FOLDER, SUMMARY = "evaluation", "evaluation.json"
SPLITS = ("train", "val", "test")
_TENSORS = {"logits": torch.float32, "labels": torch.int8, "observed": torch.int8, "usable": torch.bool}
_HEADER = ("paths", "class_names", "split", "weights", "epoch")


@dataclass(frozen=True)
class EvaluatedSplit:
    """The content of a ``<split>.safetensors``, as above; tensors on the CPU."""

    logits: Tensor
    labels: Tensor
    observed: Tensor
    usable: Tensor
    paths: Sequence[str]
    class_names: Sequence[str]
    split: str
    weights: str
    epoch: int


def write_split(run: Path, evaluated: EvaluatedSplit) -> Path:
    """Put the split into the run folder, in place of what may be there of it; raises InputError."""
    path = _path(run, evaluated.split)
    _make_folder(run)
    header = {name: getattr(evaluated, name) for name in _HEADER}
    header["paths"] = [os.path.abspath(path) for path in evaluated.paths]
    # copies, since labels and observed may be one tensor
    tensors = {name: getattr(evaluated, name).to(dtype, copy=True) for name, dtype in _TENSORS.items()}
    save_weights(path, tensors, header)
    return path


def read_split(run: Path, split: str) -> EvaluatedSplit:
    """What :func:`write_split` wrote.

    Raises:
        InputError: it is not there or cannot be read.
    """
    path = _path(run, split)
    if not path.is_file():
        raise InputError(f"There is no {path}. Write it with: python -m pumlc.evaluate {run} --splits {split}")
    tensors, header = read_tensors(path), read_metadata(path)
    try:
        fields = {name: json.loads(header[name]) for name in _HEADER}
        return EvaluatedSplit(**{name: tensors[name] for name in _TENSORS}, **fields)
    except (KeyError, ValueError) as error:
        raise InputError(
            f"{path} is not of an evaluation: it lacks {error}. Write it again with: python -m pumlc.evaluate {run}"
        ) from error


def evaluated_splits(run: Path) -> tuple[str, ...]:
    """The splits that :func:`read_split` can read, in the order train, val, test."""
    return tuple(split for split in SPLITS if _path(run, split).is_file())


def write_summary(run: Path, summary: dict[str, Any]) -> Path:
    """Write ``evaluation.json``, in which numbers that are not finite become null; raises InputError."""
    path = _make_folder(run) / SUMMARY
    text = json.dumps(finite(summary), indent=1, allow_nan=False) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))
    return path


def update_summary(run: Path, summary: dict[str, Any]) -> dict[str, Any]:
    """Write ``evaluation.json`` with what it holds already of other splits and kinds, if that is of the same weights.

    Returns:
        What was written.

    Raises:
        InputError: it cannot be written, or what is there cannot be read.
    """
    before = read_summary(run) if (run / FOLDER / SUMMARY).is_file() else {}
    if all(before.get(key) == finite(value) for key, value in summary.items() if key != "splits"):
        splits = before["splits"] | summary["splits"]
        for name, entry in summary["splits"].items():
            old = before["splits"].get(name, {})
            if old.get("images") == entry["images"]:
                splits[name] = entry | {"scores": old["scores"] | entry["scores"]}
        summary = summary | {"splits": {name: splits[name] for name in SPLITS if name in splits}}
    write_summary(run, summary)
    return summary


def read_summary(run: Path) -> dict[str, Any]:
    """What is in ``evaluation.json``; raises InputError where there is none."""
    path = run / FOLDER / SUMMARY
    if not path.is_file():
        raise InputError(f"There is no {path}. Write it with: python -m pumlc.evaluate {run}")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(
            f"{path} cannot be read: {error}. Write it again with: python -m pumlc.evaluate {run}"
        ) from error


def _path(run: Path, split: str) -> Path:
    return run / FOLDER / f"{split}.safetensors"


def _make_folder(run: Path) -> Path:
    folder = run / FOLDER
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error.strerror}.") from error
    return folder
