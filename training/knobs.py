"""Turn a run's dataclass of knobs into command line options.

A knob is declared once: `crop: int = 64  # px, a multiple of 8` gives the option `--crop` with its type, default and
help text. `read_knobs` reads all of that from the source code, so that `--help` does not load torch.
"""

import argparse
import ast
import importlib.util
import inspect
import tokenize
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from jobs.log_lines import log_to_stderr

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")
PARSERS: Mapping[str, Callable[[str], Any]] = {"int": int, "float": float, "str": str, "Path": Path}


@dataclass(frozen=True)
class Knob:
    """One field. `kind` is the name of its type, or of its elements' type if `is_list`.

    If `default` is None, the option is required.
    """

    name: str
    kind: str
    is_list: bool = False
    default: Any = None
    help: str = ""

    @property
    def option(self) -> str:
        """For example `--learning-rate`."""
        return f"--{self.name.replace('_', '-')}"

    def parse(self, text: str) -> Any:
        """Parse a value; the elements of a list are separated by commas. Raises ValueError with the expected type."""
        if self.is_list:
            return tuple(self.parse_element(part.strip()) for part in text.split(","))
        return self.parse_element(text)

    def parse_element(self, text: str) -> Any:
        """Parse a single value, or one element of a list."""
        if self.kind == "bool":
            if text.lower() not in ("true", "false"):
                raise ValueError(f"{text!r} is neither true nor false")
            return text.lower() == "true"
        try:
            return PARSERS[self.kind](text)
        except ValueError:
            raise ValueError(f"{text!r} is not {'a whole number' if self.kind == 'int' else 'a number'}") from None

    def format(self, value: Any) -> str:
        """Format a value as text that `parse` turns back into the value."""
        if self.is_list:
            return ",".join(map(str, value))
        return str(value).lower() if self.kind == "bool" else str(value)


def read_knobs(module: str, name: str = "Knobs") -> list[Knob]:
    """The knobs of the dataclass `name` in a module, without importing the module.

    Raises TypeError if there is no such module, or if a knob has a default that is not a literal or an unknown type.
    """
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise TypeError(f"there is no module {module}")
    return list(parse_knobs(Path(spec.origin), name))


def parse_knobs(file: Path, name: str) -> Iterator[Knob]:
    """The knobs of the dataclass `name`, parsed from its source file; raises TypeError as `read_knobs` does."""
    with tokenize.open(file) as lines:
        source = lines.read()
    classes = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name == name]
    for node in (statement for definition in classes for statement in definition.body):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            kind, is_list = parse_annotation(ast.unparse(node.annotation))
            help_text = trailing_comment(source.splitlines()[(node.end_lineno or node.lineno) - 1])
            yield Knob(node.target.id, kind, is_list, parse_default(node.value), help_text)


def parse_annotation(annotation: str) -> tuple[str, bool]:
    """The type of a knob or of its elements, and whether it is a list: "tuple[int, ...]" → ("int", True)."""
    kind, is_list = annotation.removeprefix("tuple[").removesuffix(", ...]"), annotation.startswith("tuple[")
    if kind not in (*PARSERS, "bool"):
        raise TypeError(f"a knob of type {annotation} cannot become an option")
    return kind, is_list


def parse_default(node: ast.expr | None) -> Any:
    """The value of a default: a literal, or a Path of one."""
    if node is None:
        return None
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "Path":
        return Path(*map(ast.literal_eval, node.args))
    try:
        return ast.literal_eval(node)
    except ValueError as error:
        raise TypeError(f"{ast.unparse(node)} is not a literal; the default of a knob must be one") from error


def trailing_comment(line: str) -> str:
    """The comment at the end of a line of source code, without its `#`."""
    try:
        tokens = list(tokenize.generate_tokens(iter([line.strip() + "\n", ""]).__next__))
    except tokenize.TokenError:  # the last line of a value that spans several lines
        return ""
    return next((token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT), "")


def from_arguments(knobs_class: type[T], doc: str | None, arguments: list[str] | None = None) -> T:
    """Parse the command line, `--learning-rate 1e-3` for `learning_rate`, and log to the terminal.

    `doc` is the text above the options in `--help`; `arguments` replace those of the process.
    """
    log_to_stderr()
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    for knob in inspect_knobs(knobs_class):
        add_option(parser, knob)
    return knobs_class(**vars(parser.parse_args(arguments)))


def inspect_knobs(knobs_class: "type[DataclassInstance]") -> list[Knob]:
    """The knobs of an imported dataclass; its defaults may be any expressions."""
    hints = typing.get_type_hints(knobs_class)
    lines, _ = inspect.getsourcelines(knobs_class)
    help_texts = {line.split(":")[0].strip(): trailing_comment(line) for line in lines if ":" in line}
    knobs = []
    for field in fields(knobs_class):
        elements = typing.get_args(hints[field.name])
        kind = (elements[0] if elements else hints[field.name]).__name__
        default = None if field.default is MISSING else field.default
        knobs.append(Knob(field.name, kind, bool(elements), default, help_texts.get(field.name, "")))
    return knobs


def add_option(parser: argparse.ArgumentParser, knob: Knob) -> None:
    """Add the option of a knob; the values of a list may be separated by spaces or commas."""

    def parse(text: str) -> Any:
        try:
            return knob.parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    list_settings: dict[str, Any] = {"nargs": "+", "action": JoinValues} if knob.is_list else {}
    help_text = knob.help.replace("%", "%%") or " "
    parser.add_argument(
        knob.option, default=knob.default, required=knob.default is None, help=help_text, type=parse, **list_settings
    )


class JoinValues(argparse.Action):
    """Store several values as one tuple, as a frozen dataclass needs them."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option: Any = None) -> None:
        setattr(namespace, self.dest, tuple(value for part in values for value in part))


def to_json(knobs: Any) -> dict[str, Any]:
    """The knobs as a run's `config.json` holds them."""
    values = {field.name: getattr(knobs, field.name) for field in fields(knobs)}
    return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}


def from_json(knobs_class: type[T], values: Mapping[str, Any]) -> T:
    """The knobs that `to_json` wrote; missing ones get their default."""
    knobs = {knob.name: knob for knob in inspect_knobs(knobs_class)}
    return knobs_class(**{name: restore_value(knobs[name], value) for name, value in values.items()})


def restore_value(knob: Knob, value: Any) -> Any:
    """Convert a JSON value to the type of the field: JSON has neither tuples nor paths."""
    if knob.is_list:
        return tuple(value)
    return Path(value) if knob.kind == "Path" else value
