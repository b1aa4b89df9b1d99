"""Recall returns the right picture or a miss, each with its reason."""

import io
from dataclasses import replace
from threading import Event
from unittest.mock import Mock

import pytest
from PIL import Image

from memo import BadKey, BadRecipe, Forgotten, MemoConfig, Memory, Recall, Unavailable, open_memory
from memo.image_files.thumbnail import thumbnail_object_name
from memo.index import PendingPaintings, open_index, open_sibling
from memo.init_image import init_image_object_name
from memo.judge.port import Verdict
from memo.memory import object_name
from tests.real import ROOT, painted


def test_the_same_words_find_a_picture_of_any_seed(memory, remember, recipe):
    picture = remember(recipe, seed=4)
    recall = memory.recall(recipe)
    assert recall.match and recall.match.picture == picture
    assert (recall.match.how, recall.match.score) == ("same words", 1.0)


def test_a_paraphrase_finds_a_picture_with_the_reason(memory, remember, recipe):
    picture = remember(recipe)
    recall = memory.recall(replace(recipe, prompt="a red fox in snow"))
    assert recall.match and recall.match.picture == picture and recall.match.how == "same meaning"
    assert 0.97 <= recall.match.score < 1 and "a red fox in the snow" in recall.reason


def test_another_meaning_is_a_miss_that_names_the_difference(memory, remember, recipe):
    remember(recipe)
    recall = memory.recall(replace(recipe, prompt="a blue fox in the snow"))
    assert recall.match is None and "says 'red', not 'blue'" in recall.reason


class FixedJudge:
    """A judge with fixed verdicts, or one that raises an error."""

    name = "fixed"

    def __init__(self, verdicts):
        self.verdicts, self.questions = verdicts, []

    def __call__(self, wanted, remembered, scope):
        self.questions.append((wanted, tuple(remembered)))
        if isinstance(self.verdicts, Exception):
            raise self.verdicts
        return [self.verdicts[prompt] for prompt in remembered]


def test_of_several_matches_the_one_with_the_highest_confidence_is_returned(memory, remember, recipe):
    near, far = remember(recipe, seed=1), remember(replace(recipe, prompt="a crimson fox on snow"), seed=2)
    verdicts = {near.recipe.prompt: Verdict(True, "well", 0.8), far.recipe.prompt: Verdict(True, "surely", 0.9)}
    recall = Memory(memory.embedder, memory.index, memory.store, FixedJudge(verdicts)).recall(
        replace(recipe, prompt="a red fox in snow")
    )
    assert recall.match and recall.match.picture == far and recall.reason == "surely"


def test_a_judge_that_does_not_answer_leads_to_a_miss(memory, remember, recipe, caplog):
    remember(recipe)
    judge = FixedJudge(Unavailable("it sleeps"))
    recall = Memory(memory.embedder, memory.index, memory.store, judge).recall(
        replace(recipe, prompt="a fox in snow")
    )
    assert recall.match is None and "judge does not answer" in recall.reason
    assert "it sleeps" in caplog.text


def test_a_painting_under_way_with_the_same_meaning_is_offered(memory, recipe):
    memory.painting_started("ab" * 16, recipe)
    recall = memory.recall(replace(recipe, prompt="please draw a red fox in the snow"))
    assert recall.match is None and recall.painting == "ab" * 16 and "a red fox in the snow" in recall.reason
    assert memory.recall(replace(recipe, prompt="a blue fox in the snow")).painting is None
    assert memory.recall(recipe, scope="alice").painting is None
    assert memory.recall(recipe, policy="exact").painting is None
    memory.painting_ended("ab" * 16)
    assert memory.recall(recipe).painting is None


def test_an_index_that_is_down_does_not_prevent_painting(embedder, memory, recipe, unused_port, caplog):
    index = open_index(f"http://127.0.0.1:{unused_port}", "pictures", embedder.dimension)
    down = Memory(embedder, index, memory.store, memory.judge, open_sibling(index, PendingPaintings, "pending"))
    down.painting_started("ab" * 16, recipe)
    down.painting_ended("ab" * 16)
    assert "cannot be joined" in caplog.text and "still listed" in caplog.text


def test_the_judge_is_not_asked_about_the_same_words_or_with_a_seed(memory, remember, recipe):
    remember(recipe, seed=4)
    judge = FixedJudge(Unavailable("must not be asked"))
    unjudged = Memory(memory.embedder, memory.index, memory.store, judge)
    assert unjudged.recall(recipe).match
    assert unjudged.recall(replace(recipe, prompt="a fox", seed=1)).match is None
    assert unjudged.recall(replace(recipe, prompt="a fox"), policy="exact").match is None
    assert judge.questions == []


class UnawaitedEmbedder:
    """An embedder that fails the test if anybody waits for a vector."""

    def __init__(self):
        self.texts = []

    def begin(self, text, scope):
        self.texts.append(text)
        return lambda: pytest.fail("waited")


def test_the_same_words_do_not_wait_for_the_embedder(memory, remember, recipe):
    picture = remember(recipe)
    unawaited = Memory(UnawaitedEmbedder(), memory.index, memory.store, memory.judge)
    assert unawaited.recall(recipe).match.picture == picture and unawaited.embedder.texts == [recipe.prompt]
    for request, policy in ((replace(recipe, seed=5), "auto"), (replace(recipe, prompt="a fox"), "exact")):
        assert unawaited.recall(request, policy=policy).match is None
    assert unawaited.embedder.texts == [recipe.prompt]


def test_a_prompt_is_embedded_while_the_same_words_are_looked_up(memory, remember, recipe, monkeypatch):
    picture, embedded = remember(recipe), Event()
    run, newest_for_wish = memory.embedder.run, memory.index.newest_for_wish
    monkeypatch.setattr(memory.embedder, "run", lambda *texts: (embedded.set(), run(*texts))[1])

    def wait_for_embedding(*query):
        assert embedded.wait(10)
        return newest_for_wish(*query)

    monkeypatch.setattr(memory.index, "newest_for_wish", wait_for_embedding)
    assert memory.recall(replace(recipe, prompt="a red fox in snow, embedded by nobody yet")).match is None
    assert memory.recall(replace(recipe, prompt="a red fox in snow")).match.picture == picture


def test_relaxed_accepts_a_richer_prompt_and_never_a_poorer_one(memory, remember, recipe):
    rich, plain = (
        replace(recipe, prompt="red fox sitting in deep snow at dusk"),
        replace(recipe, prompt="a fox in snow"),
    )
    picture = remember(rich)
    assert memory.recall(plain).match is None
    recall = memory.recall(plain, policy="relaxed")
    assert recall.match and recall.match.picture == picture and recall.match.how == "shows more"
    assert "and adds: red, sitting, deep, at dusk" in recall.reason
    memory.forget(picture.key)
    remember(plain)
    assert memory.recall(rich, policy="relaxed").match is None


def test_relaxed_joins_a_painting_with_a_richer_prompt(memory, recipe):
    memory.painting_started("ab" * 16, replace(recipe, prompt="a red fox in the snow at dusk"))
    recall = memory.recall(recipe, policy="relaxed")
    assert recall.painting == "ab" * 16 and "adds: at dusk" in recall.reason
    assert memory.recall(recipe).painting is None


def test_prompts_of_a_distant_meaning_are_not_judged(memory, remember, recipe):
    remember(replace(recipe, prompt="quarterly tax report"))
    judge = FixedJudge(Unavailable("must not be asked"))
    assert Memory(memory.embedder, memory.index, memory.store, judge).recall(recipe).match is None
    assert judge.questions == []


def test_a_prompt_with_many_pictures_does_not_crowd_out_others(memory, remember, recipe):
    """The judge is asked about each prompt once, however many pictures the prompt has."""
    crowd = [remember(recipe, seed=seed) for seed in range(10)]
    far = remember(replace(recipe, prompt="a crimson fox on snow"), seed=2)
    judge = FixedJudge(
        {crowd[0].recipe.prompt: Verdict(False, "no", 0.1), far.recipe.prompt: Verdict(True, "yes", 0.9)}
    )
    recall = Memory(memory.embedder, memory.index, memory.store, judge).recall(
        replace(recipe, prompt="a red fox, snow")
    )
    assert recall.match and recall.match.picture == far and len(judge.questions[0][1]) == 2


def test_prompts_that_are_not_near_enough_are_not_judged(memory, remember, recipe):
    remember(recipe)
    judge = FixedJudge({recipe.prompt: Verdict(True, "yes", 0.9)})
    unlike = replace(recipe, prompt="a red bus in the snow")
    recall = Memory(memory.embedder, memory.index, memory.store, judge).recall(unlike)
    assert recall == Recall(None, "nothing like it is remembered") and judge.questions == []


def test_pictures_that_the_user_has_seen_are_not_returned_again(memory, remember, recipe):
    keys = {remember(recipe, seed=seed).key for seed in range(3)}
    seen: set[str] = set()
    for _ in range(3):
        recall = memory.recall(recipe, seen=seen)
        assert recall.match and recall.match.picture.key not in seen
        seen.add(recall.match.picture.key)
    assert seen == keys
    recall = memory.recall(recipe, seen=seen)
    assert recall.match is None and "shown already" in recall.reason
    assert memory.recall(replace(recipe, seed=1), seen=seen).match is None


def test_a_painting_that_the_user_waits_for_is_not_offered_again(memory, recipe):
    memory.painting_started("ab" * 16, recipe)
    paraphrase = replace(recipe, prompt="please draw a red fox in the snow")
    assert memory.recall(paraphrase).painting == "ab" * 16
    assert memory.recall(paraphrase, seen={"ab" * 16}).painting is None


@pytest.mark.parametrize("words", ["a red fox in the snow", "a red fox in snow"])
def test_a_reproducible_picture_serves_every_mode_and_a_fast_one_no_reproducible_recipe(
    memory, remember, recipe, words
):
    wanted = replace(recipe, prompt=words, mode="reproducible")
    fast = remember(recipe)
    assert memory.recall(wanted).match is None and memory.recall(replace(wanted, mode="fast")).match.picture == fast
    reproducible = remember(replace(recipe, mode="reproducible"), seed=2)
    assert memory.recall(wanted).match.picture == reproducible
    memory.forget(fast.key)
    assert memory.recall(replace(wanted, mode="fast")).match.picture == reproducible


def test_a_reproducible_recipe_does_not_join_a_fast_painting(memory, recipe):
    memory.painting_started("a" * 32, recipe)
    wanted = replace(recipe, prompt="a red fox in snow", mode="reproducible")
    assert memory.recall(wanted).painting is None and memory.recall(replace(wanted, mode="fast")).painting == "a" * 32


def test_an_empty_memory_is_a_miss(memory, recipe):
    assert memory.recall(recipe).match is None
    assert "nothing" in memory.recall(recipe).reason


def test_an_explicit_seed_matches_the_exact_recipe_only(memory, remember, recipe):
    picture = remember(recipe, seed=4)
    assert memory.recall(replace(recipe, seed=5)).match is None
    recall = memory.recall(replace(recipe, seed=4))
    assert recall.match and recall.match.picture == picture and recall.match.how == "same recipe"


def test_the_policies_off_and_refresh_read_nothing(memory, remember, recipe):
    remember(recipe)
    unread = Memory(memory.embedder, None, None, memory.judge)  # type: ignore[arg-type]
    for policy in ("off", "refresh"):
        assert unread.recall(recipe, policy=policy).match is None
    with pytest.raises(BadRecipe, match="memo"):
        memory.recall(recipe, policy="sometimes")


def test_the_policy_exact_accepts_no_paraphrase(memory, remember, recipe):
    remember(recipe)
    assert memory.recall(recipe, policy="exact").match
    assert memory.recall(replace(recipe, prompt="a red fox in snow"), policy="exact").match is None


def test_another_scope_is_not_searched(memory, remember, recipe):
    picture = remember(recipe, seed=4, scope="alice")
    assert memory.recall(recipe).match is None
    assert memory.recall(replace(recipe, seed=4)).match is None
    mine = memory.recall(recipe, scope="alice").match
    assert mine and mine.picture == picture


def test_a_point_whose_bytes_are_missing_is_removed(memory, remember, recipe, caplog):
    remember(replace(recipe, prompt="two owls"))
    picture = remember(recipe)
    memory.store.delete(object_name(picture.key))
    assert memory.recall(recipe).match is None
    assert memory.index.get(picture.key) is None
    assert picture.key in caplog.text


def test_pictures_that_are_lost_are_not_called_wrong(memory, remember, recipe):
    remember(replace(recipe, prompt="two owls"))
    memory.store.delete(object_name(remember(recipe).key))
    reason = memory.recall(replace(recipe, prompt="a red fox in snow")).reason
    assert reason == "pictures of the remembered prompt 'a red fox in the snow' are lost or damaged"


def test_a_store_that_is_suddenly_empty_does_not_empty_the_index(memory, remember, recipe, caplog):
    """The store's folder may just not be mounted."""
    picture = remember(recipe)
    data = memory.store.get(object_name(picture.key))
    memory.store.delete(object_name(picture.key))
    assert memory.recall(recipe).match is None and "is MEMO_STORE right?" in caplog.text
    memory.store.put(object_name(picture.key), data)
    assert memory.recall(recipe).match


@pytest.mark.parametrize("broken", [b"", b"half", b"<html>Bad Gateway</html>"])
def test_a_picture_whose_file_is_broken_is_not_answered_and_is_painted_anew(
    memory, remember, recipe, store, broken, caplog
):
    picture = remember(recipe)
    whole = store.get(object_name(picture.key))
    assert memory.recall(recipe).match
    store.replace(object_name(picture.key), whole[:200] if broken == b"half" else broken)
    assert memory.recall(recipe).match is None and not memory.has(picture.key)
    with pytest.raises(Forgotten):
        memory.image(picture.key)
    assert f"{picture.key}.png in the picture store is not a whole picture" in caplog.text
    assert memory.keep(picture, whole) and memory.image(picture.key) == whole


def test_a_broken_thumbnail_or_initial_image_is_made_again(memory, remember, recipe, store):
    picture = remember(recipe)
    thumbnail = memory.thumbnail(picture.key)
    store.replace(thumbnail_object_name(picture.key), thumbnail[:20])
    assert memory.thumbnail(picture.key) == store.get(thumbnail_object_name(picture.key)) == thumbnail
    name = memory.keep_init_image(memory.image(picture.key))
    whole = memory.init_image(name)
    store.replace(init_image_object_name(name, "shared"), b"")
    assert not memory.has_init_image(name)
    memory.keep_init_image(memory.image(picture.key))
    assert memory.init_image(name) == whole


def test_an_index_that_is_down_is_a_miss_with_that_reason(embedder, memory, recipe, unused_port):
    index = open_index(f"http://127.0.0.1:{unused_port}", "pictures", embedder.dimension)
    recall = Memory(embedder, index, memory.store, memory.judge).recall(recipe)
    assert recall.match is None and "does not answer" in recall.reason


def test_the_first_bytes_stored_under_a_key_stay(memory, recipe):
    picture, png = painted(recipe)
    assert memory.keep(picture, png)
    assert not memory.keep(picture, b"other bytes")
    assert memory.image(picture.key) == png and memory.picture(picture.key) == picture
    assert memory.has(picture.key)


def test_a_thumbnail_is_made_once_and_deleted_with_its_picture(memory, recipe, remember):
    picture = remember(replace(recipe, width=1024, height=512), scope="mine")
    small = memory.thumbnail(picture.key, "mine")
    with Image.open(io.BytesIO(small)) as image:
        assert (image.format, image.size, image.info.get("xmp")) == ("WEBP", (384, 192), None)
    assert sorted(memory.store.names()) == [object_name(picture.key), thumbnail_object_name(picture.key)]
    memory.store.delete(object_name(picture.key))
    assert memory.thumbnail(picture.key, "mine") == small  # the stored thumbnail, although its picture is gone
    with pytest.raises(Forgotten):
        memory.thumbnail(picture.key, "another")
    memory.forget(picture.key, "mine")
    assert list(memory.store.names()) == []
    with pytest.raises(Forgotten):
        memory.thumbnail(picture.key, "mine")


def test_a_thumbnail_that_cannot_be_stored_is_still_returned(memory, recipe, remember, monkeypatch):
    picture = remember(recipe)
    monkeypatch.setattr(memory.store, "put", Mock(side_effect=Unavailable("the disk is full")))
    assert memory.thumbnail(picture.key)[:4] == b"RIFF"


def test_a_forgotten_picture_is_gone_from_store_and_index(memory, remember, recipe):
    picture = remember(recipe)
    memory.forget(picture.key)
    assert memory.index.get(picture.key) is None and not memory.has(picture.key)
    assert memory.newest(limit=5) == []
    with pytest.raises(Forgotten):
        memory.forget(picture.key)


@pytest.mark.parametrize("key", ["", "abc", "../../../../etc/passwd", "G" * 32, "A" * 32, "0" * 33])
def test_a_malformed_key_is_refused(memory, key):
    for call in (memory.image, memory.picture, memory.forget, memory.has):
        with pytest.raises(BadKey):
            call(key)


def test_memory_is_configured_by_the_environment(tmp_path, recipe):
    (tmp_path / "secret").write_text("s3cret\n")
    environment = {
        "MEMO_STORE": f"file:{tmp_path}/pictures",
        "MEMO_TEXT_FOLDER": str(ROOT / "var" / "text"),
        "MEMO_INDEX_KEY_FILE": str(tmp_path / "secret"),
        "OTHER": "x",
    }
    config = MemoConfig.from_env(environment)
    assert config.index_key == "s3cret" and config.index == "memory:"
    assert open_memory(config).recall(recipe).match is None


def test_an_unreadable_secret_file_is_named(tmp_path):
    from memo import BadSetup

    with pytest.raises(BadSetup, match="MEMO_INDEX_KEY_FILE"):
        MemoConfig.from_env({"MEMO_INDEX_KEY_FILE": str(tmp_path / "none")})
