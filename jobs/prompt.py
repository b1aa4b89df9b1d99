"""Reads the prompt of a request: removes what chat models write around it, and picks among alternatives at random.

Chat models answer with "Of course! Here is a prompt:", fences and bold type, and prompt tools write `{red|blue}` and
`__colour__`. A painter would draw all of that. Notes say in words what was changed. Every pattern reads its text in
linear time, since a request may carry megabytes.
"""

import json
import re
from random import Random

from memo.errors import shorten
from memo.recipe import bound, tidy

MAX_LISTED = 3  # items listed in one note
FEWEST_QUOTED_WORDS = 3  # in quotation marks around a whole prompt; fewer words are lettering: "OPEN"
FENCE, END_OF_THOUGHT = "```", "</think>"
TAG = "<prompt>", "</prompt>"
NEGATIVE = "negative prompt:"
QUOTED = re.compile(
    r"(?:(\"{1,3})(?P<a>[^\"]+)\1|('{1,3})(?P<b>[^']+)\3|[“„](?P<c>[^“”„]+)[”“]|«(?P<d>[^«»]+)»|‘(?P<e>[^‘’]+)’|"
    r"「(?P<f>[^「」]+)」)\.?"
)
LINE_MARK = re.compile(r"(?:#{1,6}|>|[-*•+])[ \t]+|(?:-{3,}|\*{3,}|_{3,})$")
BOLD = re.compile(r"__(?=[^\s_])([^_\n]*+)__")
ITALIC = re.compile(r"(?<![\w*\\])\*(?=[^\s*])([^*\n]*+)\*(?![\w*])|(?<![\w^])_(?=[A-Za-z])([^_\n]*+)_(?!\w)")
LABEL = re.compile(  # "Image prompt:", "/imagine prompt:"
    r"(?:/imagine\s+)?(?:(?:the|positive|image|final|main|improved|revised|enhanced|refined|detailed|flux|sdxl?|"
    r"stable diffusion|midjourney|dall[-·]?e(?: ?3)?)\s){0,3}prompt ?\d{0,2}(?::\s*|\n)|/imagine\s+",
    re.I,
)
OPENINGS = (  # what chat models say before a prompt
    re.compile(  # "Sure!", "Of course, here …"
        r"(?:sure|of course|certainly|absolutely|definitely|okay|ok|great|alright|got it|no problem|gladly|"
        r"with pleasure|happy to help|i(?:['’]d| would) be happy to help|assistant|chatgpt)"
        r"(?: thing| idea| choice| with that)? ?(?:[!.:—–]+|,(?= (?:so |then )?(?:here|below|i\b)))(?:\s+|$)",
        re.I,
    ),
    re.compile(  # "Here is a prompt for you:"
        r"(?:so |then )?(?:here(?:['’]s| is| are)|below (?:is|are)|"
        r"i(?:['’]ve| have)? (?:created|written|wrote|made|crafted))\b"
        r"(?=[^:—–\n]{0,160}\b(?:prompts?|descriptions?|captions?|versions?|suggestions?)\b)[^:—–\n]{0,240}[:—–]\s*"
        r"|here (?:you go|it is) ?[:!.]\s*",
        re.I,
    ),
    LABEL,
)
CLOSING = re.compile(  # what they say after it
    r"(?:let me know|feel free|would you like|i hope|hope (?:this|that|you)|do you want me|want me to|enjoy your|"
    r"if you(?:['’]d| would) like|is there anything|\(?note:|you can (?:adjust|also|change)|"
    r"this (?:prompt|description|version) (?:captures|aims|should|will|is))(?!\w)",
    re.I,
)
CLOSING_SENTENCE = re.compile(rf"(?<=[.!?\"”] )(?:{CLOSING.pattern})", re.I)
CHOICES = re.compile(r"(?<!\\)\{([^{}]*+)\}")  # {red|blue}
WEIGHT = re.compile(r"\s*(\d{1,6}(?:\.\d{1,6})?)::")  # {3::red|blue}
COUNT = re.compile(r"\s*(\d{1,2})\$\$")  # {2$$red|blue|green}
WILDCARD = re.compile(r"(?<![^\W_])__([a-z0-9](?:[\w/*-]{0,60}[a-z0-9*])?)__(?![^\W_])", re.I)
BRACKETS = re.compile(r"(?<!\\)\[([^][]*+)\]")  # [red|blue], [red:blue:0.5]


def read_prompt(field: str, text: object) -> tuple[str, tuple[str, ...]]:
    """The prompt as a recipe keeps it, and notes on what was removed or is read as plain words. Raises BadRecipe."""
    if not isinstance(text, str):
        return tidy(field, text), ()
    removed: list[str] = []
    plain = strip_markdown(unwrap_json(unwrap(bound(field, text), removed), removed), removed)
    bare = strip_chat(drop_negative_prompt(plain, removed), removed)
    words, wildcard_notes = replace_wildcards(tidy(field, strip_quotes(bare, removed)))
    if not words:
        return tidy(field, text), ()
    notes = [f"{field}: removed {list_first(removed)}"] if removed else []
    return words, (*notes, *(f"{field}: {note}" for note in (*wildcard_notes, *explain_brackets(words))))


def unwrap(text: str, removed: list[str]) -> str:
    """The text after a model's thoughts, inside its `<prompt>` tags, and inside the first code fence."""
    thought, end, text = text.rpartition(END_OF_THOUGHT)
    if end and text.strip():
        removed.append("the model's thoughts")
    elif end:
        text = thought
    if TAG[0] in text and TAG[1] in text:
        text = text.partition(TAG[0])[2].partition(TAG[1])[0]
        removed.append("the tags around it")
    before, fence, rest = text.partition(FENCE)
    if not fence:
        return text
    inside, _, after = rest.partition(FENCE)
    language, _, code = inside.partition("\n")
    if code.strip() and " " not in language.strip():
        inside = code
    if not inside.strip():
        return text
    removed += [shorten(words) for words in (" ".join(before.split()), " ".join(after.split())) if words]
    removed.append("the code fence")
    return inside


def unwrap_json(text: str, removed: list[str]) -> str:
    """The prompt in a JSON object; any other text unchanged."""
    if not text.strip().startswith("{"):
        return text
    try:
        prompt = json.loads(text)["prompt"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return text
    if not isinstance(prompt, str) or not prompt.strip():
        return text
    removed.append("the JSON around it")
    return prompt


def strip_markdown(text: str, removed: list[str]) -> str:
    """The text without Markdown's marks for bold and italic type, code, headings, quotations and lists."""
    lines = [line.strip() for line in text.splitlines()]
    plain = "\n".join(LINE_MARK.sub("", line, count=1) if LINE_MARK.match(line) else line for line in lines if line)
    if plain.count("**") > 1:
        plain = plain.replace("**", "")
    if plain.count("`") > 1:
        plain = plain.replace("`", "")
    plain = ITALIC.sub(
        lambda match: match[1] or match[2], BOLD.sub(lambda match: match[1] if " " in match[1] else match[0], plain)
    )
    if len(plain) < len("\n".join(filter(None, lines))):
        removed.append("Markdown marks")
    return plain


def drop_negative_prompt(text: str, removed: list[str]) -> str:
    """The text without a negative prompt on lines of its own; it belongs in the field `negative_prompt`."""
    lines = text.split("\n")
    for index, line in enumerate(lines[1:], 1):
        if line.lower().startswith(NEGATIVE):
            removed.append(f"{shorten(' '.join(lines[index:]))} (send it as negative_prompt)")
            return "\n".join(lines[:index])
    return text


def strip_chat(text: str, removed: list[str]) -> str:
    """The text without what a chat model says before and after a prompt."""
    labels = [index for index, line in enumerate(text.split("\n")) if LABEL.match(f"{line}\n")]
    if labels and labels[0]:
        lines = text.split("\n")
        removed.append(shorten(" ".join(lines[: labels[0]])))
        text = "\n".join(lines[labels[0] :])
    for opening in OPENINGS:
        match = opening.match(text)
        if match and text[match.end() :].strip():
            removed.append(shorten(match[0].strip()))
            text = text[match.end() :]
    lines = text.split("\n")
    while len(lines) > 1 and CLOSING.match(lines[-1]):
        removed.append(shorten(lines.pop()))
    if match := CLOSING_SENTENCE.search(lines[-1]):
        removed.append(shorten(lines[-1][match.start() :]))
        lines[-1] = lines[-1][: match.start()]
    return "\n".join(lines)


def strip_quotes(text: str, removed: list[str]) -> str:
    """The text without quotation marks around all of it, which would make models draw lettering."""
    text = text.strip()
    quoted = QUOTED.fullmatch(text)
    words = "".join(filter(None, quoted.group("a", "b", "c", "d", "e", "f"))) if quoted else ""
    if len(words.split()) < FEWEST_QUOTED_WORDS:
        return text
    removed.append("the quotation marks around it")
    return words


def list_first(items: list[str]) -> str:
    """The first MAX_LISTED items as a phrase, with the number of the others."""
    more = f" and {len(items) - MAX_LISTED} more" if len(items) > MAX_LISTED else ""
    return ", ".join(items[:MAX_LISTED]) + more


def replace_wildcards(prompt: str) -> tuple[str, list[str]]:
    """The prompt with the name of each wildcard (`__colour__`) as plain words, and a note on them."""
    names = WILDCARD.findall(prompt)
    if not names:
        return prompt, []
    wildcards = list_first([f"__{name}__" for name in dict.fromkeys(names)])
    note = f"this server has no wildcard files, so it reads {wildcards} as plain words"
    return " ".join(WILDCARD.sub(lambda match: " ".join(re.split(r"[_/*-]+", match[1])), prompt).split()), [note]


def explain_brackets(prompt: str) -> list[str]:
    """A note on words that AUTOMATIC1111 would switch between while it paints: `[red|blue]`, `[red:blue:0.5]`."""
    brackets = [match[0] for match in BRACKETS.finditer(prompt) if "|" in match[1] or match[1].count(":") > 1]
    if not brackets:
        return []
    return [f"this server does not switch words while it paints, so it reads all words of {list_first(brackets)}"]


def draw_choices(prompt: str, random: Random) -> tuple[str, tuple[str, ...]]:
    """The prompt with one of the choices in each `{red|blue}`, and notes on which were chosen.

    The syntax is that of https://github.com/adieyal/sd-dynamic-prompts and ComfyUI: choices may be nested, have a
    weight (`{3::red|blue}`), or stand for several of them (`{2$$red|blue|green}`). `\\{` is a plain brace.
    """
    draws: list[str] = []

    def draw(match: re.Match[str]) -> str:
        if "|" not in match[1]:
            return match[0]
        drawn = draw_from(match[1], random)
        draws.append(f"{shorten(drawn)} from {match[0]}")
        return drawn

    drawn = prompt
    while (next_drawn := CHOICES.sub(draw, drawn)) != drawn:
        drawn = next_drawn
    return (" ".join(drawn.split()), (f"chosen at random: {list_first(draws)}",)) if draws else (prompt, ())


def draw_from(choices: str, random: Random) -> str:
    """One of the choices between bars, or several joined by commas if the text begins with their number and `$$`."""
    counted = COUNT.match(choices)
    options = (choices[counted.end() :] if counted else choices).split("|")
    weights = [float(weight[1]) if (weight := WEIGHT.match(option)) else 1.0 for option in options]
    words = [WEIGHT.sub("", option, count=1).strip() for option in options]
    count = min(int(counted[1]), len(words)) if counted else 1
    drawn: list[int] = []
    for _ in range(count):
        left = [index for index in range(len(words)) if index not in drawn]
        chances = [weights[index] for index in left]
        drawn.append(random.choices(left, chances if any(chances) else None)[0])
    return ", ".join(words[index] for index in drawn)
