"""Fixtures that all tests can use."""

from __future__ import annotations

import pytest
import torch

from pumlc.errors import MissingPackageError
from tests.native.library import SANITIZED, Native

pytest_plugins = ["tests.pictures"]


@pytest.fixture(params=["cpu", "cuda"])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Every device that the operators run on; cuda is skipped where there is none."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU here")
    return torch.device(request.param)


@pytest.fixture(scope="session")
def emulated() -> Native:
    """The CUDA kernels on a CPU (tests/emulator), built when the first test asks for them."""
    return Native("emulated")


@pytest.fixture(scope="session")
def native() -> Native:
    """The variant of the native code that this process was started for, under a sanitizer."""
    return Native(SANITIZED)


@pytest.fixture
def poisoned_memory():
    """Fresh tensors hold NaN, so that an element which a kernel forgets to write is seen."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    yield
    torch.use_deterministic_algorithms(before)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item):
    """A test of a part whose package is not installed is skipped: the operators are tested with torch alone."""
    try:
        return (yield)
    except MissingPackageError as error:
        pytest.skip(str(error))
