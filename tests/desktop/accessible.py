"""What a window shows, as a screen reader is told it: AT-SPI over D-Bus, without any help of the program."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jeepney import DBusAddress, HeaderFields, MessageType, Properties, new_method_call
from jeepney.io.blocking import open_dbus_connection

if TYPE_CHECKING:
    from collections.abc import Iterator

_ACCESSIBLE, _COMPONENT, _TEXT = (f"org.a11y.atspi.{name}" for name in ("Accessible", "Component", "Text"))
_ROOT = "/org/a11y/atspi/accessible/root"
_ON_SCREEN = 0
_ACTIVE, _ENABLED, _SHOWING = 1 << 1, 1 << 8, 1 << 25
_SECONDS = 10
_HAS_TEXT = {"text", "entry"}
# Nothing in them is worth a look. A menu that is open is in the item that opens it, not a window of its own.
_LEAVES = {"label", "button", "check box", "combo box", "list item", "text", "tree item"}


@dataclass(frozen=True)
class Thing:
    """One thing on the screen.

    Attributes:
        role: What it is: ``"button"``, ``"label"``, ``"frame"`` …
        name: What it is called, or what it says.
        text: What is written in it, if one can write in it.
        x: Left edge on the screen, in pixels.
        y: Top edge.
        width: Width.
        height: Height.
        is_enabled: Whether it can be used.
        is_active: Whether it is the window that gets the keys.
    """

    role: str
    name: str
    text: str
    x: int
    y: int
    width: int
    height: int
    is_enabled: bool
    is_active: bool

    @property
    def place(self) -> tuple[int, int, int, int]:
        """Where it is on the screen, and its size."""
        return self.x, self.y, self.width, self.height


class Reader:
    """Reads what the programs of one session bus show."""

    def __init__(self, address: str) -> None:
        self._bus = open_dbus_connection(address)

    def close(self) -> None:
        self._bus.close()

    def things(self) -> list[Thing]:
        """Everything that is shown now by all programs, windows first to last, each from the outside in."""
        return [thing for program in self._programs() for thing in _present(self._inside(program, _ROOT))]

    def windows(self) -> list[Thing]:
        """The windows that are shown now by all programs, as these say."""
        return [thing for program in self._programs() for thing in _present(self._windows(program))]

    def _programs(self) -> list[str]:
        names = self._call("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "ListNames")[0]
        return [name for name in names if name.startswith(":") and name != self._bus.unique_name]

    def _windows(self, program: str) -> Iterator[Thing]:
        for child in self._children(program, _ROOT):
            yield from self._look(*child)

    def _inside(self, program: str, path: str) -> Iterator[Thing]:
        for child in self._children(program, path):
            for thing in self._look(*child):
                yield thing
                if thing.role not in _LEAVES:
                    yield from self._inside(*child)

    def _look(self, program: str, path: str) -> Iterator[Thing]:
        """Yield one thing, if it is shown."""
        states = self._call(program, path, _ACCESSIBLE, "GetState")[0][0]
        if not states & _SHOWING:
            return
        # A button was called a push button before AT-SPI 2.52.
        role = self._call(program, path, _ACCESSIBLE, "GetRoleName")[0].removeprefix("push ")
        name = self._ask(Properties(DBusAddress(path, program, _ACCESSIBLE)).get("Name"))[0][1]
        place = self._call(program, path, _COMPONENT, "GetExtents", "u", (_ON_SCREEN,))[0]
        text = self._call(program, path, _TEXT, "GetText", "ii", (0, -1))[0] if role in _HAS_TEXT else ""
        is_enabled, is_active = bool(states & _ENABLED), bool(states & _ACTIVE)
        yield Thing(role, name, text, *place, is_enabled=is_enabled, is_active=is_active)

    def _children(self, program: str, path: str) -> list[tuple[str, str]]:
        return list(self._call(program, path, _ACCESSIBLE, "GetChildren")[0])

    def _call(  # noqa: PLR0913, PLR0917 - what a method call of D-Bus is made of
        self, program: str, path: str, interface: str, method: str, signature: str | None = None, body: Any = ()
    ) -> Any:
        return self._ask(new_method_call(DBusAddress(path, program, interface), method, signature, body))

    def _ask(self, message: Any) -> Any:
        reply = self._bus.send_and_get_reply(message, timeout=_SECONDS)
        if reply.header.message_type is MessageType.error:
            raise Gone(reply.header.fields[HeaderFields.error_name])
        return reply.body


def _present(things: Iterator[Thing]) -> list[Thing]:
    """Return what a program shows; nothing if it has no window yet, or closed one while it was read."""
    try:
        return list(things)
    except (Gone, TimeoutError):
        return []


class Gone(Exception):
    """The program, or a part of its window, is not there any more."""
