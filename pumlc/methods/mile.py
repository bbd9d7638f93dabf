"""MILe (arXiv 2111.12172): one label per image becomes several, from one generation of the network to the next."""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from pumlc.methods import LabelledImages, Method, Step
from pumlc.methods.sharing import gather_values, is_first
from pumlc.ops import elementwise_loss


class MILe(Method):
    """Generations of k1 steps on the given labels and k2 steps on those of a teacher, the network after the first k1.

    The loss is cross-entropy, summed over the classes and averaged over the images. In the first phase what is not
    known to be positive is negative. In the second, the labels are 1[sigmoid(teacher(x)) > threshold], hard, of the
    very images that the network sees; the given labels are not looked at, unless with ``union``. The network, its
    optimiser and the learning rate go on through all phases.

    The teacher is a copy in evaluation mode, as published, that never trains. It adds to the memory of a run its
    weights and buffers, once more those of the network, in the second phases alone (kept in checkpoints too), and what
    a forward pass without gradients needs; a step of the second phase costs one such pass more.

    Departures from the published code: phases are k1 and k2 steps long, where that code's are one step shorter; the
    teacher is in the checkpoint, so that a run resumed in the second phase goes on as it would have; gradients are
    scaled only where the network runs in float16; ``sample`` draws with the probability of the teacher, where that
    code divides its logits by a temperature that it sets to nearly zero, which is a threshold of 0.5.

    Args:
        k1: steps on the given labels, at least 1.
        k2: steps on the teacher's labels, at least 1.
        threshold: of the teacher's probability, above which a class is positive.
        union: where a label is given, positive or negative, it is put in place of the teacher's.
        sample: positive with the teacher's probability instead of by the threshold, from the generator of the device.
        group: processes that share a batch, equally many images each; their gradients are averaged. They have one
            teacher: of buffers that each moves on by its own share of the images, the mean.

    Raises:
        ValueError: a number of steps or a threshold out of range.
    """

    is_repeatable = False  # a step of the second phase is another one than a step of the first

    def __init__(
        self,
        k1: int,
        k2: int,
        threshold: float = 0.5,
        *,
        union: bool = False,
        sample: bool = False,
        group: dist.ProcessGroup | None = None,
    ) -> None:
        for name, steps in (("k1", k1), ("k2", k2)):
            if steps < 1:
                raise ValueError(f"{name}: got {steps}, wanted at least one step")
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold: got {threshold}, wanted a probability from 0 to 1")
        self.k1, self.k2 = k1, k2
        self.threshold = threshold
        self.union = union
        self.sample = sample
        self.group = group
        self.iteration = 0
        """Steps taken."""
        self.teacher: nn.Module | None = None
        self._teacher_state: dict[str, Tensor] | None = None  # of a checkpoint, until there is a network to copy
        self._positives: int | Tensor = 0  # [] int64, the teacher's in this epoch, on this process
        self._images = 0  # that they are of

    def __call__(self, model: nn.Module, batch: LabelledImages, epoch: int) -> Step:
        on_given = self.iteration % (self.k1 + self.k2) < self.k1
        if on_given:
            self.teacher = None
            labels = batch.labels
        else:
            if self.teacher is None:
                self.teacher = self._copy(model)
            labels = self._labels_of_teacher(batch)
        logits = model(batch.images)
        loss = logits.shape[1] * elementwise_loss(logits, labels)
        self.iteration += 1
        return Step(loss, logits.detach())

    @torch.no_grad()
    def _copy(self, model: nn.Module) -> nn.Module:
        """The teacher that the network becomes, or the one of the checkpoint."""
        network = model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model
        teacher = copy.deepcopy(network).eval()
        if self._teacher_state is not None:
            teacher.load_state_dict(self._teacher_state)
            self._teacher_state = None
        elif self.group is not None:
            for buffer in teacher.buffers():
                if buffer.is_floating_point():
                    dist.all_reduce(buffer, group=self.group)
                    buffer.div_(dist.get_world_size(self.group))
        return teacher

    @torch.no_grad()
    def _labels_of_teacher(self, batch: LabelledImages) -> Tensor:
        """[B, C] int8 or bool"""
        probability = self.teacher(batch.images).float().sigmoid()
        positive = torch.bernoulli(probability).bool() if self.sample else probability > self.threshold
        self._positives = self._positives + positive.sum()
        self._images += len(positive)
        return torch.where(batch.labels == 0, positive.to(torch.int8), batch.labels) if self.union else positive

    def end_epoch(self, epoch: int) -> dict[str, float]:
        """Where the last step was, generation and phase counted from 1, and how many classes the teacher named."""
        generation, step = divmod(self.iteration - 1, self.k1 + self.k2)
        numbers: dict[str, float] = {"generation": generation + 1, "phase": 1 if step < self.k1 else 2}
        positives, images = self._counts_of_all()
        if images:
            numbers["pseudo_labels_per_image"] = positives / images
        self._positives, self._images = 0, 0
        return numbers

    def state_dict(self) -> dict[str, Any]:
        """Where the run is, and the teacher where the next step needs it."""
        in_second = self.iteration % (self.k1 + self.k2) > self.k1
        teacher = self._teacher_state if self.teacher is None else self.teacher.state_dict()
        return {
            "iteration": self.iteration,
            "teacher": teacher if in_second else None,
            "counts": self._counts_of_all(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.iteration = state["iteration"]
        self.teacher, self._teacher_state = None, state["teacher"]
        self._positives, self._images = state["counts"] if is_first(self.group) else (0, 0)

    def _counts_of_all(self) -> tuple[int, int]:
        """The teacher's positives in this epoch and the images that they are of, over all processes."""
        positives, images = zip(*gather_values((int(self._positives), self._images), self.group), strict=True)
        return sum(positives), sum(images)
