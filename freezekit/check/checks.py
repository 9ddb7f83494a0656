"""Every check of a finished bundle: its stable id, how bad it is, and what to do. ``docs/findings`` explains each."""

from __future__ import annotations

from enum import Enum

from freezekit.check.findings import Finding, Level, Rule

_REBUILD = "Build the bundle again, from a clean checkout, with freezekit installed beside the freezer."
_NOT_SHIPPED = "Add the package to the project's dependencies and build again; the hooks ship what scripts import."
_KEEP_OUT = "Move the file out of the folder of the scripts, or delete it before building."
_NEVER_EDIT = "Restore it and put the change into a new revision, or give the reason in accepted_edits."


class Check(Enum):
    """The checks; a member's name is its stable id, its value a title, the level and the advice."""

    FK101 = ("no migrations", Level.ERROR, f"Configure script_location. {_REBUILD}")
    FK102 = ("a shipped file is missing", Level.ERROR, _REBUILD)
    FK103 = ("a file is there that the build did not ship", Level.ERROR, _REBUILD)
    FK104 = ("a shipped file was altered", Level.ERROR, _REBUILD)
    FK105 = ("a script is there only compiled", Level.ERROR, "Ship the .py files: Alembic does not look at .pyc files.")
    FK106 = ("built without freezekit's hooks", Level.ERROR, _REBUILD)
    FK107 = ("the manifest cannot be used", Level.ERROR, _REBUILD)
    FK111 = ("no revision", Level.ERROR, f"See that versions/*.py are in the project. {_REBUILD}")
    FK112 = (
        "several heads",
        Level.WARNING,
        "Merge them with 'alembic merge heads', unless there are branches on purpose.",
    )
    FK113 = ("the revisions go round in a circle", Level.ERROR, "Correct the down_revision that closes the circle.")
    FK114 = ("a parent is missing", Level.ERROR, "Ship the revision that it names, or correct its down_revision.")
    FK115 = ("a script cannot be read", Level.ERROR, "Correct the script, and build again.")
    FK116 = ("two scripts share an id", Level.ERROR, "Give one of them another id, or delete the one that is a copy.")
    FK117 = ("a script computes its id", Level.NOTE, "Write its revision attributes as literals.")
    FK121 = ("the bundle lacks a revision of the source", Level.ERROR, _REBUILD)
    FK122 = ("the source lacks a revision of the bundle", Level.ERROR, _REBUILD)
    FK123 = ("a script differs from the source", Level.ERROR, _REBUILD)
    FK131 = ("an import is not satisfied", Level.ERROR, _NOT_SHIPPED)
    FK132 = ("a dialect or driver is missing", Level.ERROR, f"Name it in dialects or drivers. {_NOT_SHIPPED}")
    FK133 = ("a version differs from the manifest's", Level.ERROR, _REBUILD)
    FK141 = ("a database of a developer", Level.ERROR, _KEEP_OUT)
    FK142 = ("a secret", Level.ERROR, f"{_KEEP_OUT} If it was shipped before, replace the secret.")
    FK143 = ("anyone may write", Level.ERROR, "Take the permission away before packing: chmod -R o-w.")
    FK144 = (
        "a package that only builds",
        Level.WARNING,
        "Exclude it from the build; it is large, and of no use to users.",
    )
    FK145 = ("an installer", Level.NOTE, "Exclude it from the build, unless the program installs packages.")
    FK151 = ("a shipped revision is gone", Level.ERROR, "Restore it: a document may be at it.")
    FK152 = ("a shipped revision was edited", Level.ERROR, _NEVER_EDIT)
    FK153 = ("the id of a shipped revision was reused", Level.ERROR, "Give the new revision an id of its own.")

    def __init__(self, title: str, level: Level, advice: str) -> None:
        self.title = title
        self.level = level
        self.advice = advice

    @property
    def rule(self) -> Rule:
        """The check, for those who show findings."""
        return Rule(self.name, self.title, self.level, self.advice)

    def finding(
        self, message: str, file: str | None = None, line: int | None = None, *, level: Level | None = None
    ) -> Finding:
        """Return a finding of this check.

        Args:
            message: What is wrong, as a sentence.
            file: The file it is about.
            line: Its line.
            level: How bad it is, where that is not as usual.
        """
        return Finding(self.name, level or self.level, message, file, line, self.advice)


RULES = tuple(check.rule for check in Check)
