"""The recogniser as the PU-MLC paper's code computes it, in plain PyTorch: every tensor is made, and every repeat.

Names of parameters are those of the published network, for the converter to be tested on; the backbone is any timm
network with a feature map, which has the published network's names where it is a ResNet. ``words`` and the matrices of
the graph are parameters that do not train, and the matrices stand in the state dict twice.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pumlc.errors import require
from tests.nn.published import PublishedLocalGlobalConv2d


class PublishedDecoupling(nn.Module):
    def __init__(self, features: int, word_size: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(features, hidden, bias=False)
        self.fc2 = nn.Linear(word_size, hidden, bias=False)
        self.fc3 = nn.Linear(hidden, hidden)
        self.fc4 = nn.Linear(hidden, 1)

    def forward(self, x: Tensor, words: Tensor) -> Tensor:
        """x [B, D, H, W], words [C, W] -> [B, C, D]."""
        batch, features, height, width = x.shape
        classes, positions = len(words), batch * height * width
        x = x.permute(0, 2, 3, 1).contiguous()  # [B, H, W, D]
        seen = self.fc1(x.view(positions, features))[:, None].repeat(1, classes, 1)
        meant = self.fc2(words)[None].repeat(positions, 1, 1)
        hidden = torch.tanh(seen * meant).flatten(0, 1)  # [B H W C, hidden]
        scores = self.fc4(self.fc3(hidden)).view(batch, height * width, classes)
        weights = scores.softmax(1)[..., None].repeat(1, 1, 1, features)  # [B, H W, C, D]
        repeated = x.view(batch, height * width, 1, features).repeat(1, 1, classes, 1)
        return (repeated * weights).sum(1)


class PublishedGraph(nn.Module):
    def __init__(self, features: int, steps: int, in_matrix: nn.Parameter, out_matrix: nn.Parameter) -> None:
        super().__init__()
        self.steps = steps
        self.inMatrix, self.outMatrix = in_matrix, out_matrix
        for gate in (1, 2, 3):
            setattr(self, f"fc_{gate}_w", nn.Linear(2 * features, features))
            setattr(self, f"fc_{gate}_u", nn.Linear(features, features))

    def forward(self, h: Tensor) -> Tensor:
        """h [B, C, D] -> [B, C, D]."""
        batch, classes, features = h.shape
        into, out = (m.repeat(batch, 1).view(batch, classes, classes) for m in (self.inMatrix, self.outMatrix))
        for _ in range(self.steps):
            a = torch.cat([into.bmm(h), out.bmm(h)], 2).view(batch * classes, -1)
            flat = h.reshape(batch * classes, features)
            z = torch.sigmoid(self.fc_1_w(a) + self.fc_1_u(flat))
            r = torch.sigmoid(self.fc_2_w(a) + self.fc_2_u(flat))
            candidate = torch.tanh(self.fc_3_w(a) + self.fc_3_u(r * flat))
            h = ((1 - z) * flat + z * candidate).view(batch, classes, features)
        return h


class PublishedClassifiers(nn.Module):
    def __init__(self, classes: int, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(classes, features).uniform_(-(features**-0.5), features**-0.5))
        self.bias = nn.Parameter(torch.empty(classes).uniform_(-(features**-0.5), features**-0.5))

    def forward(self, x: Tensor) -> Tensor:
        """x [B, C, D] -> [B, C]."""
        return (x * self.weight).sum(2) + self.bias


class PublishedHead(nn.Module):
    """Everything after the backbone; a class of its own so that it can be timed alone.

    Args:
        channels: of the backbone's last map.
        words: [C, W]. in_matrix: [C, C].
    """

    def __init__(self, channels: int, words: Tensor, in_matrix: Tensor, features: int = 1024, hidden: int = 512):
        super().__init__()
        self.changeChannel = nn.Sequential(nn.Conv2d(channels, features, 1, bias=False), nn.BatchNorm2d(features))
        self.avgpool = nn.AvgPool2d(2, 2)
        self.wordFeatures = nn.Parameter(words, requires_grad=False)
        self.inMatrix = nn.Parameter(in_matrix, requires_grad=False)
        self.outMatrix = nn.Parameter(in_matrix.T.contiguous(), requires_grad=False)
        self.SemanticDecoupling = PublishedDecoupling(features, words.shape[1], hidden)
        self.GraphNeuralNetwork = PublishedGraph(features, 3, self.inMatrix, self.outMatrix)
        self.fc = nn.Linear(2 * features, features)
        self.classifiers = PublishedClassifiers(len(words), features)

    def head(self, x: Tensor) -> Tensor:
        """x [B, channels, H, W], the backbone's last map -> logits [B, C]."""
        x = self.changeChannel(self.avgpool(x))
        semantic = self.SemanticDecoupling(x, self.wordFeatures)
        batch, classes, features = semantic.shape
        told = self.GraphNeuralNetwork(semantic)
        both = torch.cat([told.view(batch * classes, -1), semantic.view(-1, features)], 1)
        return self.classifiers(torch.tanh(self.fc(both)).view(batch, classes, features))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x)


class PublishedRecogniser(PublishedHead):
    """Images [B, 3, H, W] to logits [B, C].

    Args:
        backbone: a timm model. local_global: its 3 x 3 convolutions are published local-global convolutions.
    """

    def __init__(self, backbone: str, words: Tensor, in_matrix: Tensor, *, local_global: bool = False) -> None:
        network = require("timm").create_model(backbone, num_classes=0)
        super().__init__(network.num_features, words, in_matrix)
        self.backbone = network
        if local_global:
            convert(network)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.backbone.forward_features(images))

    def train_as_published(self) -> PublishedRecogniser:
        """The last stage, the global branches and the head train; every BatchNorm is in evaluation mode."""
        self.train()
        for name, parameter in self.backbone.named_parameters():
            parameter.requires_grad_("global_branch" in name or name.startswith("layer4."))
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self


def convert(module: nn.Module) -> None:
    """Every 3 x 3 convolution with enough channels for the heads, in place."""
    for name, child in module.named_children():
        if isinstance(child, nn.Conv2d) and child.kernel_size == (3, 3) and child.in_channels % 8 == 0:
            setattr(module, name, PublishedLocalGlobalConv2d(child))
        else:
            convert(child)
