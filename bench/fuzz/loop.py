"""Gives the cases of a part to its readers, and reports what went wrong."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

LIMIT = 1.0  # seconds of processor time for one reader and one case
MAX_SHOWN = 20  # failures in a report


@dataclass(frozen=True)
class Reader:
    """Something that reads a case; `refusals` are the errors with which it may refuse one."""

    name: str
    read: Callable[[Any], object]
    refusals: tuple[type[Exception], ...]


@dataclass(frozen=True)
class Part:
    """A kind of cases, made from a random generator, and all that read them."""

    make_case: Callable[[Random], Any]
    readers: Sequence[Reader]


@dataclass
class Report:
    """What came of the cases; `accepted` counts by reader how many it did not refuse."""

    cases: int = 0
    accepted: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0  # seconds of processor time
    slowest_case: str = ""
    failures: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        accepted = ", ".join(f"{name} {count / max(1, self.cases):.0%}" for name, count in self.accepted.items())
        lines = [
            f"{self.cases} cases, {len(self.failures)} failures, slowest {self.slowest:.3f} s ({self.slowest_case})",
            f"accepted: {accepted or 'none'}",
        ]
        return "\n".join([*lines, *self.failures[:MAX_SHOWN]])


def fuzz(part: Part, count: int, *, seed: int, first: int = 0) -> Report:
    """Give `count` cases, from the case `first` on, to all readers; it depends only on the seed and its number."""
    report = Report()
    for number in range(first, first + count):
        case = part.make_case(Random(f"{seed}:{number}"))
        report.cases += 1
        for reader in part.readers:
            try_case(reader, case, f"case {number}, {reader.name}", report)
    return report


def try_case(reader: Reader, case: object, name: str, report: Report) -> None:
    """Give one case to one reader, and note the outcome."""
    started = time.process_time()
    try:
        reader.read(case)
        report.accepted[reader.name] += 1
    except reader.refusals:
        pass
    except Exception as error:  # noqa: BLE001 - every other error is what we are looking for
        report.failures.append(f"{name}: {type(error).__name__}: {str(error)[:200]}")
    seconds = time.process_time() - started
    if seconds > report.slowest:
        report.slowest, report.slowest_case = seconds, name
    if seconds > LIMIT:
        report.failures.append(f"{name}: took {seconds:.1f} s")
