"""Histories that nobody here wrote, and one that holds the traps of twelve others, against plain Alembic."""

from __future__ import annotations

import importlib.util
import shutil
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pytest
from projects import (
    CXFREEZE,
    PYINSTALLER,
    Project,
    Workshop,
    manifests,
    migrated,
    plain_upgrade,
    program,
    revision,
    shipped,
    stock_env,
    without_site_packages,
    write,
)
from sample_data import columns, content

if TYPE_CHECKING:
    from bundles import Bundle, HiddenSource

pytestmark = pytest.mark.frozen

FREEZERS = ("cx_Freeze", "PyInstaller")


@pytest.fixture(scope="session")
def workshop(run_folder: Path, hidden_source: HiddenSource) -> Workshop:
    return Workshop(run_folder, hidden_source)


def frozen_with(freezer: str, workshop: Workshop, name: str, files: dict[str, str], script: str = "app.py") -> Bundle:
    """Freeze a project with no option about migrations; the bundle runs without source and site-packages."""
    command, built = (CXFREEZE, "--silent", "--script", script, "--target-dir", "frozen"), "frozen"
    if freezer == "PyInstaller":
        command, built = (PYINSTALLER, "--noconfirm", "--log-level=WARN", script), "dist/app"
    return without_site_packages(workshop.freeze(Project(f"{name} with {freezer}", files, command, built)))


def same(one: Path, other: Path) -> bool:
    """Compare all rows of all tables, the version tables included, and the names of all columns."""
    assert content(one) == content(other)
    return columns(one) == columns(other)


class TestOptuna:
    """The history of optuna, reached only by its name: the program imports nothing of it."""

    LOCATION = "optuna:storages/_rdb/alembic"
    AT = ("v0.9.0.a", "v1.3.0.a", "v2.6.0.a", "v3.0.0.b")

    # At v0.9.0.a: three trials, with values that the data migrations of later revisions take apart.
    ROWS = """
        INSERT INTO studies VALUES (1, 'a study', 'MINIMIZE'), (2, 'étude', 'MAXIMIZE');
        INSERT INTO version_info VALUES (1, 12, '0.9.0');
        INSERT INTO study_user_attributes VALUES (1, 1, 'who', '"me"');
        INSERT INTO trials VALUES
            (1, 1, 'COMPLETE', 0.5, '2019-03-12 12:30:31', '2019-03-12 12:31:00'),
            (2, 1, 'COMPLETE', 3.4028234663852886e38, NULL, NULL),
            (3, 2, 'PRUNED', NULL, NULL, NULL);
        INSERT INTO trial_params VALUES
            (1, 1, 'x', 2.0, '{"name": "UniformDistribution", "attributes": {"low": 0.0, "high": 4.0}}'),
            (2, 3, 'y', 8.0, '{"name": "LogUniformDistribution", "attributes": {"low": 1.0, "high": 64.0}}');
        INSERT INTO trial_system_attributes VALUES (1, 1, '_number', '0'), (2, 2, '_number', '1');
        INSERT INTO trial_user_attributes VALUES (1, 1, 'note', '"the first"');
        INSERT INTO trial_values VALUES (1, 1, 0, 0.75), (2, 1, 1, -3.4028234663852886e38), (3, 2, 0, 1e20);
    """

    @pytest.fixture(params=FREEZERS)
    def bundle(self, request: pytest.FixtureRequest, workshop: Workshop) -> Bundle:
        return frozen_with(request.param, workshop, "optuna", {"app.py": program(repr(self.LOCATION))})

    @staticmethod
    def ini() -> Path:
        spec = importlib.util.find_spec("optuna")
        assert spec is not None
        assert spec.origin is not None
        return Path(spec.origin).parent / "storages" / "_rdb" / "alembic.ini"

    def test_a_new_database_is_as_plain_alembic_makes_it(self, bundle: Bundle, tmp_path: Path) -> None:
        printed = migrated(bundle, tmp_path / "new.db")
        assert (printed["applied"][0], printed["applied"][-1]) == ("v0.9.0.a", printed["heads"][0])
        assert same(tmp_path / "new.db", plain_upgrade(self.ini(), tmp_path / "plain.db"))

    @pytest.mark.parametrize("at", AT)
    def test_a_database_at_an_old_revision_is_upgraded_as_plain_alembic_would(
        self, bundle: Bundle, at: str, tmp_path: Path
    ) -> None:
        """With rows that every data migration has something to do with."""
        old = plain_upgrade(self.ini(), tmp_path / "old.db", self.AT[0])
        with closing(sqlite3.connect(old)) as connection:
            connection.executescript(self.ROWS)
        plain_upgrade(self.ini(), old, at)
        plain = plain_upgrade(self.ini(), Path(shutil.copy(old, tmp_path / "plain.db")))
        applied = migrated(bundle, old)["applied"]
        assert at not in applied
        assert applied
        assert same(old, plain)
        assert len(content(old)["trials"]) == 3


PASSWORD = "s3cret-Pa55word"

INI = f"""\
[DEFAULT]
script_location = shop:db
prepend_sys_path = src
path_separator = os
sqlalchemy.url = postgresql://grocer-of-old:{PASSWORD}@db.grocer.example/shop

[goods]
version_locations = %(here)s/src/shop/db/goods{":" if sys.platform != "win32" else ";"}%(here)s/src/more goods
recursive_version_locations = true

[audit]
version_locations = src/shop/db/audit
version_table = audit_version

[events]
script_location = %(here)s/src/shop/events
sqlalchemy.url = sqlite+aiosqlite:///events.db

[loggers]
keys = root

[handlers]
keys = console

[formatters]
keys =

[logger_root]
level = WARNING
handlers = console

[handler_console]
class = StreamHandler
args = (sys.stderr,)
"""

MAIN = """\
def main():
    from shop.commands import upgrade
    upgrade()


if __name__ == "__main__":
    main()
"""

COMMANDS = """\
import json
import sys

import freezekit

CHAINS = {
    "goods": lambda: freezekit.locate("shop:db", section="goods"),
    "audit": lambda: freezekit.locate("shop:db", section="audit"),
    "events": lambda: freezekit.locate("shop:events", section="events"),
}


def upgrade():
    chain, database = sys.argv[1:]
    migrations = CHAINS[chain]()
    report = migrations.upgrade(database)
    print(json.dumps({"applied": report.applied, "heads": migrations.heads, "current": report.heads}))
"""

# The stock env.py with what people add: a helper module, a version table for each section, a file beside it.
ENV = (
    stock_env()
    .replace("from alembic import context", "from alembic import context\n\nfrom shop.db.naming import convention")
    .replace(
        "target_metadata=target_metadata",
        'target_metadata=target_metadata, version_table=config.get_main_option("version_table", "alembic_version")',
    )
    + "\nassert convention()['pk']\n"
)

SEED_SQL = """\
from pathlib import Path
for statement in Path(__file__).with_name("seed.sql").read_text(encoding="utf-8").split(";"):
    if statement.strip():
        op.execute(statement)
"""

SEED_JSON = """\
import json, os
with open(os.path.join(os.path.dirname(__file__), os.pardir, "data", "prices.json"), encoding="utf-8") as file:
    for name, price in json.load(file).items():
        op.execute(sa.text("UPDATE goods SET price = :price WHERE name = :name").bindparams(name=name, price=price))
"""

# Data migrations are found by walking a folder, and imported by names that no scan of imports can see.
JOBS = """\
import importlib, os, pkgutil
folder = os.path.join(os.path.dirname(__file__), os.pardir, os.pardir, "jobs")
for module in pkgutil.iter_modules([folder]):
    job = importlib.import_module(".".join(["shop", "db", "jobs", module.name]))
    job.run(op)
"""

DELAYED = """\
import colorsys
import inflection
shade = colorsys.rgb_to_hsv(0.2, 0.4, 0.6)[0]
word = inflection.pluralize("shade")
op.execute(sa.text("INSERT INTO goods (name, price) VALUES (:w, :s)").bindparams(w=word, s=round(shade, 3)))
"""

ENTRY_POINT = """\
from importlib.metadata import entry_points
(point,) = entry_points(group="babel.extractors", name="mako")
op.execute(sa.text("INSERT INTO goods (name, price) VALUES (:w, 0)").bindparams(w=point.value))
"""

CREATE = "op.create_table('goods', sa.Column('name', sa.String, primary_key=True), sa.Column('price', sa.Float))"

BATCH = """\
from shop.db.naming import convention
with op.batch_alter_table("goods", naming_convention=convention()) as batch:
    batch.add_column(sa.Column("stock", sa.Integer, server_default="3", nullable=False))
    batch.create_unique_constraint("uq_goods_both", ["name", "price"])
"""

VACUUM = """\
op.execute("INSERT INTO audit VALUES ('b')")
with op.get_context().autocommit_block():
    op.execute("VACUUM")"""
TRAPS = {
    "alembic.ini": INI,
    "src/app.py": MAIN,
    "src/shop/__init__.py": "",
    "src/shop/commands.py": COMMANDS,
    "src/shop/db/__init__.py": "",
    "src/shop/db/env.py": ENV,
    "src/shop/db/naming.py": "def convention():\n    import fractions\n\n    assert fractions.Fraction(1, 2)\n"
    "    return {'pk': 'pk_%(table_name)s'}\n",
    "src/shop/db/jobs/__init__.py": "",
    "src/shop/db/jobs/a_rename.py": "def run(op):\n    import wave\n\n"
    '    op.execute("INSERT INTO goods VALUES (\'" + wave.__name__ + "\', 4)")\n',
    "src/shop/db/jobs/b_double.py": "def run(op):\n    op.execute('UPDATE goods SET price = price * 2')\n",
    # The goods: an old style of names, a subfolder, two branches that are merged, and a third that needs the merge.
    "src/shop/db/goods/__init__.py": "",
    "src/shop/db/goods/types.pyi": "PRICE: float\n",
    "src/shop/db/goods/001_first.py": revision("0001", None, CREATE, branch_labels=("goods",)),
    "src/shop/db/goods/1.2-seed it.py": revision("1.2", "0001", SEED_SQL),
    "src/shop/db/goods/seed.sql": "INSERT INTO goods VALUES ('wood', 1);\nINSERT INTO goods VALUES ('öl', 2);\n",
    "src/shop/db/goods/2024/v2.0.0.a.py": revision("v2.0.0.a", "1.2", JOBS),
    "src/shop/db/goods/2024/left.py": revision("left", "v2.0.0.a", DELAYED, branch_labels=["west"]),
    "src/shop/db/goods/2024/right.py": revision("right", "v2.0.0.a", SEED_JSON),
    "src/shop/db/goods/data/prices.json": '{"wood": 1.5, "öl": 2.5}',
    "src/shop/db/goods/merge.py": revision("merge", ("left", "right")),
    "src/more goods/x0.py": revision("x0", None, ENTRY_POINT, branch_labels=("extras",), depends_on="goods"),
    "src/more goods/deep/er/x1.py": revision("x1", "x0", BATCH, depends_on=("merge",)),
    # The audit: the same env.py, ids that the goods have, too, and two heads.
    "src/shop/db/audit/0001.py": revision("0001", None, "op.execute('CREATE TABLE audit (line TEXT)')"),
    "src/shop/db/audit/a.py": revision("a", "0001", "op.execute(\"INSERT INTO audit VALUES ('a')\")"),
    "src/shop/db/audit/b.py": revision("b", "0001", VACUUM),
    # The events: an async env.py, as `alembic init --template async` writes it.
    "src/shop/events/env.py": stock_env("async"),
    "src/shop/events/versions/0001.py": revision("0001", None, "op.execute('CREATE TABLE event (at TEXT)')"),
    "src/shop/events/versions/0002.py": revision("0002", "0001", "op.execute(\"INSERT INTO event VALUES ('now')\")"),
}


class TestTraps:
    """What twelve public histories were found to contain, in one application; frozen by its command line alone."""

    # A chain, and a revision of it that an old release stopped at.
    OLD = (("goods", "1.2"), ("audit", "0001"), ("events", "0001"))
    DRIVERS: ClassVar = {"events": "sqlite+aiosqlite"}

    @pytest.fixture(params=FREEZERS)
    def bundle(self, request: pytest.FixtureRequest, workshop: Workshop) -> Bundle:
        return frozen_with(request.param, workshop, "traps", TRAPS, "src/app.py")

    @pytest.fixture
    def project(self, tmp_path: Path) -> Path:
        """The source of the application, for plain Alembic."""
        return write(tmp_path / "project", TRAPS)

    def plain(self, project: Path, chain: str, database: Path, target: str = "heads") -> Path:
        return plain_upgrade(
            project / "alembic.ini", database, target, section=chain, driver=self.DRIVERS.get(chain, "sqlite")
        )

    @pytest.mark.parametrize("chain", ["goods", "audit", "events"])
    def test_a_new_database_is_as_plain_alembic_makes_it(
        self, bundle: Bundle, project: Path, chain: str, tmp_path: Path
    ) -> None:
        assert migrated(bundle, chain, tmp_path / "new.db")["applied"]
        assert same(tmp_path / "new.db", self.plain(project, chain, tmp_path / "plain.db"))
        assert migrated(bundle, chain, tmp_path / "new.db")["applied"] == []

    @pytest.mark.parametrize(("chain", "at"), OLD)
    def test_a_database_at_an_old_revision_is_upgraded_as_plain_alembic_would(
        self, bundle: Bundle, project: Path, chain: str, at: str, tmp_path: Path
    ) -> None:
        old = self.plain(project, chain, tmp_path / "old.db", at)
        plain = self.plain(project, chain, Path(shutil.copy(old, tmp_path / "plain.db")))
        assert migrated(bundle, chain, old)["applied"]
        assert same(old, plain)

    def test_two_chains_share_a_database(self, bundle: Bundle, project: Path, tmp_path: Path) -> None:
        """Each has a version table of its own; that one was there first is no reason to refuse the other."""
        for chain in ("goods", "audit"):
            assert migrated(bundle, chain, tmp_path / "new.db")["applied"]
            self.plain(project, chain, tmp_path / "plain.db")
        assert same(tmp_path / "new.db", tmp_path / "plain.db")

    def test_a_head_that_another_one_depends_on_has_no_row(self, bundle: Bundle, tmp_path: Path) -> None:
        """The database holds fewer rows than there are heads, and is current."""
        printed = migrated(bundle, "goods", tmp_path / "new.db")
        assert sorted(printed["heads"]) == ["merge", "x1"]
        assert content(tmp_path / "new.db")["alembic_version"] == [("x1",)]
        assert migrated(bundle, "goods", tmp_path / "new.db")["applied"] == []

    def test_no_chain_ships_the_developers_password(self, bundle: Bundle) -> None:
        """Neither in a file, nor compressed inside an archive, nor with the user name it belongs to."""
        found = dict(shipped(bundle.folder))
        assert [name for name in found if name.endswith("env.py")]
        words = (PASSWORD.encode(), b"grocer-of-old", b"db.grocer.example")
        assert [name for name, text in found.items() if any(word in text for word in words)] == []

    def test_every_chain_has_a_manifest_of_its_own(self, bundle: Bundle) -> None:
        found = {one["section"]: one for one in manifests(bundle.folder).values()}
        assert set(found) == {"goods", "audit", "events"}
        assert found["goods"]["recursive_version_locations"]
        assert sorted(found["audit"]["heads"]) == ["a", "b"]
        assert found["audit"]["version_table"] == "audit_version"
        assert found["audit"]["outside_transaction"] == ["b"]
        assert found["events"]["driver"] == "aiosqlite"
