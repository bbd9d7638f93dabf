"""Where the operators are tested."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.native.library import SANITIZED


@pytest.fixture(params=[SANITIZED] if SANITIZED else ["cpu", "emulated", "cuda"])
def device(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    """Every device that the operators run on, and the emulated GPU, whose tensors torch takes for CPU tensors.

    In a process that runs under a sanitizer, that variant alone.
    """
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU here")
    if request.param in ("cpu", "cuda"):
        yield torch.device(request.param)
        return
    with request.getfixturevalue("native" if SANITIZED else "emulated").installed():
        yield torch.device("cpu")
