"""Processes, devices and the few things that processes tell each other."""

from __future__ import annotations

import contextlib
import datetime
import gc
import importlib
import inspect
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

import pumlc
from pumlc.engine.meeting import meet
from pumlc.engine.roll_call import roll_call
from pumlc.errors import InputError
from pumlc.methods.sharing import gather_values

T = TypeVar("T")
SHORTEST_MEETING = 60.0  # seconds that processes have to start in


@dataclass(frozen=True)
class World:
    """This process among the others; with one process every exchange is the identity."""

    device: torch.device
    rank: int = 0
    size: int = 1
    local_size: int = 1  # processes on this machine

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    @property
    def group(self) -> dist.ProcessGroup | None:
        return dist.group.WORLD if self.size > 1 else None

    def sum(self, tensor: Tensor) -> Tensor:
        """Add up in place over all processes; a tensor of any shape."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def mean(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor, of any shape, by its mean over all processes."""
        if self.size > 1:
            for tensor in tensors:
                dist.all_reduce(tensor)
                tensor.div_(self.size)

    def min(self, tensor: Tensor) -> Tensor:
        """Minimum in place over all processes; a tensor of any shape."""
        if self.size > 1:
            dist.all_reduce(tensor, op=dist.ReduceOp.MIN)
        return tensor

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """For each flag, whether it is set in some process. The host waits for the answer."""
        if self.size == 1:
            return flags
        unset = torch.tensor([0 if flag else 1 for flag in flags], device=self.device)
        return tuple(value == 0 for value in self.min(unset).tolist())

    def gather(self, value: T) -> list[T]:
        """A small picklable value of every process, by rank."""
        return gather_values(value, self.group)

    def own(self, gathered: Sequence[T]) -> T | None:
        """This process's part of what :meth:`gather` gave; None where another number of processes gathered it."""
        return gathered[self.rank] if len(gathered) == self.size else None

    def copy_from_main(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite each tensor by that of the first process."""
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=0)

    def on_main(self, function: Callable[[], T]) -> T | None:
        """Run ``function`` on the first process while the others wait; its error ends them all.

        Returns:
            Its result on the first process, None on the others.

        Raises:
            InputError: on the others, with the message of the first one's error.
        """
        if self.size == 1:
            return function()
        result, error = None, None
        if self.is_main:
            try:
                result = function()
            except Exception as caught:
                error = caught
        message = [None if error is None else str(error)]
        dist.broadcast_object_list(message, src=0)
        if error is not None:
            raise error
        if message[0] is not None:
            raise InputError(message[0])
        return result

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model with its gradients averaged over the processes, all of which begin with the first one's tensors."""
        if self.size == 1:
            return model
        self.copy_from_main(model.state_dict().values())
        ddp = nn.parallel.DistributedDataParallel
        # BatchNorm buffers are averaged before they are used, not copied at every step; torch 2.15 renamed the option.
        renamed = "forward_sync_buffers" in inspect.signature(ddp).parameters
        return ddp(
            model,
            device_ids=[self.device.index] if self.device.type == "cuda" else None,
            gradient_as_bucket_view=True,
            # keeps the order in which three and more processes add, which DistributedDataParallel else changes after
            # its first step, also after the first step of a run that goes on
            find_unused_parameters=self.device.type == "cpu" and self.size > 2,
            **{"forward_sync_buffers" if renamed else "broadcast_buffers": False},
        )


@contextlib.contextmanager
def join(device: str, timeout_minutes: float) -> Iterator[World]:
    """Join the processes that torchrun started, or be alone; leave them at the end of the block.

    Args:
        device: auto, cpu or cuda.
        timeout_minutes: how long processes wait for each other.

    Raises:
        InputError: cuda was asked for and cannot be used.
        LostProcessError: within the block, another process did not answer in time, or is gone.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    local_size = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    chosen = choose_device(device, local_rank, local_size)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    if size == 1:
        yield World(chosen)
        return
    timeout = datetime.timedelta(minutes=timeout_minutes)
    everyone, rank, size = next(dist.rendezvous("env://"))
    store = meet(everyone, rank, size, max(timeout.total_seconds(), SHORTEST_MEETING))
    options = {"store": dist.PrefixStore("group", store), "rank": rank, "world_size": size, "timeout": timeout}
    if chosen.type == "cuda":
        options["device_id"] = chosen
    with process_group("nccl" if chosen.type == "cuda" else "gloo", **options), roll_call(store, rank, size):
        yield World(chosen, rank, size, local_size)


@contextlib.contextmanager
def process_group(backend: str, **options: object) -> Iterator[None]:
    """The default process group, gone with its threads at the end of the block.

    A thread of gloo that is still letting go of a tensor while the interpreter ends aborts the process: torch only
    joins these threads once nothing refers to the group. Its compiler, which DistributedDataParallel imports, does
    for ever where it is imported after the group was made; models refer to it in reference cycles.

    Args:
        backend: gloo or nccl.
        options: what `torch.distributed.init_process_group` takes besides.
    """
    importlib.import_module("torch._dynamo")
    dist.init_process_group(backend, **options)
    yield
    # Not after an error: leaving would wait for processes that wait for this one, and hold its message back.
    dist.destroy_process_group()
    gc.collect()


def choose_device(device: str, local_rank: int = 0, local_size: int = 1) -> torch.device:
    """The device of this process; raises InputError where cuda is asked for and cannot be used."""
    if device == "cpu":
        return torch.device("cpu")
    problem = None
    if not torch.cuda.is_available():
        problem = "this machine has no GPU that PyTorch can use"
    elif not pumlc.build_info()["cuda"]:
        problem = "pumlc was built without CUDA; build it again with PUMLC_CUDA=1"
    elif torch.cuda.device_count() < local_size:
        problem = f"there are {torch.cuda.device_count()} GPUs for {local_size} processes"
    if problem is None:
        return torch.device("cuda", local_rank)
    if device == "cuda":
        raise InputError(f"--device cuda cannot be used: {problem}.")
    if torch.cuda.is_available():
        print(f"NOT USING THE GPU: {problem}.", flush=True)
    return torch.device("cpu")


def cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def random_states(world: World) -> dict[str, list]:
    """The state of every process's generators, for a checkpoint."""
    on_gpu = world.device.type == "cuda"
    return {
        "cpu": world.gather(torch.get_rng_state()),
        "cuda": world.gather(torch.cuda.get_rng_state() if on_gpu else None),
    }


def restore_random_state(world: World, states: dict[str, list]) -> None:
    """Put this process's generators back, where :func:`random_states` knew a process of this rank."""
    if world.rank >= len(states["cpu"]):
        return
    torch.set_rng_state(states["cpu"][world.rank])
    if world.device.type == "cuda" and states["cuda"][world.rank] is not None:
        torch.cuda.set_rng_state(states["cuda"][world.rank])
