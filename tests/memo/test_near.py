"""Under the policy `near`, a miss names a remembered picture to start from, if one shares enough with the prompt."""

from dataclasses import replace

import pytest

from memo import Unavailable
from memo.index import to_payload
from memo.memory import NO_SHARES, object_name
from memo.near import DEFAULT_STRENGTHS, MIN_STEPS, Start, steps_taken, strength_for, strength_of
from memo.picture import NearStart
from tests.real import SharingJudge

BLUE = "a blue fox in the snow"
ENOUGH = 2.5  # a share: the default of SharingJudge


@pytest.fixture
def sharing(memory):
    """The memory with a judge that tells shares."""
    memory.judge = SharingJudge()
    return memory


@pytest.fixture
def blue(recipe):
    return replace(recipe, prompt=BLUE)


def test_a_miss_starts_from_the_picture_of_a_similar_prompt(sharing, remember, recipe, blue):
    picture = remember(recipe)
    recall = sharing.recall(blue, policy="near")
    assert recall.match is None and recall.start == Start(picture, ENOUGH, 0.6, 8)
    assert "says 'red', not 'blue'" in recall.reason and "'a red fox in the snow'" in recall.reason
    assert recall.reason.endswith("the prompts share 2.5 of 3, and skips 8 of 20 steps")
    assert recall.start.near == NearStart(picture=picture.key, share=ENOUGH, steps_saved=8)


def test_other_policies_start_from_nothing(sharing, remember, recipe, blue):
    remember(recipe)
    for policy in ("auto", "relaxed", "exact", "off", "refresh"):
        assert sharing.recall(blue, policy=policy).start is None
    assert sharing.judge.questions == []


def test_a_picture_that_fits_is_the_answer_itself(sharing, remember, recipe):
    picture = remember(recipe)
    recall = sharing.recall(replace(recipe, prompt="please draw a red fox in snow"), policy="near")
    assert recall.match and recall.match.picture == picture and recall.start is None
    sharing.index.remove(picture.key)
    sharing.painting_started("ab" * 16, recipe)
    recall = sharing.recall(replace(recipe, prompt="please draw a red fox in snow"), policy="near")
    assert recall.painting == "ab" * 16 and recall.start is None


def test_a_picture_that_was_shown_already_is_not_started_from(sharing, remember, recipe, blue):
    shown, other = remember(recipe, seed=1), remember(recipe, seed=2)
    assert sharing.recall(blue, policy="near", seen=[shown.key]).start.picture == other
    recall = sharing.recall(blue, policy="near", seen=[shown.key, other.key])
    assert recall.start is None and "shown already" in recall.reason


def test_a_start_needs_a_high_share(sharing, remember, recipe, blue):
    remember(recipe)
    sharing.judge = SharingJudge(DEFAULT_STRENGTHS[-1][0] - 0.01)
    recall = sharing.recall(blue, policy="near")
    assert recall.start is None and recall.reason.endswith("no remembered picture is similar enough to start from")


def test_of_several_pictures_the_one_that_shares_most_is_started_from(sharing, remember, recipe, blue):
    remember(recipe)
    far = remember(replace(recipe, prompt="a white fox in snow"))
    sharing.judge = SharingJudge(2.0, **{far.recipe.prompt: 2.9})
    start = sharing.recall(blue, policy="near").start
    assert (start.picture, start.strength, start.steps_saved) == (far, 0.5, 10)


@pytest.mark.parametrize(
    ("near", "generation"),
    [
        (NearStart(picture="cd" * 16, share=ENOUGH, steps_saved=8), 2),
        (NearStart(picture="cd" * 16, share=ENOUGH, steps_saved=8, generation=2), None),
        (None, None),
    ],
    ids=["started from one painted from noise", "started from one that has a near start", "the user chose its start"],
)
def test_a_picture_with_an_initial_image_is_only_started_from_if_its_chain_is_short(
    sharing, remember, recipe, blue, near, generation
):
    source = remember(recipe)
    started = replace(recipe, prompt="a green fox in the snow", init_image="ab" * 16, seed=3)
    second = replace(source, recipe=started, near=near)
    sharing.keep(second, sharing.image(source.key))
    sharing.index_picture(second)
    sharing.judge = SharingJudge(2.0, **{started.prompt: 2.9})
    start = sharing.recall(blue, policy="near").start
    assert (start.picture, start.near.generation) == ((second, generation) if generation else (source, 1))
    sharing.forget(source.key)
    assert bool(sharing.recall(blue, policy="near").start) == bool(generation)


@pytest.mark.parametrize("wanted", [BLUE, "a lion"])
def test_a_picture_that_was_marked_wrong_for_anything_is_not_started_from(sharing, remember, recipe, blue, wanted):
    picture = remember(recipe)
    assert sharing.recall(blue, policy="near").start
    sharing.label(picture, wanted, right=False, source="user")
    assert sharing.recall(blue, policy="near").start is None


def test_a_picture_whose_bytes_are_gone_is_not_started_from(sharing, remember, recipe, blue):
    lost, other = remember(recipe), remember(replace(recipe, prompt="a white fox in snow"))
    sharing.judge = SharingJudge(2.0, **{recipe.prompt: 2.9})
    assert sharing.recall(blue, policy="near").start.picture == lost
    sharing.store.delete(object_name(lost.key))
    assert sharing.recall(blue, policy="near").start.picture == other
    sharing.store.delete(object_name(other.key))
    assert sharing.recall(blue, policy="near").start is None


def test_a_picture_of_another_scope_or_with_other_settings_is_not_started_from(sharing, remember, recipe, blue):
    remember(recipe, scope="ada")
    others = {
        "model": "other",
        "revision": "r2",
        "width": 128,
        "guidance_scale": 3.0,
        "adapter": "oil:1@0",
        "steps": 9,
    }
    for field, value in others.items():
        remember(replace(recipe, **{field: value}))
    assert sharing.recall(blue, policy="near").start is None
    assert sharing.recall(blue, policy="near", scope="grace").start is None
    assert sharing.recall(blue, policy="near", scope="ada").start


def test_a_request_with_a_seed_or_an_initial_picture_starts_from_nothing_else(sharing, remember, recipe, blue):
    remember(recipe)
    remember(replace(recipe, init_image="ab" * 16, strength=0.6))
    for wanted in (replace(blue, seed=5), replace(blue, init_image="ab" * 16, strength=0.6)):
        near, auto = (sharing.recall(wanted, policy=policy) for policy in ("near", "auto"))
        assert near == auto and near.start is None
    assert sharing.judge.questions == []


def test_a_judge_that_cannot_tell_shares_leads_to_a_miss_that_says_so(memory, remember, recipe, blue):
    remember(recipe)
    auto, near = memory.recall(blue), memory.recall(blue, policy="near")
    assert near == replace(auto, reason=f"{auto.reason}; {NO_SHARES}")


def test_a_judge_that_does_not_answer_leads_to_a_miss(sharing, remember, recipe, blue, monkeypatch, caplog):
    def fail(*_):
        raise Unavailable("it sleeps")

    remember(recipe)
    monkeypatch.setattr(sharing.judge, "shares", fail)
    assert sharing.recall(blue, policy="near") == sharing.recall(blue) and "it sleeps" in caplog.text


def test_a_near_picture_is_found_by_the_same_words_and_by_meaning(sharing, remember, recipe, blue):
    source = remember(recipe)
    started = replace(blue, init_image="ab" * 16, strength=0.6, seed=3)
    near = replace(source, recipe=started, near=NearStart(picture=source.key, share=ENOUGH, steps_saved=8))
    sharing.keep(near, sharing.image(source.key))
    sharing.index_picture(near)
    assert sharing.recall(blue).match.picture == near
    assert sharing.recall(replace(blue, prompt="please draw the blue fox in snow")).match.how == "same meaning"
    assert sharing.recall(started).match.picture == near  # and by its own recipe, to be painted again
    unknown = replace(near, near=None)
    assert {to_payload(picture)["wish_key"] for picture in (near, unknown)} == {blue.key, started.wish.key}


def test_at_most_half_of_the_steps_are_skipped():
    for steps in range(1, 151):
        for share in (1.8, 2.1, 2.5, 2.8, 3.0):
            taken = steps_taken(steps, strength_of(share, DEFAULT_STRENGTHS))
            assert steps / 2 <= taken <= steps and int(steps * strength_for(taken, steps)) == taken
    assert strength_of(1.7, DEFAULT_STRENGTHS) is None


@pytest.mark.parametrize(("steps", "starts"), [(1, False), (MIN_STEPS - 1, False), (MIN_STEPS, True)])
def test_a_picture_of_few_steps_starts_from_nothing(sharing, remember, recipe, blue, steps, starts):
    remember(replace(recipe, steps=steps))
    assert bool(sharing.recall(replace(blue, steps=steps), policy="near").start) == starts


def test_the_strengths_are_those_of_the_model(sharing, remember, recipe, blue):
    remember(recipe)
    assert sharing.recall(blue, policy="near", strengths=()).start is None
    start = sharing.recall(blue, policy="near", strengths=((2.0, 0.9),)).start
    assert start and start.steps_saved == 2
