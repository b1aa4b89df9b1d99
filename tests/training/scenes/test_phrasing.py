"""Phrasings of captions: numbers, frames and typos."""

from random import Random

from training.scenes.phrasing import FRAMES, STYLE_FRAMES, counted, framed, with_typo


def test_a_count_is_written_in_words_or_digits():
    assert {counted(Random(seed), 3, "fox") for seed in range(20)} == {"three foxes", "3 foxes"}


def test_a_frame_keeps_the_caption_readable():
    frames = {framed(Random(seed), "a red fox") for seed in range(300)}
    assert len(frames) == len(FRAMES)
    assert "a cute red fox" in frames
    assert not any("a a" in frame or "{" in frame for frame in frames)


def test_frames_name_only_the_style_of_the_drawing():
    captions = {framed(Random(seed), "a fox", "flat") for seed in range(300)}
    assert {frame.format("a fox", bare="fox") for frame in STYLE_FRAMES["flat"]} <= captions
    assert not {frame.format("a fox", bare="fox") for frame in STYLE_FRAMES["3d"]} & captions


def test_a_typo_changes_one_long_word_by_one_letter():
    for seed in range(50):
        words = with_typo(Random(seed), "a purple elephant in a den").split(" ")
        assert len(words) == 6 and [words[i] for i in (0, 3, 4, 5)] == ["a", "in", "a", "den"]
        assert abs(len(words[1]) - 6) + abs(len(words[2]) - 8) <= 1
    assert with_typo(Random(1), "a fox") == "a fox"
