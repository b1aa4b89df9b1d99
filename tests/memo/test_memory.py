"""Recall answers with the right picture and the reason, or with a miss and the reason."""

import io
from dataclasses import replace
from threading import Event
from unittest.mock import Mock

import pytest
from PIL import Image

from memo import BadKey, BadRecipe, Forgotten, MemoConfig, Memory, Unavailable, open_memory
from memo.index import Pending, beside, open_index
from memo.judge.port import Verdict
from memo.memory import object_name
from memo.thumbnail import thumbnail_object
from tests.real import ROOT, painted


def test_the_same_words_are_answered_whatever_the_seed(memory, remember, recipe):
    kept = remember(recipe, seed=4)
    recall = memory.recall(recipe)
    assert recall.match and recall.match.picture == kept
    assert (recall.match.how, recall.match.score) == ("same words", 1.0)


def test_a_paraphrase_is_answered_with_the_reason(memory, remember, recipe):
    kept = remember(recipe)
    recall = memory.recall(replace(recipe, prompt="a red fox in snow"))
    assert recall.match and recall.match.picture == kept and recall.match.how == "same meaning"
    assert 0.97 <= recall.match.score < 1 and "a red fox in the snow" in recall.reason


def test_another_meaning_is_a_miss_that_says_what_differs(memory, remember, recipe):
    remember(recipe)
    recall = memory.recall(replace(recipe, prompt="a blue fox in the snow"))
    assert recall.match is None and "red, not blue" in recall.reason


class Saying:
    """A judge whose mind is made up."""

    name = "saying"

    def __init__(self, verdicts):
        self.verdicts, self.asked = verdicts, []

    def __call__(self, wanted, remembered):
        self.asked.append((wanted, tuple(remembered)))
        if isinstance(self.verdicts, Exception):
            raise self.verdicts
        return [self.verdicts[prompt] for prompt in remembered]


def test_of_several_that_fit_the_surest_is_served(memory, remember, recipe):
    near, far = remember(recipe, seed=1), remember(replace(recipe, prompt="a crimson fox on snow"), seed=2)
    verdicts = {near.recipe.prompt: Verdict(True, "well", 0.8), far.recipe.prompt: Verdict(True, "surely", 0.9)}
    recall = Memory(memory.embedder, memory.index, memory.store, Saying(verdicts)).recall(
        replace(recipe, prompt="a red fox in snow")
    )
    assert recall.match and recall.match.picture == far and recall.reason == "surely"


def test_a_judge_that_does_not_answer_means_no(memory, remember, recipe, caplog):
    remember(recipe)
    judge = Saying(Unavailable("it sleeps"))
    recall = Memory(memory.embedder, memory.index, memory.store, judge).recall(
        replace(recipe, prompt="a fox in snow")
    )
    assert recall.match is None and "judge does not answer" in recall.reason
    assert "it sleeps" in caplog.text


def test_a_painting_under_way_that_means_the_same_is_offered(memory, recipe):
    memory.painting_started("ab" * 16, recipe)
    recall = memory.recall(replace(recipe, prompt="please draw a red fox in the snow"))
    assert recall.match is None and recall.painting == "ab" * 16 and "a red fox in the snow" in recall.reason
    assert memory.recall(replace(recipe, prompt="a blue fox in the snow")).painting is None
    assert memory.recall(recipe, scope="alice").painting is None
    assert memory.recall(recipe, policy="exact").painting is None
    memory.painting_ended("ab" * 16)
    assert memory.recall(recipe).painting is None


def test_an_index_that_is_down_keeps_nobody_from_painting(embedder, memory, recipe, unused_port, caplog):
    index = open_index(f"http://127.0.0.1:{unused_port}", "pictures", embedder.dimension)
    down = Memory(embedder, index, memory.store, memory.judge, beside(index, Pending, "pending"))
    down.painting_started("ab" * 16, recipe)
    down.painting_ended("ab" * 16)
    assert "cannot be joined" in caplog.text and "still among" in caplog.text


def test_no_judge_is_asked_for_the_same_words_or_with_a_seed(memory, remember, recipe):
    remember(recipe, seed=4)
    judge = Saying(Unavailable("never to be asked"))
    unasked = Memory(memory.embedder, memory.index, memory.store, judge)
    assert unasked.recall(recipe).match
    assert unasked.recall(replace(recipe, prompt="a fox", seed=1)).match is None
    assert unasked.recall(replace(recipe, prompt="a fox"), policy="exact").match is None
    assert judge.asked == []


class Begun:
    """A text model whose vectors nobody may wait for."""

    def __init__(self):
        self.texts = []

    def begin(self, text):
        self.texts.append(text)
        return lambda: pytest.fail("waited")


def test_the_same_words_do_not_wait_for_the_text_model(memory, remember, recipe):
    kept = remember(recipe)
    unread = Memory(Begun(), memory.index, memory.store, memory.judge)
    assert unread.recall(recipe).match.picture == kept and unread.embedder.texts == [recipe.prompt]
    for asked, policy in ((replace(recipe, seed=5), "auto"), (replace(recipe, prompt="a fox"), "exact")):
        assert unread.recall(asked, policy=policy).match is None
    assert unread.embedder.texts == [recipe.prompt]


def test_a_prompt_is_read_while_the_same_words_are_looked_for(memory, remember, recipe, monkeypatch):
    kept, read = remember(recipe), Event()
    run, granted = memory.embedder.run, memory.index.granted
    monkeypatch.setattr(memory.embedder, "run", lambda *asked: (read.set(), run(*asked))[1])
    monkeypatch.setattr(memory.index, "granted", lambda *asked: granted(*asked) if read.wait(10) else pytest.fail())
    assert memory.recall(replace(recipe, prompt="a red fox in snow, read by nobody yet")).match is None
    assert memory.recall(replace(recipe, prompt="a red fox in snow")).match.picture == kept


def test_relaxed_takes_what_shows_more_and_never_less(memory, remember, recipe):
    rich, plain = (
        replace(recipe, prompt="red fox sitting in deep snow at dusk"),
        replace(recipe, prompt="a fox in snow"),
    )
    kept = remember(rich)
    assert memory.recall(plain).match is None
    recall = memory.recall(plain, policy="relaxed")
    assert recall.match and recall.match.picture == kept and recall.match.how == "shows more"
    assert "and besides: red, sitting, deep, at dusk" in recall.reason
    memory.forget(kept.key)
    remember(plain)
    assert memory.recall(rich, policy="relaxed").match is None


def test_relaxed_joins_a_painting_that_will_show_more(memory, recipe):
    memory.painting_started("ab" * 16, replace(recipe, prompt="a red fox in the snow at dusk"))
    recall = memory.recall(recipe, policy="relaxed")
    assert recall.painting == "ab" * 16 and "besides: at dusk" in recall.reason
    assert memory.recall(recipe).painting is None


def test_far_prompts_are_not_judged(memory, remember, recipe):
    remember(replace(recipe, prompt="quarterly tax report"))
    judge = Saying(Unavailable("never to be asked"))
    assert Memory(memory.embedder, memory.index, memory.store, judge).recall(recipe).match is None
    assert judge.asked == []


def test_a_prompt_of_many_pictures_leaves_room_for_others(memory, remember, recipe):
    """The judge is asked about prompts, each once, however many pictures one has."""
    crowd = [remember(recipe, seed=seed) for seed in range(10)]
    far = remember(replace(recipe, prompt="a crimson fox on snow"), seed=2)
    judge = Saying({crowd[0].recipe.prompt: Verdict(False, "no", 0.1), far.recipe.prompt: Verdict(True, "yes", 0.9)})
    recall = Memory(memory.embedder, memory.index, memory.store, judge).recall(replace(recipe, prompt="a fox, red"))
    assert recall.match and recall.match.picture == far and len(judge.asked[0][1]) == 2


def test_pictures_that_were_seen_are_not_given_again(memory, remember, recipe):
    kept = {remember(recipe, seed=seed).key for seed in range(3)}
    seen: set[str] = set()
    for _ in range(3):
        recall = memory.recall(recipe, seen=seen)
        assert recall.match and recall.match.picture.key not in seen
        seen.add(recall.match.picture.key)
    assert seen == kept
    recall = memory.recall(recipe, seen=seen)
    assert recall.match is None and "shown already" in recall.reason
    assert memory.recall(replace(recipe, seed=1), seen=seen).match is None


def test_a_painting_that_is_waited_for_is_not_offered_again(memory, recipe):
    memory.painting_started("ab" * 16, recipe)
    alike = replace(recipe, prompt="please draw a red fox in the snow")
    assert memory.recall(alike).painting == "ab" * 16
    assert memory.recall(alike, seen={"ab" * 16}).painting is None


def test_an_empty_memory_is_a_miss(memory, recipe):
    assert memory.recall(recipe).match is None
    assert "nothing" in memory.recall(recipe).reason


def test_an_explicit_seed_is_answered_by_the_exact_recipe_only(memory, remember, recipe):
    kept = remember(recipe, seed=4)
    assert memory.recall(replace(recipe, seed=5)).match is None
    recall = memory.recall(replace(recipe, seed=4))
    assert recall.match and recall.match.picture == kept and recall.match.how == "same recipe"


def test_policy_off_does_not_even_read(memory, remember, recipe):
    remember(recipe)
    unread = Memory(memory.embedder, None, None, memory.judge)  # type: ignore[arg-type]
    for policy in ("off", "refresh"):
        assert unread.recall(recipe, policy=policy).match is None
    with pytest.raises(BadRecipe, match="memo"):
        memory.recall(recipe, policy="sometimes")


def test_policy_exact_takes_no_paraphrase(memory, remember, recipe):
    remember(recipe)
    assert memory.recall(recipe, policy="exact").match
    assert memory.recall(replace(recipe, prompt="a red fox in snow"), policy="exact").match is None


def test_another_scope_is_not_searched(memory, remember, recipe):
    kept = remember(recipe, seed=4, scope="alice")
    assert memory.recall(recipe).match is None
    assert memory.recall(replace(recipe, seed=4)).match is None
    mine = memory.recall(recipe, scope="alice").match
    assert mine and mine.picture == kept


def test_a_point_without_bytes_is_no_match_and_is_removed(memory, remember, recipe, caplog):
    remember(replace(recipe, prompt="two owls"))
    kept = remember(recipe)
    memory.store.delete(object_name(kept.key))
    assert memory.recall(recipe).match is None
    assert memory.index.get(kept.key) is None
    assert kept.key in caplog.text


def test_a_store_that_is_empty_of_a_sudden_costs_the_index_nothing(memory, remember, recipe, caplog):
    """Its folder may not be mounted."""
    kept = remember(recipe)
    data = memory.store.get(object_name(kept.key))
    memory.store.delete(object_name(kept.key))
    assert memory.recall(recipe).match is None and "is it the right one?" in caplog.text
    memory.store.put(object_name(kept.key), data)
    assert memory.recall(recipe).match


def test_an_index_that_is_down_is_a_miss_that_says_so(embedder, memory, recipe, unused_port):
    index = open_index(f"http://127.0.0.1:{unused_port}", "pictures", embedder.dimension)
    recall = Memory(embedder, index, memory.store, memory.judge).recall(recipe)
    assert recall.match is None and "does not answer" in recall.reason


def test_keeping_twice_keeps_the_first(memory, recipe):
    picture, png = painted(recipe)
    assert memory.keep(picture, png)
    assert not memory.keep(picture, b"other bytes")
    assert memory.image(picture.key) == png and memory.picture(picture.key) == picture
    assert memory.has(picture.key)


def test_a_thumbnail_is_made_once_and_goes_with_its_picture(memory, recipe, remember):
    kept = remember(replace(recipe, width=1024, height=512), scope="mine")
    small = memory.thumbnail(kept.key, "mine")
    with Image.open(io.BytesIO(small)) as image:
        assert (image.format, image.size, image.info.get("xmp")) == ("WEBP", (384, 192), None)
    assert sorted(memory.store.names()) == [object_name(kept.key), thumbnail_object(kept.key)]
    memory.store.delete(object_name(kept.key))
    assert memory.thumbnail(kept.key, "mine") == small  # what was made is given again
    with pytest.raises(Forgotten):
        memory.thumbnail(kept.key, "another")
    memory.forget(kept.key, "mine")
    assert list(memory.store.names()) == []
    with pytest.raises(Forgotten):
        memory.thumbnail(kept.key, "mine")


def test_a_thumbnail_that_cannot_be_kept_is_given_all_the_same(memory, recipe, remember, monkeypatch):
    kept = remember(recipe)
    monkeypatch.setattr(memory.store, "put", Mock(side_effect=Unavailable("the disk is full")))
    assert memory.thumbnail(kept.key)[:4] == b"RIFF"


def test_what_is_forgotten_is_gone_everywhere(memory, remember, recipe):
    kept = remember(recipe)
    memory.forget(kept.key)
    assert memory.index.get(kept.key) is None and not memory.has(kept.key)
    assert memory.newest(limit=5) == []
    with pytest.raises(Forgotten):
        memory.forget(kept.key)


@pytest.mark.parametrize("key", ["", "abc", "../../../../etc/passwd", "G" * 32, "A" * 32, "0" * 33])
def test_what_is_no_key_is_refused(memory, key):
    for call in (memory.image, memory.picture, memory.forget, memory.has):
        with pytest.raises(BadKey):
            call(key)


def test_the_environment_says_where_memory_lives(tmp_path, recipe):
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


def test_an_unreadable_secret_is_said(tmp_path):
    from memo import BadSetup

    with pytest.raises(BadSetup, match="MEMO_INDEX_KEY_FILE"):
        MemoConfig.from_env({"MEMO_INDEX_KEY_FILE": str(tmp_path / "none")})
