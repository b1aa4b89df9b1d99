"""What the shipped model draws for everyday prompts, and for the usual words about style, light and camera.

`tails.txt` holds such words, one tail a line; `everyday.txt` holds prompts and the names of the things that they ask
for, in brackets those that may be drawn or not. Every third line of both was left out while the word lists were made.
"""

from pathlib import Path

import pytest

from memo.judge.english import INVISIBLE_WORDS, PRAISE
from tests.real import ROOT
from worker.engine.text_encoder import open_text_encoder
from worker.stickers.other_names import OTHER_NAMES
from worker.stickers.retrieve import Retriever, name_vectors
from worker.stickers.sprites import open_bank

DATA = Path(__file__).parent / "data"
TUNED, HELD_OUT = "tuned", "held out"


@pytest.fixture(scope="module")
def retrieve():
    text, bank = open_text_encoder(), open_bank(ROOT / "models/stickers/sprites")

    def embed(texts):
        return text.embed(texts).numpy()

    return Retriever(bank, embed, name_vectors(bank, embed), text.is_word)


def lines(name, part):
    rows = (DATA / name).read_text().splitlines()
    return [row for number, row in enumerate(rows) if (number % 3 == 2) == (part == HELD_OUT)]


def names(retrieve, prompt):
    return [thing.names[0] for thing in retrieve(prompt).things]


@pytest.mark.parametrize(("part", "bound"), [(TUNED, 0.0), (HELD_OUT, 0.02)])
def test_words_about_style_draw_nothing(retrieve, part, bound):
    tails = lines("tails.txt", part)
    drawn = {tail: things for tail in tails if (things := names(retrieve, f"a red fox, {tail}")) != ["fox"]}
    assert len(drawn) <= bound * len(tails), drawn


@pytest.mark.parametrize(("part", "missing_bound", "extra_bound"), [(TUNED, 0.0, 0.01), (HELD_OUT, 0.02, 0.08)])
def test_everyday_prompts_draw_what_they_name(retrieve, part, missing_bound, extra_bound):
    expected, missing, extra = 0, [], []
    for row in lines("everyday.txt", part):
        prompt, text = map(str.strip, row.split("|"))
        things = set(text.split(", ")) - {""}
        required = {thing for thing in things if not thing.startswith("(")}
        drawn = set(names(retrieve, prompt))
        expected += len(required)
        missing += [(prompt, thing) for thing in required - drawn]
        extra += [(prompt, thing) for thing in drawn - {thing.strip("()") for thing in things}]
    assert len(missing) <= missing_bound * expected, missing
    assert len(extra) <= extra_bound * expected, extra


def test_nothing_is_drawn_for_words_that_the_judge_ignores(retrieve):
    """Otherwise the memory would answer `a panda on a beach` with the picture of the longer prompt."""
    for words in sorted(PRAISE | INVISIBLE_WORDS):
        assert names(retrieve, f"a panda on a beach, {words}") == ["panda"], words


def test_other_names_are_of_things_that_the_bank_has(retrieve):
    assert set(OTHER_NAMES.values()) <= set(retrieve.by_name)
    sprites = {name for sprite in retrieve.bank.sprites for name in sprite.names}
    assert not [other for other in OTHER_NAMES if other in sprites]
