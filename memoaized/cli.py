"""The `memoaized` command. Each subcommand imports what it needs, so that `--help` is quick."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from memo import MemoError

from .judge_commands import judge
from .model_commands import model
from .train_commands import train

T = TypeVar("T")
ROOT = Path(__file__).parent.parent
DATA = click.Path(path_type=Path, file_okay=False)


@click.group()
@click.version_option(package_name="memoaized")
def main() -> None:
    """Recycling for AI images."""


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Where the web listens; 0.0.0.0 is everywhere.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(1, 65535))
@click.option("--data", default="var", show_default=True, type=DATA, help="Folder that holds all data.")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 64), help="Worker processes.")
@click.option("--models", default=ROOT / "models", type=DATA, help="Folder of picture models.")
def up(host: str, port: int, data: Path, workers: int, models: Path) -> None:
    """Run everything on this machine: web, worker, redis and index.

    Where others can reach the web, everybody needs a key: `memoaized key add NAME`.
    """
    from .up import Plan
    from .up import up as run

    sys.exit(told(lambda: run(Plan(data, port, workers, models, host), os.environ)))


@main.command()
@click.option("--data", default="var", show_default=True, type=DATA)
@click.option("--models", default=ROOT / "models", type=DATA)
def doctor(data: Path, models: Path) -> None:
    """Say what is there, what is missing and the command that mends it."""
    from .doctor import examine

    findings = examine(data, models, os.environ)
    for finding in findings:
        click.echo(finding.line())
    sys.exit(any(finding.fault for finding in findings))


@main.command()
@click.option("--text-folder", default="var/text", show_default=True, type=DATA)
def prepare(text_folder: Path) -> None:
    """Export the text model for processes without torch."""
    from .up import prepare_text_model

    told(lambda: prepare_text_model(text_folder))


@main.command()
@click.option("--data", type=DATA, help="Folder that holds all data.  [default: what MEMO_INDEX names, else var]")
@click.option("--drop", is_flag=True, help="Drop the vectors of other text models in the end.")
def reindex(data: Path | None, drop: bool) -> None:
    """Embed all pictures and labels with the present text model; nothing else may be running."""
    from .reindex import reindex as run

    sys.exit(told(lambda: run(data, os.environ, drop=drop, say=click.echo)))


@main.group()
def key() -> None:
    """Keys of people, and of pictures: recipes inside PNG files and as text."""


@key.command()
@click.argument("file_or_key")
@click.option("--data", default="var", show_default=True, type=DATA, help="Where a 32-digit key is looked up.")
def show(file_or_key: str, data: Path) -> None:
    """Show the recipe of a PNG file, of a recipe text, or of a picture's key."""
    from .recipe_lookup import describe

    click.echo(told(lambda: describe(file_or_key, data / "pictures")))


@key.command()
@click.argument("name")
@click.option("--role", default="user", show_default=True, type=click.Choice(["user", "admin"]))
@click.option("--scope", default="", help="Whose memory is used: shared, or a name.  [default: one of NAME's own]")
@click.option("--daily", type=click.IntRange(0, 10**9), help="Pictures in 24 hours.  [default: WEB_DAILY]")
@click.option("--data", default="var", show_default=True, type=DATA, help="Unless JOBS_REDIS is set.")
def add(name: str, role: str, scope: str, daily: int | None, data: Path) -> None:
    """Make a key for a person or program, and print it this once."""
    from .key_commands import keys_of

    _, made = told(lambda: keys_of(data, os.environ).add(name, role=role, scope=scope, daily=daily))
    click.echo(made)
    click.echo("Keep it: it is not shown again. Sent as `Authorization: Bearer KEY`, or on /sign-in.", err=True)


@key.command("list")
@click.option("--data", default="var", show_default=True, type=DATA, help="Unless JOBS_REDIS is set.")
def list_keys(data: Path) -> None:
    """Say who has a key, and what it opens."""
    from .key_commands import keys_of, table

    click.echo(told(lambda: table(keys_of(data, os.environ).all())))


@key.command("remove")
@click.argument("name")
@click.option("--data", default="var", show_default=True, type=DATA, help="Unless JOBS_REDIS is set.")
def remove_key(name: str, data: Path) -> None:
    """Make a key worthless, sessions with it included; the pictures stay."""
    from .key_commands import keys_of, remove

    told(lambda: remove(keys_of(data, os.environ), name))


main.add_command(train)
main.add_command(judge)
main.add_command(model)


@main.command()
@click.argument("part", type=click.Choice(["worker"]))
def healthcheck(part: str) -> None:
    """For containers: exit with 0 while this host's worker is alive."""
    from .doctor import worker_alive

    sys.exit(0 if told(lambda: worker_alive(os.environ)) else 1)


def told(work: Callable[[], T]) -> T:
    """The work's result; what the user can mend is said in one line instead of a traceback."""
    try:
        return work()
    except (MemoError, OSError) as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
