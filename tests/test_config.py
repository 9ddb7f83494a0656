"""What a project says about its migrations: pyproject.toml, alembic.ini, and which of the two wins."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from freezekit.config import Chain, chain_of, find_folder, project_chains
from freezekit.errors import UsageError
from freezekit.ini import without_secrets

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose package ``app`` has a folder of migrations."""
    root = tmp_path / "a project, 100%"
    (root / "app" / "migrations" / "versions").mkdir(parents=True)
    (root / "app" / "__init__.py").touch()
    (root / "app" / "migrations" / "env.py").touch()
    return root


def only(chains: tuple[Chain, ...]) -> Chain:
    assert len(chains) == 1
    return chains[0]


def test_a_project_without_configuration_has_no_chains(project: Path) -> None:
    assert project_chains(str(project)) == ()


def test_a_broken_pyproject_that_mentions_neither_tool_is_nobodys_business(project: Path) -> None:
    (project / "pyproject.toml").write_text("[tool.other\n")
    assert project_chains(str(project)) == ()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("alembic.ini", "[alembic]\nscript_location = app/migrations\n"),
        ("alembic.ini", "[alembic]\nscript_location = %(here)s/app/migrations\n"),
        ("alembic.ini", "[alembic]\nscript_location = app:migrations\n"),
        ("alembic.ini", "[DEFAULT]\nscript_location = app:migrations\n[alembic]\nx = 1\n"),
        ("alembic.ini", "\ufeff[alembic]\nscript_location = app:migrations\n"),
        ("pyproject.toml", "[tool.alembic]\nscript_location = '%(here)s/app/migrations'\n"),
        ("pyproject.toml", "[tool.alembic]\nscript_location = 'app:migrations'\n"),
        ("pyproject.toml", "[tool.freezekit]\nscript_location = 'app:migrations'\n"),
        ("pyproject.toml", "[[tool.freezekit.migrations]]\nscript_location = 'app:migrations'\n"),
    ],
)
def test_every_spelling_of_the_location_names_the_same_folder(project: Path, name: str, text: str) -> None:
    (project / name).write_text(text, encoding="utf-8")
    chain = only(project_chains(str(project)))
    assert (chain.folder, chain.section) == (str(project / "app" / "migrations"), "alembic")


def test_a_package_below_src_is_found_without_being_imported(project: Path) -> None:
    (project / "src").mkdir()
    (project / "app").rename(project / "src" / "app")
    (project / "src" / "app" / "__init__.py").write_text("raise SystemExit")
    (project / "pyproject.toml").write_text("[tool.freezekit]\nscript_location = 'app:migrations'\n")
    assert only(project_chains(str(project))).folder == str(project / "src" / "app" / "migrations")


def test_an_installed_package_is_found_on_sys_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "site" / "lib_x" / "sub" / "scripts").mkdir(parents=True)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site"), *sys.path])
    assert find_folder("lib_x.sub:scripts", [str(tmp_path)]) == str(tmp_path / "site" / "lib_x" / "sub" / "scripts")
    assert find_folder("json:nowhere", [str(tmp_path)]) is None


INI = """
[alembic]
script_location = app:migrations
prepend_sys_path = . app
file_template = %%(year)d_%%(rev)s
version_table = app_version
data = %(here)s/data
sqlalchemy.url = postgresql+asyncpg://me:pw@host/db
other.url = sqlite://
api_token = x
[post_write_hooks]
hooks = black
"""


def test_the_other_options_are_kept_without_urls_secrets_and_places(project: Path) -> None:
    (project / "alembic.ini").write_text(INI)
    chain = only(project_chains(str(project)))
    assert chain.options == {"file_template": "%(year)d_%(rev)s", "version_table": "app_version"}
    assert chain.url == "postgresql+asyncpg://me:pw@host/db"
    assert chain.version_table == "app_version"
    assert chain.prepend_sys_path == (str(project), str(project / "app"))
    assert chain.ini == str(project / "alembic.ini")


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("version_locations = one two", ("one", "two")),
        ("version_locations = one, two", ("one", "two")),
        ("path_separator = space\nversion_locations = one  two", ("one", "two")),
        ("path_separator = os\nversion_locations = one" + os.pathsep + "with space", ("one", "with space")),
        ("version_path_separator = :\nversion_locations = one:two", ("one", "two")),
        ("version_path_separator = ;\npath_separator = newline\nversion_locations =\n  one\n  two", ("one", "two")),
        ("path_separator = os\nversion_locations = %(here)s/one", ("one",)),
        ("path_separator = newline\nversion_locations = app:migrations/versions", ("app/migrations/versions",)),
    ],
    ids=["blanks", "commas", "space", "os", "older key", "newer key wins", "here", "package"],
)
def test_version_locations_are_split_as_alembic_splits_them(
    project: Path, lines: str, expected: tuple[str, ...]
) -> None:
    (project / "alembic.ini").write_text(f"[alembic]\nscript_location = app:migrations\n{lines}\n")
    for folder in ("one", "two", "with space"):
        (project / folder).mkdir()
    chain = only(project_chains(str(project)))
    assert chain.version_locations == tuple(str(project / folder) for folder in expected)


def test_toml_gives_lists_and_a_flag(project: Path) -> None:
    (project / "pyproject.toml").write_text(
        "[tool.alembic]\nscript_location = 'app:migrations'\nversion_locations = ['%(here)s/one']\n"
        "prepend_sys_path = ['.']\nrecursive_version_locations = true\n"
    )
    chain = only(project_chains(str(project)))
    assert chain.version_locations == (str(project / "one"),)
    assert chain.recursive
    assert chain.prepend_sys_path == (str(project),)
    assert chain.ini is None


def test_the_ini_wins_over_toml_and_lends_its_url(project: Path) -> None:
    """As in Alembic's pyproject template: locations in the one, connections in the other."""
    (project / "pyproject.toml").write_text(
        "[tool.alembic]\nscript_location = 'app:migrations'\nrecursive_version_locations = true\n"
    )
    (project / "alembic.ini").write_text("[alembic]\nsqlalchemy.url = sqlite+aiosqlite://\n")
    chain = only(project_chains(str(project)))
    assert (chain.url, chain.recursive, chain.ini) == ("sqlite+aiosqlite://", True, str(project / "alembic.ini"))


SIX = """
[DEFAULT]
script_location = app:migrations
path_separator = space
[alembic]
sqlalchemy.url = sqlite://
[core]
version_locations = app/core
version_table = core_version
[plugins]
version_locations = app/plugins
[loggers]
keys = root
[logger_root]
level = WARN
"""


def test_several_sections_of_one_ini_are_several_chains(project: Path) -> None:
    """[DEFAULT] may hold what they share; sections of logging are none, and [alembic] says nothing of its own here."""
    (project / "alembic.ini").write_text(SIX)
    core, plugins = project_chains(str(project))
    assert (core.section, plugins.section) == ("core", "plugins")
    assert core.version_table == "core_version"
    assert core.folder == plugins.folder == str(project / "app" / "migrations")


def test_freezekits_section_selects_one_and_keeps_its_locations(project: Path) -> None:
    (project / "alembic.ini").write_text(SIX)
    (project / "pyproject.toml").write_text("[tool.freezekit]\nsection = 'core'\nversion_table = 'mine'\n")
    chain = only(project_chains(str(project)))
    assert chain.version_locations == (str(project / "app" / "core"),)
    assert chain.version_table == "mine"


def test_settings_without_a_location_go_to_every_chain_of_alembic(project: Path) -> None:
    (project / "alembic.ini").write_text(SIX)
    (project / "pyproject.toml").write_text("[tool.freezekit]\nfoldable = 1\n".replace("foldable", "application_id"))
    assert [chain.application_id for chain in project_chains(str(project))] == [1, 1]


def test_a_location_of_another_folder_does_not_borrow_the_options_of_the_ini(project: Path) -> None:
    (project / "other").mkdir()
    (project / "alembic.ini").write_text("[alembic]\nscript_location = app:migrations\nversion_locations = app\n")
    (project / "pyproject.toml").write_text("[tool.freezekit]\nscript_location = 'other'\n")
    chain = only(project_chains(str(project)))
    assert (chain.folder, chain.version_locations, chain.ini) == (str(project / "other"), (), None)


def test_shared_keys_are_the_defaults_of_each_table(project: Path) -> None:
    (project / "pyproject.toml").write_text(
        "[tool.freezekit]\ndialects = ['sqlite', 'postgresql']\n"
        "[[tool.freezekit.migrations]]\nscript_location = 'app:migrations'\n"
        "[[tool.freezekit.migrations]]\nscript_location = 'app'\ndialects = ['sqlite']\n"
    )
    assert [chain.dialects for chain in project_chains(str(project))] == [("sqlite", "postgresql"), ("sqlite",)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[tool.freezekit]\nscript_loc = 'x'", "no key 'script_loc'"),
        ("[tool.freezekit]\nscript_location = 3", "'script_location' must be a string"),
        ("[tool.freezekit]\ndialects = 'sqlite'", "'dialects' must be a list"),
        ("[tool.freezekit]\nsnapshot = 'yes'", "'snapshot' must be true or false"),
        ("[tool.freezekit]\napplication_id = true", "'application_id' must be an integer"),
        ("[tool.freezekit]\nforeign_keys = 'maybe'", "'foreign_keys' must be 'auto'"),
        ("[tool.freezekit]\naccepted_edits = ['a']", "'accepted_edits' must be a table"),
        ("[tool.freezekit.check]\nselec = []", "no key 'selec'"),
        ("[tool.freezekit.migrations]\nsection = 'x'", "[[tool.freezekit.migrations]]"),
        ("[tool.freezekit]\nscript_location = 'app:nowhere'", "'app:nowhere'"),
        ("[tool.freezekit]\nsection = 'nowhere'", "'nowhere'"),
        ("[tool.alembic]\nscript_location = 3", "'script_location' in [tool.alembic]"),
        ("[tool.alembic]\nversion_locations = 'a'", "'version_locations' in [tool.alembic]"),
        ("[tool.freezekit\n", "cannot be read"),
    ],
)
def test_a_wrong_key_is_named_with_its_file(project: Path, text: str, words: str) -> None:
    (project / "pyproject.toml").write_text(text)
    with pytest.raises(UsageError) as caught:
        project_chains(str(project))
    assert words in str(caught.value)
    assert "pyproject.toml" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "[alembic\n",
        "[alembic]\nscript_location = %(nowhere)s\n",
        "[alembic]\nscript_location = app:migrations\npath_separator = tab\n",
        "[alembic]\nscript_location = nowhere\n",
    ],
)
def test_a_wrong_ini_is_named(project: Path, text: str) -> None:
    (project / "alembic.ini").write_text(text)
    with pytest.raises(UsageError, match=r"alembic\.ini"):
        project_chains(str(project))


def test_an_option_that_is_given_at_run_time_does_not_matter(project: Path) -> None:
    (project / "alembic.ini").write_text("[alembic]\nscript_location = app:migrations\nsqlalchemy.url = %(DB)s\n")
    assert only(project_chains(str(project))).url is None


class TestChainOf:
    """The chain of a folder that a program located in a source tree."""

    def test_nothing_configured_means_defaults(self, project: Path) -> None:
        folder = str(project / "app" / "migrations")
        (project / ".git").mkdir()
        assert chain_of(folder, script_location="app:migrations") == Chain("app:migrations", folder)

    @pytest.mark.parametrize("place", ["", "app"])
    def test_a_file_above_the_folder_counts(self, project: Path, place: str) -> None:
        location = os.path.relpath(project / "app" / "migrations", project / place)
        (project / place / "alembic.ini").write_text(f"[alembic]\nscript_location = {location}\nx = 1\n")
        assert chain_of(str(project / "app" / "migrations")).options == {"x": "1"}

    def test_pyproject_wins_over_an_ini_nearer_by(self, project: Path) -> None:
        (project / "app" / "alembic.ini").write_text("[alembic]\nscript_location = migrations\nx = 1\n")
        (project / "pyproject.toml").write_text(
            "[tool.freezekit]\nscript_location = 'app:migrations'\napplication_id = 7\n"
        )
        chain = chain_of(str(project / "app" / "migrations"))
        assert (chain.application_id, chain.options) == (7, {"x": "1"})

    def test_an_ini_inside_the_folder_counts_without_a_location(self, project: Path) -> None:
        """Flask-Migrate keeps it there and gives the location at run time."""
        folder = project / "app" / "migrations"
        (folder / "alembic.ini").write_text("[alembic]\nx = 1\n")
        chain = chain_of(str(folder))
        assert (chain.options, chain.ini, chain.folder) == ({"x": "1"}, str(folder / "alembic.ini"), str(folder))

    def test_an_ini_beside_the_folder_counts_when_its_location_leads_nowhere(self, project: Path) -> None:
        """It is relative to a working directory that nobody knows."""
        (project / "app" / "alembic.ini").write_text("[alembic]\nscript_location = src/app/migrations\nx = 1\n")
        assert chain_of(str(project / "app" / "migrations")).options == {"x": "1"}

    def test_an_ini_beside_the_folder_that_means_another_folder_does_not_count(self, project: Path) -> None:
        (project / "app" / "others").mkdir()
        (project / "app" / "alembic.ini").write_text("[alembic]\nscript_location = others\nx = 1\n")
        assert chain_of(str(project / "app" / "migrations")).options == {}

    def test_one_of_several_sections(self, project: Path) -> None:
        (project / "alembic.ini").write_text(SIX)
        folder = str(project / "app" / "migrations")
        assert chain_of(folder, "plugins").version_locations == (str(project / "app" / "plugins"),)

    @pytest.mark.parametrize("section", ["nowhere", "alembic"])
    def test_a_section_that_is_nowhere_is_refused(self, project: Path, section: str) -> None:
        (project / "alembic.ini").write_text(SIX)
        with pytest.raises(UsageError, match=rf"\[{section}\].*core, plugins"):
            chain_of(str(project / "app" / "migrations"), section)

    def test_a_location_of_the_project_that_does_not_exist_is_not_this_folders_problem(self, project: Path) -> None:
        (project / "alembic.ini").write_text("[alembic]\nscript_location = nowhere\n")
        assert chain_of(str(project / "app" / "migrations")).ini is None


SECRET = """\
# a comment stays
[alembic]
script_location = app
sqlalchemy.url = postgresql://me:pw@host/db
    ?option=1
reader.url : sqlite://
db_password = pw
dsn_of_reader = postgresql://%(db_password)s@host
# sqlalchemy.url = postgresql://me:pw@host/db
plain = 1

[loggers]
keys = root
"""


def test_what_ships_of_an_ini_has_no_urls_no_passwords_and_nothing_that_needs_them() -> None:
    assert without_secrets(SECRET) == (
        "# a comment stays\n[alembic]\nscript_location = app\nplain = 1\n\n[loggers]\nkeys = root\n"
    )


def test_the_comment_in_the_stock_ini_of_older_alembic_is_no_separator(tmp_path: Path) -> None:
    """Alembic 1.7 to 1.15 wrote one behind the value, and reads it only together with version_locations."""
    (tmp_path / "migrations").mkdir()
    (tmp_path / "migrations" / "env.py").touch()
    (tmp_path / "alembic.ini").write_text(
        "[alembic]\nscript_location = migrations\nversion_path_separator = os  # Use os.pathsep. Default\n"
    )
    (chain,) = project_chains(str(tmp_path))
    assert chain.version_locations == ()
