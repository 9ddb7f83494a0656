"""Leave the host's process as it was: env.py was written for the alembic command, which owns its process."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_CONFIGURING = ("fileConfig", "dictConfig")


@contextlib.contextmanager
def undisturbed(prepend_sys_path: Sequence[str] = ()) -> Iterator[None]:
    """Run scripts so that logging, working directory, ``sys.path`` and ``sys.argv`` are as before afterwards.

    Inside, ``logging.config`` configures nothing when called from this thread, compiled Python is not written, and the
    given folders come first on ``sys.path``.

    Args:
        prepend_sys_path: Absolute folders, as ``prepend_sys_path`` of a source tree's alembic.ini names them.
    """
    with _process_state(), _logging_kept():
        sys.path[:0] = prepend_sys_path
        sys.dont_write_bytecode = True
        yield


@contextlib.contextmanager
def _process_state() -> Iterator[None]:
    lists = (sys.path, sys.argv)
    contents, bytecode = [list(one) for one in lists], sys.dont_write_bytecode
    folder = _working_directory()
    try:
        yield
    finally:
        sys.path, sys.argv = lists
        sys.path[:], sys.argv[:] = contents
        sys.dont_write_bytecode = bytecode
        if folder is not None and _working_directory() != folder:
            os.chdir(folder)


def _working_directory() -> str | None:
    try:
        return os.getcwd()
    except OSError:
        return None


@contextlib.contextmanager
def _logging_kept() -> Iterator[None]:
    found = list(logging.root.manager.loggerDict.values())
    loggers = [logging.root, *(one for one in found if isinstance(one, logging.Logger))]
    kept = [(one, one.level, one.disabled, one.propagate, one.handlers[:], one.filters[:]) for one in loggers]
    threshold = logging.root.manager.disable
    with _configuring_nothing(), _handlers_out_of_reach():
        try:
            yield
        finally:
            if logging.root.manager.disable != threshold:
                logging.disable(threshold)
            for logger, level, disabled, propagate, handlers, filters in kept:
                logger.handlers[:], logger.filters[:] = handlers, filters
                logger.disabled, logger.propagate = disabled, propagate
                if logger.level != level:  # each time makes every logger think again
                    logger.setLevel(level)


@contextlib.contextmanager
def _handlers_out_of_reach() -> Iterator[None]:
    """Keep the host's handlers from being closed: any configuring of logging closes all that logging knows of."""
    known, listed = logging._handlers, logging._handlerList  # type: ignore[attr-defined]  # noqa: SLF001 - no other way
    names, handlers = dict(known), listed[:]
    known.clear()
    listed.clear()
    try:
        yield
    finally:
        known.update(names)
        listed[:0] = handlers


@contextlib.contextmanager
def _configuring_nothing() -> Iterator[None]:
    """Make ``logging.config`` do nothing for this thread: what it has closed could not be opened again."""
    try:
        import logging.config as module
    except ImportError:  # a bundle without it: env.py will say so itself, by name
        yield
        return
    thread = threading.get_ident()
    original: dict[str, Callable[..., Any]] = {name: getattr(module, name) for name in _CONFIGURING}

    def passing(name: str) -> Callable[..., Any]:
        def configure(*args: object, **kwargs: object) -> object:
            return None if threading.get_ident() == thread else original[name](*args, **kwargs)

        return configure

    for name in _CONFIGURING:
        setattr(module, name, passing(name))
    try:
        yield
    finally:
        for name in _CONFIGURING:
            setattr(module, name, original[name])
