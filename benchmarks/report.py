"""What a run found: tables for people, JSON for programs, a plot for the README."""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import sys
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import TYPE_CHECKING

from measure import Summary
from places import FLEET, LONGEST, SOURCE
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from places import Result

_MS, _KB, _MB = 1e3, 1e-3, 1e-6
_THREE_DIGITS = 100
_WIDE = 140
_UNITS = {"times": " \N{MULTIPLICATION SIGN}", "faster": " \N{MULTIPLICATION SIGN} faster"}


def progress(text: str) -> None:
    """Say what is being measured."""
    Console(stderr=True).print(text, style="dim", highlight=False)


@dataclass(frozen=True)
class Series:
    """Where one figure of a target comes from; the place is that of the column, unless it is given."""

    case: str
    revisions: int
    who: str
    place: str | None = None


@dataclass(frozen=True)
class Target:
    """One target: how two series are to compare.

    Attributes:
        question: What is asked.
        one: What is judged.
        other: What it is compared with; None where the figure stands for itself.
        how: ``"times"`` (one / other), ``"faster"`` (other / one) or ``"above"`` (one - other).
        limit: The most, or for ``"faster"`` the least.
        scale: Factor from seconds or bytes to the unit shown.
        unit: Unit of the figure.
    """

    question: str
    one: Series
    other: Series | None
    how: str
    limit: float
    scale: float = 1.0
    unit: str = ""

    def value(self, one: Summary, other: Summary | None) -> Summary:
        """Return the figure from the medians; its spread from the far ends of both quartiles."""
        if other is None:
            low, median, high = one.low, one.median, one.high
        elif self.how == "above":
            low, median, high = one.low - other.high, one.median - other.median, one.high - other.low
        else:
            top, bottom = (one, other) if self.how == "times" else (other, one)
            low, median, high = top.low / bottom.high, top.median / bottom.median, top.high / bottom.low
        return Summary(median * self.scale, low * self.scale, high * self.scale, one.count)

    def is_met(self, value: Summary) -> bool:
        """Return whether the medians meet the target."""
        return value.median >= self.limit if self.how == "faster" else value.median <= self.limit

    @property
    def shown_limit(self) -> str:
        """The target as text."""
        return f"{'≥' if self.how == 'faster' else '≤'} {self.limit:g}{_unit(self)}"


def _unit(target: Target) -> str:
    return _UNITS.get(target.how) or f" {target.unit}"


def _pair(case: str, revisions: int, who: str = "freezekit", other: str = "alembic") -> tuple[Series, Series]:
    return Series(case, revisions, who), Series(case, revisions, other)


def targets(longest: int) -> list[Target]:
    """Return what freezekit is meant to reach, for the longest chain that was measured."""
    n = f"{longest} revisions"
    backup = "freezekit, with backup"
    return [
        Target(f"status, {n}: above sqlite3", *_pair("status", longest, other="floor"), "above", 1, _MS, "ms"),
        Target("… than Alembic's no-op upgrade", *_pair("status", longest), "faster", 50),
        Target(f"status as a new process, {n}: of a bare one", *_pair("process", longest, other="floor"), "times", 2),
        Target("… than the Alembic process", *_pair("process", longest), "faster", 8),
        Target(f"locate + manifest, {n}", Series("locate", longest, "freezekit"), None, "at most", 5, _MS, "ms"),
        Target(f"upgrade, 1 of {n} pending: than Alembic", *_pair("upgrade", longest), "faster", 8),
        Target("… with its backup", *_pair("upgrade", longest, backup), "faster", 8),
        Target(
            f"… of {longest} revisions, of that of 10, with as many tables",
            Series("upgrade of few tables", longest, "freezekit"),
            Series("upgrade of few tables", 10, "freezekit"),
            "times",
            2,
        ),
        Target("create, 100 revisions: of a durable copy", *_pair("create", 100, other="floor"), "times", 2),
        Target("… than replaying them with Alembic", *_pair("create", 100), "faster", 100),
        Target(f"work of a hook, {n}", Series("hook", longest, "freezekit", SOURCE), None, "at most", 2, 1, "s"),
        Target(f"whole build, {n}: above none", *_pair("build", longest, other="floor"), "above", 2, 1, "s"),
        Target(
            "room in a bundle, with sample_app's data", Series("size", 0, "freezekit"), None, "at most", 300, _KB, "KB"
        ),
        Target(
            f"memory of status, {n}: above sqlite3", *_pair("memory", longest, other="floor"), "above", 3, _MB, "MB"
        ),
        Target("a document of 100 MB, with its backup: of Alembic", *_document("large", "seconds"), "times", 0.9),
        Target("a document of 0.2 MB, with its backup: of Alembic", *_document("small", "seconds"), "times", 0.4),
        Target("… where a sync takes 4 ms more", *_document("small", "seconds", " on a slow disk"), "times", 0.4),
        Target(
            "a document of 20 MB while progress is told: of untold",
            *_pair("telling, seconds", 0, "freezekit, telling", "freezekit"),
            "times",
            1.03,
        ),
        Target("memory for 100 MB: above Alembic", *_document("large", "memory"), "above", 300, _MB, "MB"),
        Target("room on disk for 100 MB: of Alembic's", *_document("large", "room"), "times", 1.5),
        *_fleet_targets(),
    ]


def _fleet_targets() -> list[Target]:
    one, two = (f"freezekit, {workers} workers" for workers in (1, 2))
    with_one, with_two = (f"freezekit, with backup, {workers} workers" for workers in (1, 2))
    case, part = ("fleet", 10), ("a fifth of a fleet", 10)
    loop = "alembic, in a loop"
    least, most = FLEET // 10, FLEET * 10
    return [
        Target("many documents, backups, 2 workers: than a process each", *_pair(*case, with_two), "faster", 20),
        Target("… than Alembic in a loop, which makes no backups", *_pair(*case, with_two, loop), "faster", 2.5),
        Target("… than with 1 worker", *_pair(*part, with_two, with_one), "faster", 1.7),
        Target("… without backups: than Alembic in a loop", *_pair(*case, two, loop), "faster", 2.5),
        Target("… than with 1 worker", *_pair(*part, two, one), "faster", 1.7),
        Target("many current documents: of bare sqlite3", *_pair("sift", 10, other="floor"), "times", 2),
        Target(
            f"memory for {most:,} documents: above {least:,}",
            Series("memory of a fleet", most, "freezekit"),
            Series("memory of a fleet", least, "freezekit"),
            "above",
            10,
            _MB,
            "MB",
        ),
    ]


def _document(size: str, what: str, where: str = "") -> tuple[Series, Series]:
    return _pair(f"{size} document{where}, {what}", 0, "freezekit, with backup")


class _Found:
    """The results of a run, by what they are."""

    def __init__(self, results: Iterable[Result]) -> None:
        self._by_key = {(one.place, one.case, one.revisions, one.who): one.value for one in results}
        self.places = list(dict.fromkeys(place for place, *_ in self._by_key))
        # Of others it is a number of documents.
        chains = [revisions for _, case, revisions, _ in self._by_key if case == "status"]
        self.longest = max(chains, default=LONGEST)

    def get(self, series: Series | None, place: str) -> Summary | None:
        """Return one series, if it was measured at that place."""
        if series is None or series.place not in (None, place):
            return None
        return self._by_key.get((place, series.case, series.revisions, series.who))

    def judged(self, target: Target, place: str) -> Summary | None:
        """Return the figure for a target at a place, if both its series were measured."""
        one, other = self.get(target.one, place), self.get(target.other, place)
        if one is None or (target.other is not None and other is None):
            return None
        return target.value(one, other)


def show(results: Sequence[Result]) -> None:
    """Print the targets with what was reached, then the figures behind them."""
    found = _Found(results)
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDE)
    caption = (
        None if found.longest >= LONGEST else f"The targets are for {LONGEST} revisions, here are {found.longest}."
    )
    title = "Targets: from the medians (and their quartiles)"
    table = Table("", "target", *found.places, title=title, caption=caption)
    for target in targets(found.longest):
        table.add_row(target.question, target.shown_limit, *(_judged(target, found, place) for place in found.places))
    console.print(table)
    console.print(_medians(results))


def _judged(target: Target, found: _Found, place: str) -> str:
    value = found.judged(target, place)
    if value is None:
        return ""
    mark = "[green]met[/]" if target.is_met(value) else "[red]missed[/]"
    spread = "" if value.low == value.high else f" ({_short(value.low)} … {_short(value.high)})"
    return f"{_short(value.median)}{spread} {mark}"


def _short(value: float) -> str:
    return f"{value:.3g}" if abs(value) < _THREE_DIGITS else f"{value:.0f}"


def _medians(results: Iterable[Result]) -> Table:
    """Return one row for each case: who needed how long, or how much."""
    rows: dict[tuple[str, str, str], dict[str, str]] = {}
    for one in results:
        scale, unit = (_MS, "ms") if one.unit == "s" else (_MB, "MB")
        low, median, high = (_short(value * scale) for value in (one.value.low, one.value.median, one.value.high))
        who, _, how = one.who.partition(", ")
        row = (one.place, f"{one.case}, {how}" if how else one.case, str(one.revisions or ""))
        rows.setdefault(row, {})[who] = f"{median} {unit} ({low} … {high})"
    table = Table("place", "case", "revisions", *_NAMES.values(), title="Figures: medians (and quartiles)")
    for row, cells in sorted(rows.items(), key=lambda one: one[0][:1]):
        table.add_row(*row, *(cells.get(who, "") for who in _NAMES))
    return table


def write_json(results: Sequence[Result], path: Path) -> None:
    """Write all figures and what they were measured with."""
    found = _Found(results)
    judged = [
        {"question": one.question, "place": place, "target": one.shown_limit, **asdict(value), "met": one.is_met(value)}
        for one in targets(found.longest)
        for place in found.places
        if (value := found.judged(one, place)) is not None
    ]
    packages = ("freezekit", "alembic", "sqlalchemy", "pyinstaller", "cx_Freeze")
    machine = {
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "system": f"{platform.system()} {platform.machine()}",
        "processors": os.cpu_count(),
        **{name: metadata.version(name) for name in packages},
    }
    document = {"version": 1, "machine": machine, "targets": judged, "results": [asdict(one) for one in results]}
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    sys.stdout.write(f"figures: {path}\n")


_COLOURS = {"floor": "#9aa5b1", "freezekit": "#1f77b4", "alembic": "#d9822b"}
_NAMES = {"floor": "bare floor", "freezekit": "freezekit", "alembic": "Alembic"}


def write_plot(results: Sequence[Result], path: Path) -> None:
    """Draw the source tree's medians for the longest chain, three bars for each question."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update(
        {"svg.fonttype": "none", "svg.hashsalt": "freezekit", "font.size": 9, "font.family": "sans-serif"}
    )
    from matplotlib import pyplot as plt

    found = _Found(results)
    n = found.longest
    panels = [
        ("is it current?", "status", n),
        ("the same, as a new process", "process", n),
        ("upgrade, 1 pending", "upgrade", n),
        ("a new database", "create", n),
    ]
    figure, axes = plt.subplots(1, len(panels), figsize=(9, 1.7), layout="constrained", sharey=True)
    for axis, (title, case, revisions) in zip(axes, panels, strict=True):
        values = {who: found.get(Series(case, revisions, who), SOURCE) for who in _COLOURS}
        _draw(axis, title, {who: value.median * _MS for who, value in values.items() if value is not None})
    axes[0].invert_yaxis()
    figure.supxlabel(f"a history of {n} revisions; logarithmic scale", fontsize=8)
    figure.savefig(path, format="svg", metadata={"Date": None})
    sys.stdout.write(f"plot: {path}\n")


def _draw(axis: Axes, title: str, medians: dict[str, float]) -> None:
    """Draw one question: bars on a logarithmic scale, each with its figure."""
    bars = axis.barh([_NAMES[who] for who in medians], list(medians.values()), color=[_COLOURS[who] for who in medians])
    axis.set_title(title, fontsize=9, loc="left")
    axis.set_xscale("log")
    axis.set_xlim(min(medians.values()) / 3, max(medians.values()) * 12)
    axis.bar_label(bars, [_as_time(value) for value in medians.values()], padding=3)
    axis.xaxis.set_visible(False)
    axis.spines[["top", "right", "bottom"]].set_visible(False)


def _as_time(milliseconds: float) -> str:
    return f"{milliseconds / _MS:.2g} s" if milliseconds >= _MS else f"{_short(milliseconds)} ms"
