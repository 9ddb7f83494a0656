"""What a check of a built program found: plain data, the same for every check, never raised.

Whatever looks at a build (``freezekit check`` at its files, a test that runs it) answers with a :class:`Report`, and
everything that shows or writes one (:mod:`freezekit.check.formats`, :mod:`freezekit.check.page`) knows nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from freezekit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


class Level(str, Enum):
    """How bad a finding is. Only an error fails a check."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or worth knowing.

    Attributes:
        id: Stable id of the check, such as ``"FK102"``.
        level: How bad it is.
        message: A sentence that says what is wrong.
        file: Path of the file it is about: inside the bundle, or of the project; None for the whole.
        line: Line of that file, from 1, or None.
        advice: What to do about it.
    """

    id: str
    level: Level
    message: str
    file: str | None = None
    line: int | None = None
    advice: str = ""

    @property
    def place(self) -> str:
        """File and line, as far as they are known."""
        return (self.file or "") + (f":{self.line}" if self.file and self.line else "")


@dataclass(frozen=True)
class Rule:
    """What a stable id stands for.

    Attributes:
        id: The id.
        title: A few words.
        level: How bad a finding usually is.
        advice: What to do about one.
    """

    id: str
    title: str
    level: Level
    advice: str = ""


@dataclass(frozen=True)
class Graph:
    """One history, to be drawn.

    Attributes:
        name: What it is the history of.
        revisions: Each id with its parents and one line about it, parents first.
        heads: Ids that nothing descends from.
    """

    name: str
    revisions: tuple[tuple[str, tuple[str, ...], str], ...]
    heads: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """All that was found, and about what.

    Attributes:
        command: What looked: the name of the command.
        subject: What was looked at, as it was given.
        facts: What was learned about it, by name, in words.
        findings: What is wrong, the worst first.
        rules: What was looked for.
        graphs: The histories inside.
    """

    command: str
    subject: str
    facts: Mapping[str, str]
    findings: tuple[Finding, ...] = ()
    rules: tuple[Rule, ...] = ()
    graphs: tuple[Graph, ...] = field(default=(), repr=False)

    @property
    def counts(self) -> dict[str, int]:
        """How many findings there are of each level."""
        return {level.value: sum(one.level is level for one in self.findings) for level in Level}

    @property
    def is_failure(self) -> bool:
        """Whether there is an error among the findings."""
        return any(one.level is Level.ERROR for one in self.findings)


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return findings, each once: the worst first, then by id and place."""
    levels = list(Level)
    key = {one: (levels.index(one.level), one.id, one.file or "", one.line or 0, one.message) for one in findings}
    return tuple(sorted(key, key=key.__getitem__))


def is_selected(identifier: str, select: Sequence[str], ignore: Sequence[str]) -> bool:
    """Return whether a check counts: the longest prefix that matches its id decides; of two equals, ``ignore``."""
    wanted = max((len(prefix) for prefix in select if identifier.startswith(prefix)), default=-1)
    unwanted = max((len(prefix) for prefix in ignore if identifier.startswith(prefix)), default=-1)
    return wanted > unwanted


def require_known(prefixes: Iterable[str], rules: Iterable[Rule], where: str) -> None:
    """Refuse prefixes that no check has: a spelling error would silently switch a check off.

    Args:
        prefixes: What was given.
        rules: The checks there are.
        where: What they were given as, for the message.

    Raises:
        UsageError: Names the prefix.
    """
    ids = [rule.id for rule in rules]
    for prefix in prefixes:
        if not prefix or not any(one.startswith(prefix) for one in ids):
            raise UsageError(f"{where}: no check has an id that begins with {prefix!r}; they are {', '.join(ids)}")
