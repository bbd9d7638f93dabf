"""The two errors that are meant for people, and the one way to ask for an optional package."""

from __future__ import annotations

import importlib
from types import ModuleType


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message is one or two sentences: the file or argument, what was found, what was wanted and what
    to do. Command lines print it without a traceback and exit with status 2.
    """


class MissingPackageError(ImportError):
    """An optional package is not installed; the message holds the command that installs it."""


def require(module: str, package: str | None = None) -> ModuleType:
    """Import ``module``, or say which command installs it.

    Args:
        module: dotted name, as in an import statement.
        package: name on the package index, where it differs from the first part of ``module``.

    Raises:
        MissingPackageError: the package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or module.split(".")[0] != error.name.split(".")[0]:
            raise
        package = package or module.split(".")[0]
        raise MissingPackageError(
            f"This needs the package {package}, which is not installed. Install it with: pip install {package}"
        ) from error
