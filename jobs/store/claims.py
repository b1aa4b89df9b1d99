"""Who paints what: workers claim paintings under leases, and paintings of dead workers go back into the queue."""

import logging
import secrets

from jobs.job import Claim
from memo import now

from . import scripts
from .connection import KEPT_SECONDS, Connection, redis_errors
from .records import load_recipe

log = logging.getLogger(__name__)

LEASE_SECONDS = 15.0


class Claims:
    """Gives paintings to workers and takes them back. Methods raise Unavailable when Redis does not answer."""

    def __init__(self, connection: Connection) -> None:
        self.redis, self.prefix = connection.redis, connection.prefix
        self.run_claim = connection.script(scripts.CLAIM)
        self.run_renew = connection.script(scripts.RENEW)
        self.run_release = connection.script(scripts.RELEASE)

    def claim(self, *models: str) -> Claim | None:
        """Take the next painting of these models, users taking turns; None when none waits."""
        token, moment = secrets.token_hex(16), now()
        reply = self.run_claim(token, moment, moment + LEASE_SECONDS, KEPT_SECONDS, *models)
        if reply is None:
            return None
        painting, recipe, scope, attempt, user, rank, fault = reply
        return Claim(painting, token, load_recipe(recipe), scope, int(attempt), user, float(rank), fault)

    def renew(self, claim: Claim) -> bool:
        """Extend the lease; False when the claim is lost."""
        return bool(self.run_renew(claim.painting, claim.token, now() + LEASE_SECONDS))

    def release(self, claim: Claim) -> bool:
        """Put the painting back as if it had never been claimed; False when the claim is lost.

        The caller must notify a worker.
        """
        return self.run_release(claim.painting, claim.token, "1") is not None

    def requeue_expired(self) -> list[str]:
        """Put paintings whose lease has run out back into the queue.

        Returns the model of each: the caller must notify a worker for it.
        """
        models = []
        with redis_errors():
            for painting in self.redis.zrangebyscore(self.prefix + "leases", 0, now()):
                token = self.redis.hget(self.prefix + "painting:" + painting, "token") or ""
                if model := self.run_release(painting, token, "0"):
                    log.warning("painting %s lost its worker and goes back into the queue", painting)
                    models.append(str(model))
        return models
