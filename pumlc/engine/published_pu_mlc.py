"""The command line of the published code of PU-MLC (arXiv 2306.16016).

FOLDER --dataset=COCO2014 --pretrainedModel=FILE --cropSize=448 --b=35 --Stop_epoch=40 …
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pumlc.engine.config import Config
from pumlc.engine.presets import PRESETS
from pumlc.errors import InputError

DATASETS = {  # --dataset: the preset whose recipe it takes, and how the folder is laid out
    "COCO2014": ("pumlc-coco14", "coco"),
    "VOC2007": ("pumlc-voc07", "voc"),
    "VG": ("pumlc-coco14", "vg"),
}

WITHOUT_EFFECT = {  # flag, and why: the published code parses them and uses none but --workers
    "model_name": "the network is a ResNet-101 there; --backbone chooses another here",
    "model_path": "--pretrainedModel names the weights",
    "topK": "nothing depends on it",
    "thre": "nothing depends on it",
    "print_freq": "--log-every says how often this program writes a log line",
    "local_rank": "each process learns its place from the launcher",
    "workers": "processes share the cores of their machine; --threads changes that",
}


def is_meant(flags: Sequence[str]) -> bool:
    """Whether one of these flags, which this program does not have, is of that code, also shortened."""
    parser = argparse.ArgumentParser(add_help=False)
    add_flags(parser)
    known = [option for action in parser._actions for option in action.option_strings]
    return any(any(option.startswith(flag) for option in known) for flag in flags)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of that code, with its defaults where these are numbers that it can run with."""
    parser.add_argument("data", metavar="FOLDER")
    parser.add_argument("--dataset", default="COCO2014")
    parser.add_argument("--pretrainedModel")
    parser.add_argument("--num-classes", type=int)
    parser.add_argument("--prob", type=float, default=0.5)
    parser.add_argument("--scaleSize", type=int, default=512)
    parser.add_argument("--cropSize", type=int, default=448)
    parser.add_argument("-b", "--batch-size", type=int, default=128)
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--ema", type=float)
    parser.add_argument("--Stop_epoch", type=int)
    parser.add_argument("--alpha", type=float)
    parser.add_argument("--gamma", type=float)
    parser.add_argument("--model-name")
    parser.add_argument("--model-path")
    parser.add_argument("--topK", type=int)
    parser.add_argument("--thre", type=float)
    parser.add_argument("-p", "--print-freq", type=int)
    parser.add_argument("-j", "--workers", type=int)
    # torch.distributed.launch without --use_env adds it, as --local_rank or as --local-rank
    parser.add_argument("--local_rank", "--local-rank", type=int)


def translate(given: argparse.Namespace) -> tuple[str, Config]:
    """The name of the preset that ``given`` stands for, and the settings; raises InputError."""
    if given.dataset not in DATASETS:
        raise InputError(f"--dataset is {given.dataset!r}; wanted {', '.join(DATASETS)}.")
    if given.Stop_epoch is not None and given.Stop_epoch < 0:
        raise InputError(f"--Stop_epoch is {given.Stop_epoch}; wanted the last epoch to run, counted from 0.")
    name, layout = DATASETS[given.dataset]
    recipe = PRESETS[name].config
    settings = {
        "data": given.data,
        "layout": layout,
        "num_classes": given.num_classes,
        "prob": given.prob,
        "weights": _weights(given.pretrainedModel),
        "image_size": given.cropSize,
        "scale_size": given.scaleSize,
        "batch_size": given.batch_size,
        "lr": given.lr,
        "epochs": None if given.Stop_epoch is None else min(given.Stop_epoch + 1, recipe.total_epochs),
        "ema_decay": given.ema,
        "alpha": given.alpha,
        "gamma": given.gamma,
    }
    return name, replace(recipe, **{field: value for field, value in settings.items() if value is not None})


def _weights(path: str | None) -> str:
    """--pretrainedModel as --weights: a file, "None" for random weights, or nothing for ImageNet's."""
    if path is None or path == "None":
        return "auto" if path is None else "none"
    if not Path(path).is_file():
        raise InputError(
            f"--pretrainedModel names {path}, which is not there; wanted a file with the weights of a ResNet-101 "
            "(torch.save of a state dict, or safetensors). Leave the flag away to start from timm's."
        )
    return path
