"""Settings of the web process: who may use it, and how much."""

from collections.abc import Mapping
from dataclasses import dataclass

from limits import parse_many

from memo import POLICIES, BadSetup
from memo.config import read_settings

LONGEST_REROLL = 7 * 24 * 60  # minutes
KEY_MODES = ("auto", "required", "off")


@dataclass(frozen=True, slots=True)
class WebConfig:
    """Each field is read from the variable WEB_<NAME>, or for secrets from the file that WEB_<NAME>_FILE names.

    Raises BadSetup for a malformed one.
    """

    keys: str = "auto"  # auto: required unless server and client are both on this machine
    secret: str | None = None  # signs sessions and links; without one, a random secret is kept with the API keys
    proxies: str = "0"  # the number of reverse proxies in front, trusted to report the client's address and scheme
    rate: str = "120/minute"  # requests for pictures per key; "" for no limit
    daily: str = "1000"  # pictures per key in 24 hours; "" for no limit
    queue_cap: str = "1000"  # paintings that may wait at once; further ones are refused
    long_requests: str = "30"  # requests of one user that may stream or wait in one web process; "" for no limit
    reroll_minutes: str = "30"  # minutes during which a client's repeated request asks for another picture; 0: never
    policy: str = "auto"  # the memory policy of requests that name none
    limits: str = ""  # URL of the Redis that counts requests; "" for that of JOBS_REDIS

    def __post_init__(self) -> None:
        if self.keys not in KEY_MODES:
            raise BadSetup(f"WEB_KEYS={self.keys}: choose one of {', '.join(KEY_MODES)}")
        if self.policy not in POLICIES:
            raise BadSetup(f"WEB_POLICY={self.policy}: choose one of {', '.join(POLICIES)}")
        numbers = {"PROXIES": self.proxies, "QUEUE_CAP": self.queue_cap, "REROLL_MINUTES": self.reroll_minutes}
        numbers |= {"DAILY": self.daily or "0", "LONG_REQUESTS": self.long_requests or "0"}
        for name, value in numbers.items():
            if not (value.isascii() and value.isdigit() and len(value) < 10):
                raise BadSetup(f"WEB_{name}={value}: it must be a whole number")
        if int(self.reroll_minutes) > LONGEST_REROLL:
            raise BadSetup(f"WEB_REROLL_MINUTES={self.reroll_minutes}: it must be at most {LONGEST_REROLL}, a week")
        try:
            parse_many(self.rate or "1/second")
        except ValueError as error:
            raise BadSetup(f"WEB_RATE={self.rate}: write it as, for example, 120/minute") from error

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> "WebConfig":
        """The settings in the environment; raises BadSetup."""
        return cls(**read_settings(cls, "WEB_", env))
