"""Which documents were open last; remembered from one start of the program to the next."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import QSettings

_KEY = "recent"
_KEPT = 8


def recent() -> list[Path]:
    """Return the documents that were opened last and are still there, newest first."""
    return [path for path in map(Path, _stored()) if path.is_file()]


def remember(path: Path) -> None:
    """Put a document first."""
    others = [other for other in _stored() if other != str(path)]
    _settings().setValue(_KEY, [str(path), *others][:_KEPT])


def forget() -> None:
    """Begin anew; the documents themselves stay."""
    _settings().remove(_KEY)


def _stored() -> list[str]:
    value = _settings().value(_KEY)
    if isinstance(value, str):  # a list of one is stored like a plain value
        return [value]
    return [str(one) for one in value] if isinstance(value, list) else []


def _settings() -> QSettings:
    return QSettings(QSettings.Format.IniFormat, QSettings.Scope.UserScope, "freezekit", "sample_app")
