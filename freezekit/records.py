"""Frozen dataclasses without the price of importing them.

A program that only asks whether its document is current should not wait for :mod:`dataclasses`, which imports
:mod:`inspect` and a dozen modules more: several times what the question itself takes. Type checkers see
``dataclass(frozen=True)``; at run time this decorator makes a class that behaves the same, and that is a real dataclass
for ``dataclasses.fields``, ``asdict`` and ``replace`` as soon as somebody asks.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    from typing_extensions import dataclass_transform

    T = TypeVar("T")

    @dataclass_transform(frozen_default=True)
    def record(cls: type[T]) -> type[T]:
        """Make a class a frozen dataclass."""
        return cls


_ASKED = ("__dataclass_fields__", "__dataclass_params__")


class _Asked:
    """``__dataclass_fields__`` or ``__dataclass_params__`` of a record, made when one of them is first asked for."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, _instance: object, owner: type) -> Any:
        from dataclasses import dataclass, field

        body: dict[str, Any] = {"__annotations__": owner.__annotations__, "__module__": owner.__module__}
        for name, default in owner.__dict__["__record_defaults__"].items():
            body[name] = field(default_factory=dict) if default == {} else default
        real: Any = dataclass(frozen=True)(type(owner.__name__, (), body))
        for name in _ASKED:
            setattr(owner, name, getattr(real, name))
        return getattr(owner, self._name)


def _init(self: object, *values: object, **named: object) -> None:
    cls = type(self)
    names = cls.__match_args__  # type: ignore[attr-defined]
    if len(values) == len(names) and not named:
        self.__dict__.update(zip(names, values, strict=True))
        return
    given = dict(zip(names, values, strict=False))
    if len(values) > len(names) or (given and not named.keys().isdisjoint(given)) or not named.keys() <= set(names):
        raise TypeError(f"{cls.__name__} takes {', '.join(names)}; given were {values} and {', '.join(named)}")
    found = {**cls.__dict__["__record_defaults__"], **given, **named}
    if len(found) < len(names):
        raise TypeError(f"{cls.__name__} needs {', '.join(name for name in names if name not in found)}")
    self.__dict__.update(found)


def _refuse(self: object, name: str, *_value: object) -> None:
    raise AttributeError(f"cannot assign to or delete {name!r}: {type(self).__name__} is frozen")


def _values(self: object) -> tuple[object, ...]:
    return tuple(self.__dict__[name] for name in type(self).__match_args__)  # type: ignore[attr-defined]


def _equals(self: object, other: object) -> object:
    return _values(self) == _values(other) if type(self) is type(other) else NotImplemented


def _hash(self: object) -> int:
    return hash(_values(self))


def _repr(self: object) -> str:
    pairs = zip(type(self).__match_args__, _values(self), strict=True)  # type: ignore[attr-defined]
    return f"{type(self).__qualname__}({', '.join(f'{name}={value!r}' for name, value in pairs)})"


if not TYPE_CHECKING:

    def record(cls: type) -> type:
        """Make a class a frozen dataclass, all but its fields now, these when they are first asked for."""
        names = tuple(cls.__annotations__)
        cls.__match_args__ = names
        cls.__record_defaults__ = {name: cls.__dict__[name] for name in names if name in cls.__dict__}
        for name in cls.__record_defaults__:
            delattr(cls, name)
        cls.__init__, cls.__eq__ = _init, _equals
        if "__hash__" not in cls.__dict__:
            cls.__hash__ = _hash
        cls.__setattr__ = cls.__delattr__ = _refuse
        if "__repr__" not in cls.__dict__:
            cls.__repr__ = _repr
        for name in _ASKED:
            setattr(cls, name, _Asked(name))
        return cls
