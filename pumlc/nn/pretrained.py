"""Weights to start from: ImageNet's through timm, or a file."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from pumlc.errors import InputError, require
from pumlc.nn.backbone import BackboneNetwork, create_backbone
from pumlc.nn.local_global import LocalGlobalConv2d
from pumlc.nn.published_weights import is_published, load_published
from pumlc.nn.recogniser import PUMLC

HUB_TIMEOUT = 5.0  # seconds to wait for the first answer; the hub client alone retries for a minute offline


def load_weights(model: BackboneNetwork, source: str, *, class_names: tuple[str, ...] | None = None) -> str | None:
    """Fill ``model`` in place from ``source`` and return a warning, or None when all went as asked.

    Args:
        model: its backbone is filled, and its head too where ``source`` is the file of such a network, or that of a
            recogniser which the authors' code of PU-MLC saved.
        source: ``"none"`` keeps the random weights; ``"imagenet"`` loads timm's weights of this backbone;
            ``"auto"`` does so where they can be had and otherwise returns the warning; anything else is the
            path of a safetensors file or of a ``torch.save`` file.
        class_names: names of the model's classes, compared with those in the file where it has a head.

    Raises:
        InputError: the weights are not there, cannot be read, or do not fit.
    """
    if source == "none":
        return None
    if source not in ("auto", "imagenet"):
        _load_file(model, Path(source), class_names)
        return None
    problem = _load_imagenet(model)
    if problem is None:
        return None
    if source == "imagenet":
        raise InputError(f"No ImageNet weights for {model.backbone_name}: {problem}. Give a file with --weights.")
    return (
        f"TRAINING STARTS FROM RANDOM WEIGHTS: no ImageNet weights for {model.backbone_name}, {problem}. "
        "Results will be far below the published ones; give a file with --weights."
    )


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors or ``torch.save`` file, by name, on the CPU; raises InputError."""
    if not path.is_file():
        raise InputError(f"There is no weight file {path}.")
    try:
        if path.suffix == ".safetensors":
            return require("safetensors.torch", "safetensors").load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the two readers raise a dozen types for a damaged file
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"{path} cannot be read as weights: {reason}") from error
    for key in ("state_dict", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f"{path} holds no state dict: wanted tensors by name.")
    return {name.removeprefix("module."): tensor for name, tensor in state.items()}


def read_metadata(path: Path) -> dict[str, str]:
    """The text fields in the header of a safetensors file; raises InputError."""
    try:
        with require("safetensors").safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except Exception as error:
        raise InputError(f"{path} cannot be read as a safetensors file: {error}") from error


def _load_file(model: BackboneNetwork, path: Path, class_names: tuple[str, ...] | None) -> None:
    tensors = read_tensors(path)
    if is_published(tensors):
        _load_published(model, tensors, path)
        return
    if "head.weight" not in tensors or not any(name.startswith("backbone.") for name in tensors):
        _fill(model.backbone, tensors, path)  # a bare backbone, maybe with its own classifier
        return
    _check_classes(model, len(tensors["head.weight"]), path)
    saved_names = json.loads(read_metadata(path).get("class_names", "null")) if path.suffix == ".safetensors" else None
    if class_names and saved_names and list(class_names) != saved_names:
        raise InputError(
            f"The weights {path} are for other classes: {', '.join(saved_names[:5])}, …; "
            f"the data has {', '.join(class_names[:5])}, …."
        )
    _fill(model, tensors, path)


def _load_published(model: BackboneNetwork, tensors: dict[str, Tensor], path: Path) -> None:
    if not isinstance(model, PUMLC):
        raise InputError(f"The weights {path} are those of a published recogniser. They need --head full.")
    _check_classes(model, len(tensors["classifiers.weight"]), path)
    try:
        load_published(model, tensors)
    except InputError as error:
        raise InputError(f"The weights {path} do not fit: {error}") from error


def _check_classes(model: BackboneNetwork, found: int, path: Path) -> None:
    if found != model.num_classes:
        raise InputError(f"The weights {path} are for {found} classes, the data has {model.num_classes}.")


def _fill(module: torch.nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    try:
        missing = _load_state(module, tensors)
    except RuntimeError as error:  # a shape that does not fit
        raise InputError(f"The weights {path} do not fit: {str(error).splitlines()[-1].strip()}") from error
    if missing:
        raise InputError(
            f"The weights {path} do not fit this backbone: {len(missing)} tensors are missing, "
            f"such as {', '.join(missing[:3])}."
        )


def _load_state(module: torch.nn.Module, tensors: dict[str, Tensor]) -> list[str]:
    """Load what fits by name, and name what the module lacks.

    Weights of a plain network also fit one whose convolutions have global branches: those keep their own.
    """
    plain = not any(".global_branch." in name for name in tensors)
    for name, wrapper in module.named_modules() if plain else ():
        if isinstance(wrapper, LocalGlobalConv2d):
            inner = {f"{name}.conv.{last}": tensors.get(f"{name}.{last}") for last in ("weight", "bias")}
            tensors = tensors | {key: tensor for key, tensor in inner.items() if tensor is not None}
    missing = module.load_state_dict(tensors, strict=False).missing_keys
    return [
        name
        for name in missing
        if not name.endswith("num_batches_tracked") and not (plain and ".global_branch." in name)
    ]


def _load_imagenet(model: BackboneNetwork) -> str | None:
    """Load timm's weights into the backbone, or say in half a sentence why not."""
    timm = require("timm")
    hub = require("huggingface_hub")
    config = timm.models.get_pretrained_cfg(model.backbone_name)
    if config is None or not config.has_weights:
        return "timm offers none"
    file = None
    if config.hf_hub_id:
        names = (config.hf_hub_filename,) if config.hf_hub_filename else ("model.safetensors", "pytorch_model.bin")
        found = (hub.try_to_load_from_cache(config.hf_hub_id, name) for name in names)
        file = next((path for path in found if isinstance(path, str)), None)
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    if file is None and (hub.constants.is_offline_mode() or not _reachable(endpoint)):
        return f"they are not in the cache and {endpoint} cannot be reached"
    overlay = {"file": file} if file else {}
    try:
        trained = create_backbone(
            model.backbone_name, model.image_size, pretrained=True, pretrained_cfg_overlay=overlay
        )
    except Exception as error:  # every error of the hub client and of the network below it
        return f"the download failed ({type(error).__name__}: {str(error).splitlines()[0]})"
    _load_state(model.backbone, trained.state_dict())
    return None


def _reachable(url: str) -> bool:
    """Whether anything answers there, through the proxies of the environment; whatever it answers."""
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=HUB_TIMEOUT)
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True
