"""Large language models as judges: any server that speaks OpenAI's chat API, or Amazon Bedrock's Converse.

The model is asked once about all remembered prompts and must answer in JSON. A prompt that it does not clearly call
right counts as wrong. A server that fails or is too slow raises Unavailable.
"""

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from memo.errors import BadSetup, Unavailable
from memo.picture import SHARED

from .port import Verdict
from .rules import decide_by_rules

SECONDS = 8.0  # for one answer
THRESHOLD = 0.8  # the lowest confidence that the model must state
BEDROCK_DEFAULT = "meta.llama3-1-70b-instruct-v1:0"
TASK = """You compare prompts for an image generator. A picture was painted for each of the numbered prompts. For each
say whether that picture would be exactly right for the new prompt as well: the same things, as many of them, with the
same colours, materials and attributes on the same things, the same actions by the same actors, the same relations
(left, right, on, under), the same place, text, names, style and medium; nothing added or left out. Other wording,
other order, politeness and words of praise do not matter. When in doubt it is not right. Answer with JSON only:
{"verdicts": [{"number": 1, "right": true or false, "sure": 0.0 to 1.0, "reason": "a few words"}]}"""

Ask = Callable[[str, str], str]  # (task, question) → the model's answer; raises Unavailable


class LanguageJudge:
    """Asks a language model about the prompts that the rules leave undecided."""

    def __init__(self, name: str, ask: Ask) -> None:
        self.name, self.ask = name, ask

    def __call__(self, wanted: str, remembered: Sequence[str], scope: str = SHARED) -> list[Verdict]:
        """See Judge."""
        verdicts = [decide_by_rules(old, wanted) for old in remembered]
        undecided = [old for old, verdict in zip(remembered, verdicts, strict=True) if not verdict]
        by_model = iter(self.ask_model(wanted, undecided) if undecided else [])
        return [verdict or next(by_model) for verdict in verdicts]

    def ask_model(self, wanted: str, remembered: Sequence[str]) -> list[Verdict]:
        """The model's verdict on each remembered prompt."""
        answers = parse_answer(self.ask(TASK, question(wanted, remembered)), len(remembered))
        return [self.verdict(old, *answer) for old, answer in zip(remembered, answers, strict=True)]

    def verdict(self, old: str, right: bool, confidence: float, reason: str) -> Verdict:
        """One answer of the model as a verdict."""
        judged = f"right ({confidence:.0%} sure)" if right else "not right"
        sentence = f"{self.name} finds the picture of {old!r} {judged}: {reason}"
        return Verdict(right and confidence >= THRESHOLD, sentence, confidence if right else 0.0, THRESHOLD)


def question(wanted: str, remembered: Sequence[str]) -> str:
    """The question as JSON, so that no prompt can pose as a part of the task."""
    numbered = [{"number": number, "prompt": old} for number, old in enumerate(remembered, 1)]
    return json.dumps({"painted": numbered, "new prompt": wanted}, ensure_ascii=False)


def parse_answer(answer: str, count: int) -> list[tuple[bool, float, str]]:
    """(right, confidence, reason) for each numbered prompt; a missing or malformed entry counts as not right."""
    verdicts = [(False, 0.0, "the model did not say")] * count
    try:
        rows = json.loads(find_object(answer))["verdicts"]
        for row in sorted(rows, key=lambda row: row["right"] is False):  # a no outweighs a yes
            number, right, confidence = row["number"], row["right"], float(row["sure"])
            if type(number) is not int or not 1 <= number <= count:
                continue
            if right is True and 0 <= confidence <= 1:
                verdicts[number - 1] = (True, confidence, str(row.get("reason", ""))[:200])
            elif right is False:
                verdicts[number - 1] = (False, 0.0, str(row.get("reason", ""))[:200])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return [(False, 0.0, "the model's answer is malformed")] * count
    return verdicts


def find_object(answer: str) -> str:
    """The JSON object in an answer, which may have words around it; an object without verdicts if there is none."""
    return answer[answer.find("{") : answer.rfind("}") + 1] or '{"verdicts": []}'


def open_chat(url: str, key: str | None) -> LanguageJudge:
    """The judge on a server with OpenAI's chat API at `http://host/v1#model`; raises BadSetup for a bad URL or key.

    If the URL names no model, the first one that the server lists is used.
    """
    import httpx

    base, _, model = url.partition("#")
    if not base.startswith(("http://", "https://")):
        raise BadSetup(f"the judge 'llm:{url}' needs a URL, for example llm:http://127.0.0.1:8080/v1#llama-3.1-70b")
    if key and not re.fullmatch("[!-~]+", key):  # httpx would quote such a key in its error
        raise BadSetup("MEMO_JUDGE_KEY holds a character that an HTTP header cannot carry: copy the key again")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        client = httpx.Client(base_url=base.rstrip("/"), timeout=SECONDS, headers=headers)
    except httpx.InvalidURL as error:
        raise BadSetup(f"the judge 'llm:{url}' has a bad URL: {error}") from error

    def ask(task: str, question: str) -> str:
        try:
            body = {
                "model": model or client.get("/models").raise_for_status().json()["data"][0]["id"],
                "temperature": 0,
                "max_tokens": 800,
                "response_format": {"type": "json_object"},
                "messages": [{"role": "system", "content": task}, {"role": "user", "content": question}],
            }
            answer = client.post("/chat/completions", json=body).raise_for_status().json()
            return str(answer["choices"][0]["message"]["content"])
        except (httpx.HTTPError, ValueError, KeyError, IndexError, TypeError) as error:
            raise Unavailable(f"the judge at {base} does not answer: {error!r}") from error

    name = f"llm:{model or client.base_url.host}"  # users see it, so it must not hold the whole address
    return LanguageJudge(name, ask)


def open_bedrock(model: str) -> LanguageJudge:
    """The judge of a model on Amazon Bedrock, with AWS's usual credentials and region. Raises BadSetup."""
    try:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError as error:
        raise BadSetup("the judge bedrock: needs boto3: pip install 'memoaized[s3]'") from error
    limits = Config(connect_timeout=SECONDS, read_timeout=SECONDS, retries={"total_max_attempts": 1})
    try:
        client: Any = boto3.client("bedrock-runtime", config=limits)
    except (BotoCoreError, ValueError) as error:
        raise BadSetup(f"the judge bedrock:{model} cannot be opened: {error}") from error
    model = model or BEDROCK_DEFAULT

    def ask(task: str, question: str) -> str:
        try:
            answer = client.converse(
                modelId=model,
                system=[{"text": task}],
                messages=[{"role": "user", "content": [{"text": question}]}],
                inferenceConfig={"maxTokens": 800, "temperature": 0},
            )
            return "".join(part.get("text", "") for part in answer["output"]["message"]["content"])
        except (BotoCoreError, ClientError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise Unavailable(f"the judge bedrock:{model} does not answer: {error}") from error

    return LanguageJudge(f"bedrock:{model}", ask)
