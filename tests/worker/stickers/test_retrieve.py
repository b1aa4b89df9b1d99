"""Retrieving things, styles and compositions by a prompt."""

import numpy as np
import pytest

from worker.engine.text_encoder import open_text_encoder
from worker.stickers.plan import Composition
from worker.stickers.retrieve import Retriever, name_vectors, save_name_vectors
from worker.stickers.sprites import Sprite

NAMES = (
    "cat|kitten", "dog|puppy", "fox|red fox", "rocket|spaceship", "orange", "tree", "car|automobile", "fire truck",
    "fire", "cup of tea", "elephant", "chair", "snowman", "star", "mouse", "whale", "flat shoe",
)  # fmt: skip


class Names:
    """A bank without drawings, because retrieval needs only names."""

    def __init__(self, folder):
        self.folder = folder
        self.sprites = tuple(Sprite(str(row), tuple(names.split("|"))) for row, names in enumerate(NAMES))

    def styles_of(self, sprite):
        return ("3d",) if sprite.names[0] == "whale" else ("3d", "flat")


@pytest.fixture(scope="module")
def text():
    return open_text_encoder()


@pytest.fixture(scope="module")
def embed(text):
    return lambda texts: text.embed(texts).numpy()


@pytest.fixture(scope="module")
def retrieve(embed, text, tmp_path_factory):
    bank = Names(tmp_path_factory.mktemp("names"))
    return Retriever(bank, embed, name_vectors(bank, embed), text.is_word)


@pytest.mark.parametrize(
    ("prompt", "things"),
    [
        ("a red fox in the snow", ["fox"]),
        ("two kittens beside a spaceship in the snow", ["cat", "rocket"]),
        ("my cute little puppy", ["dog"]),
        ("a fire truck", ["fire truck"]),
        ("cups of tea", ["cup of tea"]),
        ("three mice", ["mouse"]),
        ("an orange cat on a chair", ["cat", "chair"]),
        ("an orange, please", ["orange"]),
        ("a car under the stars", ["car"]),
        ("a star above a tree", ["star", "tree"]),
        ("a kiten and an elefant", ["cat", "elephant"]),
        ("a feline", ["cat"]),
        ("an automobile, unreal engine", ["car"]),
        ("a dolphin", ["whale"]),
        ("1girl, 2boys", []),
        ("a fox, elegant, sharp focus", ["fox"]),
        ("a dog, a cat, a car, a tree and a whale", ["dog", "cat", "car", "tree"]),
        ("a cat next to a cat", ["cat"]),
        ("", []),
        ("something beautiful", []),
        ("a picture of the snow at night", []),
    ],
)
def test_a_prompt_retrieves_its_things(retrieve, prompt, things):
    assert [thing.names[0] for thing in retrieve(prompt).things] == things


@pytest.mark.parametrize(
    ("prompt", "style"),
    [("a cat", "3d"), ("a flat cat", "flat"), ("flat icon of a whale", "3d"), ("a flat shoe", "flat")],
)
def test_a_style_is_used_if_the_thing_is_drawn_in_it(retrieve, prompt, style):
    assert retrieve(prompt).style == style


@pytest.mark.parametrize(
    ("prompt", "composition"),
    [
        ("a cat", Composition((1,))),
        ("three big red cats", Composition((3,), size="big")),
        ("cats", Composition((2,))),
        ("a pair of dogs and a cat", Composition((2, 1))),
        ("a dog and 2 cats", Composition((1, 2))),
        ("a fox to the left of a tree", Composition((1, 1), "to the left of")),
        ("a fox on the right of the tree", Composition((1, 1), "on the right of")),
        ("a cat sitting on a chair", Composition((1, 1), "on top of")),
        ("a mouse beneath a star", Composition((1, 1), "below")),
        ("a cat in the snow with a dog", Composition((1, 1), "with")),
        ("a tiny whale", Composition((1,), size="tiny")),
        ("my cute little cat", Composition((1,))),
        ("three fluffy adorable cats", Composition((3,))),
        ("(masterpiece:1.2) red fox", Composition((1,))),
        ("(cute:1.4) cats", Composition((2,))),
        ("2cats, 1dog", Composition((2, 1))),
        ("a fox, 2 steps", Composition((1,))),
        ("4 k, 35 mm film, f/1.8 a fox", Composition((1,))),
        ("unreal engine 5 fox", Composition((1,))),
    ],
)
def test_a_prompt_determines_the_composition(retrieve, prompt, composition):
    assert retrieve(prompt).composition == composition


def test_saved_vectors_are_used_and_new_names_embedded(embed, tmp_path):
    bank = Names(tmp_path)
    save_name_vectors(bank, embed)
    bank.sprites = (*bank.sprites, Sprite("new", ("accordion",)))
    embedded = []

    def recording(texts):
        embedded.extend(texts)
        return embed(texts)

    vectors = name_vectors(bank, recording)
    assert embedded == ["accordion"]
    assert np.allclose(vectors, embed([name for sprite in bank.sprites for name in sprite.names]), atol=2e-3)


@pytest.mark.parametrize(
    ("prompt", "note"),
    [
        ("a foggy morning", "nothing in the prompt is a thing that this model can draw"),
        ("a dog, a cat, a car, a tree, a whale and a star", "it leaves out 'star' and 'whale'"),
        ("nine foxes", "room for 4 drawings: 4 of 'fox', not 9"),
        ("a fox in a sweater", "no drawing of 'sweater'"),
        ("a dolphin", "the drawing of 'whale' is only the closest in meaning"),
    ],
)
def test_a_note_says_what_is_not_drawn(retrieve, prompt, note):
    assert note in " ".join(retrieve(prompt).notes)


@pytest.mark.parametrize(
    "prompt", ["a red fox in the snow", "two cats, highly detailed, 8k", "a walking elephant", ""]
)
def test_a_prompt_that_is_drawn_whole_has_no_note(retrieve, prompt):
    assert retrieve(prompt).notes == ()
