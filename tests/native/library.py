"""Loads a variant of the native code and puts its ops in the place of the installed CPU kernels."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import subprocess
from collections.abc import Iterator

import pumlc.ops  # noqa: F401  (the ops must be registered before they can be replaced)
from tests.native.build import build

# a line of `nm -S -C`; a variable's name follows the parameters of its function, not "(anonymous namespace)"
SYMBOL = re.compile(r"(?P<at>\w+) (?P<size>\w+) [bBdDuV] pumlc::cuda::.*(?<!\(anonymous namespace)\)::(?P<name>\w+)$")
SANITIZED = os.environ.get("PUMLC_TEST_NATIVE")
"""Set in a process that was started under a sanitizer (test_sanitizers.py): the variant that it is for."""

H200 = (132, 227 * 1024)
"""Multiprocessors, and bytes of shared memory that a block can have."""


class Native:
    """One variant, as built by :func:`tests.native.build.build`."""

    def __init__(self, variant: str) -> None:
        self.emulates = variant.startswith("emulated")
        path = build(variant)
        self.functions = ctypes.CDLL(str(path))
        if self.emulates:
            self.functions.pumlc_emulator_set_device.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_uint64]
            self._tell_static_shared(path)

    def _tell_static_shared(self, path) -> None:
        """Static shared memory is the static variables of the kernels: the linker knows where they lie."""
        add = self.functions.pumlc_emulator_add_static_shared
        add.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_size_t]
        symbols = subprocess.run(["nm", "-S", "-C", str(path)], capture_output=True, text=True, check=True).stdout
        found = [SYMBOL.match(line) for line in symbols.splitlines() if "guard variable" not in line]
        for match in filter(None, found):
            add(match["name"].encode(), int(match["at"], 16), int(match["size"], 16))

    @contextlib.contextmanager
    def installed(
        self, *, multiprocessors: int = H200[0], shared_memory: int = H200[1], order: int = 0
    ) -> Iterator[Native]:
        """While in this block, pumlc's ops on CPU tensors run the kernels of this variant.

        Args:
            multiprocessors, shared_memory: of the emulated GPU.
            order: seed of the order in which blocks and their threads run; 0 is the natural one.
        """
        self.functions.pumlc_install()
        if self.emulates:
            self.functions.pumlc_emulator_set_device(multiprocessors, shared_memory, order)
            self.functions.pumlc_emulator_watch_memory(1)
        try:
            yield self
        finally:
            if self.emulates:
                self.functions.pumlc_emulator_watch_memory(0)
            self.functions.pumlc_uninstall()
