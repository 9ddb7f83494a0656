"""Every error freezekit raises: one small tree, each with data, a next step and an exit code.

An error's message is a sentence that can be shown to a user, followed by what to do. The facts behind it are
attributes, so that a program never has to parse the message. The exit code sits on the class.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


class FreezekitError(Exception):
    """Base of all errors of freezekit; catching it catches everything freezekit raises on purpose.

    Attributes:
        exit_code: What a command line should exit with (1; 2 for wrong usage).
    """

    exit_code = 1

    def __reduce__(self) -> tuple[object, ...]:
        """Let an error go to another process; its cause stays behind."""
        return _revived, (type(self), self.args, self.__dict__)


def _revived(kind: type[FreezekitError], arguments: tuple[object, ...], data: dict[str, object]) -> FreezekitError:
    error = kind.__new__(kind, *arguments)
    error.__dict__.update(data)
    return error


class UsageError(FreezekitError):
    """The call or the configuration is wrong; nothing was looked at or changed."""

    exit_code = 2


class MigrationsNotFound(FreezekitError):
    """The migration scripts are in none of the places where they could be.

    Attributes:
        script_location: What was looked for, as it was given.
        searched: Every place that was looked at, in order, each with the reason why it was passed over.
        bundle: Kind of bundle that was searched, such as ``"PyInstaller"``, ``"cx_Freeze"`` or ``"source"``.
    """

    def __init__(self, script_location: str, searched: Sequence[str], bundle: str) -> None:
        self.script_location = script_location
        self.searched = tuple(searched)
        self.bundle = bundle
        places = "".join(f"\n  {number}. {place}" for number, place in enumerate(self.searched, 1))
        super().__init__(
            f"No migration scripts for {script_location!r} in this {bundle} program. Looked in:{places}\n"
            f"{_NOT_FOUND_ADVICE.get(bundle, _SHIP_THEM)}"
        )


_SHOWN = 5
_TELL_DEVELOPERS = "show this message to the developers of this program"
_SHIP_THEM = "Build it with freezekit installed beside the freezer, so that its hook ships env.py and versions/*.py."
_NOT_FOUND_ADVICE = {
    "source": "Check the spelling: 'package:folder', or a folder that holds env.py.",
    "zipapp": "Put env.py and versions/*.py into the archive, in the folder of their package.",
}


class InvalidMigrations(FreezekitError):
    """The scripts were found but cannot be used: nothing was run and no database was touched.

    Attributes:
        script_location: Where the scripts are.
        issues: One sentence for each thing that is wrong, all of them at once.
    """

    def __init__(self, script_location: str, issues: Sequence[str]) -> None:
        self.script_location = script_location
        self.issues = tuple(issues)
        listed = "".join(f"\n  - {issue}" for issue in self.issues)
        super().__init__(f"The migration scripts in {script_location} cannot be used:{listed}")


class DatabaseAhead(FreezekitError):
    """The database was written by a newer program; nothing was changed.

    Attributes:
        database: What was asked about.
        current: The revisions the database says it is at.
        heads: The newest revisions this program knows.
    """

    def __init__(self, database: str, current: Sequence[str], heads: Sequence[str]) -> None:
        self.database = database
        self.current = tuple(current)
        self.heads = tuple(heads)
        super().__init__(
            f"{database} was written by a newer version of this program (it is at revision {_comma(current)}; "
            f"this program knows revisions up to {_comma(heads)}). Nothing was changed: open it with the newer version."
        )


class DatabaseUnversioned(FreezekitError):
    """The database has tables but no version; nothing was changed.

    Attributes:
        database: What was asked about.
        tables: The tables that were found.
        candidates: After ``adopt``: the revisions whose schema is the same; None when that was not asked.
    """

    def __init__(self, database: str, tables: Sequence[str], candidates: Sequence[str] | None = None) -> None:
        self.database = database
        self.tables = tuple(tables)
        self.candidates = None if candidates is None else tuple(candidates)
        shown = _comma(self.tables[:_SHOWN]) + (" ..." if len(self.tables) > _SHOWN else "")
        super().__init__(
            f"{database} holds tables ({shown}) but no Alembic version, so it is not known which revision they "
            f"belong to. Nothing was changed: {self._advice()}."
        )

    def _advice(self) -> str:
        if self.candidates is None:
            return "adopt() recognises it if its schema is that of one revision; else stamp it with its revision"
        if not self.candidates:
            return "its schema is that of no revision; it may be another program's, or changed by hand"
        return f"its schema is that of several revisions ({_comma(self.candidates)}); stamp it with the right one"


class _UnusableFile(FreezekitError):
    """What NotADatabase and ForeignDatabase share: a path, the reason, and what to do."""

    _advice = ""

    def __init__(self, path: str, reason: str, *, advice: str = "") -> None:
        self.path = path
        self.reason = reason
        super().__init__(
            f"{path} cannot be used as a database of this program: {reason}. Nothing was changed: "
            f"{advice or self._advice}."
        )


class NotADatabase(_UnusableFile):
    """The path is no database: a folder, a device, a text file, a damaged file; nothing was changed.

    Attributes:
        path: The path that was given.
        reason: What it is instead.
    """

    _advice = "choose another file, or restore a backup of this one"


class ForeignDatabase(_UnusableFile):
    """The database belongs to another application; nothing was changed.

    Attributes:
        path: The path that was given.
        reason: How that is known.
    """

    _advice = "open it with the program it belongs to"


class DatabaseInUse(FreezekitError):
    """Another program kept the database locked for longer than the time limit; nothing was changed.

    Attributes:
        path: The database.
        waited_s: How long it was waited for, in seconds.
    """

    def __init__(self, path: str, waited_s: float) -> None:
        self.path = path
        self.waited_s = waited_s
        super().__init__(
            f"{path} is being used by another program (waited {waited_s:.1f} s). Nothing was changed: "
            "close the other program, or wait until it is done, and try again."
        )


class MigrationFailed(FreezekitError):
    """A revision failed; ``__cause__`` is the error of Alembic, the driver or the script.

    Attributes:
        database: The database that was being upgraded.
        reason: What went wrong, in one line, without what it means for the database.
        applied: Revisions that are applied and stay applied (none where the upgrade is all or nothing).
        failed: The revision that failed, or None when it failed outside of any revision.
        pending: Revisions that were not reached.
        restored: True when the database is exactly as it was before.
    """

    def __init__(  # noqa: PLR0913 - facts of one event
        self,
        database: str,
        reason: str,
        *,
        applied: Sequence[str] = (),
        failed: str | None = None,
        pending: Sequence[str] = (),
        restored: bool = True,
        disk_full: bool = False,
        action: str = "upgrade",
        advice: str = "",
    ) -> None:
        self._disk_full = disk_full
        self._advice = advice
        self.database = database
        # SQLAlchemy's errors go on with the statement and an address.
        self.reason = reason.strip().partition("\n")[0]
        self.applied = tuple(applied)
        self.failed = failed
        self.pending = tuple(pending)
        self.restored = restored
        where = f" in revision {failed}" if failed else ""
        as_before = "No file was made:" if action == "creation" else "The database is as it was before:"
        still_there = f"Applied before that and still in place: {_comma(applied) or 'no complete revision'};"
        after = as_before if restored else still_there
        super().__init__(f"The {action} of {database} failed{where}: {self.reason}. {after}")

    def __str__(self) -> str:
        """Return the message; what to do depends on the cause, which is known later than the rest."""
        advice = self._advice or ("make room there and try again" if self.disk_full else _TELL_DEVELOPERS)
        return f"{super().__str__()} {advice}."

    @property
    def disk_full(self) -> bool:
        """True when a volume has too little room, as was found out beforehand, or as the system or SQLite said.

        Once there is some, the same upgrade can work.
        """
        return self._disk_full or _tells_of_full_disk(self.__cause__)

    def __reduce__(self) -> tuple[object, ...]:
        """Let it go to another process, with what its cause says about the disk."""
        self._disk_full = self.disk_full
        return super().__reduce__()


def _tells_of_full_disk(error: BaseException | None) -> bool:
    import errno

    while error is not None:
        # What SQLite says for SQLITE_FULL, also where a driver or SQLAlchemy puts something before or behind it.
        if "database or disk is full" in str(error):
            return True
        if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
            return True
        error = error.__cause__
    return False


class UpgradeCancelled(FreezekitError):
    """The upgrade was cancelled by its caller; nothing was changed where the database can undo schema changes.

    Attributes:
        database: The database that was being upgraded.
        applied: Revisions that are applied and stay applied; none where the upgrade is all or nothing.
        restored: True when the database is exactly as it was before.
    """

    def __init__(self, database: str, *, applied: Sequence[str] = (), restored: bool = True) -> None:
        self.database = database
        self.applied = tuple(applied)
        self.restored = restored
        after = (
            "Nothing was changed."
            if restored
            else f"Applied before that and still in place: {_comma(applied) or 'a part of one revision'}. "
            "The next upgrade continues there."
        )
        super().__init__(f"The upgrade of {database} was cancelled. {after}")


class EnvironmentIgnoredDatabase(FreezekitError):
    """env.py connected elsewhere than to the database it was given, or nowhere; nothing was changed.

    Attributes:
        database: The database env.py was given.
        connected: What it connected to instead, without password; None when it never connected.
    """

    def __init__(self, database: str, connected: str | None) -> None:
        self.database = database
        self.connected = connected
        did = f"connected to {connected}" if connected else "never ran the migrations on it"
        super().__init__(
            f"env.py was given {database} but {did}. Nothing was changed: let env.py take its URL from "
            "config.get_main_option('sqlalchemy.url'), or its connection from config.attributes['connection']."
        )


class UnreadableBundle(FreezekitError):
    """A bundle, or the manifest inside it, cannot be read.

    Attributes:
        path: The file.
        reason: What is wrong with it.
    """

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"{path} cannot be read: {reason}. Build the bundle again.")


class SmokeTestFailed(FreezekitError):
    """A built program failed when it was run.

    Attributes:
        phase: What was being tried.
        returncode: Exit code of the program; None when it had to be stopped.
        output: What it printed, both streams.
    """

    def __init__(self, phase: str, returncode: int | None, output: str) -> None:
        self.phase = phase
        self.returncode = returncode
        self.output = output
        ended = f"exit code {returncode}" if returncode is not None else "had to be stopped"
        super().__init__(f"The built program failed at {phase} ({ended}):\n{output}")


def _comma(revisions: Sequence[str]) -> str:
    return ", ".join(revisions)
