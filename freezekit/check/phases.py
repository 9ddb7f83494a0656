"""The phases of a smoke test: what a bundle tries by itself, and what is done to it from outside."""

from __future__ import annotations

import shlex
import sqlite3
import tempfile
import time
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freezekit.check.asking import Asker, can_answer
from freezekit.check.content import broken_rules, copy_database, difference, versions
from freezekit.check.release import read_manifests
from freezekit.errors import UnreadableBundle
from freezekit.manifest import DEFAULT_VERSION_TABLE
from freezekit.runtime.selfphases import PHASES as SELF_PHASES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from freezekit.check.asking import Asked
    from freezekit.check.room import Ended, Room
    from freezekit.manifest import Manifest

PHASES = ("start", *SELF_PHASES, "content", "twice", "killed", "application", "bundle")
"""Names of all phases, in order."""

DATABASE = "{db}"
DEFAULT_TIMEOUT = 60.0
_NO_ANSWER = (
    "the bundle cannot test itself: it was built with selftest = false, without freezekit's hooks, or by another "
    "freezer; give the command that opens a database (--app-command) to test it from outside"
)


@dataclass(frozen=True)
class Phase:
    """How one phase ended.

    Attributes:
        name: One of PHASES.
        outcome: ``"passed"``, ``"failed"`` or ``"skipped"``.
        seconds: How long it took.
        detail: What was wrong, or why it was skipped.
        returncode: Exit code of the program, where a failure has one; None if it had to be stopped.
        output: What the program printed, where it failed.
    """

    name: str
    outcome: str
    seconds: float = 0.0
    detail: str = ""
    returncode: int | None = None
    output: str = ""


@dataclass(frozen=True)
class Rules:
    """What a smoke test is asked to do; the arguments of :func:`smoke`."""

    app_command: str | None = None
    databases: tuple[Path, ...] = ()
    may_shrink: tuple[str, ...] = ()
    content: tuple[str, ...] = ()
    timeout: float = DEFAULT_TIMEOUT
    skip: frozenset[str] = frozenset()


class _Failed(Exception):
    """A phase failed."""

    def __init__(self, detail: str, ended: Ended | None = None) -> None:
        super().__init__(detail)
        self.ended = ended


class _Skipped(Exception):
    """A phase does not apply."""


@dataclass(frozen=True)
class _Old:
    """An old database: where it is, what an undisturbed upgrade makes of it, and its chain."""

    path: Path | None
    expected: Path
    chain: int


@dataclass
class SmokeTest:
    """One smoke test."""

    room: Room
    rules: Rules
    versions: Mapping[str, str] = field(default_factory=dict)
    chains: list[dict[str, object]] = field(default_factory=list)
    phases: list[Phase] = field(default_factory=list)
    old: list[_Old] = field(default_factory=list)

    def run(self) -> None:
        """Try everything."""
        self.asker = Asker(self.room)
        before = self.room.tree()
        if can_answer(self.room):
            self._survey()
        else:
            outcome = "failed" if self.rules.app_command is None else "skipped"
            self.phases.append(Phase("start", outcome, detail=_NO_ANSWER))
            self.phases += [Phase(name, "skipped", detail=_not_tried("start")) for name in SELF_PHASES]
        self._phase("content", self._content)
        self._phase("twice", self._twice)
        self._phase("killed", self._killed)
        self._phase("application", self._application)
        self._phase("bundle", lambda: self._bundle(before))

    def _phase(self, name: str, work: Callable[[], None]) -> None:
        started, phase = time.monotonic(), Phase(name, "passed")
        if name in self.rules.skip:
            self.phases.append(Phase(name, "skipped", detail="as asked"))
            return
        try:
            work()
        except _Skipped as reason:
            phase = Phase(name, "skipped", detail=str(reason))
        except _Failed as failure:
            returncode = failure.ended.returncode if failure.ended else None
            phase = Phase(name, "failed", 0.0, str(failure), returncode, failure.ended.output if failure.ended else "")
        except (sqlite3.Error, OSError) as error:
            phase = Phase(name, "failed", detail=f"the database cannot be read afterwards: {error}")
        self.phases.append(replace(phase, seconds=time.monotonic() - started))

    def _survey(self) -> None:
        """Let the bundle try all that one process can, and take over what it says."""
        copies = [self._scratch(path, f"release-{number}") for number, path in enumerate(self.rules.databases)]
        names = [path.name for path in copies]
        asked = self.asker.ask(writable=True, test="survey", databases=names, skip=sorted(self.rules.skip))
        ended = asked.wait(self.rules.timeout)
        said, stopped_at = asked.phases(), asked.begun()
        failed = next((name for name, line in said.items() if line["outcome"] == "failed"), stopped_at or "start")
        for name in ("start", *SELF_PHASES):
            if name in said:
                phase = Phase(name, *(said[name][key] for key in ("outcome", "seconds", "detail")))
                if phase.outcome == "failed":
                    phase = replace(phase, returncode=ended.returncode, output=ended.output)
                self.phases.append(phase)
            elif name == (stopped_at or "start"):
                self.phases.append(
                    Phase(name, "failed", ended.seconds, _stopped(ended), ended.returncode, ended.output)
                )
            else:
                self.phases.append(Phase(name, "skipped", detail=_not_tried(failed)))
        try:
            self._take_over(said, copies)
        except (LookupError, TypeError, ValueError, AttributeError):
            self.old = []
            wrong = replace(self.phases[0], outcome="failed", detail="what the bundle answered cannot be understood")
            self.phases[0] = replace(wrong, returncode=ended.returncode, output=ended.output)

    def _take_over(self, said: Mapping[str, Mapping[str, Any]], copies: Sequence[Path]) -> None:
        """Remember what the bundle told of itself, and which old databases it upgraded."""
        data = {name: line["data"] for name, line in said.items() if line["data"] is not None}
        self.versions = {str(name): str(version) for name, version in data.get("start", {}).get("versions", {}).items()}
        facts = data.get("files") or [{}] * len(data.get("start", {}).get("chains", ()))
        self.chains = [
            {**one, **more} for one, more in zip(data.get("start", {}).get("chains", ()), facts, strict=True)
        ]
        if "empty" not in said or said["empty"]["outcome"] != "passed":
            return
        belongs = data.get("releases", {})
        pairs = zip(self.rules.databases, copies, strict=True)
        self.old = [_Old(path, copy, belongs[copy.name]) for path, copy in pairs if copy.name in belongs]
        if not {old.chain for old in self.old} <= set(range(len(self.chains))):
            raise ValueError(belongs)
        made = {number: self.room.scratch / f"{number}-old.db" for number in data.get("old", ())}
        for number in (one for one in range(len(self.chains)) if one not in {old.chain for old in self.old}):
            upgraded = self.room.scratch / f"{number}-{'old-upgraded' if number in made else 'empty'}.db"
            self.old.append(_Old(made.get(number), upgraded, number))

    def _content(self) -> None:
        pairs = [(old.path, old.expected) for old in self.old if old.path in self.rules.databases]
        if not pairs:
            raise _Skipped("no database of a past release was upgraded")
        self._compare_content((before, after) for before, after in pairs if before is not None)

    def _compare_content(self, pairs: Iterable[tuple[Path, Path]]) -> None:
        rules = self.rules
        broken = {
            before.name: broken_rules(self._recovered(before), after, may_shrink=rules.may_shrink, rules=rules.content)
            for before, after in pairs
        }
        if any(broken.values()):
            raise _Failed("\n".join(f"{name}: {one}" for name, found in broken.items() for one in found))

    def _twice(self) -> None:
        """Start the program twice at once on one old database: both must end well, and the upgrade happens once."""
        for old in self._needed_old():
            copy = self._scratch(old.path, f"twice-{old.chain}")
            request: dict[str, Any] = {
                "test": "upgrade",
                "chain": old.chain,
                "database": copy.name,
                "go": f"go-{old.chain}",
            }
            both = [self.asker.ask(**request), self.asker.ask(**request)]
            try:
                for asked in both:
                    asked.wait_until("ready", self.rules.timeout)
                (self.room.scratch / f"go-{old.chain}").touch()
                for asked in both:
                    self._upgraded(asked)
            finally:
                for asked in both:
                    asked.running.kill()
            self._as_expected(copy, old)

    def _killed(self) -> None:
        """Kill the program in the middle, and again just before the end: the next start must finish the upgrade."""
        for old in self._needed_old():
            copy = self._scratch(old.path, f"killed-{old.chain}")
            request: dict[str, Any] = {"test": "upgrade", "chain": old.chain, "database": copy.name}
            for moment in ("middle", "commit"):
                asked = self.asker.ask(**request, hold=moment)
                if not asked.wait_until("holds", self.rules.timeout):
                    self._upgraded(asked)
                    raise _Skipped("the database had nothing pending")
                asked.running.kill()
            self._upgraded(self.asker.ask(**request))
            self._as_expected(copy, old)

    def _needed_old(self) -> list[_Old]:
        """Return one old database for each chain."""
        if not self.old:
            raise _Skipped("the bundle has upgraded no database by itself")
        return list({old.chain: old for old in reversed(self.old)}.values())

    def _upgraded(self, asked: Asked) -> None:
        ended = asked.wait(self.rules.timeout)
        line = asked.phases().get("upgrade")
        if line is None or line["outcome"] != "passed":
            raise _Failed(line["detail"] if line else _stopped(ended), ended)

    def _as_expected(self, path: Path, old: _Old) -> None:
        chain = self.chains[old.chain]
        table, is_repeatable = str(chain.get("version_table")), bool(chain.get("is_repeatable"))
        if wrong := difference(path, old.expected, table, is_repeatable=is_repeatable):
            raise _Failed(f"the database is not what an undisturbed upgrade makes of it: {wrong}")

    def _application(self) -> None:
        """Start the application itself with each old database."""
        if self.rules.app_command is None:
            raise _Skipped("no --app-command was given")
        databases = self.rules.databases or tuple(old.path for old in self.old if old.path is not None)
        if not databases:
            raise _Skipped("there is no old database to open: give some of past releases")
        pairs = []
        for number, database in enumerate(databases):
            folder = self.room.scratch / f"application-{number}"
            folder.mkdir()
            copy = copy_database(database, folder / database.name)
            arguments = [one.replace(DATABASE, str(copy)) for one in shlex.split(self.rules.app_command)]
            ended = self.room.run(arguments, self.rules.timeout, writable=number == 0)
            if ended.returncode != 0:
                raise _Failed(f"{database.name}: {_stopped(ended)}", ended)
            if wrong := self._not_at_head(copy):
                raise _Failed(f"{database.name}: {wrong}", ended)
            pairs.append((database, copy))
        self._compare_content(pairs)

    def _not_at_head(self, database: Path) -> str:
        """Return what is wrong with the version of a database that the application has opened."""
        known = dict(self._heads())
        found = {table: versions(database, table) for table in known}
        if not known:
            raise _Skipped("it ended well; that the database is at head cannot be told, as the bundle has no manifest")
        right = [table for table, rows in found.items() if rows and rows in known[table]]
        return "" if right else f"it is at {found} after the program opened it, not at {known}"

    def _heads(self) -> Iterator[tuple[str, list[tuple[str, ...]]]]:
        """Yield version tables with what they may hold at head."""
        manifests = self._manifests()
        tables: dict[str, list[tuple[str, ...]]] = {}
        for number, chain in enumerate(self.chains):
            empty = self.room.scratch / f"{number}-empty.db"
            if empty.exists() and chain.get("version_table"):
                table = str(chain["version_table"])
                tables.setdefault(table, []).append(versions(empty, table))
        for one in manifests.values() if not tables else ():
            tables.setdefault(one.version_table or DEFAULT_VERSION_TABLE, []).append(tuple(sorted(one.heads)))
        yield from tables.items()

    def _manifests(self) -> Mapping[tuple[str, str], Manifest]:
        """Return the manifests that lie in the bundle, or in the program that is all of it."""
        for place in (self.room.bundle, self.room.executable):
            with suppress(UnreadableBundle):
                return read_manifests(place)
        return {}

    def _bundle(self, before: Mapping[str, object]) -> None:
        """Compare the bundle with what it was before it ran, twice of these times writable."""
        after = self.room.tree()
        if changed := sorted(path for path in {*before, *after} if before.get(path) != after.get(path)):
            raise _Failed(f"written into the bundle: {', '.join(changed[:10])}")

    def _scratch(self, source: Path | None, name: str) -> Path:
        path = self.room.scratch / f"{name}.db"
        return path if source is None else copy_database(source, path)

    def _recovered(self, database: Path) -> Path:
        """Return a copy without a journal to roll back, which nobody who only reads could do."""
        copy = copy_database(database, Path(tempfile.mkdtemp(dir=self.room.folder), database.name))
        with closing(sqlite3.connect(copy)) as connection:
            connection.execute("SELECT count(*) FROM sqlite_master")
        return copy


def _stopped(ended: Ended) -> str:
    if ended.returncode is None:
        return f"the program was stopped after {ended.seconds:.0f} s"
    return f"the program ended with exit code {ended.returncode}"


def _not_tried(failed: str) -> str:
    return f"not tried, because {failed} did not pass"
