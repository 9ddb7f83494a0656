"""How times are taken: side by side, interleaved, after a warm-up, with medians and quartiles."""

from __future__ import annotations

import gc
import os
import statistics
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_FEWEST_ROUNDS = 5


@dataclass(frozen=True)
class Effort:
    """How much time one comparison may take.

    Attributes:
        seconds: No further round begins after this many.
        rounds: The most rounds.
    """

    seconds: float
    rounds: int

    def turns(self) -> Iterator[int]:
        """Yield the number of each round: a few at least, then as many as fit."""
        started = time.perf_counter()
        for turn in range(self.rounds):
            if turn >= _FEWEST_ROUNDS and time.perf_counter() - started > self.seconds:
                return
            yield turn


@dataclass(frozen=True)
class Summary:
    """Median and quartiles of a series of measurements."""

    median: float
    low: float
    high: float
    count: int


def summary(samples: Sequence[float]) -> Summary:
    """Return median and quartiles."""
    if len(samples) == 1:
        return Summary(samples[0], samples[0], samples[0], 1)
    low, median, high = statistics.quantiles(samples, n=4, method="inclusive")
    return Summary(median, low, high, len(samples))


def interleaved(candidates: Mapping[str, Callable[[], float]], effort: Effort) -> dict[str, list[float]]:
    """Measure candidates in turn, A B C A B C, so that whatever disturbs the machine disturbs all of them.

    Args:
        candidates: Each does its work once, and returns what it measured; it leaves out its own preparation.
        effort: When to stop.

    Returns:
        The measurements of each, without those of the first round, which only warms up.
    """
    samples: dict[str, list[float]] = {name: [] for name in candidates}
    for candidate in candidates.values():
        candidate()
    gc.collect()
    gc.freeze()  # what is there to stay; collecting before each measurement is then quick
    for _ in effort.turns():
        for name, candidate in candidates.items():
            gc.collect()
            samples[name].append(candidate())
    return samples


def seconds(work: Callable[[], object]) -> float:
    """Return how long some work takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


@dataclass(frozen=True)
class Command:
    """A program that is started to be measured as a whole."""

    words: tuple[str, ...]
    environment: Mapping[str, str]

    def output(self, *more: str) -> str:
        """Run it, and return what it printed.

        Raises:
            subprocess.CalledProcessError: It failed; what it said went to standard error.
        """
        environment = {**os.environ, **self.environment}
        result = subprocess.run([*self.words, *more], env=environment, stdout=subprocess.PIPE, text=True, check=True)
        return result.stdout

    def seconds(self) -> float:
        """Return how long it takes from its start to its end."""
        return seconds(self.output)

    def peak_bytes(self) -> float:
        """Return how much memory it needed; its parent's figure would count what the parent held when it forked."""
        return float(self.output("--peak").split()[-1])
