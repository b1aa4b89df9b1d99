"""The `memoaized` command. Each subcommand imports what it needs, so that `--help` is quick."""

import os
import sys
from pathlib import Path

import click

from .command_group import FOLDER, ROOT, CommandGroup
from .judge_commands import judge
from .key_commands import key
from .model_commands import model
from .private_folder import close_new_files
from .train_commands import train


@click.group(cls=CommandGroup)
@click.version_option(package_name="memoaized")
@click.pass_context
def main(context: click.Context) -> None:
    """Recycling for AI images."""
    close_new_files(context.invoked_subcommand)
    context.obj = os.environ


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address of the web server; 0.0.0.0 for all.")
@click.option(
    "--port", default=8000, show_default=True, type=click.IntRange(1, 65535), help="Port of the web server."
)
@click.option("--data", default="var", show_default=True, type=FOLDER, help="Folder that holds all data.")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 64), help="Number of workers.")
@click.option("--models", default=ROOT / "models", type=FOLDER, help="Folder of picture models.")
def up(host: str, port: int, data: Path, workers: int, models: Path) -> None:
    """Run everything on this machine: web, workers, Redis and index.

    If other machines can reach the web server, everybody needs an API key: `memoaized key add NAME`.
    """
    from .up import UpOptions
    from .up import up as run

    sys.exit(run(UpOptions(data, port, workers, models, host), os.environ))


@main.command()
@click.option("--data", default="var", show_default=True, type=FOLDER, help="Folder that holds all data.")
@click.option("--models", default=ROOT / "models", type=FOLDER, help="Folder of picture models.")
def doctor(data: Path, models: Path) -> None:
    """Report what is installed, what is missing, and the command that fixes it."""
    from .doctor import examine

    findings = examine(data, models, os.environ)
    for finding in findings:
        click.echo(finding.line())
    sys.exit(any(finding.fault for finding in findings))


@main.command()
@click.option("--text-folder", default="var/text", show_default=True, type=FOLDER, help="Folder for the model.")
def prepare(text_folder: Path) -> None:
    """Export the text model for processes without torch."""
    from .up import prepare_text_model

    prepare_text_model(text_folder)


@main.command()
@click.option("--data", type=FOLDER, help="Folder that holds all data.  [default: use MEMO_INDEX if set, else var]")
@click.option("--drop", is_flag=True, help="At the end, delete the vectors of other text models.")
def reindex(data: Path | None, drop: bool) -> None:
    """Embed all pictures and labels with the current text model. Stop everything else first."""
    from .reindex import reindex as run

    sys.exit(run(data, os.environ, drop=drop, print_line=click.echo))


main.add_command(key)
main.add_command(train)
main.add_command(judge)
main.add_command(model)


@main.command()
@click.argument("part", type=click.Choice(["worker"]))
def healthcheck(part: str) -> None:
    """Exit with 0 if this host's worker is alive, else with 1. For containers."""
    from .doctor import worker_alive

    sys.exit(0 if worker_alive(os.environ) else 1)


if __name__ == "__main__":
    main()
