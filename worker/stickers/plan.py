"""Where the things a prompt speaks of are to stand: read from its numbers, sizes and relations, else by chance.

The same tables say how training scenes are set out and how they are put into words. Knows no drawings.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from .layout import DRAWN, THINGS, Placement

Spot = tuple[str, int]  # canvas, place

RELATIONS: dict[str, tuple[str, int, int]] = {
    # wording between two things: (canvas, place of the first, place of the second)
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
ALSO = {"beneath": "below", "on": "on top of", "in front of": "and", "behind": "and", "near": "next to"}
BIG, TINY = ("big", "huge", "large", "giant"), ("tiny", "small")  # "little" is mostly said of what is dear
GROUPS: dict[int, tuple[tuple[Spot, ...], ...]] = {
    # count: ways to set out that many of one thing
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
    # counts of several things: the spots of each
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
class Wish:
    """How many of each thing, in the order of mention, how the first two stand to each other, a size if one is said.

    `relation` is a key of RELATIONS, `size` a word of BIG or TINY or nothing.
    """

    counts: tuple[int, ...]
    relation: str = "and"
    size: str = ""


def plan(wish: Wish, random: Random) -> tuple[Placement, ...]:
    """Places for at most four drawings of at most four things; what is too much is left out, the last first."""
    counts = fitting(wish.counts)
    spots: Sequence[Sequence[Spot]]
    if not counts:
        return ()
    if counts == (1,):
        spots = [[("big" if wish.size in BIG else "tiny" if wish.size in TINY else "one", 0)]]
    elif len(counts) == 1:
        spots = [random.choice(GROUPS[counts[0]])]
    elif counts == (1, 1):
        canvas, first, second = RELATIONS[wish.relation]
        spots = [[(canvas, first)], [(canvas, second)]]
    else:
        spots = TOGETHER[counts]
    return tuple(Placement(thing, *spot) for thing, of_thing in enumerate(spots) for spot in of_thing)


def fitting(counts: Sequence[int]) -> tuple[int, ...]:
    """The counts with as many things as possible, then as many of each, in four places."""
    kept = [1] * min(len(counts), THINGS)
    for thing, wanted in enumerate(counts[:THINGS]):
        kept[thing] += min(wanted - 1, DRAWN - sum(kept))
    return tuple(kept)
