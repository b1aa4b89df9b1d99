"""Painters elsewhere, for people without a GPU: the Hugging Face Inference API and Amazon Bedrock. Knows no torch.

They paint whole pictures; nothing is known of steps. Whoever waits is told what is waited for, and may cancel: then
the answer that comes is dropped.
"""

import base64
import io
import json
import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from typing import Any

from PIL import Image

from memo import BadSetup, MemoError, Recipe

from .port import ANY, OnStep, PainterOptions, Progress, Turn

log = logging.getLogger(__name__)

TRIES = 8
BACK_OFF = 1.0  # seconds before the second try, doubled each time, with up to as much again by chance
LONGEST_WAIT = 60.0  # before any try
SECONDS = 300.0  # for one answer
LOOK = 1.0  # seconds between two looks whether anybody still waits
SEEDS = {"bedrock": 2**31 - 1, "huggingface-inference": 2**32}  # as many as there are there
BUSY = (408, 429, 500, 502, 503, 504)

Ask = Callable[[Recipe], Image.Image]  # raises Busy to be asked again, RefusedElsewhere not to be


class Busy(Exception):
    """Not now. `seconds`: when to ask again, if the other side said so."""

    def __init__(self, why: str, seconds: float | None = None) -> None:
        super().__init__(why)
        self.seconds = seconds


class RemotePainter:
    """Asks, patiently; for several threads."""

    metered = False

    def __init__(self, device: str, ask: Ask) -> None:
        self.device, self.ask = device, ask
        self.waiting = 0
        self.lock = threading.Lock()

    def state(self) -> Mapping[str, float]:
        """See Painter."""
        return {"batch_size": self.waiting}

    def __call__(
        self, recipe: Recipe, on_step: OnStep, init_image: Image.Image | None = None, turn: Turn = ANY
    ) -> Image.Image:
        """See Painter; raises RefusedElsewhere or what `on_step` raises."""
        with self.lock:
            self.waiting += 1
        try:
            image = self.patiently(recipe, on_step)
        finally:
            with self.lock:
                self.waiting -= 1
        on_step(Progress(recipe.steps))
        size = (recipe.width, recipe.height)
        return (
            image.convert("RGB")
            if image.size == size
            else image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
        )

    def patiently(self, recipe: Recipe, on_step: OnStep) -> Image.Image:
        """Ask again while the other side is busy."""
        for attempt in range(TRIES):
            try:
                return self.asked(recipe, on_step)
            except Busy as busy:
                seconds = min(LONGEST_WAIT, busy.seconds or BACK_OFF * 2**attempt * (1 + random.random()))
                log.warning("%s: %s; again in %.0f s", self.device, busy, seconds)
                if attempt < TRIES - 1:
                    self.wait(seconds, str(busy), on_step)
                why = str(busy)
        raise RefusedElsewhere(f"{self.device} was busy {TRIES} times: {why}")

    def asked(self, recipe: Recipe, on_step: OnStep) -> Image.Image:
        """Ask once, looking meanwhile whether anybody still waits."""
        answer: Future[Image.Image] = Future()
        threading.Thread(
            target=settle, args=(answer, self.ask, recipe), daemon=True
        ).start()  # never waited for at exit
        while True:
            try:
                return answer.result(LOOK)
            except NotYet:
                if answer.done():
                    raise
                on_step(Progress(0, message=f"asked {self.device}"))

    def wait(self, seconds: float, why: str, on_step: OnStep) -> None:
        """The same, for so long."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            on_step(Progress(0, seconds_left=left, message=why))
            time.sleep(min(LOOK, left))


def settle(answer: "Future[Image.Image]", ask: Ask, recipe: Recipe) -> None:
    """Ask, and give whoever waits the answer or the error."""
    try:
        answer.set_result(ask(recipe))
    except (Busy, MemoError) as error:
        answer.set_exception(error)
    except Exception as error:
        log.exception("asking for %s failed", recipe.model)
        answer.set_exception(error)


class RefusedElsewhere(MemoError):
    """The other side will not paint this, or not at all."""


def open_remote(about: Mapping[str, Any], means: PainterOptions) -> RemotePainter:
    """The painter of a model.json whose family is remote; raises BadSetup."""
    family, source = about["family"], about["source"]
    ask = {"bedrock": bedrock, "huggingface-inference": hub}[family](about, means)
    return RemotePainter(f"{family} {source}", ask)


def hub(about: Mapping[str, Any], means: PainterOptions) -> Ask:
    """Hugging Face's Inference API; `provider` and `url` may be named."""
    try:
        from huggingface_hub import InferenceClient
        from huggingface_hub.errors import HfHubHTTPError, InferenceTimeoutError
    except ImportError as error:
        raise BadSetup(f"the model {about['name']} needs huggingface_hub: pip install 'memoaized[gpu]'") from error
    model = about.get("url", about["source"])
    client = InferenceClient(model, provider=about.get("provider"), token=means.hub_token, timeout=SECONDS)

    def ask(recipe: Recipe) -> Image.Image:
        try:
            return client.text_to_image(
                recipe.prompt,
                negative_prompt=recipe.negative_prompt or None,
                width=recipe.width,
                height=recipe.height,
                num_inference_steps=recipe.steps,
                guidance_scale=recipe.guidance_scale,
                seed=(recipe.seed or 0) % SEEDS["huggingface-inference"],
            )
        except InferenceTimeoutError as error:
            raise Busy(f"no answer in {SECONDS:.0f} s") from error
        except HfHubHTTPError as error:
            raise refusal(error.response.status_code, error.response.text) from error

    return ask


def refusal(status: int, text: str) -> Exception:
    """What an answer means that is no picture."""
    try:
        told = json.loads(text)
    except ValueError:
        told = {}
    told = told if isinstance(told, dict) else {}
    why = str(told.get("error") or text)[:300]
    if status in BUSY:
        return Busy(why, told.get("estimated_time"))
    return RefusedElsewhere(f"refused with status {status}: {why}")


def bedrock(about: Mapping[str, Any], _means: PainterOptions) -> Ask:
    """Amazon Bedrock's InvokeModel, for models that speak as Titan Image Generator does; boto3 finds credentials."""
    try:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError as error:
        raise BadSetup(f"the model {about['name']} needs boto3: pip install 'memoaized[s3]'") from error
    config = Config(read_timeout=SECONDS, retries={"total_max_attempts": 1})  # we ask again ourselves
    where = {"region_name": about.get("region"), "endpoint_url": about.get("url")}
    try:
        client = boto3.client("bedrock-runtime", config=config, **where)
    except (BotoCoreError, ValueError) as error:
        raise BadSetup(f"the model {about['name']} cannot be reached: {error}") from error

    def ask(recipe: Recipe) -> Image.Image:
        try:
            answer = client.invoke_model(modelId=about["source"], body=json.dumps(as_titan(recipe)))
            told = json.loads(answer["body"].read())
        except ClientError as error:
            fault, status = error.response["Error"], error.response["ResponseMetadata"]["HTTPStatusCode"]
            raise refusal(status, f"{fault.get('Code')}: {fault.get('Message')}") from error
        except BotoCoreError as error:
            raise Busy(str(error)) from error
        if told.get("error") or not told.get("images"):
            raise RefusedElsewhere(f"refused: {told.get('error') or 'no picture came'}")
        return Image.open(io.BytesIO(base64.b64decode(told["images"][0])))

    return ask


def as_titan(recipe: Recipe) -> dict[str, Any]:
    """The request of Titan Image Generator (docs.aws.amazon.com/bedrock, model-parameters-titan-image)."""
    said = {"text": recipe.prompt}
    if recipe.negative_prompt:
        said["negativeText"] = recipe.negative_prompt
    return {
        "taskType": "TEXT_IMAGE",
        "textToImageParams": said,
        "imageGenerationConfig": {
            "numberOfImages": 1,
            "width": recipe.width,
            "height": recipe.height,
            "cfgScale": min(10.0, max(1.1, recipe.guidance_scale)),
            "seed": (recipe.seed or 0) % SEEDS["bedrock"],
        },
    }
