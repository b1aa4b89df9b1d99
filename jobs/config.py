"""Settings that web and workers share: where the queue and the models are, and how webhooks are sent."""

from collections.abc import Mapping
from dataclasses import dataclass

from memo import BadSetup
from memo.config import read_settings

from .webhooks.receivers import Receivers
from .webhooks.signature import read_secret


@dataclass(frozen=True, slots=True)
class JobsConfig:
    """Each field is read from the variable JOBS_<NAME>, or for secrets from the file that JOBS_<NAME>_FILE names.

    Web and workers need the same settings. Raises BadSetup for a malformed one.
    """

    redis: str = "redis://127.0.0.1:6379/0"
    models: str = "models"  # the folder of models
    webhook_secret: str | None = None  # whsec_…, signs webhooks; needed to send any
    webhook_allow: str = ""  # hosts and networks, separated by commas, that webhooks may reach besides public ones

    def __post_init__(self) -> None:
        _ = Receivers(self.webhook_allow)  # raises BadSetup if it is malformed
        if self.webhook_secret:
            read_secret(self.webhook_secret)
        if not self.redis.startswith(("redis://", "rediss://", "unix://")):
            raise BadSetup(f"JOBS_REDIS must begin with redis://, rediss:// or unix://, not {self.redis[:12]!r}")

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> "JobsConfig":
        """The settings in the environment; raises BadSetup."""
        return cls(**read_settings(cls, "JOBS_", env))

    @property
    def broker(self) -> str:
        """The same Redis as a kombu URL: unix://:pw@/path?db=0 becomes redis+socket://:pw@/path?virtual_host=0."""
        if self.redis.startswith("unix://"):
            return self.redis.replace("unix://", "redis+socket://", 1).replace("?db=", "?virtual_host=", 1)
        return self.redis
