"""Measure freezekit beside plain Alembic and the bare floor, in one run: ``python benchmarks/run.py``."""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import report
from bundles import FREEZERS
from places import LONGEST, Plan, Workbench

_HERE = Path(__file__).resolve().parent


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure freezekit beside plain Alembic and the bare floor.")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions, chains of 10 and 100 revisions only")
    parser.add_argument("--share", type=float, default=1.0, metavar="X", help="take X of the usual time for each")
    parser.add_argument("--no-bundles", action="store_true", help="only the source tree; freeze nothing")
    parser.add_argument("--json", type=Path, default=_HERE / "results.json", metavar="FILE", help="where figures go")
    parser.add_argument("--plot", type=Path, default=_HERE / "results.svg", metavar="FILE", help="where the plot goes")
    return parser.parse_args()


def _keep_what_is_compiled(folder: Path) -> None:
    """Have every process find its modules, and Alembic its scripts, compiled, as on the machines of users."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = str(folder)


def main() -> None:
    """Measure, print tables, write the figures and the plot."""
    arguments = _arguments()
    freezers = () if arguments.no_bundles else FREEZERS
    with tempfile.TemporaryDirectory(prefix="freezekit-bench-") as folder:
        _keep_what_is_compiled(Path(folder) / "compiled")
        lengths, share, rounds = ((10, 100), 0.2, 15) if arguments.quick else ((10, 100, LONGEST), arguments.share, 60)
        bench = Workbench(Plan(Path(folder), lengths, share, rounds), report.progress)
        bench.measure_source()
        bench.measure_documents()
        bench.measure_fleets()
        for freezer in freezers:
            bench.measure_bundle(freezer)
        bench.measure_hooks(() if arguments.quick else freezers)
    report.show(bench.results)
    report.write_json(bench.results, arguments.json)
    report.write_plot(bench.results, arguments.plot)


if __name__ == "__main__":
    main()
