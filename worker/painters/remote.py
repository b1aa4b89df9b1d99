"""Remote painters, for people without a GPU: the Hugging Face Inference API and Amazon Bedrock. Knows no torch.

A service paints whole pictures and reports no steps. Meanwhile the caller gets messages about the wait and may
cancel; then the service's answer is discarded.
"""

import base64
import json
import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any

from PIL import Image, UnidentifiedImageError

from memo import BadSetup, MemoError, Recipe
from memo.errors import BadPicture
from memo.image_files import read_pixels

from .port import ANY_TURN, OnStep, PainterOptions, Progress, Turn

log = logging.getLogger(__name__)

MAX_ATTEMPTS = 8
BACKOFF = 1.0  # seconds before the second attempt; doubled each time, plus up to the same again at random
MAX_WAIT = 60.0  # seconds, the longest wait before an attempt
TIMEOUT = 300.0  # seconds for one answer
POLL_INTERVAL = 1.0  # seconds between two checks whether the caller has cancelled
SEED_COUNTS = {"bedrock": 2**31 - 1, "huggingface-inference": 2**32}  # a recipe's seed is sent modulo its number
BUSY_STATUSES = (408, 429, 500, 502, 503, 504)

Generate = Callable[[Recipe], Image.Image]  # sends one request; raises Busy if a retry may help, else RemoteRefused


class Busy(Exception):
    """The service cannot answer now; `seconds` is its own estimate of the wait, if it gave one."""

    def __init__(self, reason: str, seconds: float | None = None) -> None:
        super().__init__(reason)
        self.seconds = seconds


class RemoteRefused(MemoError):
    """The service rejects the request, or was busy too long."""


class RemotePainter:
    """Sends recipes to a service, and retries while it is busy; safe to use from several threads."""

    metered = False

    def __init__(self, device: str, generate: Generate) -> None:
        self.device, self.generate = device, generate
        self.waiting = 0
        self.lock = threading.Lock()

    def state(self) -> Mapping[str, float]:
        """See Painter."""
        return {"batch_size": self.waiting}

    def __call__(
        self, recipe: Recipe, on_step: OnStep, init_image: Image.Image | None = None, turn: Turn = ANY_TURN
    ) -> Image.Image:
        """See Painter; raises RemoteRefused."""
        with self.lock:
            self.waiting += 1
        try:
            image = self.generate_with_retries(recipe, on_step)
        finally:
            with self.lock:
                self.waiting -= 1
        on_step(Progress(recipe.steps))
        size = (recipe.width, recipe.height)
        image = image.convert("RGB")
        return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)

    def generate_with_retries(self, recipe: Recipe, on_step: OnStep) -> Image.Image:
        """Request a picture, up to MAX_ATTEMPTS times while the service is busy; raises RemoteRefused."""
        for attempt in range(MAX_ATTEMPTS):
            try:
                return self.generate_once(recipe, on_step)
            except Busy as busy:
                seconds = min(MAX_WAIT, busy.seconds or BACKOFF * 2**attempt * (1 + random.random()))
                log.warning("%s is busy (%s); next attempt in %.0f s", self.device, busy, seconds)
                if attempt < MAX_ATTEMPTS - 1:
                    self.wait(seconds, str(busy), on_step)
                reason = str(busy)
        raise RemoteRefused(f"{self.device} was busy {MAX_ATTEMPTS} times: {reason}")

    def generate_once(self, recipe: Recipe, on_step: OnStep) -> Image.Image:
        """Send one request; while it runs, `on_step` is called at intervals, and its exceptions end the wait."""
        answer: Future[Image.Image] = Future()
        # a daemon thread does not keep the process alive for an answer that nobody needs any more
        threading.Thread(target=resolve, args=(answer, self.generate, recipe), daemon=True).start()
        while True:
            try:
                return answer.result(POLL_INTERVAL)
            except FutureTimeout:
                if answer.done():
                    raise
                on_step(Progress(0, message=f"waiting for {self.device}"))

    def wait(self, seconds: float, reason: str, on_step: OnStep) -> None:
        """Wait before the next attempt; `on_step` is called at intervals, and its exceptions end the wait."""
        end = time.monotonic() + seconds
        while (seconds_left := end - time.monotonic()) > 0:
            on_step(Progress(0, seconds_left=seconds_left, message=reason))
            time.sleep(min(POLL_INTERVAL, seconds_left))


def resolve(answer: "Future[Image.Image]", generate: Generate, recipe: Recipe) -> None:
    """Set the answer to the picture, or to the error of the request."""
    try:
        answer.set_result(generate(recipe))
    except (Busy, MemoError) as error:
        answer.set_exception(error)
    except Exception as error:
        log.exception("the request for a picture of %s failed", recipe.model)
        answer.set_exception(error)


def open_remote(description: Mapping[str, Any], options: PainterOptions) -> RemotePainter:
    """The painter of a model.json with a remote family; raises BadSetup."""
    family, source = description["family"], description["source"]
    connect = {"bedrock": connect_bedrock, "huggingface-inference": connect_hugging_face}[family]
    return RemotePainter(f"{family} {source}", connect(description, options))


def connect_hugging_face(description: Mapping[str, Any], options: PainterOptions) -> Generate:
    """Hugging Face's Inference API; the model.json may set `provider` and `url`."""
    try:
        from huggingface_hub import InferenceClient
        from huggingface_hub.errors import HfHubHTTPError, InferenceTimeoutError
    except ImportError as error:
        raise BadSetup(
            f"the model {description['name']} needs huggingface_hub: pip install 'memoaized[gpu]'"
        ) from error
    model = description.get("url", description["source"])
    client = InferenceClient(model, provider=description.get("provider"), token=options.hub_token, timeout=TIMEOUT)

    def generate(recipe: Recipe) -> Image.Image:
        try:
            image = client.text_to_image(
                recipe.prompt,
                negative_prompt=recipe.negative_prompt or None,
                width=recipe.width,
                height=recipe.height,
                num_inference_steps=recipe.steps,
                guidance_scale=recipe.guidance_scale,
                seed=(recipe.seed or 0) % SEED_COUNTS["huggingface-inference"],
            )
        except InferenceTimeoutError as error:
            raise Busy(f"no answer in {TIMEOUT:.0f} s") from error
        except HfHubHTTPError as error:
            raise error_of_response(error.response.status_code, error.response.text) from error
        except UnidentifiedImageError as error:  # a message of Pillow's would name an address in memory
            raise RemoteRefused("the response holds no picture") from error
        try:
            return image.convert("RGB")  # decodes it
        except (OSError, SyntaxError, ValueError) as error:
            raise RemoteRefused(f"the response holds a damaged picture: {error}") from error

    return generate


def error_of_response(status: int, text: str) -> Exception:
    """Busy or RemoteRefused, by the status and text of an error response."""
    try:
        body = json.loads(text)
    except ValueError:
        body = {}
    body = body if isinstance(body, dict) else {}
    reason = str(body.get("error") or text)[:300]
    if status in BUSY_STATUSES:
        return Busy(reason, body.get("estimated_time"))
    return RemoteRefused(f"refused with status {status}: {reason}")


def connect_bedrock(description: Mapping[str, Any], _options: PainterOptions) -> Generate:
    """Amazon Bedrock's InvokeModel, for models with Titan Image Generator's request; boto3 finds the credentials."""
    try:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError as error:
        raise BadSetup(f"the model {description['name']} needs boto3: pip install 'memoaized[s3]'") from error
    config = Config(read_timeout=TIMEOUT, retries={"total_max_attempts": 1})  # RemotePainter retries
    endpoint = {"region_name": description.get("region"), "endpoint_url": description.get("url")}
    try:
        client = boto3.client("bedrock-runtime", config=config, **endpoint)
    except (BotoCoreError, ValueError) as error:
        raise BadSetup(f"the model {description['name']} cannot be reached: {error}") from error

    def generate(recipe: Recipe) -> Image.Image:
        try:
            response = client.invoke_model(modelId=description["source"], body=json.dumps(titan_request(recipe)))
            body = json.loads(response["body"].read())
        except ClientError as error:
            details, status = error.response["Error"], error.response["ResponseMetadata"]["HTTPStatusCode"]
            raise error_of_response(status, f"{details.get('Code')}: {details.get('Message')}") from error
        except BotoCoreError as error:
            raise Busy(str(error)) from error
        if body.get("error") or not body.get("images"):
            raise RemoteRefused(f"refused: {body.get('error') or 'the response holds no picture'}")
        try:
            return read_pixels(base64.b64decode(body["images"][0]))
        except (BadPicture, TypeError, ValueError) as error:
            raise RemoteRefused(f"the response holds no picture: {error}") from error

    return generate


def titan_request(recipe: Recipe) -> dict[str, Any]:
    """The request of Titan Image Generator (docs.aws.amazon.com/bedrock, model-parameters-titan-image)."""
    texts = {"text": recipe.prompt}
    if recipe.negative_prompt:
        texts["negativeText"] = recipe.negative_prompt
    return {
        "taskType": "TEXT_IMAGE",
        "textToImageParams": texts,
        "imageGenerationConfig": {
            "numberOfImages": 1,
            "width": recipe.width,
            "height": recipe.height,
            "cfgScale": min(10.0, max(1.1, recipe.guidance_scale)),
            "seed": (recipe.seed or 0) % SEED_COUNTS["bedrock"],
        },
    }
