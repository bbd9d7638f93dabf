"""The recogniser of PU-MLC (arXiv 2306.16016): a feature vector per class, and classes that know of each other."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from pumlc.nn.backbone import BackboneNetwork, find_map
from pumlc.nn.gated_graph import GatedGraphNetwork
from pumlc.nn.linear import Linear
from pumlc.nn.semantic_decoupling import SemanticDecoupling

FEATURES = 1024
WORD_SIZE = 300
UNPOOLED_SIDE = 7  # what the published network has left of 448 pixels after pooling


class ClassUnits(nn.Module):
    """A linear unit for every class, each on a feature vector of its own.

    Args:
        classes: C.
        features: size of the vectors.
    """

    def __init__(self, classes: int, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(classes, features))
        self.bias = nn.Parameter(torch.empty(classes))
        bound = features**-0.5
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """x [B, C, features] -> [B, C]."""
        return torch.einsum("bcf,cf->bc", x, self.weight) + self.bias

    def extra_repr(self) -> str:
        return f"classes={self.weight.shape[0]}, features={self.weight.shape[1]}"


class PUMLC(BackboneNetwork):
    """Images [B, 3, H, W] to logits [B, C].

    backbone -> 2 x 2 mean pooling -> 1 x 1 convolution and BatchNorm -> :class:`SemanticDecoupling` s ->
    :class:`GatedGraphNetwork` g -> tanh(fc([g; s])) -> a linear unit per class.

    Maps of at most 7 x 7 positions, which is what the published network has after its pooling, are not pooled: small
    images keep positions that the decoupling can tell apart. The last layer runs in float32 under autocast too, as that
    of :class:`~pumlc.nn.classifier.Classifier` does.

    Args:
        backbone: a timm model with a feature map at its end: a name, as in
            :class:`~pumlc.nn.backbone.BackboneNetwork`, where ``image_size``, ``train_all`` and ``local_global`` are
            explained too.
        num_classes: C.
        words: [C, 300], a word vector per class, held as it is; without it the vectors begin as random numbers and
            train with the rest.
        adjacency: [C, C] of the graph, such as :func:`pumlc.nn.co_occurrence` gives; without it, the classes hear of
            themselves alone. Both are part of the state dict.

    Raises:
        InputError: as there; or the backbone ends in something other than a map, such as the tokens of a ViT.
        ValueError: words or adjacency have another shape.
    """

    def __init__(
        self,
        backbone: str,
        num_classes: int,
        *,
        image_size: int = 448,
        train_all: bool = False,
        local_global: bool = False,
        words: Tensor | None = None,
        adjacency: Tensor | None = None,
    ) -> None:
        for name, tensor, size in (("words", words, WORD_SIZE), ("adjacency", adjacency, num_classes)):
            if tensor is not None and tensor.shape != (num_classes, size):
                raise ValueError(f"{name}: got shape {list(tensor.shape)}, wanted [{num_classes}, {size}]")
        end = find_map(backbone, image_size, "the full head works on", "Use --head linear")
        super().__init__(backbone, image_size=image_size, train_all=train_all, local_global=local_global)
        self.channels_last_map = end.channels_last
        for name, parameter in self.backbone.named_parameters():
            if name in end.unused:
                parameter.requires_grad_(False)
        self.narrow = nn.Sequential(nn.Conv2d(end.channels, FEATURES, 1, bias=False), nn.BatchNorm2d(FEATURES))
        self.words = nn.Parameter(torch.randn(num_classes, WORD_SIZE)) if words is None else _constant(words)
        self.decoupling = SemanticDecoupling(FEATURES, WORD_SIZE)
        self.graph = GatedGraphNetwork(torch.eye(num_classes) if adjacency is None else adjacency.float(), FEATURES)
        self.fc = Linear(2 * FEATURES, FEATURES)
        self.head = ClassUnits(num_classes, FEATURES)

    def forward(self, images: Tensor) -> Tensor:
        return self.forward_head(self.backbone.forward_features(images))

    def class_maps(self, images: Tensor) -> Tensor:
        """Where each class looks: the attention of the semantic decoupling, images [B, 3, H, W] -> [B, C, h, w].

        The h w numbers of an image and a class are at least 0 and add up to 1.
        """
        x = self._narrowed(self.backbone.forward_features(images))
        scores = self.decoupling.scores(x.flatten(2).mT, self.words)
        return scores.softmax(2).unflatten(2, x.shape[2:])

    def forward_head(self, x: Tensor) -> Tensor:
        """The backbone's last map [B, channels, H, W], channels last where the backbone has them so -> [B, C]."""
        x = self._narrowed(x).flatten(2).mT  # [B, P, 1024]
        semantic = self.decoupling(x, self.words)  # [B, C, 1024]
        x = torch.tanh(self.fc(torch.cat([self.graph(semantic), semantic], 2)))
        with torch.autocast(x.device.type, enabled=False):
            return self.head(x.to(self.head.weight.dtype))

    def _narrowed(self, x: Tensor) -> Tensor:
        """The backbone's last map, as for :meth:`forward_head` -> [B, 1024, h, w], the map that the classes look at."""
        x = x.permute(0, 3, 1, 2) if self.channels_last_map else x
        if min(x.shape[2:]) > UNPOOLED_SIDE:
            x = avg_pool2d(x, 2)
        return self.narrow(x)


def _constant(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor.float(), requires_grad=False)
