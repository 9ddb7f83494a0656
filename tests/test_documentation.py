"""What README.md and docs/ show is true: every block runs, here or in the test that is listed for it."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import yaml
from documented_findings import real_messages
from documents import DOCS, INSTALLING, PAGES, PROJECT, TUTORIAL, Block, blocks, id_of, run_page
from histories import Project

import freezekit
from freezekit.check.checks import Check
from freezekit.config import project_chains

pytestmark = pytest.mark.skipif(not PAGES, reason="away from the source tree there is no documentation")

# Page and beginning of a block that runs, as it stands there, in another test: it needs a bundle, a server or a screen.
GOOD = "test_the_commands_of_a_page_find_nothing_wrong_with_a_good_bundle"
INSTALLED = "test_a_page_installs_what_it_names"
TENANTS = "test_the_examples_for_tenants_upgrade_each_schema"
REPLICAS = "test_the_examples_of_the_page_work"
WINDOW = "test_the_tutorial_ends_with_a_frozen_window"
ELSEWHERE = {
    ("README.md", "alembic.util.exc.CommandError"): "test_without_freezekit_frozen_programs_say_what_the_readme_quotes",
    ("README.md", "python3 tools/try_it.py"): "test_the_readme_s_one_line_freezes_and_opens_everything",
    ("README.md", "python3 tools/test_it.py"): "test_ci_runs_the_line_of_the_readme_that_runs_the_tests",
    ("README.md", 'pip install "'): INSTALLED,
    **{(TUTORIAL, start): INSTALLED for start in INSTALLING},
    ("docs/howto/cx_freeze.md", 'pip install "'): INSTALLED,
    ("docs/howto/pyinstaller.md", 'pip install "'): INSTALLED,
    ("README.md", "freezekit status *.notes"): "test_each_command_of_the_readme_is_one",
    ("README.md", "pip install -e"): "test_the_commands_of_the_readme_show_and_freeze_the_window",
    ("README.md", "freezekit check dist/myapp"): GOOD,
    ("README.md", "freezekit smoke dist/app/app"): GOOD,
    (TUTORIAL, "cxfreeze build --script window.py"): WINDOW,
    (TUTORIAL, "cp elsewhere/old.notes.0001.bak"): WINDOW,
    ("docs/fleets.md", "from dask.distributed import Client"): "test_a_cluster_does_the_work",
    ("docs/fleets.md", "import sys"): "test_processes_of_mpi_do_the_work",
    ("docs/fleets.md", "mpiexec"): "test_processes_of_mpi_do_the_work",
    ("docs/fleets.md", "tenants ="): TENANTS,
    ("docs/fleets.md", "freezekit upgrade-many"): TENANTS,
    ("docs/howto/command-line.md", "freezekit upgrade-many"): "test_commands_about_many_databases_and_bundles_work",
    ("docs/howto/command-line.md", "pyinstaller --noconfirm"): (
        "test_the_printed_options_ship_migrations_where_no_hook_runs"
    ),
    ("docs/howto/command-line.md", "import sys"): "test_the_two_lines_make_a_command_line_of_a_frozen_program",
    ("docs/howto/containers.md", "FROM python"): "test_the_image_of_the_page_serves_an_upgraded_database",
    ("docs/howto/cx_freeze.md", "from freezekit.build"): GOOD,
    ("docs/howto/desktop.md", "from freezekit.runtime.qt"): "test_the_example_for_qt_upgrades_and_cancels",
    ("docs/howto/desktop.md", "pyinstaller --windowed"): "test_the_bundle_with_the_window_is_checked_and_smoked",
    ("docs/howto/nuitka.md", "nuitka --standalone"): "test_a_program_that_nuitka_compiled_upgrades_its_document",
    ("docs/howto/pyinstaller.md", "from freezekit.build"): "test_the_fixture_of_the_page_freezes_the_spec_of_the_page",
    ("docs/howto/pytest.md", "def test_bundle(frozen_bundle)"): (
        "test_the_fixture_of_the_page_freezes_the_spec_of_the_page"
    ),
    ("docs/howto/replicas.md", "report = migrations.upgrade"): REPLICAS,
    ("docs/howto/replicas.md", "notify("): REPLICAS,
    ("docs/howto/replicas.md", "sample_app db"): REPLICAS,
    ("docs/howto/replicas.md", "[Service]"): "test_the_unit_of_the_page_is_started_and_becomes_ready",
    ("docs/howto/smoke-test.md", "freezekit smoke dist/app/app"): GOOD,
    ("docs/howto/smoke-test.md", "SELECT title"): "test_a_rule_of_the_page_finds_what_an_upgrade_lost",
}
# What a page takes for granted.
GIVEN = {"docs/fleets.md": 'paths = ["old.notes"]'}
FINDINGS = "docs/findings/"
RUNNABLE = {"python", "sh", "text"}
CHECKED = {"toml", "yaml", "ini"}
ALL = [block for page in PAGES for block in blocks(page)]


def is_entry_of(entry: tuple[str, str], block: Block) -> bool:
    return block.page == entry[0] and block.code.startswith(entry[1])


def is_listed(block: Block) -> bool:
    return any(is_entry_of(one, block) for one in ELSEWHERE)


def is_run(block: Block) -> bool:
    return not is_listed(block) and block.language in RUNNABLE and not block.page.startswith((FINDINGS, TUTORIAL))


@pytest.fixture(scope="session")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project that the examples are about: two revisions, and documents of several kinds."""
    project = Project(tmp_path_factory.mktemp("example"))
    project.migrations.rename(project.write("myapp/__init__.py", "").with_name("migrations"))
    where = {"folder": "myapp/migrations/versions"}
    note = 'op.create_table("note", sa.Column("id", sa.Integer, primary_key=True), sa.Column("title", sa.Text))'
    project.revision("0001", None, note, **where)
    project.revision("0002", "0001", 'op.add_column("note", sa.Column("pinned", sa.Boolean))', **where)
    settings = '[tool.freezekit]\nscript_location = "myapp:migrations"\napplication_id = 0x4E4F5445\n'
    project.write("pyproject.toml", settings)
    migrations = freezekit.locate(str(project.root / "myapp" / "migrations"))
    migrations.upgrade(project.root / "old.notes", revision="0001")
    with closing(sqlite3.connect(project.root / "old.notes")) as old, old:
        old.execute("INSERT INTO note (title) VALUES ('Milk')")
    for name, change in (
        ("newer", "UPDATE alembic_version SET version_num = '0009'"),
        ("unversioned", "DROP TABLE alembic_version"),
        ("foreign", "PRAGMA application_id = 252006674"),
    ):
        with closing(sqlite3.connect(shutil.copy(project.root / "old.notes", project.root / f"{name}.notes"))) as other:
            other.execute(change)
            other.commit()
    releases = project.root / "tests" / "releases"
    releases.mkdir(parents=True)
    shutil.copy(project.root / "old.notes", releases / "1.0.notes")
    return project.root


@pytest.mark.parametrize("page", sorted({one.page for one in ALL if is_run(one)}))
def test_the_examples_of_a_page_run_and_print_what_is_shown(page: str, example: Path, tmp_path: Path) -> None:
    """In order, in a copy of one small project; a `text` block is the output of the block before it."""
    folder = Path(shutil.copytree(example, tmp_path / "project"))
    given = [Block(page, 0, "python", GIVEN[page], None)] if page in GIVEN else []
    run_page(given + [one for one in ALL if one.page == page and is_run(one)], folder)


@pytest.mark.frozen
def test_the_tutorial_ends_with_a_frozen_program_that_opens_an_old_document(tmp_path: Path) -> None:
    """Word by word up to its window, in an empty folder, with a real build."""
    folder = tmp_path / "tutorial"
    folder.mkdir()
    run_page([one for one in ALL if one.page == TUTORIAL and not is_listed(one)], folder)


@pytest.mark.parametrize("block", [one for one in ALL if one.language in CHECKED and not one.saved], ids=id_of)
def test_a_configuration_that_is_shown_is_accepted(block: Block, example: Path, tmp_path: Path) -> None:
    if block.language == "yaml":
        assert yaml.safe_load(block.code)
        return
    folder = Path(shutil.copytree(example, tmp_path / "project"))
    if block.language == "ini":
        (folder / "pyproject.toml").unlink()
        (folder / "alembic.ini").write_text(block.code, encoding="utf-8")
    else:
        text = block.code
        if "[tool.freezekit]" not in text and "[[tool.freezekit" not in text:
            text += '\n[tool.freezekit]\nscript_location = "myapp:migrations"\n'
        (folder / "pyproject.toml").write_text(text, encoding="utf-8")
    assert project_chains(str(folder))


def test_every_block_runs_here_or_in_a_test_that_is_there() -> None:
    """Nothing that is shown is unproven, and each entry is about one block that is there."""
    unknown = [id_of(one) for one in ALL if one.language not in RUNNABLE | CHECKED and not is_listed(one)]
    assert not unknown
    listed = {one: [id_of(block) for block in ALL if is_entry_of(one, block)] for one in ELSEWHERE}
    assert not {one: found for one, found in listed.items() if len(found) != 1}
    sources = "\n".join(path.read_text(encoding="utf-8") for path in (PROJECT / "tests").rglob("test_*.py"))
    assert not [name for name in ELSEWHERE.values() if f"def {name}(" not in sources]


def test_every_finding_has_a_page_that_shows_what_is_really_said(tmp_path: Path) -> None:
    """One for each id, none left over; title, level and message are those of the check."""
    pages = {path.stem: path.read_text(encoding="utf-8") for path in (DOCS / "findings").glob("*.md")}
    assert set(pages) == {one.name for one in Check}
    said = real_messages(tmp_path)
    index = (DOCS / "checks.md").read_text(encoding="utf-8")
    for one in Check:
        assert pages[one.name].startswith(f"# {one.name}: {one.title}\n")
        assert f"**{one.level.value}**" in pages[one.name]
        assert f"| [{one.name}](findings/{one.name}.md) | {one.title} | {one.level.value} |" in index
        assert all(f"\n## {title}\n" in pages[one.name] for title in ("Causes", "What to do")), one.name
        (message,) = blocks(DOCS / "findings" / f"{one.name}.md")
        assert message.code.strip() in said[one.name]


def test_every_error_has_a_page_that_raises_it() -> None:
    public = {name: getattr(freezekit, name) for name in freezekit.__all__}
    errors = {
        name for name, one in public.items() if isinstance(one, type) and issubclass(one, freezekit.FreezekitError)
    }
    pages = {path.stem for path in (DOCS / "errors").glob("*.md")} - {"index"}
    assert pages == errors - {"FreezekitError"}
    index = (DOCS / "errors" / "index.md").read_text(encoding="utf-8")
    for name in sorted(pages):
        assert f"]({name}.md)" in index
        shown = blocks(DOCS / "errors" / f"{name}.md")
        assert f"except freezekit.{name} as error" in "".join(one.code for one in shown)
        assert "text" in {one.language for one in shown}
