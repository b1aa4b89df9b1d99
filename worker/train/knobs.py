"""A command line made from a run's dataclass of knobs; knows no run."""

import argparse
import logging
import typing
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")


def from_arguments(kind: type[T], doc: str | None, arguments: list[str] | None = None) -> T:
    """The knobs as given on the command line, `--learning-rate 1e-3` for `learning_rate`; logs to the terminal."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    hints = typing.get_type_hints(kind)
    for knob in fields(kind):
        add(parser, knob.name, hints[knob.name], knob.default)
    return kind(**vars(parser.parse_args(arguments)))


def add(parser: argparse.ArgumentParser, name: str, hint: Any, default: Any) -> None:
    """One option; a tuple of numbers is given as several values."""
    of = typing.get_args(hint)
    settings: dict[str, Any] = {"type": of[0], "nargs": "+", "action": ToTuple} if of else {"type": hint}
    required = default is MISSING
    parser.add_argument(
        f"--{name.replace('_', '-')}",
        default=None if required else default,
        required=required,
        help=" ",
        **settings,
    )


class ToTuple(argparse.Action):
    """Keep several values as a tuple, as a frozen dataclass wants them."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option: Any = None) -> None:
        setattr(namespace, self.dest, tuple(values))


def as_json(knobs: Any) -> dict[str, Any]:
    """The knobs for a run's `config.json`."""
    plain = {knob.name: getattr(knobs, knob.name) for knob in fields(knobs)}
    return {name: str(value) if isinstance(value, Path) else value for name, value in plain.items()}
