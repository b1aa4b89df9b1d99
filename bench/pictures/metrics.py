"""Metrics of pictures, painted or rendered: how many show what the prompt asks for, and how much they differ."""

from collections.abc import Callable, Iterable, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.scenes.places import COLOURS, PLACES

from .background_colour import background_colour
from .classifier import WHOLE, Floats, PictureJudge, Scores, boxes_of
from .prompts import PicturePrompt

Figures = dict[str, float | None]  # None without pictures
PicturePrompts = Sequence[PicturePrompt]
Pictures = Sequence[Image.Image]


def concept(judge: PictureJudge, prompts: PicturePrompts, pictures: Pictures) -> Figures:
    """How often the thing in the prompt is the likeliest, or among the five likeliest."""
    return top_figures("concept", score_whole(judge, pictures), prompts)


def held_out(judge: PictureJudge, prompts: PicturePrompts, pictures: Pictures) -> Figures:
    """The same as `concept`, for things that were held out of training."""
    return top_figures("held_out", score_whole(judge, pictures), prompts)


def unseen(judge: PictureJudge, prompts: PicturePrompts, pictures: Pictures) -> Figures:
    """How often the likeliest thing is one that the words can mean."""
    return {"unseen_words": share_of(in_top(score_whole(judge, pictures).thing, prompts, 1))}


def background(judge: PictureJudge, prompts: PicturePrompts, pictures: Pictures) -> Figures:
    """How often the border has the colour of the background in the prompt."""
    del judge
    colours = map(background_colour, pictures)
    return {
        "background": share_of(prompt.background == colour for prompt, colour in zip(prompts, colours, strict=True))
    }


def place(judge: PictureJudge, prompts: PicturePrompts, pictures: Pictures) -> Figures:
    """How often the place in the prompt is the likeliest of the twelve places and none."""
    return {
        "place": accuracy(
            score_whole(judge, pictures).place, [tuple(PLACES).index(prompt.place) for prompt in prompts]
        )
    }


def colour(judge: PictureJudge, prompts: PicturePrompts, pictures: Pictures) -> Figures:
    """How often the thing has the colour in the prompt."""
    return {
        "colour": accuracy(
            score_whole(judge, pictures).colour, [tuple(COLOURS).index(prompt.colour) for prompt in prompts]
        )
    }


def count(judge: PictureJudge, prompts: PicturePrompts, pictures: Pictures) -> Figures:
    """How often the number of things is the one in the prompt."""
    return {"count": accuracy(score_whole(judge, pictures).count, [prompt.count - 1 for prompt in prompts])}


def relation(judge: PictureJudge, prompts: PicturePrompts, pictures: Pictures) -> Figures:
    """How often each of two things is likelier than the other at its own position.

    `pair_top1` is stricter: there each must be the likeliest of all things.
    """
    boxes = [boxes_of(prompt.relation) for prompt in prompts]
    first, second = (judge.score_boxes(pictures, [pair[half] for pair in boxes]).thing for half in (0, 1))
    in_order = [
        bool(first[row, thing] > first[row, other] and second[row, other] > second[row, thing])
        for row, (thing, other) in enumerate(prompt.things for prompt in prompts)
    ]
    correct_pairs = [
        (int(first[row].argmax()), int(second[row].argmax())) == prompt.things for row, prompt in enumerate(prompts)
    ]
    left_right, above_below = (
        share_of(
            correct
            for prompt, correct in zip(prompts, in_order, strict=True)
            if (prompt.relation in VERTICAL) == vertical
        )
        for vertical in (False, True)
    )
    return {
        "relation": mean(part for part in (left_right, above_below) if part is not None),
        "left_right": left_right,
        "above_below": above_below,
        "pair_top1": share_of(correct_pairs),
    }


VERTICAL = ("above", "below")
FIGURES: dict[str, Callable[[PictureJudge, PicturePrompts, Pictures], Figures]] = {
    "concept": concept,
    "background": background,
    "place": place,
    "colour": colour,
    "count": count,
    "relation": relation,
    "unseen": unseen,
    "held_out": held_out,
}


def spread(prompts: PicturePrompts, pictures: Pictures) -> float | None:
    """Mean RMS difference (0 to 1) between two pictures of the same prompt."""
    by_prompt: dict[str, list[Floats]] = {}
    for prompt, picture in zip(prompts, pictures, strict=True):
        by_prompt.setdefault(prompt.text, []).append(np.asarray(picture, np.float32) / np.float32(255))
    return mean(
        mean(float(np.sqrt(np.square(a - b).mean())) for a, b in combinations(group, 2)) or 0.0
        for group in by_prompt.values()
        if len(group) > 1
    )


def diversity(prompts: PicturePrompts, pictures: Pictures, real: Pictures) -> float | None:
    """0 if every seed paints the same picture; 1 if they differ as much as real renders of the same prompts."""
    painted, possible = spread(prompts, pictures), spread(prompts, real)
    return painted / possible if painted is not None and possible else None


def score_whole(judge: PictureJudge, pictures: Pictures) -> Scores:
    """Scores of whole pictures."""
    return judge.score_boxes(pictures, [WHOLE] * len(pictures))


def top_figures(name: str, scores: Scores, prompts: PicturePrompts) -> Figures:
    """Shares of pictures whose thing is the likeliest, and among the five likeliest."""
    return {f"{name}_top{k}": share_of(in_top(scores.thing, prompts, k)) for k in (1, 5)}


def in_top(logits: Floats, prompts: PicturePrompts, k: int) -> Iterable[bool]:
    """For each picture, whether an accepted thing is among the `k` likeliest."""
    likeliest = np.argsort(-logits, axis=1, kind="stable")[:, :k]
    return (bool(set(prompt.things) & set(row)) for prompt, row in zip(prompts, likeliest.tolist(), strict=True))


def accuracy(logits: Floats, labels: Sequence[int]) -> float | None:
    """The share of rows whose label is the likeliest."""
    guesses: NDArray[np.int64] = logits.argmax(1)
    return share_of(guess == label for guess, label in zip(guesses.tolist(), labels, strict=True))


def share_of(flags: Iterable[bool]) -> float | None:
    """The share of true flags; None if there are none."""
    return mean(map(float, flags))


def mean(values: Iterable[float]) -> float | None:
    """Mean of the values; None if there are none."""
    values = list(values)
    return sum(values) / len(values) if values else None
