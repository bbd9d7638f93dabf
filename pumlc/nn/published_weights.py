"""State dicts of the recogniser as the authors' code of PU-MLC saves them, to and from :class:`pumlc.nn.PUMLC`.

Their ``Backbone`` has the same tensors under other names, each in the same shape:

==============================================  ==================================================
published                                       here
==============================================  ==================================================
``backbone.*`` (names of torchvision)           ``backbone.*`` (timm has the same names for ResNets)
``changeChannel.*``                             ``narrow.*``
``wordFeatures`` [C, 300]                       ``words``
``SemanticDecoupling.*``                        ``decoupling.*``
``inMatrix``, ``GraphNeuralNetwork.inMatrix``   ``graph.adjacency`` [C, C]
``outMatrix``, ``GraphNeuralNetwork.outMatrix`` its transpose
``GraphNeuralNetwork.fc_*``                     ``graph.fc_*``
``fc.*``                                        ``fc.*``
``classifiers.*``                               ``head.*``
==============================================  ==================================================

A convolution with a global branch has the same names in both: ``conv.*`` and ``global_branch.*``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from pumlc.errors import InputError
from pumlc.nn.recogniser import PUMLC

ADJACENCY = "graph.adjacency"
IN_MATRICES = ("inMatrix", "GraphNeuralNetwork.inMatrix")
OUT_MATRICES = ("outMatrix", "GraphNeuralNetwork.outMatrix")
PREFIXES = {  # published -> here
    "backbone.": "backbone.",
    "changeChannel.": "narrow.",
    "SemanticDecoupling.": "decoupling.",
    "GraphNeuralNetwork.fc_": "graph.fc_",
    "fc.": "fc.",
    "classifiers.": "head.",
}
NAMES = {"wordFeatures": "words"}


def is_published(names: Iterable[str]) -> bool:
    """Whether these are the tensors of a published recogniser."""
    return {"wordFeatures", "classifiers.weight", *IN_MATRICES} <= set(names)


def from_published(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of a :class:`PUMLC` with the tensors of a published recogniser, none of them copied.

    Raises:
        InputError: a tensor has no place here, a matrix of the graph is missing, or those that are there differ or
            are not finite (the published code makes NaN of a class without any positive label).
    """
    matrices = {name: tensors[name] for name in (*IN_MATRICES, *OUT_MATRICES) if name in tensors}
    missing = [name for name in (*IN_MATRICES, *OUT_MATRICES) if name not in matrices]
    if missing:
        raise InputError(f"The published recogniser lacks {', '.join(missing)}.")
    adjacency = matrices[IN_MATRICES[0]]
    if not torch.isfinite(adjacency).all():
        rows = (~torch.isfinite(adjacency).all(1)).nonzero().flatten().tolist()
        raise InputError(
            f"The graph of the published recogniser, inMatrix, is not finite in the rows {rows[:8]}: its training "
            "data had no positive label of these classes, and its logits are NaN. Train it again with this project."
        )
    for name, matrix in matrices.items():
        if not torch.equal(matrix, adjacency if name in IN_MATRICES else adjacency.mT):
            raise InputError(f"The published recogniser's {name} is not {IN_MATRICES[0]} or its transpose.")
    others = {name: tensor for name, tensor in tensors.items() if name not in matrices}
    return {**_renamed(others, PREFIXES, NAMES, "the published recogniser"), ADJACENCY: adjacency}


def to_published(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of a published recogniser with the tensors of a :class:`PUMLC`; the other way round.

    Raises:
        InputError: a tensor has no place there, or the adjacency is missing.
    """
    if ADJACENCY not in tensors:
        raise InputError(f"The recogniser lacks {ADJACENCY}.")
    others = {name: tensor for name, tensor in tensors.items() if name != ADJACENCY}
    prefixes = {here: published for published, here in PREFIXES.items()}
    names = {here: published for published, here in NAMES.items()}
    adjacency = tensors[ADJACENCY]
    return {
        **_renamed(others, prefixes, names, "the recogniser"),
        **dict.fromkeys(IN_MATRICES, adjacency),
        **dict.fromkeys(OUT_MATRICES, adjacency.mT.contiguous()),
    }


def load_published(model: PUMLC, tensors: Mapping[str, Tensor]) -> None:
    """Fill a model with the tensors of a published recogniser: all of them, and every tensor of the model.

    Raises:
        InputError: as :func:`from_published`, or a tensor of either side has no counterpart of its shape. The model
            is as it was.
    """
    converted, own = from_published(tensors), model.state_dict()
    unused = [name for name in converted if name not in own]
    missing = [name for name in own if name not in converted]
    if unused or missing:
        raise InputError(
            f"The published recogniser does not fit this model: {_some(unused)} of it have no place, and "
            f"{_some(missing)} of the model stay empty. It has a ResNet backbone"
            f"{' with' if any('.global_branch.' in name for name in converted) else ' without'} global branches."
        )
    shapes = [
        f"{name} is {list(tensor.shape)}, wanted {list(own[name].shape)}"
        for name, tensor in converted.items()
        if tensor.shape != own[name].shape
    ]
    if shapes:
        raise InputError(f"The published recogniser does not fit this model: {'; '.join(shapes[:3])}.")
    model.load_state_dict(converted)


def _renamed(
    tensors: Mapping[str, Tensor], prefixes: Mapping[str, str], names: Mapping[str, str], what: str
) -> dict[str, Tensor]:
    renamed, unknown = {}, []
    for name, tensor in tensors.items():
        prefix = next((prefix for prefix in prefixes if name.startswith(prefix)), None)
        if name in names:
            renamed[names[name]] = tensor
        elif prefix is not None:
            renamed[prefixes[prefix] + name.removeprefix(prefix)] = tensor
        else:
            unknown.append(name)
    if unknown:
        raise InputError(f"{len(unknown)} tensors of {what} are not known: {', '.join(unknown[:4])}.")
    return renamed


def _some(names: list[str]) -> str:
    return f"{len(names)} tensors" + (f" ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})" if names else "")
