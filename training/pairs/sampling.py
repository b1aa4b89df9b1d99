"""Choose which pairs to train on in each pass, and which to measure with."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from random import Random

from memo.errors import BadSetup
from memo.judge.labelled_pairs import Pair, read_pairs

from .pair_sources import kind_of
from .relation_pair import RelationPair, mirrored

FIELDS = [field.name for field in fields(RelationPair)]
MEASURED_FILES = ("authored", "real", "captions")  # files of the dev set that judges are measured with
# The number of pairs that a pass takes from each group, by relation. Without such limits, large groups and sources
# would dominate. A pair with several possible relations counts as the last of them.
GROUP_QUOTAS = {
    **{f"authored-{file}": {"S": 3, "M": 1, "L": 1, "D": 3} for file in "ABCDG"},
    "authored-E": {"S": 4, "M": 1, "L": 1, "D": 6},
    "relaxed": {"M": 1, "L": 1, "D": 2},
}
# How many pairs a pass takes from a source, by possible relations. Anything that is not listed is used completely.
SOURCE_QUOTAS = {
    ("cxc_sits", "LD"): 800,
    ("cxc_sts", "MLD"): 1000,
    ("snli_becel", "D"): 800,
    ("snli_becel", "SM"): 800,
    ("stsb_captions", "MLD"): 400,
    ("vsr", "MLD"): 700,
}


def read_training_pairs(folder: Path) -> list[RelationPair]:
    """Read all files in the folder `train` that `training.pairs.splits` wrote. Raises BadSetup if there are none."""
    paths = sorted(folder.glob("*.jsonl"))
    if not paths:
        raise BadSetup(f"there are no pairs in {folder}: run `python -m training.pairs.splits` first")
    return [pair for path in paths for pair in read_relation_pairs(path)]


def read_relation_pairs(path: Path) -> Iterator[RelationPair]:
    """Read the pairs in one file."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            yield RelationPair(**{name: row[name] for name in FIELDS})


def draw_pass(pairs: Sequence[RelationPair], random: Random) -> list[RelationPair]:
    """Draw the pairs for one training pass, in random order."""
    buckets: dict[tuple[str, ...], list[RelationPair]] = defaultdict(list)
    for pair in pairs:
        buckets[bucket_of(pair)].append(pair)
    drawn = [pair for key, bucket in buckets.items() for pair in draw(bucket, quota_of(key), random)]
    oriented = [pair for one in drawn for pair in orient(one, random)]
    random.shuffle(oriented)
    return oriented


def bucket_of(pair: RelationPair) -> tuple[str, ...]:
    """Return the key of the bucket that the pair belongs to. All pairs in a bucket share one quota."""
    if pair.source in GROUP_QUOTAS:
        return pair.source, pair.possible[-1], pair.group
    return pair.source, pair.possible


def quota_of(bucket: tuple[str, ...]) -> int | None:
    """Return how many pairs a pass takes from a bucket. None means all of them."""
    source, relation = bucket[:2]
    if source in GROUP_QUOTAS:
        return GROUP_QUOTAS[source][relation]
    return SOURCE_QUOTAS.get((source, relation))


def draw(bucket: list[RelationPair], quota: int | None, random: Random) -> list[RelationPair]:
    """Draw pairs at random, or take them all if there are no more than the quota."""
    return bucket if quota is None or quota >= len(bucket) else random.sample(bucket, quota)


def orient(pair: RelationPair, random: Random) -> list[RelationPair]:
    """Choose the order of the two prompts for training: as they are, exchanged, or both.

    The files contain authored pairs in both directions already. Real pairs are used in both directions, because there
    are few of them. All other pairs are used in one direction, chosen at random.
    """
    if pair.source in GROUP_QUOTAS:
        return [pair]
    mirror = replace(pair, a=pair.b, b=pair.a, possible=mirrored(pair.possible))
    return [pair, mirror] if pair.source == "real" else [random.choice([pair, mirror])]


def read_measured_pairs(folder: Path, limit: int) -> list[Pair]:
    """Read the pairs of the folder `dev` that judges are measured with: at most `limit` of each kind."""
    return sample_kinds([pair for name in MEASURED_FILES for pair in read_pairs(folder / f"{name}.jsonl")], limit)


def sample_kinds(pairs: Sequence[Pair], limit: int) -> list[Pair]:
    """Take at most `limit` pairs of each kind. Hashes decide, so the sample is always the same."""
    kinds: dict[str, list[Pair]] = defaultdict(list)
    for pair in sorted(pairs, key=lambda pair: hashlib.sha256(f"{pair.a}|{pair.b}".encode()).digest()):
        kind = kinds[kind_of(pair.source)]
        if len(kind) < limit:
            kind.append(pair)
    return [pair for name in sorted(kinds) for pair in kinds[name]]
