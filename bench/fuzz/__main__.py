"""Runs one part: `python -m bench.fuzz pictures --count 20000 --seed 1`; exits with 1 if anything failed.

Request bodies need a running fleet: see `python -m bench.fuzz.bodies`.
"""

import argparse
import importlib
import sys

from .loop import fuzz

PARTS = ("pictures", "texts")  # modules of this folder, each with a function `open_part`


def main() -> int:
    """Run the part that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--count", type=int, default=20_000, help="cases")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="the number of the first case, to repeat a failure")
    options = parser.parse_args()
    part = importlib.import_module(f"{__package__}.{options.part}").open_part()
    report = fuzz(part, options.count, seed=options.seed, first=options.first)
    print(report)
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
