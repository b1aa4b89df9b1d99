"""`memoaized key …`: API keys of people and programs, kept in the jobs' Redis, and `key show` for pictures' keys."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from memo import BadSetup

from .command_group import FOLDER, CommandGroup

if TYPE_CHECKING:
    from jobs.api_keys import ApiKey, ApiKeys

DATA = click.option(
    "--data",
    default="var",
    show_default=True,
    type=FOLDER,
    help="Data of a running `up`; ignored if JOBS_REDIS is set.",
)


@click.group(cls=CommandGroup)
def key() -> None:
    """Manage API keys, and show the recipe behind a picture's key."""


@key.command()
@click.argument("file_or_key")
@click.option("--data", default="var", show_default=True, type=FOLDER, help="Where to look up a 32-digit key.")
def show(file_or_key: str, data: Path) -> None:
    """Show the recipe of a PNG or WebP file, of a recipe text, or of a picture's key."""
    from .recipe_lookup import describe_recipe

    click.echo(describe_recipe(file_or_key, data / "pictures"))


@key.command()
@click.argument("name")
@click.option("--role", default="user", show_default=True, type=click.Choice(["user", "admin"]), help="Rights.")
@click.option("--scope", default="", help="Memory to use: `shared`, or a name.  [default: a memory of NAME's own]")
@click.option("--daily", type=click.IntRange(0, 10**9), help="Pictures in 24 hours.  [default: WEB_DAILY]")
@DATA
@click.pass_obj
def add(environment: Mapping[str, str], name: str, role: str, scope: str, daily: int | None, data: Path) -> None:
    """Create an API key for a person or program, and print it once."""
    _, api_key = open_api_keys(data, environment).add(name, role=role, scope=scope, daily=daily)
    click.echo(api_key)
    click.echo(
        "Keep this key: it is not shown again. Send it as `Authorization: Bearer KEY`, or enter it on /sign-in.",
        err=True,
    )


@key.command("list")
@DATA
@click.pass_obj
def list_keys(environment: Mapping[str, str], data: Path) -> None:
    """List who has an API key, with which rights."""
    click.echo(format_table(open_api_keys(data, environment).all()))


@key.command("remove")
@click.argument("name")
@DATA
@click.pass_obj
def remove_key(environment: Mapping[str, str], name: str, data: Path) -> None:
    """Revoke an API key and the sessions opened with it; the pictures stay."""
    if not open_api_keys(data, environment).remove(name):
        raise BadSetup(f"there is no API key of {name!r}: `memoaized key list` lists them")


def open_api_keys(data: Path, environment: Mapping[str, str]) -> "ApiKeys":
    """Open the API keys in the Redis that the environment names, or else in that of a running data folder.

    Raises BadSetup without a Redis, and Unavailable when it does not answer.
    """
    from jobs.api_keys import ApiKeys
    from jobs.config import JobsConfig
    from jobs.store.job_store import open_job_store

    from .redis_server import read_redis_url

    is_named = {"JOBS_REDIS", "JOBS_REDIS_FILE"} & set(environment)
    url = JobsConfig.from_env(environment).redis if is_named else read_redis_url(data.resolve() / "run")
    job_store = open_job_store(url)
    job_store.connection.check()
    return ApiKeys(job_store.connection)


def format_table(keys: "list[ApiKey]") -> str:
    """Return one line for each API key, without the keys themselves, of which only hashes are kept."""
    rows = [("name", "role", "scope", "pictures a day", "created")]
    for api_key in keys:
        created = time.strftime("%Y-%m-%d", time.gmtime(api_key.created))
        daily = "default" if api_key.daily is None else str(api_key.daily)
        rows.append((api_key.name, api_key.role, api_key.scope, daily, created))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
