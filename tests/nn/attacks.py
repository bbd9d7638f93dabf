"""Weight files that run code where they are unpickled: they make a file."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch


class Attack:
    """Makes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self):
        return open, (str(self._mark), "w")


ATTACKS = ("archive.pth", "legacy.pth", "plain.pkl", "named.safetensors")


def write_attack(name: str, folder: Path) -> tuple[Path, Path]:
    """A file of one of the ``ATTACKS`` that begins like a state dict, and the file that it would make."""
    path, mark = folder / name, folder / f"{name}-was-run"
    content = {"state_dict": {"head.weight": torch.zeros(2, 2), "head.bias": Attack(mark)}}
    if name == "plain.pkl":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=name != "legacy.pth")
    return path, mark
