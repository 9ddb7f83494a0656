"""The report about a fleet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from freezekit.runtime.fleet.records import CURRENT, DUPLICATE, FAILED, LEFT, UPGRADED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from freezekit.runtime.fleet.ledger import Ledger
    from freezekit.runtime.fleet.records import Outcome


class FleetReport:
    """What became of each database of a fleet; iterating yields every outcome, in the order in which they came.

    The outcomes are kept in a private temporary file if they are many, so a report takes no memory to speak of.

    Attributes:
        seconds: How long the whole call took.
    """

    def __init__(self, ledger: Ledger, seconds: float) -> None:
        self._ledger = ledger
        self._counts = ledger.counts()
        self.seconds = seconds

    def __iter__(self) -> Iterator[Outcome]:
        return self._ledger.outcomes()

    def __len__(self) -> int:
        return sum(self._counts.values())

    def __repr__(self) -> str:
        return f"<FleetReport of {len(self)}: {', '.join(f'{n} {result}' for result, n in self.counts.items() if n)}>"

    @property
    def counts(self) -> dict[str, int]:
        """How many databases were upgraded, current, failed, left and duplicate, by these words."""
        return {result: self._counts.get(result, 0) for result in (UPGRADED, CURRENT, FAILED, LEFT, DUPLICATE)}

    @property
    def ok(self) -> bool:
        """Whether every database is at head now; none failed and none was left."""
        return not (self._counts.get(FAILED) or self._counts.get(LEFT))

    @property
    def failures(self) -> Iterator[Outcome]:
        """The outcomes of the databases that failed or were left."""
        return self._ledger.outcomes((FAILED, LEFT))
