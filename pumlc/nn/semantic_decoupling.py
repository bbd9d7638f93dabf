"""Semantic decoupling: from the feature map of an image to one feature vector per class."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pumlc import ops
from pumlc.nn.linear import Linear


class SemanticDecoupling(nn.Module):
    """What each class sees of an image: a mean of its positions, weighted by how much they have to do with the word.

    For class c with word vector w_c, over the positions p of an image::

        score_cp = fc4(fc3(tanh(fc1(x_p) * fc2(w_c))))      out_c = sum over p of softmax_p(score_c) x_p

    State-dict names are those of the published module (PU-MLC, arXiv 2306.16016; before it SSGRL, arXiv 1908.07325),
    which makes tensors [B, P, C, hidden] and [B, P, C, features] of this. Here the two last layers are one vector,
    v = fc4.weight fc3.weight, and the sums are :func:`pumlc.ops.semantic_attention` and a matrix product. Both layers
    keep their parameters, so that training moves them as it would move the published ones. The biases shift all
    scores of an image alike, which the softmax does not see: nothing but weight decay moves them.

    Args:
        features: size of the vectors x_p.
        word_size: size of the word vectors.
        hidden: size of the space where both meet.
    """

    def __init__(self, features: int = 1024, word_size: int = 300, hidden: int = 512) -> None:
        super().__init__()
        self.fc1 = Linear(features, hidden, bias=False)
        self.fc2 = nn.Linear(word_size, hidden, bias=False)
        self.fc3 = nn.Linear(hidden, hidden)
        self.fc4 = nn.Linear(hidden, 1)

    def scores(self, x: Tensor, words: Tensor) -> Tensor:
        """The scores that the softmax takes: x [B, P, features], words [C, word_size] -> [B, C, P]."""
        with torch.autocast(x.device.type, enabled=False):  # small, and everything below depends on them
            v = (self.fc4.weight @ self.fc3.weight).flatten()
            embedded = self.fc2(words)  # [C, hidden]
            constant = self.fc4(self.fc3.bias)  # [1]
        scores = ops.operators().semantic_attention(self.fc1(x), embedded, v)
        # keeps the biases in the graph, for DistributedDataParallel and for their weight decay
        return scores + constant.to(scores.dtype)

    def forward(self, x: Tensor, words: Tensor) -> Tensor:
        """x [B, P, features], words [C, word_size] -> [B, C, features]."""
        return self.scores(x, words).softmax(2).to(x.dtype) @ x

    def extra_repr(self) -> str:
        return f"features={self.fc1.in_features}, word_size={self.fc2.in_features}, hidden={self.fc1.out_features}"
