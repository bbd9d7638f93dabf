"""The command lines of the published codes: their flags, and the settings that they stand for.

Flags may be shortened as far as they stay distinct, as there. Flags of :class:`~pumlc.engine.config.Config` may be
added; those that both have mean the same.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import NoReturn, Protocol

from pumlc.engine import published_large_loss, published_pu_mlc
from pumlc.engine.config import Config
from pumlc.engine.presets import PRESETS, Preset
from pumlc.engine.resuming import AUTO
from pumlc.errors import InputError


class PublishedCode(Protocol):
    """A module on one of the codes."""

    WITHOUT_EFFECT: Mapping[str, str]  # flag, and why

    def is_meant(self, flags: Sequence[str]) -> bool: ...

    def add_flags(self, parser: argparse.ArgumentParser) -> None: ...

    def translate(self, given: argparse.Namespace) -> tuple[str, Config]: ...


CODES: tuple[PublishedCode, ...] = (published_large_loss, published_pu_mlc)


def is_published(arguments: Sequence[str]) -> bool:
    """Whether a flag among ``arguments`` can only be one of a published code, and the first word is no preset."""
    return _code(arguments) is not None


def translate(arguments: Sequence[str]) -> tuple[str, Preset, list[str]]:
    """The name of the preset that the words begin with, their settings, and the flags of this program among them.

    Raises:
        InputError: a word is neither, a value cannot be used, or the file of weights is not there.
    """
    code = _code(arguments)
    published, own = _split(arguments, code)
    for word, after in itertools.pairwise([*own, ""]):
        flag, _, value = word.partition("=")
        if flag == "--resume" and AUTO not in (value, after):
            raise InputError("--resume takes all settings from the run. Leave the flags of the published code away.")
    name, config = code.translate(_parser(code).parse_args(published))
    return name, PRESETS[name]._replace(config=config), own


def notes(arguments: Sequence[str]) -> tuple[str, ...]:
    """A sentence for each flag among ``arguments`` that changes nothing."""
    code = _code(arguments)
    parser = _parser(code)
    given = vars(parser.parse_args(_split(arguments, code)[0]))
    flags = {action.dest: action.option_strings[-1] for action in parser._actions if action.option_strings}
    return tuple(
        f"{flags[name]} {given[name]} has no effect: {reason}"
        for name, reason in code.WITHOUT_EFFECT.items()
        if given[name] is not None
    )


def _code(arguments: Sequence[str]) -> PublishedCode | None:
    if arguments and arguments[0] in PRESETS:
        return None
    own = _own_flags()
    names = [argument.partition("=")[0] for argument in arguments]
    unknown = [name for name in names if name.startswith("--") and name != "--" and name.replace("_", "-") not in own]
    short = [name[:2] for name in names if name.startswith("-") and not name.startswith("--")]  # -b 35, -b35
    foreign = [*unknown, *(flag for flag in short if len(flag) == 2 and flag not in own)]
    return next((code for code in CODES if code.is_meant(foreign)), None)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        flags = " ".join((action.option_strings or [action.metavar])[-1] for action in self._actions)
        raise InputError(
            f"This reads like a command line of a published code, but: {message}. That code has {flags}; the flags of "
            "train.py --help can be added."
        )


def _parser(code: PublishedCode) -> argparse.ArgumentParser:
    parser = _Parser(add_help=False)
    code.add_flags(parser)
    return parser


def _own_flags() -> dict[str, bool]:
    """The flags of this program, and whether a value follows."""
    flags = {"-h": False, "--help": False}
    for field in fields(Config):
        name = field.name.replace("_", "-")
        is_switch = field.type == "bool"
        flags[f"--{name}"] = not is_switch
        if is_switch:
            flags[f"--no-{name}"] = False
    return flags


def _split(arguments: Sequence[str], code: PublishedCode) -> tuple[list[str], list[str]]:
    """The words for the published parser, and those with flags that are of this program alone."""
    actions = _parser(code)._actions
    both = {option.replace("_", "-") for action in actions for option in action.option_strings}
    if any(action.dest == "data" for action in actions):
        both.add("--data")  # a word of its own there, and no flag
    own_flags = {flag: value for flag, value in _own_flags().items() if flag not in both}
    published, own = [], []
    words = iter(arguments)
    for word in words:
        flag, equals, _ = word.partition("=")
        takes_value = own_flags.get(flag.replace("_", "-"))
        if takes_value is None:
            published.append(word)
            continue
        own.append(word)
        if takes_value and not equals:
            own += itertools.islice(words, 1)
    return published, own
