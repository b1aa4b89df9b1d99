"""What chat models and prompt tools write around a prompt comes off, and choices are drawn."""

from random import Random

import pytest

from jobs.prompt import draw_choices, read_prompt
from memo import BadRecipe

FOX = "A red fox in the snow, soft light"
REPLIES = [
    f"Of course! Here is a prompt for you:\n\n{FOX}",
    f"Sure! Here's a detailed prompt you can use:\n\n**Prompt:** {FOX}\n\nLet me know if you'd like any changes!",
    f"Certainly. Here is an improved version: {FOX}",
    f"Sure, here’s a prompt: {FOX}",
    f"```\n{FOX}\n```",
    f"Here is the prompt:\n```text\n{FOX}\n```\nFeel free to adjust it.",
    f"`{FOX}`",
    f"**{FOX}**",
    f"*{FOX}*",
    f"__{FOX}__",
    f'"{FOX}"',
    f"“{FOX}”",
    f"„{FOX}“",
    f"'{FOX}'",
    f'**Prompt:** "{FOX}"',
    f"### Image Prompt\n\n{FOX}",
    f"> {FOX}",
    f"Prompt: {FOX}",
    f"/imagine prompt: {FOX}",
    f"<think>The user wants a fox.\nAnd snow: {{}}</think>\n\n{FOX}",
    f'Sure thing! Here\'s your prompt:\n\n"{FOX}"\n\nThis prompt captures the mood you described.',
    f"Here's an image generation prompt based on your request:\n---\n{FOX}\n---",
    f'```json\n{{"prompt": "{FOX}", "steps": 20}}\n```',
    f'{{"prompt": "{FOX}", "negative_prompt": "blurry"}}',
    f"**Title:** Winter\n\n**Prompt:** {FOX}",
    f"Okay, so here's a prompt: {FOX}",
    f"Assistant: {FOX}",
    f"<prompt>{FOX}</prompt>",
    f'"""{FOX}"""',
    f'Of course, here\'s the prompt you asked for — "{FOX}"',
    f'Here is a prompt: "{FOX}". Let me know if you want changes!',
    f"{FOX}\n\nNegative prompt: blurry, ugly",
    f"{FOX}\n(Note: you can adjust the style.)",
    f"Absolutely! I've crafted a prompt for your fox:\n\n> **{FOX}**\n\nWould you like me to make another one?",
]
ORDINARY = [
    "a red fox in the snow",
    "Here is a cat",
    "great white shark",
    "Great, white shark",
    "okay sign, a hand",
    "a sign saying: prompt delivery",
    'a neon sign that says "OPEN"',
    '"OPEN"',
    '"STOP" and "GO"',
    "long_hair, 1girl, red_eyes",
    "5 * 3 = 15 on a blackboard",
    "a cat (sitting) on a mat, [masterpiece]",
    "C# code on a screen, #1 dad",
    "a dog's dinner, 'modern' art",
    "a girl with a ` on her shirt",
    "a curly brace { on a wall",
    "f(x) = {x} on a blackboard",
    "a prompt: blinking on a terminal",
    'a sign that says "OPEN".',
    '"OPEN".',
    "a cat ^_^ and a dog @_@",
    'JSON on a screen: {"prompt": "x"}',
    "a sign that says Negative prompt: none",
    "a note: you can also dance, on a fridge",
]


@pytest.mark.parametrize("reply", REPLIES)
def test_what_a_chat_model_writes_around_a_prompt_comes_off_and_a_note_says_so(reply):
    prompt, [note] = read_prompt("prompt", reply)
    assert prompt == FOX
    assert note.startswith("prompt: removed ")


@pytest.mark.parametrize("prompt", ORDINARY)
def test_an_ordinary_prompt_is_kept_as_it_is(prompt):
    assert read_prompt("prompt", prompt) == (prompt, ())


def test_marks_around_single_words_come_off():
    prompt, notes = read_prompt("prompt", "a **red** fox in *deep* `snow`")
    assert prompt == "a **red** fox in deep `snow`".replace("**", "").replace("`", "") and notes


def test_a_text_that_is_nothing_but_frame_is_kept():
    assert read_prompt("prompt", "Sure!") == ("Sure!", ())
    assert read_prompt("prompt", "``````")[0] == "``````"


def test_a_wildcard_is_read_as_it_is_spelled_and_a_note_says_so():
    prompt, [note] = read_prompt("prompt", "a __colour__ fox in a __places/wild_wood__")
    assert prompt == "a colour fox in a places wild wood"
    assert "__colour__, __places/wild_wood__" in note


@pytest.mark.parametrize("prompt", ["a [red|blue] fox", "a [red:blue:0.5] fox"])
def test_words_that_take_turns_elsewhere_are_named(prompt):
    kept, [note] = read_prompt("prompt", prompt)
    assert kept == prompt and prompt[2:-4] in note


def test_one_of_several_choices_is_drawn_and_named():
    drawn = {draw_choices("a {red|blue} fox", Random(seed)) for seed in range(20)}
    assert {prompt for prompt, _ in drawn} == {"a red fox", "a blue fox"}
    assert ("chosen at random: 'red' from {red|blue}",) in {notes for _, notes in drawn}


def test_the_same_seed_draws_the_same_choice():
    prompt = "a {red|blue|green} {fox|{cat|dog}} in {2$$snow|rain|fog}"
    assert draw_choices(prompt, Random(7)) == draw_choices(prompt, Random(7))
    assert "{" not in draw_choices(prompt, Random(7))[0]


def test_a_weight_makes_a_choice_more_likely_and_is_not_written():
    drawn = [draw_choices("a {9::red|blue|0::green} fox", Random(seed))[0] for seed in range(60)]
    assert set(drawn) == {"a red fox", "a blue fox"} and drawn.count("a red fox") > 40


@pytest.mark.parametrize("prompt", ["a {red} fox", "a { fox", "a \\{red|blue\\} fox", "a red|blue fox"])
def test_braces_without_choices_are_kept(prompt):
    assert draw_choices(prompt, Random(1)) == (prompt, ())


@pytest.mark.parametrize("text", [None, 7, ["a fox"], "half \ud83e of a pair", "nul \0 inside"])
def test_what_cannot_be_a_prompt_is_refused(text):
    with pytest.raises(BadRecipe, match="prompt"):
        read_prompt("prompt", text)
