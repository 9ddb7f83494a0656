"""``freezekit init``: migrations for a project that has none."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile

import click

from freezekit.cli.answers import Answer
from freezekit.cli.command import Command
from freezekit.errors import UsageError
from freezekit.ini import INI_NAME
from freezekit.pyproject import PYPROJECT, parse_toml, tool_tables

_NAME = r"[^\W\d]\w*"
_METADATA = re.compile(rf"({_NAME}(?:\.{_NAME})*):({_NAME})((?:\.{_NAME})*)")
_URL = "sqlite:///development.db"
_ENV = """from freezekit.environment import run
{imported}

run({metadata}, url="{url}")  # only `alembic` on this machine uses the URL
"""
_NO_METADATA = "# For `alembic revision --autogenerate`, give run() the metadata of your tables instead of None."
_TABLES = """
[tool.freezekit]
script_location = "{location}"

[tool.alembic]
script_location = "{location}"
prepend_sys_path = ["{root}"]
"""


@click.command(cls=Command)
@click.argument("folder", metavar="[FOLDER]", default="migrations")
@click.option(
    "--metadata", metavar="MODULE:NAME", help="The tables, such as myapp.models:Base.metadata, for autogenerate."
)
def init(folder: str, metadata: str | None) -> Answer:
    """Give a project without migrations a folder for them.

    Writes FOLDER ("migrations" by default; inside a package it ships with that) with an env.py of four lines, and adds
    [tool.freezekit] and [tool.alembic] to pyproject.toml. Replaces nothing; either all of it is written, or nothing.
    """
    project = os.getcwd()
    env = _env(metadata)
    _refuse_configured(project, folder)
    root, location = _location(project, folder)
    tables = _TABLES.format(location=location, root=root)
    with contextlib.ExitStack() as undo:
        made = _make_folder(os.path.join(project, folder), env, undo)
        _append(os.path.join(project, PYPROJECT), tables, undo)
        os.rename(made, os.path.join(project, folder))
        undo.callback(shutil.rmtree, os.path.join(project, folder))
        os.replace(_part(project), os.path.realpath(os.path.join(project, PYPROJECT)))
        undo.pop_all()
    document = {"folder": folder, "script_location": location, "configuration": PYPROJECT}
    return Answer(document, _next_steps(folder, location))


def _env(metadata: str | None) -> str:
    if metadata is None:
        return _ENV.format(imported=_NO_METADATA, metadata="None", url=_URL)
    match = _METADATA.fullmatch(metadata)
    if match is None:
        raise UsageError(f"--metadata {metadata} is not module:name, such as myapp.models:Base.metadata.")
    module, name, attributes = match.groups()
    return _ENV.format(imported=f"from {module} import {name}", metadata=name + attributes, url=_URL)


def _refuse_configured(project: str, folder: str) -> None:
    """Refuse a project that has migrations, and a folder that is none of its own or exists."""
    target = os.path.abspath(os.path.join(project, folder))
    if os.path.isabs(folder) or os.path.relpath(target, project).startswith(os.pardir) or target == project:
        raise UsageError(
            f"{folder} is no folder inside {project}: go to the folder of the project's {PYPROJECT} first."
        )
    if re.search(r"[^\w./\\-]", folder):
        raise UsageError(f"{folder}: name the folder with letters, digits, '_', '-' and '.' only.")
    if os.path.lexists(target):
        raise UsageError(f"{folder} exists already, and nothing of it is replaced: name another folder.")
    if not os.path.isdir(os.path.dirname(target)):
        raise UsageError(f"{folder}: there is no folder {os.path.dirname(folder)}.")
    tables = tool_tables(os.path.join(project, PYPROJECT))
    found = next((f"[tool.{name}] in {PYPROJECT}" for name in ("freezekit", "alembic") if name in tables), None)
    if found is None and os.path.lexists(os.path.join(project, INI_NAME)):
        found = INI_NAME
    if found is not None:
        raise UsageError(
            f"{project} has migrations already: {found}. freezekit works with them as they are; to begin anew, remove "
            "it first."
        )


def _location(project: str, folder: str) -> tuple[str, str]:
    """Return the folder that modules are imported from, and the scripts in Alembic's notation."""
    *above, name = os.path.relpath(os.path.join(project, folder), project).split(os.sep)
    packages: list[str] = []
    while above and os.path.isfile(os.path.join(project, *above, "__init__.py")):
        packages.insert(0, above.pop())
    root = "/".join(above) or "."
    if packages:
        return root, f"{'.'.join(packages)}:{name}"
    return root, "/".join([*above, name])


def _make_folder(target: str, env: str, undo: contextlib.ExitStack) -> str:
    """Return a folder beside the target with all that belongs there."""
    import alembic

    made = tempfile.mkdtemp(prefix=".freezekit-", dir=os.path.dirname(target))
    undo.callback(shutil.rmtree, made, ignore_errors=True)
    os.chmod(made, 0o777 & ~_umask())
    os.mkdir(os.path.join(made, "versions"))
    with open(os.path.join(made, "env.py"), "w", encoding="utf-8") as file:
        file.write(env)
    template = os.path.join(os.path.dirname(alembic.__file__), "templates", "generic", "script.py.mako")
    shutil.copyfile(template, os.path.join(made, "script.py.mako"))
    return made


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _part(project: str) -> str:
    return os.path.realpath(os.path.join(project, PYPROJECT)) + ".part"


def _append(path: str, tables: str, undo: contextlib.ExitStack) -> None:
    """Write beside pyproject.toml what it shall be: its text as it is, and the tables."""
    before = b""
    with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
        before = file.read()
    newline = b"\r\n" if b"\r\n" in before else b"\n"
    added = tables.encode().replace(b"\n", newline)
    ended = before if not before or before.endswith(b"\n") else before + newline
    content = ended + (added if before else added[len(newline) :])
    try:
        parse_toml(content.decode("utf-8"))
    except ValueError as error:
        raise UsageError(f"{path} cannot be read, and was not changed: {error}") from error
    part = os.path.realpath(path) + ".part"
    with open(part, "xb") as file:
        undo.callback(_remove, part)
        file.write(content)
    if os.path.exists(path):
        shutil.copymode(path, part)


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        os.remove(path)


def _next_steps(folder: str, location: str) -> str:
    return (
        f"{folder} was made, and {PYPROJECT} names it. The next steps:\n"
        "1. alembic revision --autogenerate -m 'create the tables'    (Alembic before 1.16 needs an alembic.ini)\n"
        f'2. in the program: freezekit.locate("{location}").upgrade("my document.db")\n'
        "3. freeze it as ever: the hooks of PyInstaller and cx_Freeze ship the scripts"
    )
