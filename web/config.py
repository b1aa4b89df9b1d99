"""Who may come, and how much each may ask for."""

from collections.abc import Mapping
from dataclasses import dataclass

from limits import parse_many

from memo import BadSetup
from memo.config import from_env

KEYS = ("auto", "required", "off")


@dataclass(frozen=True, slots=True)
class WebConfig:
    """Each field is the variable WEB_<NAME>, or WEB_<NAME>_FILE for secrets."""

    keys: str = "auto"  # auto: required unless server and client are both on this machine
    secret: str | None = None  # signs sessions; without one, drawn and kept with the keys
    proxies: str = "0"  # reverse proxies in front, whose word on the client's address and on https is taken
    rate: str = "120/minute"  # requests for pictures by one key; "" = any number
    daily: str = "1000"  # pictures for one key in 24 hours; "" = any number
    queue_cap: str = "1000"  # paintings that may wait
    streams: str = "30"  # event streams that one caller may hold of one web process; "" = any number
    limits: str = ""  # where requests are counted; "" = in the Redis of JOBS_REDIS

    def __post_init__(self) -> None:
        if self.keys not in KEYS:
            raise BadSetup(f"WEB_KEYS={self.keys}: choose one of {', '.join(KEYS)}")
        whole = {"PROXIES": self.proxies, "QUEUE_CAP": self.queue_cap}
        whole |= {"DAILY": self.daily or "0", "STREAMS": self.streams or "0"}
        for name, value in whole.items():
            if not (value.isascii() and value.isdigit() and len(value) < 10):
                raise BadSetup(f"WEB_{name}={value}: it must be a whole number")
        try:
            parse_many(self.rate or "1/second")
        except ValueError as error:
            raise BadSetup(f"WEB_RATE={self.rate}: write for example 120/minute") from error

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> "WebConfig":
        """The fields that the environment sets; raises BadSetup."""
        return cls(**from_env(cls, "WEB_", env))
