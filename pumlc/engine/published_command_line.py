"""The command line of the published code of PU-MLC (arXiv 2306.16016): its flags, and the settings that they stand for.

    FOLDER --dataset=COCO2014 --pretrainedModel=FILE --cropSize=448 --b=35 --Stop_epoch=40 …

Flags may be shortened as far as they stay distinct, as there. Flags of :class:`~pumlc.engine.config.Config` may be
added; those that both have mean the same.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import NoReturn

from pumlc.engine.config import Config
from pumlc.engine.presets import PRESETS, Preset
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


def is_published(arguments: Sequence[str]) -> bool:
    """Whether a flag among ``arguments`` can only be one of the published code, and the first word is no preset."""
    if arguments and arguments[0] in PRESETS:
        return False
    flags = [option for action in _parser()._actions for option in action.option_strings]
    own = _own_flags()
    for argument in arguments:
        name = argument.partition("=")[0]
        if argument.startswith("--"):
            known = name == "--" or name.replace("_", "-") in own
            if not known and any(flag.startswith(name) for flag in flags):
                return True
        elif argument[:2] in flags:  # -b 35, -b35
            return True
    return False


def translate(arguments: Sequence[str]) -> tuple[str, Preset, list[str]]:
    """The name of the preset that the words begin with, their settings, and the flags of this program among them.

    Raises:
        InputError: a word is neither, a value cannot be used, or the file of weights is not there.
    """
    published, own = _split(arguments)
    if any(word.partition("=")[0] == "--resume" for word in own):
        raise InputError("--resume takes all settings from the run. Leave the flags of the published code away.")
    given = _parser().parse_args(published)
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
    config = replace(recipe, **{field: value for field, value in settings.items() if value is not None})
    return name, PRESETS[name]._replace(config=config), own


def notes(arguments: Sequence[str]) -> tuple[str, ...]:
    """A sentence for each flag among ``arguments`` that changes nothing."""
    given = vars(_parser().parse_args(_split(arguments)[0]))
    flags = {action.dest: action.option_strings[-1] for action in _parser()._actions if action.option_strings}
    return tuple(
        f"{flags[name]} {given[name]} has no effect: {reason}"
        for name, reason in WITHOUT_EFFECT.items()
        if given[name] is not None
    )


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        flags = " ".join(action.option_strings[-1] for action in self._actions if action.option_strings)
        raise InputError(
            f"This reads like a command line of the published code, but: {message}. That code has FOLDER {flags}; "
            "the flags of train.py --help can be added."
        )


def _parser() -> argparse.ArgumentParser:
    """The flags of the published code, with its defaults where these are numbers that it can run with."""
    parser = _Parser(add_help=False)
    parser.add_argument("data")
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
    return parser


def _own_flags() -> dict[str, bool]:
    """The flags of this program, and whether a value follows."""
    flags = {"-h": False, "--help": False}
    for field in fields(Config):
        name = field.name.replace("_", "-")
        is_switch = field.type == "bool"
        flags[f"--{name}"] = not is_switch
        if is_switch:
            flags[f"--no-{name}"] = False
    return flags


def _split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words for the published parser, and those with flags that are of this program alone."""
    both = {option for action in _parser()._actions for option in action.option_strings}
    own_flags = {flag: value for flag, value in _own_flags().items() if flag not in both and flag != "--data"}
    published, own = [], []
    words = iter(arguments)
    for word in words:
        flag, equals, _ = word.partition("=")
        takes_value = own_flags.get(flag.replace("_", "-"))
        if takes_value is None:
            published.append(word)
            continue
        own.append(word)
        if takes_value and not equals:
            own += itertools.islice(words, 1)
    return published, own


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
