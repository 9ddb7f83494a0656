"""The program that is measured as a whole, from source and frozen; ``cases`` takes the measurements inside it.

Kept tiny: from source it is compiled at each start, which would count for everyone alike and hide the differences.
"""

import sys


def floor(database: str, _location: str, _folder: str) -> None:
    """Ask SQLite alone."""
    import sqlite3

    connection = sqlite3.connect(database)
    connection.execute("SELECT version_num FROM alembic_version").fetchall()
    connection.close()


def with_freezekit(database: str, location: str, _folder: str) -> None:
    """Ask freezekit whether the database is current."""
    import freezekit

    if freezekit.locate(location).status(database).pending:
        sys.exit("the database is not current")


def with_alembic(database: str, _location: str, folder: str) -> None:
    """Upgrade with Alembic, which finds nothing to do."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", folder)
    config.set_main_option("sqlalchemy.url", f"sqlite:///{database}")
    command.upgrade(config, "head")


def main() -> None:
    """Do one thing and end, or measure one case."""
    what, *arguments = sys.argv[1:]
    if what == "case":
        import cases

        sys.stdout.write(cases.measured(*arguments))
        return
    if what != "nothing":
        {"floor": floor, "freezekit": with_freezekit, "alembic": with_alembic}[what](*arguments[:3])
    if arguments[3:] == ["--peak"]:
        with open("/proc/self/status", encoding="ascii") as status:
            kilobytes = next(line.split()[1] for line in status if line.startswith("VmHWM"))
        sys.stdout.write(f"{int(kilobytes) * 1024}\n")


if __name__ == "__main__":
    main()
