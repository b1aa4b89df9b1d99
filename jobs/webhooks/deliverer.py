"""The threads of a worker that POST due webhooks, some with a picture from memory."""

import base64
import contextlib
import json
import logging
import threading
from typing import Any

from jobs.job import Job
from jobs.serialize import job_to_dict, job_to_generation
from memo import Forgotten, MemoError, Memory, now
from memo.picture import without_scope
from memo.webp import write_webp

from .deliveries import HORDE, Delivery, Webhook, Webhooks
from .receivers import Undelivered
from .signature import signature_headers

log = logging.getLogger(__name__)

PERIOD = 1.0  # seconds between two checks for due deliveries
THREADS = 8  # deliveries of one worker at once; four users can have slow receivers before anybody waits
QUALITY = 95  # of the WebP files in deliveries, 1 to 100


class Deliverer:
    """Delivers webhooks on several threads, which run only if webhooks have a secret."""

    def __init__(self, webhooks: Webhooks, memory: Memory, threads: int = THREADS) -> None:
        self.webhooks, self.memory = webhooks, memory
        self.stopping = threading.Event()
        self.threads = [
            threading.Thread(target=self.run, name=f"webhooks-{number}", daemon=True) for number in range(threads)
        ]

    def start(self) -> None:
        """Start the threads."""
        if self.webhooks.secret:
            for thread in self.threads:
                thread.start()

    def stop(self) -> None:
        """Stop after the current deliveries; another worker repeats one that is cut off, when its lease ends."""
        self.stopping.set()
        for thread in self.threads:
            if thread.is_alive():
                thread.join(timeout=PERIOD)

    def run(self) -> None:
        """Deliver until stopped; goes on after an outage of Redis."""
        while not self.stopping.is_set():
            try:
                delivered = self.deliver_next()
            except MemoError as error:
                log.warning("cannot deliver webhooks at the moment: %s", error)
                delivered = False
            except Exception:  # a delivery that a newer version wrote, say: the others must still be made
                log.exception("a webhook cannot be delivered by this worker")
                delivered = False
            if not delivered:
                self.stopping.wait(PERIOD)

    def deliver_next(self) -> bool:
        """Make one delivery that is due; False when none is."""
        if (delivery := self.webhooks.take_due()) is None:
            return False
        try:
            self.deliver(delivery)
        except (Undelivered, MemoError) as error:
            self.retry_or_give_up(delivery, str(error), hopeless=isinstance(error, Undelivered) and error.hopeless)
        except Exception as error:  # an unexpected fault must not end the thread: it is logged and tried again
            log.exception("webhook %s failed", delivery.id)
            self.retry_or_give_up(delivery, repr(error))
        else:
            self.webhooks.remove(delivery)
        return True

    def deliver(self, delivery: Delivery) -> None:
        """POST the job as it stands now; raises Undelivered, or what memory raises."""
        webhook = delivery.webhook
        job = self.webhooks.job_store.jobs.find(webhook.job)
        if job is None:
            raise Undelivered(f"job {webhook.job} is not kept any more", hopeless=True)
        body = json.dumps(self.payload(webhook, job)).encode()
        signature = signature_headers(self.webhooks.secret_of(webhook.key), delivery.id, int(now()), body)
        headers = {"Content-Type": "application/json", "User-Agent": "memoAIzed-webhook/1", **signature}
        self.webhooks.receivers.post(webhook.url, body, headers)

    def payload(self, webhook: Webhook, job: Job) -> dict[str, Any]:
        """The body, in the webhook's form."""
        if webhook.form == HORDE:
            img = (webhook.img or self.image_in_base64(job)) if job.picture else ""
            return {**job_to_generation(job, img), "request": webhook.request, "kudos": 0}
        links = {name: link for name, link in webhook.links.items() if name == "self" or job.picture}
        return {**job_to_dict(job), "links": links}

    def image_in_base64(self, job: Job) -> str:
        """The picture as WebP; "" when it was forgotten meanwhile."""
        assert job.picture is not None
        with contextlib.suppress(Forgotten):
            return base64.b64encode(write_webp(without_scope(self.memory.image(job.picture.key)), QUALITY)).decode()
        return ""

    def retry_or_give_up(self, delivery: Delivery, why: str, *, hopeless: bool = False) -> None:
        """Schedule another attempt; give the delivery up if that is hopeless, or after the last attempt."""
        if hopeless:
            self.webhooks.remove(delivery)
            wait = None
        else:
            wait = self.webhooks.retry(delivery)
        job, outcome = delivery.webhook.job, "given up" if wait is None else f"retried in {wait:g} s"
        log.warning("webhook %s of job %s is %s: %s", delivery.id, job, outcome, why)
