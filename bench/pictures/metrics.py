"""Figures of pictures, painted or real: how many show what was asked, and how much they differ. Knows no painter."""

from collections.abc import Callable, Iterable, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.scenes.places import COLOURS, PLACES

from .background_colour import background_colour
from .classifier import WHOLE, Floats, Judge, Scores, boxes_of
from .prompts import Ask

Figures = dict[str, float | None]  # None where no picture was asked for
Asks = Sequence[Ask]
Pictures = Sequence[Image.Image]


def concept(judge: Judge, asks: Asks, pictures: Pictures) -> Figures:
    """Whether the thing asked for is the likeliest, or among the five likeliest."""
    return top("concept", whole(judge, pictures), asks)


def held_out(judge: Judge, asks: Asks, pictures: Pictures) -> Figures:
    """The same of things that training left out."""
    return top("held_out", whole(judge, pictures), asks)


def unseen(judge: Judge, asks: Asks, pictures: Pictures) -> Figures:
    """Whether the likeliest thing is one that the words can mean."""
    return {"unseen_words": share(among(whole(judge, pictures).thing, asks, 1))}


def background(judge: Judge, asks: Asks, pictures: Pictures) -> Figures:
    """Whether the border has the colour asked for."""
    del judge
    seen = map(background_colour, pictures)
    return {"background": share(ask.background == colour for ask, colour in zip(asks, seen, strict=True))}


def place(judge: Judge, asks: Asks, pictures: Pictures) -> Figures:
    """Whether the place asked for is the likeliest of the twelve and none."""
    return {"place": right(whole(judge, pictures).place, [tuple(PLACES).index(ask.place) for ask in asks])}


def colour(judge: Judge, asks: Asks, pictures: Pictures) -> Figures:
    """Whether the thing has the colour asked for."""
    return {"colour": right(whole(judge, pictures).colour, [tuple(COLOURS).index(ask.colour) for ask in asks])}


def count(judge: Judge, asks: Asks, pictures: Pictures) -> Figures:
    """Whether there are as many as asked for."""
    return {"count": right(whole(judge, pictures).count, [ask.count - 1 for ask in asks])}


def relation(judge: Judge, asks: Asks, pictures: Pictures) -> Figures:
    """Whether each of two things is likelier than the other where it was asked for.

    `pair_top1` is stricter: there each must be the likeliest of all things.
    """
    boxes = [boxes_of(ask.relation) for ask in asks]
    first, second = (judge.look(pictures, [pair[half] for pair in boxes]).thing for half in (0, 1))
    ordered = [
        bool(first[row, one] > first[row, other] and second[row, other] > second[row, one])
        for row, (one, other) in enumerate(ask.things for ask in asks)
    ]
    exact = [(int(first[row].argmax()), int(second[row].argmax())) == ask.things for row, ask in enumerate(asks)]
    left_right, above_below = (
        share(fine for ask, fine in zip(asks, ordered, strict=True) if (ask.relation in STACKED) == stacked)
        for stacked in (False, True)
    )
    return {
        "relation": mean(part for part in (left_right, above_below) if part is not None),
        "left_right": left_right,
        "above_below": above_below,
        "pair_top1": share(exact),
    }


STACKED = ("above", "below")
JUDGED: dict[str, Callable[[Judge, Asks, Pictures], Figures]] = {
    "concept": concept,
    "background": background,
    "place": place,
    "colour": colour,
    "count": count,
    "relation": relation,
    "unseen": unseen,
    "held_out": held_out,
}


def spread(asks: Asks, pictures: Pictures) -> float | None:
    """Mean RMS difference (of 1) between two pictures of the same prompt."""
    by_prompt: dict[str, list[Floats]] = {}
    for ask, picture in zip(asks, pictures, strict=True):
        by_prompt.setdefault(ask.prompt, []).append(np.asarray(picture, np.float32) / np.float32(255))
    return mean(
        mean(float(np.sqrt(np.square(one - other).mean())) for one, other in combinations(same, 2)) or 0.0
        for same in by_prompt.values()
        if len(same) > 1
    )


def diversity(asks: Asks, pictures: Pictures, real: Pictures) -> float | None:
    """0: every seed paints the same picture; 1: they differ as much as real renders of the same prompts."""
    painted, possible = spread(asks, pictures), spread(asks, real)
    return painted / possible if painted is not None and possible else None


def whole(judge: Judge, pictures: Pictures) -> Scores:
    """What the judge sees in all of each picture."""
    return judge.look(pictures, [WHOLE] * len(pictures))


def top(name: str, scores: Scores, asks: Asks) -> Figures:
    """Shares of pictures whose thing is found at first guess, and within five."""
    return {f"{name}_top{most}": share(among(scores.thing, asks, most)) for most in (1, 5)}


def among(logits: Floats, asks: Asks, most: int) -> Iterable[bool]:
    """For each picture, whether an accepted thing is among so many likeliest."""
    likeliest = np.argsort(-logits, axis=1, kind="stable")[:, :most]
    return (bool(set(ask.things) & set(row)) for ask, row in zip(asks, likeliest.tolist(), strict=True))


def right(logits: Floats, labels: Sequence[int]) -> float | None:
    """The share of rows whose label is the likeliest."""
    guesses: NDArray[np.int64] = logits.argmax(1)
    return share(guess == label for guess, label in zip(guesses.tolist(), labels, strict=True))


def share(flags: Iterable[bool]) -> float | None:
    """The part that is true; None of none."""
    return mean(map(float, flags))


def mean(values: Iterable[float]) -> float | None:
    """None of none."""
    values = list(values)
    return sum(values) / len(values) if values else None
