"""A picture that was marked wrong is not used again for that prompt, and needs more confidence for others."""

import uuid
from dataclasses import replace

import numpy as np
import pytest

from memo import Memory, Recall, Unavailable
from memo.index import Labels, open_index, open_sibling
from memo.judge.feedback import Label, doubt_factor
from memo.judge.port import Verdict

DIMENSION = 8
VECTOR = np.eye(1, DIMENSION, dtype=np.float32)[0]


@pytest.fixture(autouse=True)
def everything_is_judged(monkeypatch):
    """The judge of these tests decides on very different prompts, too."""
    monkeypatch.setattr("memo.memory.MIN_COSINE", 0.0)


@pytest.fixture(params=["memory", "embedded"])
def labels(request) -> Labels:
    name = f"test-{uuid.uuid4().hex}"
    if request.param == "memory":
        return open_sibling(open_index("memory:", name, DIMENSION), Labels, "labels")
    server = request.getfixturevalue("index_server")
    return open_sibling(open_index(server.url, name, DIMENSION, api_key=server.key), Labels, "labels")


def label(**changes) -> Label:
    defaults = {
        "key": "k" * 4,
        "remembered": "a fox",
        "wanted": "a wolf",
        "right": False,
        "source": "user",
        "created": 1.0,
    }
    return Label(**{**defaults, **changes})


def test_labels_are_found_by_picture_and_scope(labels):
    mine, other, elsewhere = label(), label(key="other"), label(scope="alice")
    for added in (mine, other, elsewhere):
        labels.add(added, VECTOR)
    assert labels.of_picture(mine.key, "shared") == [mine] and labels.of_picture(mine.key, "alice") == [elsewhere]
    assert labels.of_picture("none", "shared") == []
    assert len(list(labels.all())) == 3


def test_a_repeated_label_replaces_the_old_one_of_the_same_source(labels):
    labels.add(label(), VECTOR)
    labels.add(label(wanted="A wolf, please.", right=True, created=2.0), VECTOR)
    labels.add(label(source="audit"), VECTOR)
    assert sorted((stored.source, stored.right) for stored in labels.all()) == [("audit", False), ("user", True)]


def test_all_labels_are_read_page_by_page(labels):
    for number in range(300):
        labels.add(label(wanted=f"wolf number {number}"), VECTOR)
    assert len({stored.wanted for stored in labels.all()}) == 300


def test_each_complaint_halves_the_permitted_doubt():
    assert doubt_factor([], "a dog") == 1
    assert doubt_factor(["a wolf", "a cat"], "a dog") == 0.25
    assert doubt_factor(["a wolf"], "please draw the wolf") is None


class ConstantJudge:
    """A judge that accepts every prompt with the same confidence."""

    name = "constant"

    def __init__(self, confidence):
        self.confidence = confidence

    def __call__(self, wanted, remembered, scope):
        return [Verdict(True, "so", self.confidence, 0.9) for _ in remembered]


def with_judge(memory: Memory, confidence: float) -> Memory:
    judge = ConstantJudge(confidence)
    return Memory(memory.embedder, memory.index, memory.store, judge, memory.pending, memory.labels)


def test_an_answer_marked_wrong_is_never_returned_again(memory, remember, recipe):
    picture, wolf = remember(recipe), replace(recipe, prompt="a wolf in the snow")
    confident = with_judge(memory, 1.0)
    assert confident.recall(wolf).match
    confident.label(picture, wolf.prompt, right=False, source="user")
    assert confident.recall(wolf).match is None
    assert confident.recall(replace(recipe, prompt="Draw a wolf in the snow, please")).match is None
    assert confident.recall(replace(recipe, prompt="a husky in the snow")).match
    assert confident.recall(recipe).match


def test_a_picture_that_was_marked_wrong_needs_more_confidence(memory, remember, recipe):
    picture, husky = remember(recipe), replace(recipe, prompt="a husky in the snow")
    memory.label(picture, "a wolf in the snow", right=False, source="user")
    assert with_judge(memory, 0.94).recall(husky).match is None
    assert with_judge(memory, 0.96).recall(husky).match
    memory.label(picture, "a dog in the snow", right=False, source="audit")
    assert with_judge(memory, 0.96).recall(husky).match is None


def test_complaints_survive_indexing_a_picture_again(memory, remember, recipe):
    picture, wolf = remember(recipe), replace(recipe, prompt="a wolf in the snow")
    confident = with_judge(memory, 1.0)
    confident.label(picture, wolf.prompt, right=False, source="user")
    memory.index_picture(picture)
    assert confident.recall(wolf).match is None


def test_a_misjudged_prompt_is_refused_for_all_its_pictures(memory, remember, recipe):
    """This includes an older picture of the prompt, one painted later, and one under way."""
    picture, wolf = remember(recipe), replace(recipe, prompt="a wolf in the snow")
    remember(recipe, seed=7)
    confident = with_judge(memory, 1.0)
    confident.label(picture, wolf.prompt, right=False, source="user")
    assert confident.recall(wolf, seen=[picture.key]).match is None
    remember(recipe, seed=8)
    confident.painting_started("0" * 32, replace(recipe, seed=9), "shared")
    assert confident.recall(wolf) == Recall(
        None, "pictures of the remembered prompt 'a red fox in the snow' were marked as wrong"
    )
    assert confident.recall(replace(recipe, prompt="a husky in the snow"), seen=[picture.key]).match


def test_a_complaint_in_a_pictures_own_words_concerns_only_that_picture(memory, remember, recipe):
    first = remember(recipe)
    second = remember(recipe, seed=7)
    memory.label(first, "Red fox in the snow, please", right=False, source="user")
    recall = with_judge(memory, 1.0).recall(replace(recipe, prompt="red fox in snow"))
    assert recall.match and recall.match.picture.key == second.key


def test_a_complaint_can_be_withdrawn(memory, remember, recipe):
    picture, wolf = remember(recipe), replace(recipe, prompt="a wolf in the snow")
    confident = with_judge(memory, 1.0)
    for right in (False, True):
        confident.label(picture, wolf.prompt, right=right, source="user")
    assert confident.recall(wolf).match


def test_a_picture_marked_wrong_for_its_own_words_is_returned_only_for_its_seed(memory, remember, recipe):
    picture = remember(recipe, seed=4)
    memory.label(picture, recipe.prompt, right=False, source="user")
    assert memory.recall(recipe).match is None
    assert memory.recall(replace(recipe, seed=4)).match, "an exact recipe always gives its picture"


def test_a_memory_that_keeps_no_labels_refuses_a_label(memory, remember, recipe):
    picture = remember(recipe)
    unlabelled = Memory(memory.embedder, memory.index, memory.store, memory.judge)
    with pytest.raises(Unavailable, match="keeps no labels"):
        unlabelled.label(picture, "a wolf", right=False, source="user")
    assert unlabelled.recall(recipe).match
