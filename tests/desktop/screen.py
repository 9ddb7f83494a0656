"""A screen of its own for a program with a window, and a person in front of it."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
import time
from typing import TYPE_CHECKING, Any

from accessible import Reader, Thing
from debian import install_missing
from Xlib import XK, X
from Xlib.display import Display
from Xlib.error import XError
from Xlib.ext import xtest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROGRAMS = {"Xvfb": "xvfb", "dbus-daemon": "dbus-daemon", "xkbcomp": "x11-xkb-utils"}
# What Qt's plug-in for X needs and does not bring along.
LIBRARIES = {
    "libxcb-cursor.so.0": "libxcb-cursor0",
    "libxcb-icccm.so.4": "libxcb-icccm4",
    "libxcb-image.so.0": "libxcb-image0",
    "libxcb-keysyms.so.1": "libxcb-keysyms1",
    "libxcb-render-util.so.0": "libxcb-render-util0",
    "libxcb-shape.so.0": "libxcb-shape0",
    "libxcb-xkb.so.1": "libxcb-xkb1",
    "libxkbcommon-x11.so.0": "libxkbcommon-x11-0",
    "libxcb-randr.so.0": "libxcb-randr0",
    "libxcb-render.so.0": "libxcb-render0",
    "libxcb-shm.so.0": "libxcb-shm0",
    "libxcb-sync.so.1": "libxcb-sync1",
    "libxcb-xfixes.so.0": "libxcb-xfixes0",
    "libX11-xcb.so.1": "libx11-xcb1",
    "libEGL.so.1": "libegl1",
    "libGL.so.1": "libgl1",
    "libdbus-1.so.3": "libdbus-1-3",
    "libfontconfig.so.1": "libfontconfig1",
    "libglib-2.0.so.0": "libglib2.0-0",
}
SIZE = (1280, 960)
WAIT_SECONDS = 60
_POLL_SECONDS = 0.03
_SHAKE_PIXELS = 20
_NAMES = {" ": "space", "\n": "Return", "/": "slash", ".": "period", "-": "minus", "_": "underscore", ",": "comma"}


class NoScreen(Exception):
    """This machine cannot show a window; the message says why."""


def install_screen() -> None:
    """Install what is missing, which only root on Debian can.

    Raises:
        NoScreen: Something is missing and cannot be installed.
    """
    try:
        install_missing(_missing)
    except (OSError, subprocess.SubprocessError) as error:
        raise NoScreen(str(error)) from error


def _missing() -> list[str]:
    """Return the packages of Debian that lack; libfontconfig1 brings letters along."""
    known = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=False).stdout
    programs = [package for program, package in PROGRAMS.items() if shutil.which(program) is None]
    return programs + [package for library, package in LIBRARIES.items() if library not in known]


@contextlib.contextmanager
def screen() -> Iterator[Person]:
    """Start an X server without a monitor and a session bus, and yield the person who sits there; both end after.

    Raises:
        NoScreen: The X server does not start.
    """
    with _started(["dbus-daemon", "--session", "--print-address=1", "--nofork"]) as address:
        reading, writing = os.pipe()
        # Qt's own dialogs are the same everywhere; keys and places are those of this server alone.
        server = ["Xvfb", "-displayfd", str(writing), "-screen", "0", f"{SIZE[0]}x{SIZE[1]}x24", "-nolisten", "tcp"]
        with subprocess.Popen(
            server, pass_fds=[writing], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            os.close(writing)
            try:
                with os.fdopen(reading) as number:
                    display = f":{number.readline().strip()}"
                if display == ":":
                    raise NoScreen("Xvfb did not start")
                with contextlib.closing(Person(display, address)) as person:
                    yield person
            finally:
                process.terminate()


@contextlib.contextmanager
def _started(command: list[str]) -> Iterator[str]:
    """Run a program, and yield the first line that it prints."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            yield (process.stdout.readline() if process.stdout else "").strip()
        finally:
            process.terminate()


class Person:
    """Sees what is on the screen, and uses keyboard and mouse; both are real events of the X server.

    Attributes:
        environment: What a program needs to be shown here.
    """

    def __init__(self, display: str, bus: str) -> None:
        self.environment = {
            "DISPLAY": display,
            "AT_SPI_BUS_ADDRESS": bus,
            "DBUS_SESSION_BUS_ADDRESS": bus,
            "QT_LINUX_ACCESSIBILITY_ALWAYS_ON": "1",
        }
        self._display = Display(display)
        self._reader = Reader(bus)

    def close(self) -> None:
        self._reader.close()
        self._display.close()

    def sees(self, role: str, name: str = "", *, text: str = "", is_enabled: bool | None = None) -> Thing | None:
        """Return the last thing of a role whose name and text contain these words, or None."""
        found = [
            thing
            for thing in self._reader.things()
            if thing.role == role
            and name in thing.name
            and text in thing.text
            and is_enabled in {None, thing.is_enabled}
        ]
        return found[-1] if found else None

    def finds(self, role: str, name: str = "", *, text: str = "", is_enabled: bool | None = None) -> Thing:
        """Look until there is such a thing."""
        return until(
            lambda: self.sees(role, name, text=text, is_enabled=is_enabled),
            lambda: f"no {role} {name or text!r}; there are {self.everything()}",
        )

    def misses(self, role: str, name: str = "") -> None:
        """Look until something is there, and no such thing any more."""

        def is_gone() -> bool:
            things = self._reader.things()
            return bool(things) and not any(thing.role == role and name in thing.name for thing in things)

        until(is_gone, lambda: f"{role} {name!r} is still there")

    def finds_nothing(self) -> None:
        """Look until the screen is empty."""
        until(lambda: not self.everything(), lambda: f"there are still {self.everything()}")

    def everything(self) -> list[tuple[str, str, str]]:
        """Return role, name and text of all there is."""
        return [(thing.role, thing.name, thing.text) for thing in self._reader.things() if thing.name or thing.text]

    def names(self, role: str) -> list[str]:
        """Return the names of all things of a role."""
        return [thing.name for thing in self._reader.things() if thing.role == role]

    def clicks(self, role: str, name: str = "") -> None:
        """Click on a thing, once it is there, rests and can be used."""
        self.points_at(self._finds_at_rest(role, name))
        for kind in (X.ButtonPress, X.ButtonRelease):
            self._input(kind, 1)

    def drags(self, start: str, end: str, *, until_it_says: str) -> None:
        """Press the button on one label, move to and fro on another, and let go once there is a label that says so."""
        here, there = self._finds_at_rest("label", start), self._finds_at_rest("label", end)
        self.points_at(here)
        self._input(X.ButtonPress, 1)
        # The target hears of a drag only while the mouse moves.
        steps = itertools.cycle(range(-_SHAKE_PIXELS, _SHAKE_PIXELS))

        def may_be_dropped() -> Thing | None:
            self._move(there.x + there.width // 2 + next(steps), there.y + there.height // 2)
            return self.sees("label", until_it_says)

        until(may_be_dropped, lambda: f"{start!r} may not be dropped on {end!r}")
        self._input(X.ButtonRelease, 1)

    def points_at(self, thing: Thing) -> None:
        """Move the mouse to the middle of a thing."""
        self._move(thing.x + thing.width // 2, thing.y + thing.height // 2)

    def presses(self, combination: str) -> None:
        """Press keys at once, such as ``"ctrl+o"`` or ``"Return"``, in the window that is on top."""
        self._focus_top()
        codes = [self._code(name)[0] for name in _key_names(combination)]
        for code in codes:
            self._input(X.KeyPress, code)
        for code in reversed(codes):
            self._input(X.KeyRelease, code)

    def enters(self, text: str) -> None:
        """Write a text, see it, and press Return."""
        self.types(text)
        self.finds("text", text=text)
        self.presses("Return")

    def types(self, text: str) -> None:
        """Write a text, letter by letter."""
        self._focus_top()
        shift = self._code("Shift_L")[0]
        for letter in text:
            code, is_shifted = self._code(_NAMES.get(letter, letter))
            for kind in (X.KeyPress, X.KeyRelease):
                if is_shifted and kind == X.KeyPress:
                    self._input(kind, shift)
                self._input(kind, code)
                if is_shifted and kind == X.KeyRelease:
                    self._input(kind, shift)

    def picture(self, thing: Thing) -> tuple[tuple[int, int], bytes]:
        """Return width and height, and the pixels, four bytes each (BGRX), of a part of the screen."""
        width, height = min(thing.width, SIZE[0] - thing.x), min(thing.height, SIZE[1] - thing.y)
        image: Any = self._display.screen().root.get_image(thing.x, thing.y, width, height, X.ZPixmap, 0xFFFFFFFF)
        return (width, height), bytes(image.data)

    def _code(self, name: str) -> tuple[int, bool]:
        """Return the code of a key, and whether it needs shift."""
        keysym = XK.string_to_keysym(name)
        code = self._display.keysym_to_keycode(keysym)
        if not code:
            raise ValueError(f"There is no key {name!r} on this keyboard.")
        return code, self._display.keycode_to_keysym(code, 0) != keysym

    def _move(self, x: int, y: int) -> None:
        xtest.fake_input(self._display, X.MotionNotify, x=x, y=y)
        self._display.sync()

    def _input(self, kind: int, detail: int) -> None:
        xtest.fake_input(self._display, kind, detail)
        self._display.sync()

    def _finds_at_rest(self, role: str, name: str) -> Thing:
        """Look until there is such a thing that can be used, and is where it was a look ago."""

        def at_rest() -> Thing | None:
            thing = self.sees(role, name, is_enabled=True)
            return thing if self._window_on_top() and thing == self.sees(role, name, is_enabled=True) else None

        return until(at_rest, lambda: f"no {role} {name!r} at rest; there are {self.everything()}")

    def _focus_top(self) -> None:
        """Give the keyboard to the window on top, as a window manager does, and wait until its program knows."""
        until(self._has_focus_on_top, lambda: f"no window takes the keys; there are {self._reader.windows()}")

    def _has_focus_on_top(self) -> bool:
        top = self._window_on_top()
        if top is None:
            return False
        window, thing = top
        if self._display.get_input_focus().focus != window:
            window.set_input_focus(X.RevertToParent, X.CurrentTime)
            self._display.sync()
        return thing.is_active

    def _window_on_top(self) -> tuple[Any, Thing] | None:
        """Return the window on top, for the X server and as its program says; None until both show the same windows."""
        told = {thing.place: thing for thing in self._reader.windows()}
        try:
            shown = list(self._windows())
        except XError:
            return None  # one was closed meanwhile
        managed = {place: window for window, place, is_managed in shown if is_managed}
        # What is not managed are menus and tips: programs tell of some.
        if not managed or not managed.keys() <= told.keys() <= {place for _, place, _ in shown}:
            return None
        place = list(managed)[-1]
        return managed[place], told[place]

    def _windows(self) -> Iterator[tuple[Any, tuple[int, int, int, int], bool]]:
        """Yield what the X server shows, the last one on top: windows, their places, and if a window manager cares."""
        for window in self._display.screen().root.query_tree().children:
            attributes = window.get_attributes()
            if attributes.map_state == X.IsViewable and attributes.win_class == X.InputOutput:
                at = window.get_geometry()
                yield window, (at.x, at.y, at.width, at.height), not attributes.override_redirect


def _key_names(combination: str) -> list[str]:
    names = {"ctrl": "Control_L", "shift": "Shift_L", "alt": "Alt_L"}
    return [names.get(name, name) for name in combination.split("+")]


def until(condition: Callable[[], Any], complaint: Callable[[], str]) -> Any:
    """Ask until the answer is yes, and return it."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not (answer := condition()):
        assert time.monotonic() < deadline, complaint()
        time.sleep(_POLL_SECONDS)
    return answer
