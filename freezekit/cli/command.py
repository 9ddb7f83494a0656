"""What all commands have in common: ``--json``, which scripts they are about, and how errors are told."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, Any, cast

import click

from freezekit.cli.answers import is_expected, refuse, show
from freezekit.cli.options import unharmed

if TYPE_CHECKING:
    from collections.abc import Callable

    from freezekit.cli.answers import Answer

LOCATING = {
    "script_location": click.Option(
        ["--migrations", "script_location"],
        metavar="PKG:FOLDER",
        help="The scripts, in Alembic's notation; without it, what the project in this folder configures.",
    ),
    "section": click.Option(
        ["--section"], metavar="NAME", help="Section of alembic.ini, for one of several chains of migrations."
    ),
}


def name_of(ctx: click.Context) -> str:
    """Return the name of a command as it is typed after the program's, such as ``"backups list"``."""
    names: list[str] = []
    at: click.Context | None = ctx
    while at is not None and at.parent is not None:
        names.insert(0, at.info_name or "")
        at = at.parent
    return " ".join(names)


class Command(click.Command):
    """A command whose function returns an Answer, which is shown as text or, with ``--json``, as JSON."""

    json_help = "Print one JSON document, errors too."

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(click.Option(["--json", "as_json"], is_flag=True, help=self.json_help))
        if all(one.name != "output" for one in self.params):
            help_ = "Write the answer to a file instead, errors too."
            self.params.append(click.Option(["--output", "answer_file"], callback=unharmed, metavar="FILE", help=help_))

    def invoke(self, ctx: click.Context) -> int:
        """Run the command, show its answer or error, and return its exit code."""
        as_json, name = ctx.params.pop("as_json"), name_of(ctx)
        output = ctx.params.pop("answer_file", None)
        try:
            # env.py and the scripts may print; what the command prints is no place for it.
            with contextlib.redirect_stdout(sys.stderr):
                answer = self.answer(ctx)
            show(answer, name, as_json=as_json, output=output)
        except BrokenPipeError:
            raise
        except Exception as error:
            if not is_expected(error):
                raise
            return refuse(error, ctx.find_root().info_name or "", name, as_json=as_json, output=output)
        return answer.exit_code

    def answer(self, ctx: click.Context) -> Answer:
        """Return what the command's function answers."""
        return self.function(**ctx.params)

    @property
    def function(self) -> Callable[..., Answer]:
        """The function the command was made from."""
        return cast("Callable[..., Answer]", self.callback)


class MigrationsCommand(Command):
    """A command about migration scripts, its function's first argument: those of the program, or the developer's."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += LOCATING.values()

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the options; a shipped program knows its scripts, and is not to be told others."""
        params = super().get_params(ctx)
        return params if ctx.obj is None else [one for one in params if one.name not in LOCATING]

    def answer(self, ctx: click.Context) -> Answer:
        """Return what the command's function answers about the scripts."""
        given = {name: ctx.params.pop(name, None) for name in LOCATING}
        if ctx.obj is not None:
            return self.function(ctx.obj, **ctx.params)
        from freezekit.cli.project import find_migrations, importable

        project = os.getcwd()
        with importable(project):
            migrations = find_migrations(project, given["script_location"], given["section"])
            return self.function(migrations, **ctx.params)
