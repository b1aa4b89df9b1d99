"""Mutated texts for everything that reads texts of requests and files."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random

from jobs.models import Model
from jobs.prompt import draw_choices, read_prompt
from jobs.webhooks.receivers import read_url
from memo import BadKey, BadRecipe, BadSetup, Recipe, from_text, to_text
from memo.judge.rules import decide_by_rules
from memo.judge.words import without_emphasis
from memo.picture import parameters
from memo.recipe import LONGEST_PROMPT, tidy
from training.caption_table import read_rows
from web.a1111.generation_request import find_model, read_prompts
from web.a1111.infotext import read_settings
from web.horde.generation_request import read_request
from web.json_body import to_number
from web.openai.generation_request import read_size

from .loop import Part, Reader

LONGEST = 100_000  # letters of most texts
EDITS = 6  # at most, in one text
LONG_SHARE = 0.01  # of the edits that repeat a piece thousands of times
REFUSALS = (BadRecipe, BadKey, BadSetup)
FOX = Recipe(prompt="a red fox in the snow", negative_prompt="blurry", model="stickers", revision="r1", seed=7)
MODEL = Model(
    name="stickers", revision="b97d5bbb7124a1b2", title="", licence="", folder=Path(), sizes=(256,), defaults={}
)
SEEDS = (
    "a red fox in the snow",
    parameters(FOX),
    to_text(FOX),
    "a cat, (best quality:1.2), <lora:style:0.8>\nNegative prompt: blurry\nSteps: 20, Sampler: Euler a, Size: 64x96",
    'Steps: 20, Hashes: "{\\"vae\\": \\"1\\", \\"lora\\": \\"2\\"}", Version: v1.10.0, Lora hashes: "a: b, c: d"',
    'Of course! Here is a prompt:\n```text\n**Prompt:** "a fox"\n```\nLet me know if you\'d like changes!',
    "a {red|{2$$blue|green|0.5::grey}} fox in a __colour__ [day|night]",
    "1024x1024",
    "model name.safetensors [b97d5bbb71]",
    "a mountain at dawn###fog, people",
    'file,caption\nfox.png,a red fox\ncat.png,"a cat, sitting"\n',
    "https://example.com/painted?x=1",
    "two dogs and 3 cats, 16:9, f/1.8, not a “quiet” street, 'no parking'",
)
NASTY = (
    *("a ", " ", "\t", "\n", ":", '"', "[", "]", "(", ")", "((((", ",", "0", "9", "x", "-", "'", "“", "\\", "\\n"),
    *("<lora:", ">", "{", "}", "|", "{a|", "::", "$$", "__", "**", "*", "`", "```", "#", "###", "…", "1 ", "n't "),
    *("\u200b", "\u200d", "\ufeff", "\u00ad", "\u202e", "\u0301", "\u0316", "\ud800", "\udfff", "\0", "\x85"),
    *("½", "ﬀ", "①", "狐", "🦊", "👩\u200d🚀", "Negative prompt:", "Steps: ", "Size: 1x1", "memo1.", "data:", "%"),
)
MODELS = {MODEL.name: MODEL}
READERS: dict[str, Callable[[str], object]] = {
    "infotext": read_settings,
    "prompt": lambda text: draw_choices(read_prompt("prompt", text)[0], Random(1)),
    "tags": lambda text: read_prompts({"prompt": text}),
    "search words": lambda text: tidy("near", text),
    "recipe text": from_text,
    "checkpoint": lambda text: find_model(text, MODELS),
    "size": read_size,
    "number": to_number,
    "Horde": lambda text: read_request({"prompt": text, "params": {"seed": text}}, MODELS),
    "webhook": read_url,
    "rules": lambda text: decide_by_rules(FOX.prompt, text[:LONGEST_PROMPT]),
    "emphasis": lambda text: without_emphasis(text[:LONGEST_PROMPT]),
}


def open_part() -> Part:
    """The readers of texts; tables of training pictures go through a file of their own."""
    table = Path(tempfile.mkdtemp(prefix="fuzz-")) / "table.csv"
    readers = {**READERS, "table": lambda text: read_table(table, text)}
    return Part(mutate, [Reader(name, read, REFUSALS) for name, read in readers.items()])


def read_table(path: Path, text: str) -> object:
    """The rows of a table of training pictures."""
    path.write_bytes(text.encode(errors="surrogatepass"))
    return read_rows(path)


def mutate(random: Random) -> str:
    """A text that somebody might send, with pieces left out, repeated, exchanged and put in."""
    text = random.choice(SEEDS)
    for _ in range(random.randint(0, EDITS)):
        start = random.randint(0, len(text))
        stop = min(len(text), start + random.choice((0, 0, 1, 5, 20)))
        piece = random.choice(
            (text[start:stop], random.choice(NASTY), random.choice(SEEDS), chr(random.randrange(0x3000)))
        )
        times = 20_000 if random.random() < LONG_SHARE else random.choice((0, 1, 1, 1, 2, 2, 10, 100))
        text = text[:start] + piece * times + text[stop:]
    return text[:LONGEST]
