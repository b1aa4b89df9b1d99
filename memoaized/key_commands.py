"""What `memoaized key add`, `list` and `remove` do: keys of people and programs, kept in the Redis of the jobs."""

import time
from collections.abc import Mapping
from pathlib import Path

from jobs.api_keys import ApiKey, ApiKeys
from jobs.config import JobsConfig
from jobs.store.job_store import open_job_store
from memo import BadSetup

from .redis_server import url_of


def keys_of(data: Path, environment: Mapping[str, str]) -> ApiKeys:
    """Those of the Redis that the environment names, else of a data folder's, which must be running.

    Raises BadSetup, and Unavailable when it does not answer.
    """
    named = {"JOBS_REDIS", "JOBS_REDIS_FILE"} & set(environment)
    url = JobsConfig.from_env(environment).redis if named else url_of(data.resolve() / "run")
    job_store = open_job_store(url)
    job_store.connection.ping()
    return ApiKeys(job_store.connection)


def table(holders: list[ApiKey]) -> str:
    """A line for each key; the keys themselves nobody knows any more."""
    rows = [("name", "role", "scope", "pictures a day", "made")]
    for holder in holders:
        made = time.strftime("%Y-%m-%d", time.gmtime(holder.created))
        daily = "as all" if holder.daily is None else str(holder.daily)
        rows.append((holder.name, holder.role, holder.scope, daily, made))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def remove(keys: ApiKeys, name: str) -> None:
    """Make a key worthless; raises BadSetup when there is none of this name."""
    if not keys.remove(name):
        raise BadSetup(f"there is no key of {name!r}: `memoaized key list` shows them")
