import numpy as np
import pytest

from worker.engine.text_encoder import open_text_encoder
from worker.stickers.plan import Wish
from worker.stickers.retrieve import Retriever, keep_name_vectors, name_vectors
from worker.stickers.sprites import Sprite

NAMES = (
    "cat|kitten", "dog|puppy", "fox|red fox", "rocket|spaceship", "orange", "tree", "car|automobile", "fire truck",
    "fire", "cup of tea", "elephant", "chair", "snowman", "star", "mouse", "whale", "flat shoe",
)  # fmt: skip


class Names:
    """A bank of names only; retrieving looks at no drawing."""

    def __init__(self, folder):
        self.folder = folder
        self.sprites = tuple(Sprite(str(row), tuple(names.split("|"))) for row, names in enumerate(NAMES))

    def styles_of(self, sprite):
        return ("3d",) if sprite.names[0] == "whale" else ("3d", "flat")


@pytest.fixture(scope="module")
def embed():
    text = open_text_encoder()
    return lambda texts: text.pooled(texts).numpy()


@pytest.fixture(scope="module")
def retrieve(embed, tmp_path_factory):
    bank = Names(tmp_path_factory.mktemp("names"))
    return Retriever(bank, embed, name_vectors(bank, embed))


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
        ("a dog, a cat, a car, a tree and a whale", ["dog", "cat", "car", "tree"]),
        ("a cat next to a cat", ["cat"]),
        ("", []),
        ("something beautiful", []),
        ("a picture of the snow at night", []),
    ],
)
def test_a_prompt_finds_its_things(retrieve, prompt, things):
    assert [thing.names[0] for thing in retrieve(prompt).things] == things


@pytest.mark.parametrize(
    ("prompt", "style"),
    [("a cat", "3d"), ("a flat cat", "flat"), ("flat icon of a whale", "3d"), ("a flat shoe", "flat")],
)
def test_a_style_is_used_where_there_is_one(retrieve, prompt, style):
    assert retrieve(prompt).style == style


@pytest.mark.parametrize(
    ("prompt", "wish"),
    [
        ("a cat", Wish((1,))),
        ("three big red cats", Wish((3,), size="big")),
        ("cats", Wish((2,))),
        ("a pair of dogs and a cat", Wish((2, 1))),
        ("a dog and 2 cats", Wish((1, 2))),
        ("a fox to the left of a tree", Wish((1, 1), "to the left of")),
        ("a fox on the right of the tree", Wish((1, 1), "on the right of")),
        ("a cat sitting on a chair", Wish((1, 1), "on top of")),
        ("a mouse beneath a star", Wish((1, 1), "below")),
        ("a cat in the snow with a dog", Wish((1, 1), "with")),
        ("a tiny whale", Wish((1,), size="tiny")),
        ("my cute little cat", Wish((1,))),
    ],
)
def test_a_prompt_says_how_many_and_where(retrieve, prompt, wish):
    assert retrieve(prompt).wish == wish


def test_kept_vectors_are_used_and_new_names_added(embed, tmp_path):
    bank = Names(tmp_path)
    keep_name_vectors(bank, embed)
    bank.sprites = (*bank.sprites, Sprite("new", ("accordion",)))
    asked = []

    def counting(texts):
        asked.extend(texts)
        return embed(texts)

    vectors = name_vectors(bank, counting)
    assert asked == ["accordion"]
    assert np.allclose(vectors, embed([name for sprite in bank.sprites for name in sprite.names]), atol=2e-3)
