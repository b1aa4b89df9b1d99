"""Splits a prompt into the words that may name things; leaves out weights, measures, scenery and style."""

import re

from memo.judge.english import (
    HARMLESS_ADJECTIVES,
    NOT_A_COUNT,
    PLACE_ADJECTIVES,
    PLACES_AND_TIMES,
    STYLE_PHRASES,
    STYLE_SENTENCE,
    UNSEEN_WORDS,
)

COLOURS = frozenset(
    "red orange yellow green blue purple pink brown black white gray grey golden gold silver violet beige".split()
)
# Words that name no drawing: grammar, numbers, qualities, and the usual padding of prompts.
STOP_WORDS = COLOURS | frozenset(
    """a an the and or of to in on at by with without for from as is are it its this that these those there some any
    one two three four five six seven eight nine ten 1 2 3 4 5 6 7 8 9 10 pair couple several many few both
    another left right above over below under underneath beneath beside next near behind front between top
    side upper lower big huge large giant tiny small little cute beautiful pretty lovely nice happy sad funny
    old new young dark bright colorful colourful cool great good simple detailed realistic high quality hd 4k
    8k style design render rendered icon picture image photo photograph drawing illustration painting cartoon
    sticker emoji art clipart 3d flat digital draw paint make show give generate create want need please i me
    my our your his her their you we he she they sitting standing lying running walking flying swimming
    looking wearing holding eating playing sleeping smiling very really just only all background scene view
    plain lit color coloured colored shade snowy rainy sunny kind sort something anything everything thing
    things stuff day time moment floor ground middle center centre corner has have not no be being been was
    were can could would should will""".split()
)
DESCRIPTIONS = STOP_WORDS | HARMLESS_ADJECTIVES  # may stand between a number and its thing
SETTINGS = (
    "background|snow|winter|night|moonlight|stars|beach|sea|seaside|shore|field|fields|meadow|grass|lawn|"
    "hill|garden|park|sunset|dusk|dawn|sunrise|evening|evening sun|morning|water|underwater|ocean|desert|"
    "sand|dune|rain|rainy day|snowy day|summer|autumn|spring|sky|clouds|air|space|outer space|forest|"
    "woods|jungle|city|town|street|road"
)
SETTING = re.compile(
    r"\b(?:in|on|at|by|under|among|during|over|against|near|before|through)\s+(?:the |a |an )?"
    rf"(?:[a-z-]+ ){{0,2}}?(?:{SETTINGS})\b"
    rf"|\b(?:{'|'.join(sorted(COLOURS))})\s+background\b|\bunderwater\b"
)
SYNTAX = re.compile(  # of other programs' prompts: BREAK, <lora:x:1>, --ar 16:9
    r"\b(?:BREAK|ADDBASE|ADDCOMM|ADDCOL|ADDROW)\b|<[^<>]{0,200}>|--\w[\w-]*(?: +[\d.:]+)?"
)
WEIGHT = re.compile(  # of a word or bracket: the ":1.2" in (fox:1.2)
    r"(?<=[^\W\d])(?<!http) ?: ?-?\d{0,3}(?:\.\d{1,9})?(?![\w:])|(?<=[)\]}]) ?: ?-?\d{0,3}(?:\.\d{1,9})?(?![\w:])"
)
MEASURE = re.compile(
    rf"{NOT_A_COUNT.pattern}|\b\d+ ?x ?\d+\b|\b\d+'?s\b|\b\d+ (?:steps?|samples|iterations|years?)\b"
)
TAG_COUNT = re.compile(r"\b(\d)\+?(?=[a-z]{3})")  # 1girl, 6+girls
GROUP_OF = re.compile(r"\b(?:school|pack|pride|murder) of\b")  # kinds of groups whose name may also be a thing
WORD = re.compile(r"[a-z0-9][a-z0-9'-]*|[,.;]")


def split_prompt(prompt: str) -> list[str]:
    """The words and punctuation marks of a prompt in lower case; parts left out become a comma or full stop."""
    text = re.sub(r"[()\[\]{}]", " ", WEIGHT.sub(" ", SYNTAX.sub(" , ", prompt))).lower().replace("_", " ")
    for pattern in (STYLE_SENTENCE, STYLE_PHRASES, MEASURE):
        text = pattern.sub(" , ", text)
    text = GROUP_OF.sub("group of", TAG_COUNT.sub(r"\1 ", text))
    return WORD.findall(SETTING.sub(" . ", text))


def is_unseen(word: str) -> bool:
    """Whether a word names nothing visible for the judge, or says only how a picture is made or arranged."""
    return word in UNSEEN_WORDS or word in STOP_WORDS - COLOURS


def may_name_thing(word: str) -> bool:
    """Whether a word that is not a known name may still mean a thing."""
    return word.isalpha() and len(word) > 2 and not is_unseen(word) and not is_description(word)


def is_description(word: str) -> bool:
    """Whether a word is an adjective or a place, which the model paints from the text."""
    return word in DESCRIPTIONS | PLACE_ADJECTIVES | PLACES_AND_TIMES or bool(re.fullmatch(SETTINGS, word))
