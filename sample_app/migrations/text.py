"""Text helpers of the migrations: kept as they were when the migrations were written."""

from __future__ import annotations

import re

_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3]|[^\W\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3]+")


def word_count(text: str | None) -> int:
    """Return how many words a text has; a kana, a CJK ideograph or a hangul syllable is a word of its own."""
    return len(_WORD.findall(text or ""))


def unused(name: str, taken: set[str], separator: str) -> str:
    """Return the name, with the first free number appended if it is taken, and take it."""
    free, number = name, 1
    while free in taken:
        number += 1
        free = f"{name}{separator}{number}"
    taken.add(free)
    return free
