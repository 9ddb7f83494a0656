"""What the program derives from a note's text."""

from __future__ import annotations

import re
import unicodedata

# A kana, a CJK ideograph or a hangul syllable counts as a word of its own; so it has since release 2.0.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3]|[^\W\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3]+")


def count_words(text: str | None) -> int:
    """Return how many words a text has; 0 for no text."""
    return len(_WORD.findall(text or ""))


def slug(title: str, taken: set[str]) -> str:
    """Return a short ASCII name for a title that is not among the names ``taken``."""
    ascii_title = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode("ascii")
    stem = re.sub(r"[^a-z0-9_-]+", "-", ascii_title.lower()).strip("-") or "note"
    name, number = stem, 1
    while name in taken:
        number += 1
        name = f"{stem}-{number}"
    return name
