"""python -m bench.published_step: a training step of PU-MLC here, and as the paper's code computes it.

The published step is the plain-PyTorch network of tests/nn/published_recogniser.py, whose tensors and repeats are the
published ones, with the eager loss and regulariser, Adam and a moving average tensor by tensor; "compiled" is
torch.compile of its network and loss. Ours is Trainer.train_step, in fp32 and in bf16 (on a GPU both sides are under
autocast). All have the same weights, images, labels and mixtures. Measured are the whole step, and the head alone,
forward and backward.

First the loss and every gradient are compared, in float64 on a small network; then the logits at the size measured.
Every provider is a process of its own, which takes turns with the others: the trainer changes how the C library gives
memory back (pumlc/engine/host_memory.py), and the published code shall have it as its users do.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # before torch: the profiler would talk between the rows

import numpy as np
import torch
from torch import Tensor, nn

from bench.local_global import peak_on_cpu
from bench.timing import append_rows, device_name, peak_memory, results_path
from bench.train_step import CLASSES, FULL_RECIPE, POSITIVES, build_trainer
from pumlc.data.loader import Batch
from pumlc.engine.config import Config
from pumlc.engine.distributed import choose_device
from pumlc.methods import pu_mlc
from pumlc.methods.mixup import Mixture
from pumlc.nn import PUMLC, co_occurrence
from pumlc.nn.published_weights import ADJACENCY, load_published, to_published
from pumlc.nn.recogniser import UNPOOLED_SIDE
from pumlc.ops import reference
from tests.nn.batch_norms import randomize_batch_norms
from tests.nn.published_recogniser import PublishedRecogniser

GRADIENT_TOLERANCE = 1e-8  # of float64, relative to the largest of a tensor
LOGIT_TOLERANCE = {"fp32": 1e-4, "bf16": 5e-2}  # relative, of their norm, through a hundred layers
SEED = 0  # of the mixtures
WARM_UP = 2
HEAD_BATCH = 16
WORDS, WEIGHTS, BATCH = "words.npy", "published.pt", "batch.pt"  # what all providers have in common, in a folder
STRIDE = 32  # of a ResNet's last map
LEAST_IMAGE_SIZE = STRIDE * (UNPOOLED_SIDE + 1)


class PublishedLoss(nn.Module):
    """The objective of a step: images [B, 3, H, W] and labels [B, C] to a scalar."""

    def __init__(self, network: nn.Module, config: Config) -> None:
        super().__init__()
        self.network, self.config = network, config

    def forward(self, images: Tensor, labels: Tensor, permutation: Tensor, mix: Tensor) -> Tensor:
        half = len(permutation)
        mixed = mix * images[:half][permutation] + (1 - mix) * images[len(images) - half :]
        logits, mixed_logits = (
            logits.to(torch.promote_types(logits.dtype, torch.float32))
            for logits in (self.network(images), self.network(mixed))
        )
        loss = reference.pu_loss(logits, labels, self.config.alpha, self.config.gamma)
        consistency = reference.mixup_consistency(logits, labels, mixed_logits, permutation, mix)
        return loss + self.config.mixup * consistency


class PublishedStep:
    """Calling it makes one optimiser step on the batch; under autocast on a GPU, as published."""

    def __init__(self, network: PublishedRecogniser, config: Config, batch: Batch, *, compiled: bool = False) -> None:
        loss = PublishedLoss(network, config)
        self.loss = torch.compile(loss, dynamic=False) if compiled else loss
        self.batch, self.config = batch, config
        trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.Adam(trained, config.lr, weight_decay=config.weight_decay)
        self.live = list(network.state_dict().values())
        self.average = [tensor.clone() for tensor in self.live]
        cuda = batch.images.is_cuda
        self.scaler = torch.amp.GradScaler("cuda", enabled=cuda)
        self.autocast = lambda: torch.autocast("cuda", torch.float16) if cuda else contextlib.nullcontext()

    def value(self) -> Tensor:
        torch.manual_seed(SEED)
        mixture = Mixture.draw(self.batch.images, self.config.mixup_beta)
        with self.autocast():
            return self.loss(self.batch.images, self.batch.labels, *mixture)

    def __call__(self) -> None:
        self.optimizer.zero_grad()
        self.scaler.scale(self.value()).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        with torch.no_grad():
            for average, live in zip(self.average, self.live, strict=True):
                average.copy_(self.config.ema_decay * average + (1 - self.config.ema_decay) * live)


def prove_equal_in_float64() -> None:
    """The loss and every gradient of ours and the published step, on a small network; AssertionError where not."""
    torch.manual_seed(0)
    config, classes = FULL_RECIPE, 6
    labels = (torch.rand(4, classes) < 0.3).to(torch.int8)
    published = PublishedRecogniser("test_resnet", torch.randn(classes, 300), co_occurrence(labels), local_global=True)
    randomize_batch_norms(published)
    published.double().train_as_published()
    ours = PUMLC("test_resnet", classes, image_size=288, local_global=True, words=torch.zeros(classes, 300)).train()
    load_published(ours, published.state_dict())
    ours.double()
    images = torch.randn(4, 3, 288, 288, dtype=torch.float64)
    batch = Batch(images.contiguous(memory_format=torch.channels_last), labels, torch.arange(4))
    torch.manual_seed(SEED)
    loss = pu_mlc.PUMLC(config.alpha, config.gamma, mixup=config.mixup, mixup_beta=config.mixup_beta)(
        ours, batch, 0
    ).loss
    expected = PublishedStep(published, config, batch).value()
    assert abs(loss - expected) <= GRADIENT_TOLERANCE * abs(expected), f"loss {loss}, published {expected}"
    loss.backward()
    expected.backward()
    gradients = {name: p.grad for name, p in ours.named_parameters() if p.requires_grad}
    found = to_published(gradients | {ADJACENCY: ours.graph.adjacency})  # which has no gradient
    for name, parameter in published.named_parameters():
        if not parameter.requires_grad:
            continue
        error = (found[name] - parameter.grad).abs().max()
        # of the biases before the softmax, which change nothing, only rounding is left
        scale = max(parameter.grad.abs().max(), 1e-6 * max(g.abs().max() for g in gradients.values()))
        assert error <= GRADIENT_TOLERANCE * scale, f"{name}: {error:.2g}, the largest {scale:.2g}"


class Provider:
    """One way to make a step: what its process builds from the folder, and does when it is asked to.

    Args:
        name: "published", "published, compiled", or "pumlc" and a precision.
        options: of the command line; ``options.folder`` holds the weights, words and images.
    """

    def __init__(self, name: str, options: argparse.Namespace) -> None:
        self.device = torch.device(options.device)
        state = torch.load(options.folder / WEIGHTS, map_location=self.device)
        images, labels = (t.to(self.device) for t in torch.load(options.folder / BATCH))
        if name.startswith("pumlc"):
            precision = name.split()[1]
            config = dataclasses.replace(
                FULL_RECIPE, precision=precision, word_vectors=str(options.folder / WORDS), device=options.device
            )
            trainer = build_trainer(config, options, self.device, options.batch_size, options.folder / precision)
            trainer.wrapped.train()
            load_published(trainer.model, state)
            self.network, self.autocast = trainer.model, trainer.precision.autocast
            self.images = images.to(trainer.precision.images, memory_format=torch.channels_last)
            self.map_dtype = torch.bfloat16 if precision == "bf16" else torch.float32
            batch = Batch(self.images, labels, torch.arange(len(images), device=self.device))
            self.step: Callable[[], object] = functools.partial(trainer.train_step, batch, 0)
            self.forward_head = self.network.forward_head
        else:
            self.network = PublishedRecogniser(
                options.backbone, state["wordFeatures"], state["inMatrix"], local_global=True
            )
            self.network.load_state_dict(state)
            self.network.to(self.device).train_as_published()
            batch = Batch(images, labels, torch.arange(len(images), device=self.device))
            self.images, self.map_dtype = images, torch.float32
            self.step = PublishedStep(self.network, FULL_RECIPE, batch, compiled=name.endswith("compiled"))
            self.autocast, self.forward_head = self.step.autocast, self.network.head

    def logits(self) -> Tensor:
        """[B, C] float32 on the CPU"""
        with self.autocast(), torch.no_grad():
            return self.network(self.images).float().cpu()

    @functools.cached_property
    def head(self) -> Callable[[], object]:
        """The head's forward pass on a map, and the gradients of the map and of all parameters."""
        torch.manual_seed(SEED)
        side = self.images.shape[3] // STRIDE
        channels = self.network.backbone.num_features
        x = torch.randn(HEAD_BATCH, channels, side, side, device=self.device).to(self.map_dtype)
        if isinstance(self.network, PUMLC):
            x = x.contiguous(memory_format=torch.channels_last)
        upstream = torch.randn(HEAD_BATCH, CLASSES, device=self.device)
        named = self.network.named_parameters()
        inputs = [x.requires_grad_()]
        inputs += [p for name, p in named if p.requires_grad and not name.startswith("backbone.")]

        def run() -> tuple[Tensor, ...]:
            with self.autocast():
                logits = self.forward_head(x)
            return torch.autograd.grad(logits, inputs, upstream.to(logits.dtype))

        return run

    def seconds(self, part: str) -> float:
        """Wall time of one call of a part, "step" or "head"."""
        function = getattr(self, part)
        self._wait()
        start = time.perf_counter()
        function()
        self._wait()
        return time.perf_counter() - start

    def peak(self, part: str) -> int:
        """Bytes of tensors held at one time, beyond those that were there before."""
        function = getattr(self, part)
        return peak_memory(function, ()) if self.device.type == "cuda" else peak_on_cpu(function)

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def serve(connection: Connection, name: str, options: argparse.Namespace) -> None:
    """Answer what a :class:`Provider` is asked, as (method, arguments), until None comes."""
    provider = Provider(name, options)
    while (question := connection.recv()) is not None:
        method, arguments = question
        connection.send(getattr(provider, method)(*arguments))


class Processes:
    """The providers, each in a process of its own."""

    def __init__(self, names: list[str], options: argparse.Namespace) -> None:
        context = get_context("spawn")  # nothing of this process shall be in theirs
        self.connections: dict[str, Connection] = {}
        for name in names:
            self.connections[name], theirs = context.Pipe()
            context.Process(target=serve, args=(theirs, name, options), daemon=True).start()
            theirs.close()  # so that the end of the process is seen here

    def ask(self, method: str, *arguments: object) -> dict:
        """The answers by name; one process after the other. EOFError where one has failed, which says why itself."""
        answers = {}
        for name, connection in self.connections.items():
            connection.send((method, arguments))
            answers[name] = connection.recv()
        return answers

    def close(self) -> None:
        for connection in self.connections.values():
            connection.send(None)


def measure(processes: Processes, part: str, settings: dict, rounds: int) -> list[dict]:
    """A row for each of ours, beside the published one; printed."""
    for _ in range(WARM_UP):  # the state of the optimiser, compilation, memory that is kept
        processes.ask("seconds", part)
    samples = [processes.ask("seconds", part) for _ in range(rounds)]
    seconds = {name: statistics.median(sample[name] for sample in samples) for name in processes.connections}
    peaks = processes.ask("peak", part)
    rows = []
    for name, time_taken in seconds.items():
        print(
            f"{part:<6}{name:<22}{1e3 * time_taken:>10.1f} ms{peaks[name] / 1e6:>10.1f} MB"
            f"{seconds['published'] / time_taken:>8.2f} x{peaks[name] / peaks['published']:>8.3f}",
            flush=True,
        )
        if name.startswith("pumlc"):
            compiled = seconds.get("published, compiled")
            rows.append(
                {
                    "benchmark": "published_step",
                    "part": part,
                    **settings,
                    "precision": name.split()[1],
                    "milliseconds": {key: 1e3 * value for key, value in seconds.items()},
                    "peak_bytes": peaks,
                    "times_published": seconds["published"] / time_taken,
                    "times_published_compiled": compiled and compiled / time_taken,
                    "memory_share": peaks[name] / peaks["published"],
                }
            )
    return rows


def run(options: argparse.Namespace) -> list[dict]:
    """Measure all providers on what is written to ``options.folder`` first."""
    torch.manual_seed(0)
    words = torch.randn(CLASSES, 300)
    np.save(options.folder / WORDS, words.numpy())
    labels = (torch.rand(1000, CLASSES) < POSITIVES / CLASSES).to(torch.int8)
    published = PublishedRecogniser(options.backbone, words, co_occurrence(labels), local_global=True)
    torch.save(published.state_dict(), options.folder / WEIGHTS)
    size = (options.batch_size, 3, options.image_size, options.image_size)
    torch.save((torch.randn(size), labels[: options.batch_size]), options.folder / BATCH)
    del published

    compiled = ["published, compiled"] if options.compile else []
    processes = Processes(["published", *compiled, *(f"pumlc {name}" for name in options.precision)], options)
    logits = processes.ask("logits")
    for name in options.precision:
        error = (logits[f"pumlc {name}"] - logits["published"]).norm() / logits["published"].norm()
        print(f"# logits: {error:.2g} of their norm apart ({name})", flush=True)
        assert error <= LOGIT_TOLERANCE[name], f"the logits differ by {error:.2g}"
    settings = {"backbone": options.backbone, "image_size": options.image_size}
    rows = measure(processes, "step", {**settings, "batch_size": options.batch_size}, options.rounds)
    rows += measure(processes, "head", {**settings, "batch_size": HEAD_BATCH}, options.rounds)
    processes.close()
    return rows


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.published_step", description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--backbone", default="resnet101", help="a timm ResNet (default: %(default)s)")
    parser.add_argument("--image-size", type=int, default=448, help="pixels (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, help="images per step (default: 4, on a GPU 64)")
    parser.add_argument("--rounds", type=int, default=5, help="samples of each (default: %(default)s)")
    precisions = list(LOGIT_TOLERANCE)
    parser.add_argument(
        "--precision", nargs="+", choices=precisions, default=precisions, help="of ours (default: both)"
    )
    parser.add_argument("--compile", action="store_true", help="torch.compile of the published step too: minutes")
    parser.add_argument("--no-save", action="store_true", help="print alone")
    parser.add_argument("--out", type=Path, help="results file to append to; default: bench/results/<device>.jsonl")
    options = parser.parse_args(arguments)
    if options.image_size < LEAST_IMAGE_SIZE:
        parser.error(f"--image-size {options.image_size}: below {LEAST_IMAGE_SIZE} this project does not pool the map")
    device = choose_device(options.device)
    options.device, options.frozen = device.type, True
    options.batch_size = options.batch_size or (64 if device.type == "cuda" else 4)
    prove_equal_in_float64()
    print(f"# {device_name(device)}, torch {torch.__version__}: equal in float64, loss and all gradients", flush=True)
    with tempfile.TemporaryDirectory() as name:
        options.folder = Path(name)
        rows = run(options)
    if not options.no_save:
        append_rows(options.out or results_path(device), device, rows)


if __name__ == "__main__":
    main()
