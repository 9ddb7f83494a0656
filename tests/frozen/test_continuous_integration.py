"""The action for GitHub and the hook for pre-commit do what they say; their steps run here as they are written."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from sample_data import RELEASES

if TYPE_CHECKING:
    from collections.abc import Callable

    from bundles import Bundle

PROJECT = Path(__file__).resolve().parents[2]
ACTION = yaml.safe_load((PROJECT / "action.yml").read_text(encoding="utf-8"))
HOOKS = yaml.safe_load((PROJECT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))


class Runner:
    """Runs the steps of the action as GitHub does: expressions become variables, each step a script of bash."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.output = folder / "output"
        self.known = {"github.action_path": str(PROJECT), "runner.temp": str(folder)}

    def run(self, **inputs: str) -> list[tuple[int, str]]:
        """Return exit code and output of every step after the installation that was not left out."""
        given = {name: one["default"] for name, one in ACTION["inputs"].items()}
        given |= {name.replace("_", "-"): value for name, value in inputs.items()}
        self.known |= {f"inputs.{name}": value for name, value in given.items()}
        first, *others = ACTION["runs"]["steps"]
        if not self.output.exists():
            code, said = self._step(first)
            assert code == 0, said
            for line in self.output.read_text(encoding="utf-8").splitlines():
                name, _, value = line.partition("=")
                self.known[f"steps.{first['id']}.outputs.{name}"] = value
        return [self._step(step) for step in others if self.known[step["if"].partition(" ")[0]]]

    def _step(self, step: dict[str, Any]) -> tuple[int, str]:
        found = {name: self._value(text) for name, text in step["env"].items()}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        result = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
            env={**os.environ, "PATH": path, "GITHUB_OUTPUT": str(self.output), **found},
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        return result.returncode, result.stdout + result.stderr

    def _value(self, text: str) -> str:
        return re.sub(r"\$\{\{ (\S+) \}\}", lambda match: self.known[match[1]], text)


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    return Runner(tmp_path_factory.mktemp("runner"))


def test_the_action_passes_a_healthy_bundle(
    runner: Runner, build_bundle: Callable[[str], Bundle], tmp_path: Path
) -> None:
    """Installed by itself, from its own folder, as on GitHub."""
    bundle = build_bundle("cx-folder")
    shutil.copy(RELEASES[0], tmp_path)
    steps = runner.run(
        bundle=str(bundle.folder),
        source=str(PROJECT),
        executable=str(bundle.executable),
        app_command="open {db}",
        smoke_options="--skip twice --skip killed",
        **{"from": str(tmp_path)},
    )
    assert [code for code, _ in steps] == [0, 0], steps


def test_the_action_annotates_a_broken_bundle_and_fails(
    runner: Runner, build_bundle: Callable[[str], Bundle], tmp_path: Path
) -> None:
    folder = shutil.copytree(build_bundle("cx-folder").folder, tmp_path / "broken", symlinks=True)
    (folder / "lib" / "sample_app" / "migrations" / "env.py").unlink()
    ((code, said),) = runner.run(bundle=str(folder))
    assert code == 1
    assert "::error" in said
    assert "FK102" in said


def test_the_hook_of_pre_commit_refuses_scripts_that_no_build_would_ship(tmp_path: Path) -> None:
    """Its entry runs in the folder of the project, without the names of files."""
    (hook,) = HOOKS
    folder = shutil.copytree(PROJECT / "sample_app", tmp_path / "sample_app")
    (tmp_path / "pyproject.toml").write_text('[tool.freezekit]\nscript_location = "sample_app:migrations"\n')
    program, *arguments = hook["entry"].split()
    command = [str(Path(sys.executable).with_name(program)), *arguments]
    assert not hook["pass_filenames"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode == 0
    script = next((folder / "migrations" / "versions").glob("*.py"))
    script.write_text("def upgrade(:\n", encoding="utf-8")
    assert re.search(hook["files"], script.name)
    refused = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert script.name in refused.stdout + refused.stderr


def test_the_hook_of_pre_commit_installs_what_the_command_line_needs() -> None:
    """Pre-commit installs the project without extras."""
    (hook,) = HOOKS
    text = (PROJECT / "pyproject.toml").read_text(encoding="utf-8")
    (wanted,) = re.findall(r"^cli = \[(.*)\]$", text, re.MULTILINE)
    assert set(re.findall(r'"(.+?)"', wanted)) <= set(hook["additional_dependencies"])
