"""Where the cases are measured: in a source tree, and inside a bundle of each freezer."""

from __future__ import annotations

import json
import shutil
import sqlite3
import sys
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING

import bundles
import documents
import fleets
from chains import last_statement, revision_id, tables_of_last_block, write_chain, write_configuration
from measure import Command, Effort, Summary, interleaved, summary

import freezekit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

SOURCE = "source tree"
LONGEST = 1000
FLEET = 10_000
_WHOLE_FLEET = 0.25
_CASES = ("status", "locate", "upgrade", "create")
_WITHOUT_MANIFEST = "bare"
# Alembic needs seconds to replay so many revisions; a few rounds must do.
_EFFORTS = {"status": 4.0, "locate": 20.0, "upgrade": 6.0, "create": 10.0}


@dataclass(frozen=True)
class Result:
    """One series of measurements.

    Attributes:
        place: Where it was measured.
        case: What was done.
        revisions: Length of the chain; 0 where it does not matter.
        who: Who did it.
        unit: ``"s"`` or ``"bytes"``.
        value: Median and quartiles.
    """

    place: str
    case: str
    revisions: int
    who: str
    unit: str
    value: Summary


@dataclass(frozen=True)
class Plan:
    """What one run measures.

    Attributes:
        folder: Where everything is made.
        lengths: Lengths of the chains.
        share: Share of the usual time that each comparison takes.
        rounds: The most rounds.
    """

    folder: Path
    lengths: tuple[int, ...]
    share: float
    rounds: int

    def effort(self, seconds: float) -> Effort:
        """Return how much time a comparison may take."""
        return Effort(seconds * self.share, self.rounds)


@dataclass
class Workbench:
    """The chains, their databases, and what was measured."""

    plan: Plan
    say: Callable[[str], None]
    results: list[Result] = field(default_factory=list)

    @cached_property
    def project(self) -> Path:
        """The project, with a manifest and an empty database beside each env.py, as a build puts them there."""
        folder = self.plan.folder / "project"
        for length in self.plan.lengths:
            write_chain(folder, package(length), length)
        write_configuration(folder, map(package, self.plan.lengths))
        for length in self.plan.lengths:
            bundles.written(folder, f"{package(length)}:migrations", folder)
        return folder

    def behind_with_few_tables(self, length: int) -> Path:
        """Return a database that lacks the last revision of a chain, and has no more tables than that of the shortest.

        A longer chain has more tables, which SQLite reads and freezekit checks; this leaves only what the chain costs.
        """
        shortest = self.plan.lengths[0]
        path = self.plan.folder / f"{length}-behind-with-few-tables.db"
        shutil.copyfile(self.databases[shortest][1], path)
        with closing(sqlite3.connect(path)) as connection, connection:
            for old, new in zip(tables_of_last_block(shortest), tables_of_last_block(length), strict=True):
                if old != new:
                    connection.execute(f'ALTER TABLE "{old}" RENAME TO "{new}"')
            connection.execute("UPDATE alembic_version SET version_num = ?", (revision_id(length - 2),))
        return path

    @cached_property
    def databases(self) -> Mapping[int, tuple[Path, Path]]:
        """For each length, a database at head and one that lacks the last revision."""
        found = {}
        for length in self.plan.lengths:
            migrations = freezekit.locate(self.project / package(length) / "migrations")
            current, behind = (self.plan.folder / f"{length}-{name}.db" for name in ("current", "behind"))
            migrations.create(current)
            migrations.upgrade(behind, revision=revision_id(length - 2))
            found[length] = (current, behind)
        return found

    def add(self, where: tuple[str, str, int], samples: Mapping[str, Sequence[float]], unit: str = "s") -> None:
        """Note what was measured at a place, in a case, for a length."""
        self.results += [Result(*where, who, unit, summary(values)) for who, values in samples.items() if values]

    def measure_source(self) -> None:
        """Measure in a source tree."""
        words, environment = (sys.executable, str(bundles.BENCHMARKS / "program.py")), {"PYTHONPATH": str(self.project)}
        self._measure(SOURCE, Command(words, environment), self.project)
        bare, length = self.plan.folder / _WITHOUT_MANIFEST, self.plan.lengths[-1]
        write_chain(bare, package(length), length)
        command = Command(words, {"PYTHONPATH": str(bare)})
        samples = self._case("locate", command, bare, length)
        self.add((SOURCE, "locate", length), {"freezekit, without a manifest": samples["freezekit"]})

    def measure_bundle(self, freezer: str) -> None:
        """Freeze the program with all chains, and measure inside the bundle."""
        self.say(f"{freezer}: build")
        target = self.plan.folder / freezer
        bundles.freeze(freezer, self.project, target)
        self.add(
            (freezer, "size", 0), {"freezekit": [bundles.module_bytes(freezer, target) + bundles.data_bytes()]}, "bytes"
        )
        self._measure(freezer, Command((str(bundles.executable(target)),), {}), bundles.scripts_folder(freezer, target))

    def _measure(self, place: str, command: Command, root: Path) -> None:
        for length in self.plan.lengths:
            for case in _CASES:
                self.say(f"{place}: {case}, {length} revisions")
                self.add((place, case, length), self._case(case, command, root, length))
            self.say(f"{place}: upgrade of few tables, {length} revisions")
            few = self.behind_with_few_tables(length)
            self.add((place, "upgrade of few tables", length), self._case("upgrade", command, root, length, few))
        for length in self.plan.lengths:
            self.say(f"{place}: whole processes, {length} revisions")
            self._measure_processes(place, command, root, length)

    def _case(
        self, case: str, command: Command, root: Path, length: int, document: Path | None = None
    ) -> dict[str, list[float]]:
        current, behind = self.databases[length]
        effort = self.plan.effort(_EFFORTS[case])
        request = {
            "location": f"{package(length)}:migrations",
            "folder": str(root / package(length) / "migrations"),
            "current": str(current),
            "behind": str(document or behind),
            "statement": last_statement(length),
            "scratch": str(self.plan.folder),
            "effort": {"seconds": effort.seconds, "rounds": effort.rounds},
        }
        samples: dict[str, list[float]] = json.loads(command.output("case", case, json.dumps(request)))
        return samples

    def _measure_processes(self, place: str, command: Command, root: Path, length: int) -> None:
        location, folder = f"{package(length)}:migrations", str(root / package(length) / "migrations")
        arguments = (str(self.databases[length][0]), location, folder)
        commands = {
            who: Command((*command.words, who, *arguments), command.environment)
            for who in ("nothing", "floor", "freezekit", "alembic")
        }
        times = {who: one.seconds for who, one in commands.items()}
        self.add((place, "process", length), interleaved(times, self.plan.effort(20.0)))
        peaks = {who: one.peak_bytes for who, one in commands.items()}
        self.add((place, "memory", length), interleaved(peaks, self.plan.effort(4.0)), "bytes")

    def measure_documents(self) -> None:
        """Measure upgrades of whole documents over a history of many kinds of revisions, each in a fresh process."""
        scripts = documents.write_scripts(self.plan.folder / "document_scripts")
        _ship_manifest(scripts)
        costs = documents.sync_costs(self.plan.folder)
        originals = {size: self.plan.folder / f"{size}.db" for size in documents.SIZES}
        for size, path in originals.items():
            documents.write_document(scripts, path, documents.SIZES[size])

        def measure(case: str, size: str, environments: Mapping[str, Mapping[str, str] | None], effort: Effort) -> None:
            self.say(f"documents: {case}")
            found: dict[str, dict[str, list[float]]] = {}

            def once(who: str) -> float:
                taken = documents.taken(who, scripts, originals[size], self.plan.folder / "work", environments[who])
                for what, value in taken.items():
                    found.setdefault(what, {}).setdefault(who, []).append(value)
                return taken["seconds"]

            interleaved({who: partial(once, who) for who in environments}, effort)
            for what, samples in found.items():
                warm = {who: values[1:] for who, values in samples.items()}
                self.add((SOURCE, f"{case}, {what}", 0), warm, "s" if what == "seconds" else "bytes")

        whos = dict.fromkeys(("alembic", "freezekit", "freezekit, with backup"))
        if costs is None:
            measure("small document", "small", whos, self.plan.effort(60.0))
        else:
            measure("small document", "small", {"floor": costs(documents.NO_SYNC), **whos}, self.plan.effort(60.0))
            slow = dict.fromkeys(whos, costs(documents.SLOW_SYNC))
            measure("small document on a slow disk", "small", slow, self.plan.effort(60.0))
        measure("large document", "large", whos, self.plan.effort(60.0))
        measure("telling", "middling", dict.fromkeys(("freezekit", "freezekit, telling")), Effort(90.0, 20))

    def measure_fleets(self) -> None:
        """Measure many documents at once, each with one revision pending, and many that are current.

        Nobody starts in a fuller folder than another: how long a file takes to make depends on how many there are.
        """
        # Starting processes must not count: a short run still takes a tenth, any other all.
        length, count = self.plan.lengths[0], FLEET if self.plan.share >= _WHOLE_FLEET else FLEET // 10
        current, behind = self.databases[length]
        scripts, folder = self.project / package(length) / "migrations", self.plan.folder / "fleet"
        self.say(f"fleets: {count} documents, plain Alembic by some of them")
        each = fleets.process_seconds(scripts, fleets.copies(behind, folder, count))
        self.add((SOURCE, "fleet", length), {"alembic": [each * count]})

        def upgraded(many: int, who: str, how: str) -> float:
            self.say(f"fleets: {many} documents, {who}{how}")
            fleets.copies(behind, folder, many)
            return fleets.taken(who, scripts, folder, backup="backup" in how)["seconds"]

        hows = ("", ", with backup")
        looped = {"alembic, in a loop": partial(upgraded, count, "alembic", "")}
        whole = {f"freezekit{how}, 2 workers": partial(upgraded, count, "2", how) for how in hows}
        self.add((SOURCE, "fleet", length), interleaved({**looped, **whole}, Effort(0.0, 5)))
        part = {
            f"freezekit{how}, {workers} workers": partial(upgraded, count // 5, workers, how)
            for workers in ("1", "2")
            for how in hows
        }
        self.add((SOURCE, "a fifth of a fleet", length), interleaved(part, Effort(0.0, 3)))
        self.say(f"fleets: {count} documents that are current")
        paths = fleets.copies(current, folder, count)
        asked = {
            "floor": lambda: fleets.sqlite_seconds(paths),
            "freezekit": lambda: fleets.taken("2", scripts, folder)["seconds"],
        }
        self.add((SOURCE, "sift", length), interleaved(asked, Effort(0.0, 3)))
        self._measure_memory_of_fleets(scripts, current, count)

    def _measure_memory_of_fleets(self, scripts: Path, current: Path, count: int) -> None:
        small = self.plan.folder / "only a version.db"
        with closing(sqlite3.connect(current)) as whole, closing(sqlite3.connect(small)) as version:
            rows = whole.execute("SELECT version_num FROM alembic_version").fetchall()
            version.execute("PRAGMA page_size = 512")
            with version:
                version.execute("CREATE TABLE alembic_version (version_num)")
                version.executemany("INSERT INTO alembic_version VALUES (?)", rows)
        folder = self.plan.folder / "fleet"
        for many in (count // 10, count * 10):
            self.say(f"fleets: memory with {many} documents")
            fleets.copies(small, folder, many)
            found = fleets.taken("2", scripts, folder)
            self.add((SOURCE, "memory of a fleet", many), {"freezekit": [found["memory"]]}, "bytes")
            self.add((SOURCE, "sift", many), {"freezekit": [found["seconds"]]})
        shutil.rmtree(folder)

    def measure_hooks(self, freezers: Iterable[str]) -> None:
        """Measure what the hooks add to a build, by themselves and as a whole."""
        length = self.plan.lengths[-1]
        chained, plain = (self.plan.folder / name for name in ("chained", "plain"))
        write_chain(chained, package(length), length)
        write_configuration(chained, [package(length)], snapshot=False)
        plain.mkdir()
        bundles.write_program(plain)
        bundles.write_program(chained, f"{package(length)}:migrations")
        self.say(f"hooks: by themselves, {length} revisions")
        work = bundles.direct_seconds(chained, f"{package(length)}:migrations", self.plan.folder)
        self.add((SOURCE, "hook", length), interleaved({"freezekit": work}, self.plan.effort(15.0)))
        for freezer in freezers:
            self.say(f"hooks: whole builds with {freezer}")
            builds = {"floor": self._build(freezer, plain), "freezekit": self._build(freezer, chained)}
            samples = interleaved(builds, Effort(0.0, 4))
            self.add((freezer, "build", length), samples)

    def _build(self, freezer: str, project: Path) -> Callable[[], float]:
        target = self.plan.folder / "builds"

        def build() -> float:
            shutil.rmtree(target, ignore_errors=True)
            return bundles.freeze(freezer, project, target, project / bundles.WRITTEN)

        return build


def _ship_manifest(scripts: Path) -> None:
    """Put the manifest beside env.py, as a build does."""
    text = freezekit.locate(scripts).manifest.to_json()
    (scripts / "freezekit.json").write_text(text, encoding="utf-8")


def package(length: int) -> str:
    """Return the name of the package that holds a chain."""
    return f"chain_{length:04}"
