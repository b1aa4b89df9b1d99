"""How the classifier learns, from real renders only, and is kept. Knows no painted pictures.

The renders are blurred, shifted, lit and roughened, so that it goes by the drawing and not by its pixels.
"""

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from training.scenes.compose import SceneComposer, other_colour
from training.scenes.places import COLOURS, PLACES

from .classifier import HEADS, INPUT, NOWHERE, WHOLE, Box, Bytes, Classifier, batches, boxes_of, cut_out, to_tensor
from .prompts import RELATIONS, Ask
from .renders import render

log = logging.getLogger(__name__)

FOLDER = Path("var/bench")
UNKNOWN = -100  # a label that teaches nothing
TAUGHT, TESTED = 1, 2  # seeds
CLOSER = 0.05  # the part of a picture that is cut off at each side at most


@dataclass(frozen=True)
class Lesson:
    """How long and on what the network learns."""

    renders: int = 20_000
    steps: int = 1500
    batch: int = 64
    rate: float = 3e-3
    seed: int = TAUGHT
    tests: int = 2000
    mix: tuple[float, float, float, float] = (0.5, 0.2, 0.12, 0.18)  # parts of the kinds in `example`


@dataclass(frozen=True)
class Example:
    """A cut-out for the network, and its label for each head."""

    pixels: Bytes
    labels: tuple[int, int, int, int]


def open_classifier(
    composer: SceneComposer, folder: Path = FOLDER, lesson: Lesson = Lesson()
) -> tuple[Classifier, dict[str, float]]:
    """The classifier for a studio's things and its accuracy; taught when the folder has none."""
    file = folder / f"classifier-{fingerprint(composer, lesson)}.safetensors"
    if not file.exists():
        classifier = teach(composer, lesson)
        folder.mkdir(parents=True, exist_ok=True)
        weights = {name: weight.contiguous() for name, weight in classifier.state_dict().items()}
        save_file(weights, file, {"accuracy": json.dumps(accuracy(classifier, composer, lesson))})
    with safe_open(file, "pt") as saved:
        weights = {name: saved.get_tensor(name) for name in saved.keys()}
        measured = json.loads(saved.metadata()["accuracy"])
    classifier = Classifier(len(composer.sprites))
    classifier.load_state_dict(weights)
    return classifier.eval(), measured


def fingerprint(composer: SceneComposer, lesson: Lesson) -> str:
    """8 hex digits of what decides a classifier, but for the drawings' resolution."""
    facts = repr(([sprite.key for sprite in composer.sprites], composer.styles, composer.side, lesson))
    return hashlib.blake2b(facts.encode(), digest_size=4).hexdigest()


def accuracy(classifier: Classifier, composer: SceneComposer, lesson: Lesson) -> dict[str, float]:
    """The part of right answers of each head on renders from another seed."""
    pixels, labels = draw_examples(composer, Random(TESTED), lesson, lesson.tests)
    with torch.inference_mode():
        parts = [classifier(part) for part in batches(pixels)]
    found = {}
    for name, head, right in zip(HEADS, zip(*parts, strict=True), labels.T, strict=True):
        known = right != UNKNOWN
        found[name] = (torch.cat(head).argmax(1) == right)[known].float().mean().item()
    return found


def teach(composer: SceneComposer, lesson: Lesson) -> Classifier:
    """Learn from renders, no two the same, each seen a few times in different roughness."""
    torch.manual_seed(lesson.seed)
    chance, random = torch.Generator().manual_seed(lesson.seed), Random(lesson.seed)
    classifier = Classifier(len(composer.sprites))
    optimizer = torch.optim.AdamW(classifier.parameters(), weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, lesson.rate, total_steps=lesson.steps, pct_start=0.1, anneal_strategy="linear"
    )
    pixels, labels = draw_examples(composer, random, lesson, lesson.renders)
    for step in range(1, lesson.steps + 1):
        rows = torch.randint(lesson.renders, (lesson.batch,), generator=chance)
        heads = classifier(roughened(to_tensor(pixels[rows.numpy()]), chance))
        rights = labels[rows].T
        loss = torch.stack([one_loss(head, right) for head, right in zip(heads, rights, strict=True)]).sum()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            log.info("teaching the classifier: step %d of %d, loss %.2f", step, lesson.steps, loss.item())
    classifier.eval()
    return classifier


def one_loss(logits: Tensor, right: Tensor) -> Tensor:
    """Mean cross-entropy over the rows that have a label."""
    total = F.cross_entropy(logits, right, ignore_index=UNKNOWN, label_smoothing=0.05, reduction="sum")
    return total / (right != UNKNOWN).sum().clamp(min=1)


def draw_examples(composer: SceneComposer, random: Random, lesson: Lesson, size: int) -> tuple[Bytes, Tensor]:
    """Cut-outs (n, 64, 64, 3) and labels (n, 4)."""
    examples = [example(composer, random, lesson.mix) for _ in range(size)]
    return np.stack([one.pixels for one in examples]), torch.tensor([one.labels for one in examples])


def example(composer: SceneComposer, random: Random, mix: Sequence[float]) -> Example:
    """One thing, one in a colour of another, several of the same, or one half of two things."""
    kind = random.choices((one_thing, tinted, several, half_of_two), mix)[0]
    return kind(composer, random)


def one_thing(composer: SceneComposer, random: Random) -> Example:
    """A thing somewhere in its own colours; at times close up."""
    row = random.randrange(len(composer.sprites))
    ask = somewhere(Ask("", (row,), canvas=random.choice(("one", "one", "one", "one", "big"))), random)
    natural = composer.sprites[row].colours
    colour = colour_label(natural[0]) if len(natural) == 1 else UNKNOWN
    pixels = cut_out(render(composer, ask, random), closer(WHOLE, random))
    return Example(pixels, (row, 0, place_label(ask), colour))


def tinted(composer: SceneComposer, random: Random) -> Example:
    """A thing in a colour not its own; it teaches nothing of which thing that is, whose colours tell most."""
    row = random.randrange(len(composer.sprites))
    colour = other_colour(random, composer.sprites[row])
    ask = somewhere(Ask("", (row,), colour=colour), random)
    pixels = cut_out(render(composer, ask, random), closer(WHOLE, random))
    return Example(pixels, (UNKNOWN, 0, place_label(ask), colour_label(colour)))


def several(composer: SceneComposer, random: Random) -> Example:
    """Two to four of the same."""
    row = composer.sprites.index(random.choice(composer.countable))
    ask = somewhere(Ask("", (row,), count=random.choice((2, 3, 4))), random)
    pixels = cut_out(render(composer, ask, random), closer(WHOLE, random))
    return Example(pixels, (row, ask.count - 1, place_label(ask), UNKNOWN))


def half_of_two(composer: SceneComposer, random: Random) -> Example:
    """What stands in one half of a picture, with a little of the other half."""
    one, other = random.sample(range(len(composer.sprites)), 2)
    ask = somewhere(Ask("", (one, other), relation=random.choice(RELATIONS)), random)
    box = boxes_of(ask.relation)[0]
    return Example(cut_out(render(composer, ask, random), closer(box, random)), (one, UNKNOWN, UNKNOWN, UNKNOWN))


def closer(box: Box, random: Random) -> Box:
    """Most of a box: things painted are not always as large and just where renders have them."""
    left, top, right, bottom = box
    off = [random.uniform(0, CLOSER) * (right - left) for _ in range(4)]
    return left + off[0], top + off[1], right - off[2], bottom - off[3]


def somewhere(ask: Ask, random: Random) -> Ask:
    """The same before any background."""
    kind = random.choices(("plain", "place", "colour"), (0.35, 0.4, 0.25))[0]
    if kind == "place":
        return replace(ask, place=random.choice(tuple(PLACES)))
    return replace(ask, background=random.choice(tuple(COLOURS))) if kind == "colour" else ask


def place_label(ask: Ask) -> int:
    """Its number, in the order of PLACES."""
    return tuple(PLACES).index(ask.place) if ask.place else NOWHERE


def colour_label(colour: str) -> int:
    """Its number, in the order of COLOURS."""
    return tuple(COLOURS).index(colour)


def roughened(x: Tensor, chance: torch.Generator) -> Tensor:
    """The pictures a little shifted, lit, blurred and noisy, half of them mirrored, as painted things may be."""
    n = len(x)
    x = torch.where(torch.rand(n, 1, 1, 1, generator=chance) < 0.5, x.flip(3), x)
    x = F.pad(x, (3, 3, 3, 3), mode="replicate")
    across, down = torch.randint(7, (2,), generator=chance).tolist()
    x = x[:, :, down : down + INPUT, across : across + INPUT]
    if torch.rand((), generator=chance) < 0.4:
        side = int(torch.randint(24, 48, (), generator=chance))
        x = F.interpolate(x, size=(side, side), mode="bilinear", antialias=True)
        x = F.interpolate(x, size=(INPUT, INPUT), mode="bilinear")
    contrast, light, rough = torch.rand(3, n, 1, 1, 1, generator=chance) - 0.5
    x = x * (1 + 0.25 * contrast) + 0.2 * light
    x = x + 0.12 * (rough + 0.5) * torch.randn(x.shape, generator=chance)
    return x.contiguous(memory_format=torch.channels_last)
