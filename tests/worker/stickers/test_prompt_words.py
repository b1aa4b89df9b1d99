"""Splitting prompts into words that may name things."""

import time

import pytest

from memo.judge.english import INVISIBLE_WORDS, PRAISE
from worker.stickers.prompt_words import is_unseen, may_name_thing, split_prompt


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("(masterpiece:1.2) red fox", "masterpiece red fox"),
        ("(fox : -0.5), [cat:0]", "fox , cat"),
        ("a fox:1.3 and ((cats:1.1):1.2)", "a fox and cats"),
        ("a fox BREAK a cat", "a fox , a cat"),
        ("break a cup", "break a cup"),
        ("<lora:cats:0.8> a fox --ar 16:9", ", a fox ,"),
        ("1girl, 2boys, 6+cats", "1 girl , 2 boys , 6 cats"),
        ("red_fox", "red fox"),
        ("a fox, 2 steps", "a fox , ,"),
        ("16:9 ratio, 1920x1080, 50mm f/1.8", ", ratio , , , , ,"),
        ("a fox at 12:30", "a fox at ,"),
        ("a bird's eye view of a car", "a , of a car"),
        ("a pencil sketch of a pencil", "a , of a pencil"),
        ("a fox in the style of cats, by rabbit hill", "a fox , , ,"),
        ("a hut by the river, by the sea", "a hut by the river , ."),
        ("a school of fish near a school", "a group of fish near a school"),
    ],
)
def test_a_prompt_is_split_without_weights_measures_and_styles(prompt, words):
    assert split_prompt(prompt) == words.split()


def test_words_that_the_judge_calls_invisible_name_nothing():
    words = [word for phrase in PRAISE for word in split_prompt(phrase)]
    assert not [
        word for word in (*INVISIBLE_WORDS, *words) if may_name_thing(word) or word.isalpha() and not is_unseen(word)
    ]


@pytest.mark.parametrize(
    "piece", ["a ", "(", "(a:1.2", "by a", "<", "--a ", "in a in the ", "1", "1 x ", "drawing by "]
)
def test_long_prompts_are_split_in_linear_time(piece):
    prompt = piece * (20_000 // len(piece))
    started = time.perf_counter()
    split_prompt(prompt)
    assert time.perf_counter() - started < 2
