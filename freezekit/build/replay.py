"""Run every revision of a chain once, on a new database, in a process of its own: ``python -m freezekit.build.replay``.

A migration may leave anything behind in the process that runs it, and must find nothing of the freezer there. Reads a
JSON object from standard input (folder, section, database, path), writes the database, and prints one with the digest
of the schema after each revision.
"""

from __future__ import annotations

import json
import os
import sys


def main() -> int:
    """Make the database; 1 and one line on standard error if a revision fails."""
    job = json.load(sys.stdin)
    printed = sys.stdout
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - what scripts print is not the answer
    sys.path[:0] = [folder for folder in job["path"] if folder not in sys.path]
    import freezekit
    from freezekit.runtime.adopt import recorded_fingerprints

    try:
        scripts = freezekit.locate(job["folder"], section=job["section"]).scripts
        fingerprints = recorded_fingerprints(scripts, job["database"])
    except freezekit.FreezekitError as error:
        sys.stderr.write(f"{str(error).splitlines()[0]}\n")
        return 1
    json.dump({"fingerprints": dict(fingerprints), "version_table": scripts.manifest.version_table}, printed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
