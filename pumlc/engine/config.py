"""Every setting of a run, with its sentence; the command line and the presets come from here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pumlc.errors import InputError

Algorithm = Literal["pu-mlc", "ll-r", "ll-ct", "ll-cp", "mile", "epr", "role"]
Loss = Literal["an", "ignore", "wan", "ls", "focal", "asl", "hill", "splc", "em", "gr"]  # pumlc.ops.LOSS_KINDS


@dataclass(frozen=True)
class Config:
    """Train a multi-label classifier from incomplete labels."""

    data: str
    """Folder of the data set (for csv also the table itself)."""
    layout: Literal["demo", "coco", "voc", "voc12", "vg", "nuswide", "cub", "openimages", "folder", "csv"]
    """How that folder is laid out; demo is a COCO folder that is drawn there if it is absent."""
    prob: float = 1.0
    """Share of the training labels that is kept, each entry drawn independently; the rest becomes unknown."""
    single_positive: bool = False
    """Keep one positive label per training image and nothing else; --prob has no effect then."""
    include_unannotated: bool = False
    """COCO: use the images without any object too."""
    difficult: Literal["unknown", "negative"] = "unknown"
    """VOC: what a class is in an image where all its objects are marked difficult."""
    hold_out: float | None = None
    """Share of the training images held out, with all labels, as val split: by default a tenth where there is none."""
    num_classes: int | None = None
    """Number of classes that the data set must have; by default what it has."""
    quarantine: str | None = None
    """List of pictures to leave out; by default quarantine.tsv of the data folder, if python -m pumlc.data wrote it."""
    max_bad_share: float = 0.01
    """Stop when more than this share of a split's pictures cannot be used."""
    max_megapixels: float = 200.0
    """A picture whose header claims more millions of pixels cannot be used."""

    method: Literal[Algorithm, Loss] = "pu-mlc"
    """How labels become a loss; an, cross-entropy with every unknown label taken for negative, is the baseline."""
    backbone: str = "resnet101"
    """Name of a timm model."""
    weights: str = "auto"
    """Weights to start from: auto (ImageNet where they can be had), imagenet, none, or a file."""
    recipe: Literal["loss", "full"] = "loss"
    """Defaults of --head, --local-global, --mixup: loss is the PU loss alone, full all of PU-MLC; also of --lr."""
    head: Literal["linear", "full"] = "linear"
    """What follows the backbone: a linear unit per class, or semantic decoupling, graph network and units of PU-MLC."""
    boost: float = 1.0
    """Linear head: multiply positive class activations by this before they are pooled (BoostLU, published 5; 1: no)."""
    word_vectors: str | None = None
    """Full head: file with 300 numbers per class (.npy, or text as GloVe comes); by default they are learned."""
    local_global: bool = False
    """Give every spatial convolution the global branch of PU-MLC, whose weights start near zero and always train."""
    train_all: bool = False
    """Train every layer, BatchNorm statistics included, instead of the last stage and the head."""
    image_size: int = 448
    """Side of the input in pixels."""
    scale_size: int | None = None
    """Side of the square that crops are cut from, in pixels, crops following; by default 512/448 of --image-size."""

    epochs: int = 20
    """Epochs to run."""
    schedule_epochs: int | None = None
    """Epochs that the learning rate schedule spans, where the run stops earlier; by default --epochs."""
    steps: int | None = None
    """Stop after this many optimiser steps in total, evaluate and finish."""
    batch_size: int = 32
    """Images per step and process."""
    lr: float = 1e-3
    """Learning rate, the highest of the schedule."""
    head_lr_factor: float = 1.0
    """Learning rate of what follows the backbone, in multiples of --lr."""
    optimizer: Literal["adam", "sgd"] = "adam"
    """How gradients become steps."""
    momentum: float = 0.9
    """Momentum of SGD."""
    nesterov: bool = False
    """SGD with Nesterov's momentum."""
    weight_decay: float = 1e-4
    """L2 penalty (added to the gradient, not decoupled)."""
    schedule: Literal["one-cycle", "step-decay", "constant"] = "one-cycle"
    """The learning rate over the steps."""
    pct_start: float = 0.2
    """Share of the one-cycle schedule in which the learning rate rises."""
    early_stop: float | None = None
    """Stop once the val mAP of an epoch is this many points below the best; by default never."""
    clip_norm: float | None = None
    """Clip the gradient to this norm; by default not at all."""
    ema_decay: float = 0.9997
    """Decay of the moving average of the weights, 0 for none."""
    ema_warmup: bool = True
    """Begin with a lower decay, so that the average of a short run forgets the weights that it began with."""

    alpha: float = 1.0
    """Temperature of a class per standard deviation of its logits."""
    gamma: float = 0.55
    """Exponent of the re-balance factor."""
    min_temperature: float = 1e-2
    """Lowest temperature."""
    mixup: float = 0.0
    """Weight of the mixup regulariser, which adds half as many mixed images to a step; 0 for none."""
    mixup_beta: float = 0.3
    """The share of an image in a mixture is drawn from Beta(this, this), one share per step."""
    detach_target: bool = False
    """Hold the target of the mixup regulariser constant instead of training it too, as published."""
    delta_rel: float = 0.2
    """ll-r, ll-ct: percent of all labels by which the large losses grow per epoch; ll-cp: that are large in each."""
    mile_k1: int = 2000
    """mile: steps on the given labels, at the beginning of each generation."""
    mile_k2: int = 2000
    """mile: steps on the labels of the teacher, the network after the first ones."""
    mile_threshold: float = 0.5
    """mile: probability above which a class is a label of the teacher, and predicted in the F1 per image."""
    mile_union: bool = False
    """mile: put the given labels in place of the teacher's, where there are any."""
    mile_sample: bool = False
    """mile: draw the teacher's labels with its probabilities, without the threshold."""
    expected_positives: float = 2.9
    """epr, role: classes that an image has on average; published VOC 1.5, COCO 2.9, NUS-WIDE 1.9, CUB 31.4."""
    sync_statistics: bool = True
    """Take the loss statistics over all processes, so that their number does not change the result."""

    published_evaluation: bool = False
    """Also report the highest test mAP, CF1 and OF1 over thresholds, epochs and weights, as the paper's code does."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train; auto takes the GPU where there is one."""
    precision: Literal["auto", "bf16", "fp16", "fp32"] = "auto"
    """Number format of the network; auto is bf16 where the hardware has it and fp32 elsewhere."""
    cuda_graph: bool = False
    """One GPU: replay forward and backward pass as a CUDA graph, where launches cost more than the work."""
    threads: int | None = None
    """CPU threads per process; by default the processes of a machine share its cores."""
    seed: int = 0
    """Seed of weights, order, augmentation, --hold-out and --single-positive (--prob has the published masks)."""

    out: str | None = None
    """Run folder, which must not hold a run yet, but with --resume auto; by default runs/<preset>-<time>."""
    resume: str | None = None
    """Run folder to go on with, whose settings hold; or auto: go on in --out where it holds a checkpoint."""
    checkpoint_minutes: float = 10.0
    """Save a checkpoint so many minutes after the last one, within an epoch too; 0 for none but at its end."""
    checkpoint_steps: int | None = None
    """Save a checkpoint after every so many steps too."""
    keep_checkpoints: int = 2
    """How many checkpoints are kept, the newest ones."""
    timeout_minutes: float = 10.0
    """Several processes: how long they wait for one that hangs, before the run ends and names it."""
    log_every: int = 50
    """Steps between two lines of log.jsonl."""
    tensorboard: bool = False
    """Write the numbers of log.jsonl as event files for TensorBoard too, into tensorboard/ of the run folder."""

    @property
    def total_epochs(self) -> int:
        """Epochs that the schedule spans."""
        return self.schedule_epochs or self.epochs

    def check(self) -> None:
        """Raise InputError for the first value that cannot be used."""
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                bound = f"at least {low:g}" if high == _INF else f"between {low:g} and {high:g}"
                raise InputError(f"--{name.replace('_', '-')} is {value:g}, wanted {bound}.")
        if self.total_epochs < self.epochs:
            raise InputError(f"--schedule-epochs is {self.schedule_epochs}, less than the {self.epochs} epochs to run.")
        if self.word_vectors is not None and self.head != "full":
            raise InputError(f"--word-vectors {self.word_vectors} has no use in a {self.head} head. Add --head full.")
        if self.boost != 1 and self.head != "linear":
            raise InputError(f"--boost {self.boost:g} has no use in a {self.head} head. Add --head linear.")
        if self.mixup > 0 and self.method != "pu-mlc":
            raise InputError(f"--mixup {self.mixup:g} is a part of --method pu-mlc; {self.method} has no use for it.")
        if self.mixup > 0 and self.batch_size < 2:
            raise InputError(f"--mixup {self.mixup:g} needs two images to mix; --batch-size is {self.batch_size}.")


_INF = float("inf")
_RANGES = (  # field, lowest, highest
    ("prob", 0.0, 1.0),
    ("hold_out", 0.0, 1.0),
    ("num_classes", 1, _INF),
    ("max_bad_share", 0.0, 1.0),
    ("max_megapixels", 0.0, _INF),
    ("image_size", 32, _INF),
    ("scale_size", 32, _INF),
    ("boost", 1.0, _INF),
    ("epochs", 1, _INF),
    ("steps", 1, _INF),
    ("batch_size", 1, _INF),
    ("lr", 0.0, _INF),
    ("head_lr_factor", 0.0, _INF),
    ("momentum", 0.0, 1.0),
    ("weight_decay", 0.0, _INF),
    ("pct_start", 0.0, 1.0),
    ("early_stop", 0.0, 100.0),
    ("clip_norm", 0.0, _INF),
    ("ema_decay", 0.0, 1.0),
    ("alpha", 0.0, _INF),
    ("gamma", 0.0, _INF),
    ("min_temperature", 1e-6, 1.0),
    ("delta_rel", 0.0, 100.0),
    ("mile_k1", 1, _INF),
    ("mile_k2", 1, _INF),
    ("mile_threshold", 0.0, 1.0),
    ("expected_positives", 0.0, _INF),
    ("mixup", 0.0, _INF),
    ("mixup_beta", 0.05, _INF),  # below, a float32 holds too few of the small shares
    ("threads", 1, _INF),
    ("seed", 0, 2**32 - 1),
    ("log_every", 1, _INF),
    ("checkpoint_minutes", 0.0, _INF),
    ("checkpoint_steps", 1, _INF),
    ("keep_checkpoints", 1, _INF),
    ("timeout_minutes", 0.01, _INF),
)
