"""Draws the pairs of one training pass, so that large groups and sources do not outweigh the small ones."""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from random import Random

from memo.errors import BadSetup

from .relation_pair import RelationPair, mirrored

FIELDS = [field.name for field in fields(RelationPair)]
# Pairs of each authored group in one pass, by relation; a pair with several possible relations counts under the last.
GROUP_QUOTAS = {
    **{f"authored-{file}": {"S": 3, "M": 1, "L": 1, "D": 3} for file in "ABCDG"},
    "authored-E": {"S": 4, "M": 1, "L": 1, "D": 6},
    "relaxed": {"M": 1, "L": 1, "D": 2},
}
# Pairs of a whole source in one pass, by possible relations; sources that are not listed are used in full.
SOURCE_QUOTAS = {
    ("cxc_sits", "LD"): 800,
    ("cxc_sts", "MLD"): 1000,
    ("snli_becel", "D"): 800,
    ("snli_becel", "SM"): 800,
    ("stsb_captions", "MLD"): 400,
    ("vsr", "MLD"): 700,
}


def read_split(folder: Path) -> list[RelationPair]:
    """All pairs of one split that `training.pairs.splits` has written; raises BadSetup if there are none."""
    paths = sorted(folder.glob("*.jsonl"))
    if not paths:
        raise BadSetup(f"there are no pairs in {folder}: run `python -m training.pairs.splits` first")
    return [pair for path in paths for pair in read_pairs_of(path)]


def read_pairs_of(path: Path) -> Iterator[RelationPair]:
    """The pairs of one file."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            yield RelationPair(**{name: row[name] for name in FIELDS})


def draw_pass(pairs: Sequence[RelationPair], random: Random) -> list[RelationPair]:
    """The pairs of one pass, in random order."""
    buckets: dict[tuple[str, ...], list[RelationPair]] = defaultdict(list)
    for pair in pairs:
        buckets[bucket_of(pair)].append(pair)
    drawn = [pair for key, bucket in buckets.items() for pair in draw(bucket, quota_of(key), random)]
    directed = [pair for one in drawn for pair in direct(one, random)]
    random.shuffle(directed)
    return directed


def bucket_of(pair: RelationPair) -> tuple[str, ...]:
    """The pairs that share a quota: those of a group, or those of a source, with the same relation."""
    if pair.source in GROUP_QUOTAS:
        return pair.source, pair.possible[-1], pair.group
    return pair.source, pair.possible


def quota_of(bucket: tuple[str, ...]) -> int | None:
    """How many pairs of a bucket a pass has; None for all."""
    source, relation = bucket[:2]
    if source in GROUP_QUOTAS:
        return GROUP_QUOTAS[source][relation]
    return SOURCE_QUOTAS.get((source, relation))


def draw(bucket: list[RelationPair], quota: int | None, random: Random) -> list[RelationPair]:
    """A random sample of a bucket, or all of it if it is not larger than its quota."""
    return bucket if quota is None or quota >= len(bucket) else random.sample(bucket, quota)


def direct(pair: RelationPair, random: Random) -> list[RelationPair]:
    """The pair in one or both directions.

    Of authored pairs, the files hold both directions already. The few pairs of real prompts are used in both.
    """
    if pair.source in GROUP_QUOTAS:
        return [pair]
    mirror = replace(pair, a=pair.b, b=pair.a, possible=mirrored(pair.possible))
    return [pair, mirror] if pair.source == "real" else [random.choice([pair, mirror])]
