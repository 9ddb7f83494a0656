"""The small questions: what the new note says, which tag a subset has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PySide6.QtWidgets import (
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QFormLayout,
    QLineEdit,
    QPlainTextEdit,
    QVBoxLayout,
    QWidget,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

_Button = QDialogButtonBox.StandardButton


class NoteDialog(QDialog):
    """Asks for a new note; it can be accepted once it has a notebook and a title."""

    def __init__(self, parent: QWidget, notebooks: Sequence[str]) -> None:
        super().__init__(parent)
        self.setWindowTitle("Add a Note")
        self.resize(460, 340)
        self._notebook = QComboBox(editable=True)
        self._notebook.addItems(list(notebooks))
        self._title = QLineEdit(maxLength=200)
        self._tags = QLineEdit(placeholderText="separated by commas")
        self._body = QPlainTextEdit(tabChangesFocus=True)
        self._buttons = _buttons(self, "Add")
        form = QFormLayout()
        for label, field in (
            ("&Title", self._title),
            ("&Notebook", self._notebook),
            ("Ta&gs", self._tags),
            ("T&ext", self._body),
        ):
            form.addRow(label, field)
        layout = QVBoxLayout(self)
        layout.addLayout(form)
        layout.addWidget(self._buttons)
        self._title.textChanged.connect(self._check)
        self._notebook.editTextChanged.connect(self._check)
        self._check()

    def note(self) -> dict[str, Any]:
        """Return the note as arguments of ``documents.add``."""
        return {
            "notebook": self._notebook.currentText().strip(),
            "title": self._title.text().strip(),
            "body": self._body.toPlainText() or None,
            "tags": [tag.strip() for tag in self._tags.text().split(",") if tag.strip()],
        }

    def _check(self) -> None:
        note = self.note()
        self._buttons.button(_Button.Ok).setEnabled(bool(note["title"] and note["notebook"]))


class SubsetDialog(QDialog):
    """Asks for the tag whose notes go to a new document."""

    def __init__(self, parent: QWidget, tags: Sequence[str], current: str | None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Save a Subset")
        self._tag = QComboBox()
        self._tag.addItems(list(tags))
        self._tag.setCurrentText(current or "")
        form = QFormLayout()
        form.addRow("Notes with the &tag", self._tag)
        layout = QVBoxLayout(self)
        layout.addLayout(form)
        layout.addWidget(_buttons(self, "Save As…"))

    def tag(self) -> str:
        """Return the chosen tag."""
        return self._tag.currentText()


def _buttons(dialog: QDialog, accept: str) -> QDialogButtonBox:
    buttons = QDialogButtonBox(_Button.Ok | _Button.Cancel)
    buttons.button(_Button.Ok).setText(accept)
    buttons.accepted.connect(dialog.accept)
    buttons.rejected.connect(dialog.reject)
    dialog.finished.connect(dialog.deleteLater)
    return buttons
