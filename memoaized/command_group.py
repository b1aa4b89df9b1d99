"""A Click group that reports errors in one line, and the option types that commands share."""

from pathlib import Path
from typing import Any

import click

from disk.disk_errors import explain
from memo import MemoError

ROOT = Path(__file__).parent.parent
FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False)


class CommandGroup(click.Group):
    """A group whose commands report an error that the user can fix as one line instead of a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; raises ClickException for MemoError and OSError."""
        try:
            return super().invoke(ctx)
        except MemoError as error:
            raise click.ClickException(str(error)) from error
        except OSError as error:
            raise click.ClickException(explain(error, error.filename or Path.cwd())) from error
