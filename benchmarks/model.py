"""Check the model of docs/fleets.md: how long many documents take, from what one of them takes.

``python benchmarks/model.py [COUNT ...]`` measures each count of small documents with 1 and with 2 workers, fits the
cost of one document to the smaller counts, and prints what the model says beside what was measured.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import fleets
from bundles import written
from chains import revision_id, write_chain, write_configuration
from rich.console import Console
from rich.table import Table

import freezekit

_COUNTS = (100, 1_000, 10_000, 100_000)
_LENGTH = 2
_WORKERS = (1, 2)


@dataclass(frozen=True)
class Point:
    """One measurement: what was done with how many documents, by how many workers, in how many seconds."""

    what: str
    count: int
    workers: int
    seconds: float


@dataclass(frozen=True)
class Model:
    """Seconds to begin with, and seconds of one worker for each document."""

    begin: float
    each: float

    def seconds(self, count: int, workers: int) -> float:
        """Return how long so many documents take."""
        return self.begin + count * self.each / workers


def fitted(points: list[Point]) -> Model:
    """Return the model of the points, least squares of the relative error."""
    weights = [1 / point.seconds for point in points]
    rows = [(w, w * point.count / point.workers) for w, point in zip(weights, points, strict=True)]
    a, b, c = (sum(row[i] * row[j] for row in rows) for i, j in ((0, 0), (0, 1), (1, 1)))
    d, e = (sum(row[i] for row in rows) for i in (0, 1))
    determinant = a * c - b * b
    begin = (d * c - e * b) / determinant
    return Model(begin, (a * e - b * d) / determinant) if begin > 0 else Model(0.0, e / c)


def measured(folder: Path, counts: list[int], console: Console) -> list[Point]:
    """Upgrade, and then sift, each count of documents with each number of workers."""
    project = folder / "project"
    write_chain(project, "small", _LENGTH)
    write_configuration(project, ["small"])
    written(project, "small:migrations", project)
    scripts, behind = project / "small" / "migrations", folder / "behind.db"
    freezekit.locate(scripts).upgrade(behind, revision=revision_id(_LENGTH - 2))
    points = []
    for count in counts:
        for workers in _WORKERS:
            documents = folder / "documents"
            fleets.copies(behind, documents, count)
            for what in ("upgrade", "sift"):
                taken = fleets.taken(str(workers), scripts, documents)
                points.append(Point(what, count, workers, taken["seconds"]))
                console.print(points[-1], f"{taken['memory'] / 1e6:.1f} MB", style="dim", highlight=False)
    return points


def main() -> None:
    """Measure, fit and print."""
    counts = [int(one) for one in sys.argv[1:]] or list(_COUNTS)
    console = Console(width=110)
    with tempfile.TemporaryDirectory(prefix="freezekit-fleets-") as folder:
        points = measured(Path(folder), counts, Console(stderr=True))
    for what in ("upgrade", "sift"):
        mine = [point for point in points if point.what == what]
        model = fitted([point for point in mine if point.count < max(counts)] or mine)
        title = f"{what}: {model.begin:.2f} s to begin, {model.each * 1e3:.3f} ms a document and worker"
        table = Table("documents", "workers", "measured", "model", "off by", title=title)
        errors = []
        for point in mine:
            said = model.seconds(point.count, point.workers)
            errors.append(abs(said / point.seconds - 1))
            cells = (f"{point.count:,}", str(point.workers), f"{point.seconds:.2f} s", f"{said:.2f} s")
            table.add_row(*cells, f"{said / point.seconds - 1:+.0%}")
        console.print(table)
        console.print(f"median error {statistics.median(errors):.0%}", highlight=False)


if __name__ == "__main__":
    main()
