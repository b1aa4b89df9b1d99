"""Large language models as judges: any server that speaks OpenAI's chat API, or Amazon Bedrock's Converse.

The model is asked once for all remembered prompts and must answer in JSON. No answer, a late one or one that is not
understood is no: what is not said to be right is not right, and a server that fails raises Unavailable.
"""

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from memo.errors import BadSetup, Unavailable

from .verdict import Verdict, by_rule

SECONDS = 8.0  # for one answer
WANTED = 0.8  # how sure the model must say it is
BEDROCK_DEFAULT = "meta.llama3-1-70b-instruct-v1:0"
TASK = """You compare prompts for an image generator. A picture was painted for each of the numbered prompts. For each
say whether that picture would be exactly right for the new prompt as well: the same things, as many of them, with the
same colours, materials and attributes on the same things, the same actions by the same actors, the same relations
(left, right, on, under), the same place, text, names, style and medium; nothing added or left out. Other wording,
other order, politeness and words of praise do not matter. When in doubt it is not right. Answer with JSON only:
{"verdicts": [{"number": 1, "right": true or false, "sure": 0.0 to 1.0, "reason": "a few words"}]}"""

Ask = Callable[[str, str], str]  # (task, question) → the model's answer; raises Unavailable


class LanguageJudge:
    """Asks a language model, behind the same vetoes as the learned judge."""

    def __init__(self, name: str, ask: Ask) -> None:
        self.name, self.ask = name, ask

    def __call__(self, wanted: str, remembered: Sequence[str]) -> list[Verdict]:
        """See Judge."""
        settled = ((row, by_rule(old, wanted)) for row, old in enumerate(remembered))
        found = {row: verdict for row, verdict in settled if verdict}
        rest = [row for row in range(len(remembered)) if row not in found]
        if rest:
            answer = self.ask(TASK, question(wanted, [remembered[row] for row in rest]))
            for row, (right, sure, reason) in zip(rest, understood(answer, len(rest)), strict=True):
                fits = right and sure >= WANTED
                how = "right" if right else "not right"
                said = f"{self.name} finds {remembered[row]!r} {how} ({sure:.0%} sure): {reason}"
                found[row] = Verdict(fits, said, sure if right else 0.0, WANTED)
        return [found[row] for row in range(len(remembered))]


def question(wanted: str, remembered: Sequence[str]) -> str:
    """As JSON, so that no prompt can pass for a part of the task."""
    numbered = [{"number": number, "prompt": old} for number, old in enumerate(remembered, 1)]
    return json.dumps({"painted": numbered, "new prompt": wanted}, ensure_ascii=False)


def understood(answer: str, count: int) -> list[tuple[bool, float, str]]:
    """(right, sure, reason) of each number; what is missing or malformed is not right."""
    found = [(False, 0.0, "the model did not say")] * count
    match = re.search(r"\{.*\}", answer, re.DOTALL)
    try:
        rows = json.loads(match[0])["verdicts"] if match else []
        for row in sorted(rows, key=lambda row: row["right"] is False):  # a no outweighs a yes
            number, right, sure = row["number"], row["right"], float(row["sure"])
            if type(number) is not int or not 1 <= number <= count:
                continue
            if right is True and 0 <= sure <= 1:
                found[number - 1] = (True, sure, str(row.get("reason", ""))[:200])
            elif right is False:
                found[number - 1] = (False, 0.0, str(row.get("reason", ""))[:200])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return [(False, 0.0, "the model's answer is not understood")] * count
    return found


def open_chat(url: str, key: str | None) -> LanguageJudge:
    """A server with OpenAI's chat API, `http://host/v1#model`; without a model the first that the server lists."""
    import httpx

    base, _, model = url.partition("#")
    if not base.startswith(("http://", "https://")):
        raise BadSetup(f"the judge llm:{url!r} needs a URL, for example llm:http://127.0.0.1:8080/v1#llama-3.1-70b")
    if key and not re.fullmatch("[!-~]+", key):  # else httpx would quote the key in an error
        raise BadSetup("the key of the judge llm: holds a character that a header cannot carry")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        client = httpx.Client(base_url=base.rstrip("/"), timeout=SECONDS, headers=headers)
    except httpx.InvalidURL as error:
        raise BadSetup(f"the judge llm:{url!r} cannot be asked: {error}") from error

    def ask(task: str, asked: str) -> str:
        try:
            body = {
                "model": model or client.get("/models").raise_for_status().json()["data"][0]["id"],
                "temperature": 0,
                "max_tokens": 800,
                "response_format": {"type": "json_object"},
                "messages": [{"role": "system", "content": task}, {"role": "user", "content": asked}],
            }
            answer = client.post("/chat/completions", json=body).raise_for_status().json()
            return str(answer["choices"][0]["message"]["content"])
        except (httpx.HTTPError, ValueError, KeyError, IndexError, TypeError) as error:
            raise Unavailable(f"the judge at {base} does not answer: {error!r}") from error

    return LanguageJudge(f"llm:{model or client.base_url.host}", ask)  # users read the name, so no address


def open_bedrock(model: str) -> LanguageJudge:
    """A model of Amazon Bedrock, by AWS's usual credentials and region."""
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

    def ask(task: str, asked: str) -> str:
        try:
            answer = client.converse(
                modelId=model,
                system=[{"text": task}],
                messages=[{"role": "user", "content": [{"text": asked}]}],
                inferenceConfig={"maxTokens": 800, "temperature": 0},
            )
            return "".join(part.get("text", "") for part in answer["output"]["message"]["content"])
        except (BotoCoreError, ClientError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise Unavailable(f"the judge bedrock:{model} does not answer: {error}") from error

    return LanguageJudge(f"bedrock:{model}", ask)
