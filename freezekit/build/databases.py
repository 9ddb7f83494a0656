"""Which modules a database needs in a bundle: its dialect, its driver, and what async ones run on.

SQLAlchemy imports all of them by name while it runs, so no freezer sees them.
"""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING

from freezekit.build.imports import Import

if TYPE_CHECKING:
    from collections.abc import Iterable

# The modules behind SQLAlchemy's driver names, where the two differ.
_DRIVER_MODULES = {
    "pysqlite": ("sqlite3",),
    "pysqlcipher": ("sqlcipher3",),
    "psycopg": ("psycopg", "psycopg_binary", "psycopg_c"),
    "psycopg_async": ("psycopg", "psycopg_binary", "psycopg_c"),
    "mysqldb": ("MySQLdb",),
    "mysqlconnector": ("mysql.connector",),
    "mariadbconnector": ("mariadb",),
    "aiomysql": ("aiomysql", "pymysql"),
    "cx_oracle": ("cx_Oracle",),
    "oracledb_async": ("oracledb",),
    "pyodbc": ("pyodbc",),
    "aioodbc": ("aioodbc", "pyodbc"),
}
_DEFAULT_DRIVERS = {
    "sqlite": ("pysqlite",),
    "postgresql": ("psycopg2", "psycopg"),
    "mysql": ("mysqldb",),
    "mariadb": ("mysqldb",),
    "oracle": ("cx_oracle", "oracledb"),
    "mssql": ("pyodbc",),
}
_DIALECTS = {"mariadb": "mysql"}
_ASYNC = ("sqlalchemy.ext.asyncio", "greenlet", "aiosqlite")


def database_imports(
    dialects: Iterable[str], drivers: Iterable[str], urls: Iterable[tuple[str, str]], *, is_async: bool = False
) -> list[Import]:
    """Return what databases need, as imports; SQLite is always among them.

    Args:
        dialects: Names of dialects, from the configuration.
        drivers: Names of drivers or of their modules, from the configuration.
        urls: Dialect and driver of URLs; those no dialect knows (``https``) are left out.
        is_async: Whether env.py uses an async engine.
    """
    needed = ("sqlite3", "_sqlite3", "sqlalchemy.dialects.sqlite", "alembic.ddl.sqlite")
    found = [Import(module, where="every SQLite database") for module in needed]
    for dialect in dialects:
        found += _dialect(dialect, "", where="dialects of [tool.freezekit]")
    for driver in drivers:
        found += _driver(driver, where="drivers of [tool.freezekit]", is_optional=False)
    for dialect, driver in sorted(set(urls)):
        if dialect in _DEFAULT_DRIVERS or _registered(dialect):
            found += _dialect(dialect, driver, where=f"a URL {dialect}{driver and '+' + driver}://")
    if is_async:
        found += [Import(module, where="an async env.py", is_optional=module == "aiosqlite") for module in _ASYNC]
    return list(dict.fromkeys(found))


def dialect_distributions(urls: Iterable[tuple[str, str]], dialects: Iterable[str]) -> set[str]:
    """Return the distributions whose entry points SQLAlchemy needs to find those dialects."""
    names = {dialect for dialect, _ in urls} | set(dialects)
    points = [point for name in names for point in _registered(name)]
    return {point.dist.name for point in points if point.dist is not None}


def _dialect(dialect: str, driver: str, where: str) -> list[Import]:
    registered = _registered(dialect)
    found = [Import(point.module, where=where) for point in registered]
    if not registered:
        module = f"sqlalchemy.dialects.{_DIALECTS.get(dialect, dialect)}"
        found = [
            Import(module, where=where),
            Import(module.replace("sqlalchemy.dialects", "alembic.ddl"), where=where, is_optional=True),
        ]
    for name in (driver,) if driver else _DEFAULT_DRIVERS.get(dialect, ()):
        found += _driver(name, where=where, is_optional=not driver)
    return found


def _driver(name: str, where: str, *, is_optional: bool) -> list[Import]:
    first, *others = _DRIVER_MODULES.get(name, (name,))
    return [
        Import(first, where=where, is_optional=is_optional),
        *(Import(module, where=where, is_optional=True) for module in others),
    ]


def _registered(dialect: str) -> list[metadata.EntryPoint]:
    points = metadata.entry_points(group="sqlalchemy.dialects")
    return [point for point in points if point.name.partition(".")[0] == dialect]
