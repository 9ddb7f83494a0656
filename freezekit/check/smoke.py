"""Run a finished bundle in a clean room, and prove that the migrations in it work: ``freezekit smoke``.

Most phases are tried by the bundle itself, which the freezers' hooks have prepared for it; the others start it twice at
once, kill it, and drive the application's own start-up.
"""

from __future__ import annotations

import shlex
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from freezekit.check.content import statements
from freezekit.check.findings import Finding, Level, Report, Rule
from freezekit.check.phases import DATABASE, DEFAULT_TIMEOUT, PHASES, Phase, Rules, SmokeTest
from freezekit.check.room import clean_room
from freezekit.errors import SmokeTestFailed, UsageError

if TYPE_CHECKING:
    import os
    from collections.abc import Collection, Mapping, Sequence

__all__ = ["DEFAULT_TIMEOUT", "PHASES", "Phase", "SmokeReport", "smoke"]


@dataclass(frozen=True)
class SmokeReport:
    """What came of a smoke test.

    Attributes:
        executable: The program, as it was given.
        room: How it was kept from the sources, and its bundle from being written.
        versions: Versions of what runs inside, by name.
        chains: The chains inside, as the bundle tells of them.
        phases: Every phase, in order.
        seconds: How long it all took.
    """

    executable: str
    room: Mapping[str, object]
    versions: Mapping[str, str]
    chains: Sequence[Mapping[str, object]]
    phases: tuple[Phase, ...]
    seconds: float

    @property
    def failure(self) -> SmokeTestFailed | None:
        """The first failure, or None."""
        failed = next((one for one in self.phases if one.outcome == "failed"), None)
        if failed is None:
            return None
        said = "\n".join(text for text in (failed.detail, failed.output) if text)
        return SmokeTestFailed(failed.name, failed.returncode, said)

    def raise_for_failure(self) -> None:
        """Raise the first failure, if there is one.

        Raises:
            SmokeTestFailed: A phase failed.
        """
        if (failure := self.failure) is not None:
            raise failure

    def to_report(self) -> Report:
        """Return it as all formats know it: one rule for each phase, and an error for each that failed."""
        rules = tuple(Rule(one.name, f"smoke test: {one.name}", Level.ERROR) for one in self.phases)
        failed = tuple(one for one in self.phases if one.outcome == "failed")
        findings = tuple(Finding(one.name, Level.ERROR, one.detail or "the phase failed") for one in failed)
        return Report("smoke", self.executable, self.versions, findings, rules)

    def to_document(self) -> dict[str, object]:
        """Return the report as plain data."""
        return asdict(self)


def smoke(  # noqa: PLR0913 - each is an option of the command
    executable: str | os.PathLike[str],
    *,
    app_command: str | None = None,
    databases: Sequence[str | os.PathLike[str]] = (),
    may_shrink: Sequence[str] = (),
    content: str = "",
    timeout: float = DEFAULT_TIMEOUT,
    skip: Collection[str] = (),
    hide: Sequence[str | os.PathLike[str]] = (),
) -> SmokeReport:
    """Run a finished bundle in a clean room; neither the bundle nor the databases are changed, both are copied.

    Args:
        executable: The program of the bundle.
        app_command: Arguments with which the application opens a database, such as ``"open {db}"``.
        databases: Databases of past releases.
        may_shrink: Tables that may have fewer rows after an upgrade.
        content: SELECT statements that must find nothing after an upgrade; the old database is attached as ``old``.
        timeout: Time limit of each run of the program, in seconds.
        skip: Names of phases to leave out.
        hide: Folders to hide beside the project and the installed packages.

    Returns:
        The report; failures are in it, not raised.

    Raises:
        UsageError: There is no such program, database or phase, or a rule is no SELECT.

    Example:
        >>> smoke("dist/app/app", databases=["tests/1.0.notes"]).raise_for_failure()
    """
    started = time.monotonic()
    paths = tuple(Path(one) for one in databases)
    if missing := [str(path) for path in paths if not path.is_file()]:
        raise UsageError(f"{missing[0]} is no database: name files that past releases wrote.")
    if unknown := sorted(set(skip) - set(PHASES)):
        raise UsageError(f"There is no phase {unknown[0]!r}; there are {', '.join(PHASES)}.")
    if app_command is not None and not any(DATABASE in one for one in shlex.split(app_command)):
        raise UsageError(
            f"The application's command has to say {DATABASE} where the database goes, as in 'open {DATABASE}'."
        )
    rules = Rules(app_command, paths, tuple(may_shrink), statements(content), timeout, frozenset(skip))
    with clean_room(executable, hide) as room:
        test = SmokeTest(room, rules)
        test.run()
        return SmokeReport(
            str(executable),
            room.describe(),
            test.versions,
            tuple(test.chains),
            tuple(test.phases),
            time.monotonic() - started,
        )
