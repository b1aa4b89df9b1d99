"""Who paints what: workers claim paintings under leases, and paintings of dead workers go back into the queue."""

import logging
import secrets
import time

from jobs.job import Claim

from . import scripts
from .connection import KEPT_SECONDS, Connection
from .records import load_near, load_recipe

log = logging.getLogger(__name__)

LEASE_SECONDS = 15.0
DRAIN_SECONDS = 300.0  # for which a worker claims nothing while the next painting is a suspect, to be painted alone


class Occupied(Exception):
    """The worker must not claim anything now, because a suspect must be painted alone; retry when a painting ends."""


class Claims:
    """Gives paintings to workers and takes them back. Methods raise Unavailable when Redis does not answer.

    Each object stands for one worker: paintings that it claims are under way together and die together.
    """

    def __init__(self, connection: Connection) -> None:
        self.worker = secrets.token_hex(8)
        self.run_claim = connection.script(scripts.CLAIM)
        self.run_renew = connection.script(scripts.RENEW)
        self.run_release = connection.script(scripts.RELEASE)
        self.run_requeue_expired = connection.script(scripts.REQUEUE_EXPIRED)

    def claim(self, *models: str) -> Claim | None:
        """Take the next painting of these models, users taking turns; None when none waits. Raises Occupied."""
        token = secrets.token_hex(16)
        reply = self.run_claim(token, LEASE_SECONDS, KEPT_SECONDS, self.worker, DRAIN_SECONDS, *models)
        if reply is None:
            return None
        if reply == "later":
            raise Occupied
        painting, recipe, scope, attempt, user, rank, fault, suspect, near = reply
        details = user, float(rank), fault, suspect == "1", load_near(near)
        return Claim(painting, token, load_recipe(recipe), scope, int(attempt), *details)

    def renew(self, claim: Claim) -> bool:
        """Extend the lease; False when the claim is lost."""
        return bool(self.run_renew(claim.painting, claim.token, LEASE_SECONDS))

    def release(self, claim: Claim) -> bool:
        """Put the painting back as if it had never been claimed; False when the claim is lost.

        The caller must notify a worker.
        """
        return self.run_release(claim.painting, claim.token) is not None

    def requeue_expired(self) -> list[str]:
        """Put paintings whose lease has run out back into the queue; those whose worker died become suspects.

        Returns the model of each: the caller must notify a worker for it.
        """
        requeued = self.run_requeue_expired(KEPT_SECONDS, self.worker, time.monotonic(), LEASE_SECONDS)
        paintings, models, died = requeued[0::3], requeued[1::3], requeued[2::3]
        for painting, worker_died in zip(paintings, died, strict=True):
            reason = "lost its worker and will be painted alone" if worker_died else "will be tried again"
            log.warning("painting %s goes back into the queue; it %s", painting, reason)
        return list(models)
