"""The names of :mod:`freezekit.runtime.fleet`, imported when one of them is first used.

Not by an import statement, which freezers would follow: a program that names none of them does not need them. The hooks
of freezekit ship them where they are named. Type checkers read the stub beside this file.
"""


def __getattr__(name: str) -> object:
    from importlib import import_module

    return getattr(import_module("freezekit.runtime.fleet"), name)
