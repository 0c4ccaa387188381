"""The project's files agree with each other."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
MARKER = "# README's second command\n"


def commands_of_readme() -> list[str]:
    """The README's shell blocks before its first heading below the title."""
    opening = (ROOT / "README.md").read_text(encoding="utf-8").split("\n## ")[0]
    return [block.strip() for block in re.findall(r"```sh\n(.*?)```", opening, flags=re.DOTALL)]


def test_environment_yml_installs_what_pyproject_says() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    conda = environment["dependencies"]
    from_pip = next(entry["pip"] for entry in conda if isinstance(entry, dict))
    assert sorted(from_pip) == sorted([*PYPROJECT["project"]["dependencies"], "-e ."])
    assert f"python{PYPROJECT['project']['requires-python']}" in conda


def test_readme_opens_with_two_commands() -> None:
    train, check = commands_of_readme()
    assert train.endswith("mmsa train --fusion late")
    assert "pytest" in check


def test_ci_runs_the_readmes_second_command() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert script.split(MARKER)[1].split("# end of")[0].strip() == commands_of_readme()[1]


@pytest.mark.parametrize("failing", ["venv", "pip", "tests", "make", None])
def test_ci_fails_with_any_of_its_steps(tmp_path: Path, failing: str | None) -> None:
    """The real script among commands that do nothing, or fail."""

    def write(name: str, lines: str) -> None:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{lines}\n")
        path.chmod(0o755)

    def step(name: str) -> str:
        return f"echo {name} >> {tmp_path}/log; exit {int(name == failing)}"

    write("bin/ldconfig", "echo libGL.so.1")  # nothing of the system is missing
    write("bin/make", step("make"))
    write("made/pip", step("pip"))
    write("made/python", step("tests"))
    write("bin/python3", f"mkdir -p .venv/bin; cp {tmp_path}/made/* .venv/bin; {step('venv')}")
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci" / "run")
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    done = subprocess.run([tmp_path / ".ci" / "run"], env={**os.environ, "PATH": path}, check=False)
    steps = ["venv", "pip", "tests", "make"]
    assert done.returncode == (0 if failing is None else 1)
    assert (tmp_path / "log").read_text().split() == steps[: steps.index(failing) + 1 if failing else None]


def test_constraints_satisfy_the_requirements() -> None:
    """Every direct dependency is pinned in constraints.txt at a version that pyproject.toml allows."""
    from packaging.requirements import Requirement

    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if "==" in line)
    pinned = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pinned.items()}
    groups = [PYPROJECT["project"]["dependencies"], *PYPROJECT["project"]["optional-dependencies"].values()]
    for line in (line for group in groups for line in group):
        requirement = Requirement(line)
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        assert name in pinned, f"constraints.txt does not pin {name}"
        assert requirement.specifier.contains(pinned[name]), f"constraints.txt pins {name} outside {line}"


def test_constraints_name_no_address() -> None:
    assert "://" not in (ROOT / "constraints.txt").read_text(encoding="utf-8")


def test_every_source_file_has_its_test() -> None:
    """`tests/` mirrors the packages; files without behaviour of their own are listed."""
    without = {"__init__.py", "__main__.py"}
    missing = []
    for package in ("mmsa", "extractors", "fusion"):
        for source in (ROOT / package).rglob("*.py"):
            path = source.relative_to(ROOT)
            if path.name in without:
                continue
            if not (ROOT / "tests" / path.parent / f"test_{path.name}").is_file():
                missing.append(str(path))
    assert not missing, f"no test file for {', '.join(sorted(missing))}"
