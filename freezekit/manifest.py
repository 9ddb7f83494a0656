"""The contract between build and runtime: what was shipped, and what follows from it.

A manifest lists one tree of migration scripts: each revision with its parents, each file with its digest. The build
writes it beside ``env.py`` as ``freezekit.json``; in a source tree the same object is computed in memory
(:mod:`freezekit.scripts`). Everything that can be said about a database without running a script is answered here,
without Alembic.
"""

from __future__ import annotations

from functools import cached_property

from freezekit.errors import UnreadableBundle
from freezekit.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Any

FORMAT = 1
DEFAULT_SECTION = "alembic"
DEFAULT_VERSION_TABLE = "alembic_version"


def manifest_name(section: str = DEFAULT_SECTION) -> str:
    """Return the file name of the manifest of one chain: each section of an ini has its own."""
    return "freezekit.json" if section == DEFAULT_SECTION else f"freezekit.{section}.json"


def snapshot_name(section: str = DEFAULT_SECTION) -> str:
    """Return the file name of the empty database of one chain, in gzip's format."""
    return "freezekit.db.gz" if section == DEFAULT_SECTION else f"freezekit.{section}.db.gz"


def digest(content: bytes) -> str:
    """Return the sha256 of a file, the same for both kinds of line ending, so that a checkout does not change it."""
    import hashlib

    return hashlib.sha256(content.replace(b"\r\n", b"\n")).hexdigest()


@record
class Revision:
    """One revision script, as Alembic's own words have it.

    Attributes:
        revision: Its id.
        down_revision: Ids of its parents: none for a base, several for a merge.
        depends_on: Ids it depends on beside its parents, labels resolved.
        branch_labels: Labels of the branch that begins here.
        file: Path of the script, relative to the folder of ``env.py``, with forward slashes.
        sha256: Digest of the script, line endings aside.
        doc: First line of its docstring.
    """

    revision: str
    down_revision: tuple[str, ...]
    depends_on: tuple[str, ...]
    branch_labels: tuple[str, ...]
    file: str
    sha256: str
    doc: str

    def __str__(self) -> str:
        return self.revision


_REVISION_FIELDS = set(Revision.__annotations__)
_OFTEN_EMPTY = ("depends_on", "branch_labels")
_NONE: list[str] = []


@record
class Manifest:
    """One tree of migration scripts and what is needed to run them anywhere.

    Attributes:
        script_location: The tree in Alembic's notation, as the project writes it.
        section: Section of alembic.ini the chain belongs to.
        revisions: Every revision, parents before children.
        heads: Revisions that nothing descends from.
        files: Digest of every shipped file, by its path relative to the folder of ``env.py``.
        version_locations: Folders of the revisions, relative to the folder of ``env.py``.
        recursive_version_locations: Whether subfolders of those count.
        version_table: Name of the version table; None when only running ``env.py`` can tell.
        driver: Driver that ``env.py`` needs beside the default one (an async one), or None.
        options: Further options of the section, for ``config.get_main_option``.
        ini: Path of the shipped alembic.ini relative to the folder of ``env.py``, or None.
        application_id: SQLite's mark of whose file it is, or None.
        foreign_keys: ``"auto"``, ``"on"`` or ``"off"``.
        outside_transaction: Ids of the revisions that are seen to run what no transaction may hold (``VACUUM``); an
            SQLite file is upgraded through a private copy by them.
        fingerprints: Digest of the schema after each revision, by the ids the version table then holds, joined by "+".
        snapshot: Path of the shipped empty database relative to the folder of ``env.py``, or None.
        snapshot_sha256: Sha256 of that file.
        built_with: Versions of freezekit, Alembic, SQLAlchemy, Python, SQLite and the freezer; empty in a source tree.
    """

    script_location: str
    section: str
    revisions: tuple[Revision, ...]
    heads: tuple[str, ...]
    files: Mapping[str, str]
    version_locations: tuple[str, ...] = ("versions",)
    recursive_version_locations: bool = False
    version_table: str | None = DEFAULT_VERSION_TABLE
    driver: str | None = None
    options: Mapping[str, str] = {}
    ini: str | None = None
    application_id: int | None = None
    foreign_keys: str = "auto"
    outside_transaction: tuple[str, ...] = ()
    fingerprints: Mapping[str, str] = {}
    snapshot: str | None = None
    snapshot_sha256: str | None = None
    built_with: Mapping[str, str] = {}

    def to_json(self) -> str:
        """Return the manifest as the text of ``freezekit.json``, the same for the same tree."""
        import json
        from dataclasses import asdict

        data = {"format": FORMAT, **asdict(self)}
        of_revisions = {revision.file for revision in self.revisions}
        data["files"] = {name: sha256 for name, sha256 in self.files.items() if name not in of_revisions}
        for row in data["revisions"]:
            for name in _OFTEN_EMPTY:
                row[name] or row.pop(name)
        fields = (f"{json.dumps(name)}: {_shown(value)}" for name, value in data.items())
        return "{\n" + ",\n".join(fields) + "\n}\n"

    @classmethod
    def from_json(cls, text: str | bytes, where: str) -> Manifest:
        """Return the manifest that a text holds.

        Args:
            text: Content of a ``freezekit.json``.
            where: Its path, for the message.

        Raises:
            UnreadableBundle: It is no JSON, of a newer format, or something is missing.
        """
        try:
            data: dict[str, Any] = _parsed(text)
            written = data.pop("format")
            if written != FORMAT:
                raise UnreadableBundle(where, f"its format is {written!r}, this freezekit reads format {FORMAT}")
            _refuse_other_kinds(data)
            data["revisions"] = tuple(_revision(row) for row in data["revisions"])
            data["files"] = {**{one.file: one.sha256 for one in data["revisions"]}, **data["files"]}
            for name in ("heads", "version_locations", "outside_transaction"):
                data[name] = tuple(data.get(name, ()))
            manifest = cls(**data)
            _refuse_broken_history(manifest)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise UnreadableBundle(where, f"it is no manifest of freezekit ({error})") from error
        return manifest

    @cached_property
    def by_id(self) -> Mapping[str, Revision]:
        """Every revision by its id."""
        return {revision.revision: revision for revision in self.revisions}

    @cached_property
    def is_linear(self) -> bool:
        """Whether each revision has at most one parent and one child, and so a database is at one of them."""
        parents = [one.down_revision for one in self.revisions]
        needed = [parent for down in parents for parent in down]
        one_each = len(set(needed)) == len(needed) == len(parents) - 1 and all(len(down) <= 1 for down in parents)
        return one_each and not any(one.depends_on for one in self.revisions)

    def ancestors(self, revisions: Iterable[str]) -> set[str]:
        """Return the ids of these revisions and of all they need: parents and dependencies."""
        return set(self._down_from(revisions))

    def _down_from(self, revisions: Iterable[str]) -> Iterator[str]:
        by_id, todo = self.by_id, list(revisions)
        seen: set[str] = set()
        while todo:
            revision = todo.pop()
            if revision not in seen:
                seen.add(revision)
                yield revision
                needs = by_id[revision]
                todo += needs.down_revision
                todo += needs.depends_on

    def unreached(self, wanted: Sequence[str], current: Iterable[str]) -> tuple[str, ...]:
        """Return those of some revisions that a database at these revisions lacks; looks no further than it has to."""
        missing = set(wanted)
        for revision in self._down_from(one for one in current if one in self.by_id):
            missing.discard(revision)
            if not missing:
                break
        return tuple(one for one in wanted if one in missing)

    def unknown(self, current: Iterable[str]) -> tuple[str, ...]:
        """Return those of a database's revisions that this tree does not have."""
        return tuple(revision for revision in current if revision not in self.by_id)

    def pending(self, current: Iterable[str]) -> tuple[str, ...]:
        """Return the ids a database at these revisions lacks to be at head, parents first.

        A head that another one depends on has no row of its own in the database, so what counts is what the rows imply.
        """
        current = tuple(current)
        if set(self.heads) <= set(current):
            return ()
        if current not in self._last_pending:
            applied = self.ancestors(current)
            self._last_pending.clear()
            self._last_pending[current] = tuple(one.revision for one in self.revisions if one.revision not in applied)
        return self._last_pending[current]

    @cached_property
    def _last_pending(self) -> dict[tuple[str, ...], tuple[str, ...]]:
        """The last answer of :meth:`pending`: one upgrade asks several times, and so do many databases of one age."""
        return {}


_TEXT = ("script_location", "section", "foreign_keys")
_TEXT_OR_NOTHING = ("version_table", "driver", "ini", "snapshot", "snapshot_sha256")
_LISTS = ("heads", "version_locations", "outside_transaction")
_OBJECTS = ("files", "options", "fingerprints", "built_with")


def _refuse_other_kinds(data: dict[str, Any]) -> None:
    """Raise TypeError for a value of another kind than its field has."""
    kinds: dict[str, bool] = {
        **{name: type(data.get(name, "")) is str for name in _TEXT},
        **{name: type(data.get(name)) in (str, type(None)) for name in _TEXT_OR_NOTHING},
        **{name: _holds_texts(data.get(name, []), list) for name in _LISTS},
        **{name: _holds_texts(data.get(name, {}), dict) for name in _OBJECTS},
        "recursive_version_locations": type(data.get("recursive_version_locations", False)) is bool,
        "application_id": type(data.get("application_id")) in (int, type(None)),
    }
    if wrong := [name for name, is_right in kinds.items() if not is_right]:
        raise TypeError(f"{wrong[0]} is of the wrong kind")


def _holds_texts(value: Any, kind: type) -> bool:
    texts = value.values() if isinstance(value, dict) else value
    return isinstance(value, kind) and all(type(one) is str for one in texts)


def _refuse_broken_history(manifest: Manifest) -> None:
    """Raise KeyError for a revision that others name and that is not there, ValueError for heads that are none."""
    known = manifest.by_id
    parents: set[str] = set()
    named = {*manifest.heads, *manifest.outside_transaction}
    for revision in manifest.revisions:
        parents.update(revision.down_revision)
        named.update(revision.depends_on)
    if missing := sorted((named | parents) - known.keys()):
        raise KeyError(f"no revision {missing[0]!r}")
    if {*manifest.heads} != known.keys() - parents:
        raise ValueError("its heads are not the revisions that nothing descends from")


class _Scanning:
    """How ``json.loads`` configures its scanner."""

    strict = True
    object_hook = object_pairs_hook = None
    parse_float, parse_int, parse_constant = float, int, float


def _parsed(text: str | bytes) -> Any:
    """Parse JSON with the scanner of :mod:`json`, which as a whole takes longer to import than a manifest to read."""
    try:
        from _json import make_scanner

        decoded = text.decode("utf-8") if isinstance(text, bytes) else text
        found, end = make_scanner(_Scanning)(decoded, 0)  # type: ignore[arg-type]
        if not decoded[end:].strip():
            return found
    except (ImportError, AttributeError, TypeError, ValueError, StopIteration):
        pass  # json itself says what is wrong
    import json

    return json.loads(text)


def _shown(value: Any) -> str:
    """Return a value as JSON, with one line for each entry of a list or object."""
    import json

    if not isinstance(value, (dict, list, tuple)) or not value:
        return json.dumps(value, ensure_ascii=False)
    entries = value if isinstance(value, (list, tuple)) else [{name: one} for name, one in value.items()]
    lines = [json.dumps(one, ensure_ascii=False, separators=(",", ":")) for one in entries]
    if isinstance(value, dict):
        return "{\n" + ",\n".join(line[1:-1] for line in lines) + "\n}"
    return "[\n" + ",\n".join(lines) + "\n]"


def _revision(row: dict[str, Any]) -> Revision:
    """Return the record a row stands for; a history has hundreds, so the row itself becomes what the record holds."""
    down, depends, labels = row["down_revision"], row.get("depends_on", _NONE), row.get("branch_labels", _NONE)
    texts = type(row["revision"]) is type(row["file"]) is type(row["sha256"]) is type(row["doc"]) is str
    if not (texts and type(down) is type(depends) is type(labels) is list):
        raise TypeError(f"a field of revision {row['revision']!r} is of the wrong kind")
    row["down_revision"], row["depends_on"], row["branch_labels"] = tuple(down), tuple(depends), tuple(labels)
    if row.keys() != _REVISION_FIELDS:
        raise TypeError(f"a revision has {sorted(row)}")
    revision = object.__new__(Revision)
    object.__setattr__(revision, "__dict__", row)
    return revision
