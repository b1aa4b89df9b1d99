"""Places drawings on a sheet by a prompt's numbers, sizes and relations, and at random where it gives none.

Training scenes are arranged and described by the same tables. Knows no drawings.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from .layout import MAX_DRAWINGS, MAX_THINGS, Placement

Spot = tuple[str, int]  # canvas, place

RELATIONS: dict[str, tuple[str, int, int]] = {
    # words between two things: (canvas, place of the first, place of the second)
    "and": ("sides", 0, 1),
    "next to": ("sides", 0, 1),
    "beside": ("sides", 0, 1),
    "with": ("sides", 0, 1),
    "left of": ("sides", 0, 1),
    "to the left of": ("sides", 0, 1),
    "on the left of": ("sides", 0, 1),
    "right of": ("sides", 1, 0),
    "to the right of": ("sides", 1, 0),
    "on the right of": ("sides", 1, 0),
    "above": ("stack", 0, 1),
    "over": ("stack", 0, 1),
    "on top of": ("stack", 0, 1),
    "below": ("stack", 1, 0),
    "under": ("stack", 1, 0),
    "underneath": ("stack", 1, 0),
}
SYNONYMS = {"beneath": "below", "on": "on top of", "in front of": "and", "behind": "and", "near": "next to"}
BIG, TINY = ("big", "huge", "large", "giant"), ("tiny", "small")  # "little" mostly expresses affection, not size
GROUPS: dict[int, tuple[tuple[Spot, ...], ...]] = {
    # count: possible arrangements of that many of one thing
    2: (
        (("sides", 0), ("sides", 1)),
        (("sides", 0), ("sides", 1)),
        (("quarters", 0), ("quarters", 3)),
        (("quarters", 1), ("quarters", 2)),
    ),
    3: (
        (("quarters", 0), ("quarters", 1), ("stack", 1)),
        (("stack", 0), ("quarters", 2), ("quarters", 3)),
    ),
    4: ((("quarters", 0), ("quarters", 1), ("quarters", 2), ("quarters", 3)),),
}
TOGETHER: dict[tuple[int, ...], tuple[tuple[Spot, ...], ...]] = {
    # count of each thing: the spots of each thing
    (2, 1): ((("quarters", 0), ("quarters", 1)), (("stack", 1),)),
    (1, 2): ((("stack", 0),), (("quarters", 2), ("quarters", 3))),
    (2, 2): ((("quarters", 0), ("quarters", 1)), (("quarters", 2), ("quarters", 3))),
    (3, 1): ((("quarters", 0), ("quarters", 1), ("quarters", 2)), (("quarters", 3),)),
    (1, 3): ((("quarters", 0),), (("quarters", 1), ("quarters", 2), ("quarters", 3))),
    (1, 1, 1): ((("quarters", 0),), (("quarters", 1),), (("stack", 1),)),
    (2, 1, 1): ((("quarters", 0), ("quarters", 1)), (("quarters", 2),), (("quarters", 3),)),
    (1, 2, 1): ((("quarters", 0),), (("quarters", 1), ("quarters", 2)), (("quarters", 3),)),
    (1, 1, 2): ((("quarters", 0),), (("quarters", 1),), (("quarters", 2), ("quarters", 3))),
    (1, 1, 1, 1): ((("quarters", 0),), (("quarters", 1),), (("quarters", 2),), (("quarters", 3),)),
}


@dataclass(frozen=True)
class Composition:
    """What a prompt says about a scene: the count of each thing in the order of mention, a relation, and a size.

    `relation` is a key of RELATIONS and holds between the first two things; `size` is a word of BIG or TINY, or "".
    """

    counts: tuple[int, ...]
    relation: str = "and"
    size: str = ""


def place_drawings(composition: Composition, random: Random) -> tuple[Placement, ...]:
    """Places for at most four drawings of at most four things; drawings beyond that are dropped, the last first."""
    counts = limit_counts(composition.counts)
    spots: Sequence[Sequence[Spot]]
    if not counts:
        return ()
    if counts == (1,):
        spots = [[("big" if composition.size in BIG else "tiny" if composition.size in TINY else "one", 0)]]
    elif len(counts) == 1:
        spots = [random.choice(GROUPS[counts[0]])]
    elif counts == (1, 1):
        canvas, first, second = RELATIONS[composition.relation]
        spots = [[(canvas, first)], [(canvas, second)]]
    else:
        spots = TOGETHER[counts]
    return tuple(Placement(thing, *spot) for thing, thing_spots in enumerate(spots) for spot in thing_spots)


def limit_counts(counts: Sequence[int]) -> tuple[int, ...]:
    """The counts reduced to four drawings: first one of as many things as possible, then more of each in turn."""
    limited = [1] * min(len(counts), MAX_THINGS)
    for thing, count in enumerate(counts[:MAX_THINGS]):
        limited[thing] += min(count - 1, MAX_DRAWINGS - sum(limited))
    return tuple(limited)
