"""Train the classifier of the picture bench, on real renders only, and keep its weights.

The renders are shifted, blurred, relit and made noisy, so that the classifier recognises drawings and not pixels.
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
from .prompts import RELATIONS, PicturePrompt
from .renders import render

log = logging.getLogger(__name__)

FOLDER = Path("var/bench")
NO_LABEL = -100  # ignored by the loss
TRAINING_SEED, TEST_SEED = 1, 2
MAX_CROP = 0.05  # largest fraction of a box that is cropped at each side


@dataclass(frozen=True)
class TrainingOptions:
    """Size of the training set, steps and the mix of examples."""

    renders: int = 20_000
    steps: int = 1500
    batch: int = 64
    rate: float = 3e-3  # highest learning rate
    seed: int = TRAINING_SEED
    tests: int = 2000  # renders that measure the accuracy
    mix: tuple[float, float, float, float] = (0.5, 0.2, 0.12, 0.18)  # shares of the kinds in `draw_example`


@dataclass(frozen=True)
class Example:
    """A crop for the network, and its label for each head."""

    pixels: Bytes
    labels: tuple[int, int, int, int]


def open_classifier(
    composer: SceneComposer, folder: Path = FOLDER, options: TrainingOptions = TrainingOptions()
) -> tuple[Classifier, dict[str, float]]:
    """The classifier for a composer's things, and the accuracy of each head; it is trained if the folder has none."""
    file = folder / f"classifier-{fingerprint(composer, options)}.safetensors"
    if not file.exists():
        classifier = train_classifier(composer, options)
        folder.mkdir(parents=True, exist_ok=True)
        weights = {name: weight.contiguous() for name, weight in classifier.state_dict().items()}
        save_file(weights, file, {"accuracy": json.dumps(measure_accuracy(classifier, composer, options))})
    with safe_open(file, "pt") as saved:
        weights = {name: saved.get_tensor(name) for name in saved.keys()}
        measured = json.loads(saved.metadata()["accuracy"])
    classifier = Classifier(len(composer.sprites))
    classifier.load_state_dict(weights)
    return classifier.eval(), measured


def fingerprint(composer: SceneComposer, options: TrainingOptions) -> str:
    """Eight hex digits of everything that determines a classifier, except the resolution of the drawings."""
    facts = repr(([sprite.key for sprite in composer.sprites], composer.styles, composer.side, options))
    return hashlib.blake2b(facts.encode(), digest_size=4).hexdigest()


def measure_accuracy(classifier: Classifier, composer: SceneComposer, options: TrainingOptions) -> dict[str, float]:
    """The share of correct answers of each head, on renders from another seed."""
    pixels, labels = draw_examples(composer, Random(TEST_SEED), options, options.tests)
    with torch.inference_mode():
        parts = [classifier(part) for part in batches(pixels)]
    accuracies = {}
    for name, head, labels_of_head in zip(HEADS, zip(*parts, strict=True), labels.T, strict=True):
        known = labels_of_head != NO_LABEL
        accuracies[name] = (torch.cat(head).argmax(1) == labels_of_head)[known].float().mean().item()
    return accuracies


def train_classifier(composer: SceneComposer, options: TrainingOptions) -> Classifier:
    """Train on different renders, each seen a few times with different augmentation."""
    torch.manual_seed(options.seed)
    generator, random = torch.Generator().manual_seed(options.seed), Random(options.seed)
    classifier = Classifier(len(composer.sprites))
    optimizer = torch.optim.AdamW(classifier.parameters(), weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, options.rate, total_steps=options.steps, pct_start=0.1, anneal_strategy="linear"
    )
    pixels, labels = draw_examples(composer, random, options, options.renders)
    for step in range(1, options.steps + 1):
        rows = torch.randint(options.renders, (options.batch,), generator=generator)
        heads = classifier(augment(to_tensor(pixels[rows.numpy()]), generator))
        losses = [head_loss(head, head_labels) for head, head_labels in zip(heads, labels[rows].T, strict=True)]
        loss = torch.stack(losses).sum()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            log.info("training the classifier: step %d of %d, loss %.2f", step, options.steps, loss.item())
    classifier.eval()
    return classifier


def head_loss(logits: Tensor, labels_of_head: Tensor) -> Tensor:
    """Mean cross-entropy over the rows that have a label."""
    total = F.cross_entropy(logits, labels_of_head, ignore_index=NO_LABEL, label_smoothing=0.05, reduction="sum")
    return total / (labels_of_head != NO_LABEL).sum().clamp(min=1)


def draw_examples(
    composer: SceneComposer, random: Random, options: TrainingOptions, size: int
) -> tuple[Bytes, Tensor]:
    """Crops (n, 64, 64, 3) and labels (n, 4)."""
    examples = [draw_example(composer, random, options.mix) for _ in range(size)]
    pixels = np.stack([example.pixels for example in examples])
    return pixels, torch.tensor([example.labels for example in examples])


def draw_example(composer: SceneComposer, random: Random, mix: Sequence[float]) -> Example:
    """A random example: one thing, a tinted thing, several of the same, or one half of a picture of two things."""
    draw = random.choices((draw_one_thing, draw_tinted, draw_several, draw_half_of_two), mix)[0]
    return draw(composer, random)


def draw_one_thing(composer: SceneComposer, random: Random) -> Example:
    """A thing in its own colours, sometimes big."""
    row = random.randrange(len(composer.sprites))
    prompt = add_background(
        PicturePrompt("", (row,), canvas=random.choice(("one", "one", "one", "one", "big"))), random
    )
    natural = composer.sprites[row].colours
    colour = colour_label(natural[0]) if len(natural) == 1 else NO_LABEL
    pixels = cut_out(render(composer, prompt, random), crop_closer(WHOLE, random))
    return Example(pixels, (row, 0, place_label(prompt), colour))


def draw_tinted(composer: SceneComposer, random: Random) -> Example:
    """A thing in another colour; it has no label for the thing, since tinted things look alike."""
    row = random.randrange(len(composer.sprites))
    colour = other_colour(random, composer.sprites[row])
    prompt = add_background(PicturePrompt("", (row,), colour=colour), random)
    pixels = cut_out(render(composer, prompt, random), crop_closer(WHOLE, random))
    return Example(pixels, (NO_LABEL, 0, place_label(prompt), colour_label(colour)))


def draw_several(composer: SceneComposer, random: Random) -> Example:
    """Two to four copies of a thing."""
    row = composer.sprites.index(random.choice(composer.countable))
    prompt = add_background(PicturePrompt("", (row,), count=random.choice((2, 3, 4))), random)
    pixels = cut_out(render(composer, prompt, random), crop_closer(WHOLE, random))
    return Example(pixels, (row, prompt.count - 1, place_label(prompt), NO_LABEL))


def draw_half_of_two(composer: SceneComposer, random: Random) -> Example:
    """The thing in one half of a picture of two things, with a small part of the other half."""
    first, second = random.sample(range(len(composer.sprites)), 2)
    prompt = add_background(PicturePrompt("", (first, second), relation=random.choice(RELATIONS)), random)
    box = boxes_of(prompt.relation)[0]
    return Example(
        cut_out(render(composer, prompt, random), crop_closer(box, random)), (first, NO_LABEL, NO_LABEL, NO_LABEL)
    )


def crop_closer(box: Box, random: Random) -> Box:
    """A slightly smaller box: painted things vary in size and position more than rendered ones."""
    left, top, right, bottom = box
    crops = [random.uniform(0, MAX_CROP) * (right - left) for _ in range(4)]
    return left + crops[0], top + crops[1], right - crops[2], bottom - crops[3]


def add_background(prompt: PicturePrompt, random: Random) -> PicturePrompt:
    """The prompt with a random background."""
    kind = random.choices(("plain", "place", "colour"), (0.35, 0.4, 0.25))[0]
    if kind == "place":
        return replace(prompt, place=random.choice(tuple(PLACES)))
    return replace(prompt, background=random.choice(tuple(COLOURS))) if kind == "colour" else prompt


def place_label(prompt: PicturePrompt) -> int:
    """The number of the prompt's place in PLACES, or NOWHERE."""
    return tuple(PLACES).index(prompt.place) if prompt.place else NOWHERE


def colour_label(colour: str) -> int:
    """The number of a colour in COLOURS."""
    return tuple(COLOURS).index(colour)


def augment(x: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror half of the pictures (n, 3, 64, 64); shift, blur, relight and add noise to all, as painted ones vary."""
    n = len(x)
    x = torch.where(torch.rand(n, 1, 1, 1, generator=generator) < 0.5, x.flip(3), x)
    x = F.pad(x, (3, 3, 3, 3), mode="replicate")
    across, down = torch.randint(7, (2,), generator=generator).tolist()
    x = x[:, :, down : down + INPUT, across : across + INPUT]
    if torch.rand((), generator=generator) < 0.4:
        side = int(torch.randint(24, 48, (), generator=generator))
        x = F.interpolate(x, size=(side, side), mode="bilinear", antialias=True)
        x = F.interpolate(x, size=(INPUT, INPUT), mode="bilinear")
    contrast, light, roughness = torch.rand(3, n, 1, 1, 1, generator=generator) - 0.5
    x = x * (1 + 0.25 * contrast) + 0.2 * light
    x = x + 0.12 * (roughness + 0.5) * torch.randn(x.shape, generator=generator)
    return x.contiguous(memory_format=torch.channels_last)
