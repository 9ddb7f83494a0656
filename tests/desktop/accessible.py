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
_ENABLED, _SHOWING = 1 << 8, 1 << 25
_SECONDS = 10
_HAS_TEXT = {"text", "entry"}
# Nothing in them is worth a look.
_LEAVES = {"label", "button", "check box", "combo box", "list item", "text", "tree item", "menu item"}


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
    """

    role: str
    name: str
    text: str
    x: int
    y: int
    width: int
    height: int
    is_enabled: bool


class Reader:
    """Reads what the programs of one session bus show."""

    def __init__(self, address: str) -> None:
        self._bus = open_dbus_connection(address)

    def close(self) -> None:
        self._bus.close()

    def things(self) -> list[Thing]:
        """Everything that is shown now by all programs, windows first to last, each from the outside in."""
        found: list[Thing] = []
        for name in self._call("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "ListNames")[0]:
            if name.startswith(":") and name != self._bus.unique_name:
                try:
                    found += [thing for child in self._children(name, _ROOT) for thing in self._walk(*child)]
                except (Gone, TimeoutError):
                    continue  # no window yet, or closed while it was read
        return found

    def _walk(self, program: str, path: str) -> Iterator[Thing]:
        states = self._call(program, path, _ACCESSIBLE, "GetState")[0][0]
        if not states & _SHOWING:
            return
        # A button was called a push button before AT-SPI 2.52.
        role = self._call(program, path, _ACCESSIBLE, "GetRoleName")[0].removeprefix("push ")
        name = self._ask(Properties(DBusAddress(path, program, _ACCESSIBLE)).get("Name"))[0][1]
        place = self._call(program, path, _COMPONENT, "GetExtents", "u", (_ON_SCREEN,))[0]
        text = self._call(program, path, _TEXT, "GetText", "ii", (0, -1))[0] if role in _HAS_TEXT else ""
        yield Thing(role, name, text, *place, is_enabled=bool(states & _ENABLED))
        if role not in _LEAVES:
            for child in self._children(program, path):
                yield from self._walk(*child)

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


class Gone(Exception):
    """The program, or a part of its window, is not there any more."""
