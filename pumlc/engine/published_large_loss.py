"""The command line of the published code of Large Loss Matters (arXiv 2206.03740).

--dataset coco --mod_scheme LL-R --delta_rel 0.4 --lr 1e-5 --optimizer adam …
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pumlc.engine.config import Config
from pumlc.engine.presets import LARGE_LOSS, LARGE_LOSS_SGD
from pumlc.errors import InputError

DATASETS = {  # --dataset: the preset whose recipe it takes, and where that code looks for the data
    "pascal": ("voc12", "data/pascal"),
    "coco": ("coco14", "data/coco"),
    "nuswide": ("nuswide", "data/nuswide"),
    "cub": ("cub", "data/cub"),
}
FIXED = {  # what that code can do besides, with the one value that it has here
    "ss_frac_train": "1",
    "ss_frac_val": "1",
    "use_feats": "False",
    "freeze_feature_extractor": "False",
}
WITHOUT_EFFECT = {
    "ss_seed": "no images are left out",
    "val_set_variant": "the held-out images always have all their labels",
    "num_workers": "processes share the cores of their machine; --threads changes that",
    "gpu_num": "CUDA_VISIBLE_DEVICES chooses the GPU",
}


def is_meant(flags: Sequence[str]) -> bool:
    """Whether one of these flags can only be of that code: --mod_scheme, also shortened."""
    return any(len(flag) >= len("--mod") and "--mod_scheme".startswith(flag) for flag in flags)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of that code, with its defaults where they are not those of the recipe."""
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--mod_scheme", required=True, choices=("LL-R", "LL-Ct", "LL-Cp"))
    parser.add_argument("--delta_rel", type=float, required=True)
    parser.add_argument("--optimizer", choices=("adam", "sgd"), default="adam")
    parser.add_argument("--lr", type=float, default=1e-5)
    parser.add_argument("--lr_mult", type=float, default=10.0)
    parser.add_argument("--bsize", type=int, default=16)
    parser.add_argument("--num_epochs", type=int, default=10)
    parser.add_argument("--val_frac", type=float, default=0.2)
    parser.add_argument("--split_seed", type=int, default=1200)
    parser.add_argument("--train_set_variant", choices=("observed", "clean"), default="observed")
    parser.add_argument("--arch", default="resnet50")
    parser.add_argument("--use_pretrained", nargs="?", const="True", default="True")
    parser.add_argument("--save_path")
    parser.add_argument("--exp_name")
    for name in (*FIXED, *WITHOUT_EFFECT):
        parser.add_argument(f"--{name}", **({"nargs": "?", "const": "True"} if FIXED.get(name) == "False" else {}))


def translate(given: argparse.Namespace) -> tuple[str, Config]:
    """The name of the preset that ``given`` stands for, and the settings; raises InputError."""
    if given.dataset not in DATASETS:
        raise InputError(f"--dataset is {given.dataset!r}; wanted {', '.join(DATASETS)}.")
    for name, value in FIXED.items():
        found = getattr(given, name)
        if found is not None and not _same(found, value):
            raise InputError(f"--{name} is {found}; here it can only be {value}. Leave the flag away.")
    name, folder = DATASETS[given.dataset]
    recipe, _ = LARGE_LOSS[name]
    out = None
    if given.save_path is not None or given.exp_name is not None:
        out = str(Path(given.save_path or "results") / (given.exp_name or "exp_default"))
    solver = LARGE_LOSS_SGD if given.optimizer == "sgd" else {"optimizer": "adam", "weight_decay": 0.0}
    config = replace(
        recipe,
        data=folder,
        method=given.mod_scheme.lower(),
        delta_rel=given.delta_rel,
        lr=given.lr,
        head_lr_factor=given.lr_mult,
        batch_size=given.bsize,
        epochs=given.num_epochs,
        hold_out=given.val_frac,
        single_positive=given.train_set_variant == "observed",
        backbone=given.arch,
        weights="auto" if _same(given.use_pretrained, "True") else "none",
        seed=given.split_seed,
        out=out,
        **solver,
    )
    return f"{config.method}-{name}", config


def _same(found: str, wanted: str) -> bool:
    """Whether two values of that code's flags mean the same: numbers, or truth in one of its spellings."""
    words = {**dict.fromkeys(("yes", "true", "t", "y", "1"), "1"), **dict.fromkeys(("no", "false", "f", "n", "0"), "0")}
    found, wanted = (words.get(value.lower(), value) for value in (found, wanted))
    try:
        return float(found) == float(wanted)
    except ValueError:
        return False
