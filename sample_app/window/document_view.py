"""The notes of a document: notebooks on the left, one note on the right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PySide6.QtCore import Qt
from PySide6.QtGui import QColor, QIcon, QPixmap
from PySide6.QtWidgets import (
    QComboBox,
    QLabel,
    QPlainTextEdit,
    QSplitter,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

_ALL_TAGS = "All tags"
_NOTE = Qt.ItemDataRole.UserRole
_ICON = 12


class DocumentView(QSplitter):
    """Shows what a document holds; changes nothing."""

    def __init__(self) -> None:
        super().__init__(Qt.Orientation.Horizontal)
        self._contents: dict[str, Any] = {"notebooks": [], "tags": []}
        self._tags = QComboBox()
        self._tags.setAccessibleName("Show notes with the tag")
        self._tags.currentIndexChanged.connect(self._filter)
        self._tree = QTreeWidget()
        self._tree.setHeaderHidden(True)
        self._tree.setAccessibleName("Notes")
        self._tree.currentItemChanged.connect(lambda item, _before: self._show(item))
        left = QWidget()
        column = QVBoxLayout(left)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self._tags)
        column.addWidget(self._tree)
        self.addWidget(left)
        self.addWidget(self._note_panel())
        self.setSizes([300, 560])
        self.setChildrenCollapsible(False)

    def _note_panel(self) -> QWidget:
        self._title = QLabel(wordWrap=True, textFormat=Qt.TextFormat.PlainText)
        font = self._title.font()
        font.setPointSizeF(font.pointSizeF() * 1.5)
        font.setBold(True)
        self._title.setFont(font)
        self._facts = QLabel(wordWrap=True, textFormat=Qt.TextFormat.PlainText)
        self._body = QPlainTextEdit(readOnly=True)
        self._body.setFrameShape(QPlainTextEdit.Shape.NoFrame)
        self._body.setAccessibleName("Note")
        self._body.viewport().setAcceptDrops(False)
        self._attachments = QLabel(wordWrap=True, textFormat=Qt.TextFormat.PlainText)
        panel = QWidget()
        column = QVBoxLayout(panel)
        for widget in (self._title, self._facts):
            column.addWidget(widget)
        column.addWidget(self._body, 1)
        column.addWidget(self._attachments)
        return panel

    def show_contents(self, contents: dict[str, Any], *, select: str | None = None) -> None:
        """Show a document.

        Args:
            contents: What ``documents.contents`` returns.
            select: The title of the note to show; the first note if None.
        """
        self._contents = contents
        self._tags.blockSignals(True)  # noqa: FBT003 - the signature is Qt's
        self._tags.clear()
        self._tags.addItems([_ALL_TAGS, *self.used_tags()])
        self._tags.blockSignals(False)  # noqa: FBT003
        self._fill_tree()
        self._select(select)
        self._tree.setFocus()

    def _select(self, title: str | None = None) -> None:
        """Show the first note, or the newest with a title."""
        notes = [item for item in self._note_items() if title in {None, item.data(0, _NOTE)["title"]}]
        if notes:
            self._tree.setCurrentItem(notes[-1 if title else 0])
        else:
            self._show(None)

    def used_tags(self) -> list[str]:
        """Return the tags that notes have, sorted."""
        return sorted({tag for _, note in self._notes() for tag in note["tags"]}, key=str.casefold)

    def notebooks(self) -> list[str]:
        """Return the names of the notebooks, in their order."""
        return [notebook["name"] for notebook in self._contents["notebooks"]]

    def tag(self) -> str | None:
        """Return the tag whose notes are shown; None for all."""
        return self._tags.currentText() if self._tags.currentIndex() > 0 else None

    def summary(self) -> str:
        """Return how much there is, in a line."""
        return f"{_count(len(list(self._notes())), 'note')} in {_count(len(self.notebooks()), 'notebook')}"

    def _notes(self) -> Iterator[tuple[str, dict[str, Any]]]:
        for notebook in self._contents["notebooks"]:
            for note in notebook["notes"]:
                yield notebook["name"], note

    def _filter(self) -> None:
        self._fill_tree()
        self._select()

    def _fill_tree(self) -> None:
        tag = self.tag()
        self._tree.clear()
        for notebook in self._contents["notebooks"]:
            notes = [note for note in notebook["notes"] if tag is None or tag in note["tags"]]
            if tag is not None and not notes:
                continue
            parent = QTreeWidgetItem(self._tree, [notebook["name"]])
            parent.setIcon(0, _colour_icon(notebook["colour"]))
            parent.setExpanded(True)
            for note in notes:
                item = QTreeWidgetItem(parent, [("★ " if note["pinned"] else "") + (note["title"] or "Untitled")])
                item.setData(0, _NOTE, note)

    def _note_items(self) -> list[QTreeWidgetItem]:
        items = self._tree.findItems("*", Qt.MatchFlag.MatchWildcard | Qt.MatchFlag.MatchRecursive)
        return [item for item in items if item.data(0, _NOTE) is not None]

    def _show(self, item: QTreeWidgetItem | None) -> None:
        note: dict[str, Any] | None = item.data(0, _NOTE) if item is not None else None
        self._title.setText("" if note is None else note["title"] or "Untitled")
        self._facts.setText("" if note is None else _facts(note))
        self._body.setPlainText("" if note is None else note["body"] or "")
        files = [attachment["file_name"] for attachment in note["attachments"]] if note else []
        self._attachments.setText(f"Attached: {', '.join(files)}" if files else "")
        self._attachments.setVisible(bool(files))


def _facts(note: dict[str, Any]) -> str:
    facts = [note["written_on"], _count(note["word_count"], "word"), " ".join(f"#{tag}" for tag in note["tags"])]
    return " · ".join(fact for fact in facts if fact)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _colour_icon(colour: str | None) -> QIcon:
    pixmap = QPixmap(_ICON, _ICON)
    pixmap.fill(QColor(colour) if colour else Qt.GlobalColor.transparent)
    return QIcon(pixmap)
