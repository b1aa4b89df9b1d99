"""A run's dataclass of knobs as command line options; knows no run, and needs none of what runs import.

A knob is described where it is declared: `crop: int = 64  # px, a multiple of 8` gives the option `--crop`, its type,
its default and its help. `read_knobs` takes all of that from the source, so that `--help` loads no torch.
"""

import argparse
import ast
import importlib.util
import inspect
import logging
import tokenize
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")
KINDS: Mapping[str, Callable[[str], Any]] = {"int": int, "float": float, "str": str, "Path": Path}


@dataclass(frozen=True)
class Knob:
    """One field: `kind` names the type of its value, or of each value when there are `many`; no default = None."""

    name: str
    kind: str
    many: bool = False
    default: Any = None
    help: str = ""

    @property
    def option(self) -> str:
        """For example `--learning-rate`."""
        return f"--{self.name.replace('_', '-')}"

    def read(self, text: str) -> Any:
        """The value that a text stands for, several ones parted by commas; raises ValueError naming what it takes."""
        if self.many:
            return tuple(self.read_one(part.strip()) for part in text.split(","))
        return self.read_one(text)

    def read_one(self, text: str) -> Any:
        """One value."""
        if self.kind == "bool":
            if text.lower() not in ("true", "false"):
                raise ValueError(f"{text!r} is neither true nor false")
            return text.lower() == "true"
        try:
            return KINDS[self.kind](text)
        except ValueError:
            raise ValueError(f"{text!r} is not {'a whole number' if self.kind == 'int' else 'a number'}") from None

    def write(self, value: Any) -> str:
        """The opposite of `read`."""
        return ",".join(map(str, value)) if self.many else str(value).lower() if self.kind == "bool" else str(value)


def read_knobs(module: str, name: str = "Knobs") -> list[Knob]:
    """The knobs of a module that is not imported; raises TypeError for a default that only running it would tell."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise TypeError(f"there is no module {module}")
    return list(knobs_in(Path(spec.origin), name))


def knobs_in(file: Path, name: str) -> Iterator[Knob]:
    """The knobs of a dataclass, from its source."""
    with tokenize.open(file) as lines:
        source = lines.read()
    found = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name == name]
    for node in (entry for part in found for entry in part.body):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            kind, many = kind_of(ast.unparse(node.annotation))
            said = comment(source.splitlines()[(node.end_lineno or node.lineno) - 1])
            yield Knob(node.target.id, kind, many, value_of(node.value), said)


def kind_of(annotation: str) -> tuple[str, bool]:
    """ "tuple[int, ...]" → ("int", True)."""
    kind, many = annotation.removeprefix("tuple[").removesuffix(", ...]"), annotation.startswith("tuple[")
    if kind not in (*KINDS, "bool"):
        raise TypeError(f"no option can be made of a knob of type {annotation}")
    return kind, many


def value_of(node: ast.expr | None) -> Any:
    """What a default's source stands for: a literal, or a Path of one."""
    if node is None:
        return None
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "Path":
        return Path(*map(ast.literal_eval, node.args))
    try:
        return ast.literal_eval(node)
    except ValueError as error:
        raise TypeError(f"{ast.unparse(node)} is no literal; a knob's default must be one") from error


def comment(line: str) -> str:
    """What stands behind the `#` of a line of source."""
    try:
        tokens = list(tokenize.generate_tokens(iter([line.strip() + "\n", ""]).__next__))
    except tokenize.TokenError:  # the last line of a value over several lines
        return ""
    return next((token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT), "")


def from_arguments(kind: type[T], doc: str | None, arguments: list[str] | None = None) -> T:
    """The knobs as given on the command line, `--learning-rate 1e-3` for `learning_rate`; logs to the terminal."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    for knob in knobs_of(kind):
        add(parser, knob)
    return kind(**vars(parser.parse_args(arguments)))


def knobs_of(kind: "type[DataclassInstance]") -> list[Knob]:
    """The knobs of a dataclass that is imported, whatever its defaults are made of."""
    hints = typing.get_type_hints(kind)
    lines, _ = inspect.getsourcelines(kind)
    helps = {line.split(":")[0].strip(): comment(line) for line in lines if ":" in line}
    knobs = []
    for field in fields(kind):
        of = typing.get_args(hints[field.name])
        name = (of[0] if of else hints[field.name]).__name__
        default = None if field.default is MISSING else field.default
        knobs.append(Knob(field.name, name, bool(of), default, helps.get(field.name, "")))
    return knobs


def add(parser: argparse.ArgumentParser, knob: Knob) -> None:
    """One option; several values are given one after the other, or parted by commas."""

    def value(text: str) -> Any:
        try:
            return knob.read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    several: dict[str, Any] = {"nargs": "+", "action": Joined} if knob.many else {}
    help_text = knob.help.replace("%", "%%") or " "
    parser.add_argument(
        knob.option, default=knob.default, required=knob.default is None, help=help_text, type=value, **several
    )


class Joined(argparse.Action):
    """Keep several values as one tuple, as a frozen dataclass wants them."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option: Any = None) -> None:
        setattr(namespace, self.dest, tuple(value for part in values for value in part))


def as_json(knobs: Any) -> dict[str, Any]:
    """The knobs for a run's `config.json`."""
    plain = {knob.name: getattr(knobs, knob.name) for knob in fields(knobs)}
    return {name: str(value) if isinstance(value, Path) else value for name, value in plain.items()}


def from_json(kind: type[T], given: Mapping[str, Any]) -> T:
    """The opposite of `as_json`; what is not given has its default."""
    knobs = {knob.name: knob for knob in knobs_of(kind)}
    return kind(**{name: restored(knobs[name], value) for name, value in given.items()})


def restored(knob: Knob, value: Any) -> Any:
    """A value as the dataclass wants it: JSON has neither tuples nor paths."""
    if knob.many:
        return tuple(value)
    return Path(value) if knob.kind == "Path" else value
