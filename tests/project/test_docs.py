"""The documentation runs, names every head, and its links lead somewhere."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from fusion import head_classes

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FUSION = ROOT / "docs" / "fusion"
FAMILIES = ("early", "late", "hierarchical", "tensor", "attention", "memory", "representation")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT)) if page.is_relative_to(ROOT) else page.name


def python_blocks(page: Path) -> list[str]:
    """The page's python blocks, each behind as many empty lines as stand above it, so that line numbers are right."""
    text = page.read_text(encoding="utf-8")
    return [
        "\n" * text[: match.start(2)].count("\n") + match[2] for match in BLOCK.finditer(text) if match[1] == "python"
    ]


def modules_in(block: str) -> set[str]:
    """The modules that a block imports, by their full names."""
    nodes = list(ast.walk(ast.parse(block)))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return plain | {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}


def is_only_compiled(block: str) -> bool:
    """The rule: a block that imports `mmsa` would train, read a corpus or score a video; it is compiled, not run."""
    return any(module.split(".")[0] == "mmsa" for module in modules_in(block))


def check_names_of_mmsa(block: str) -> None:
    """What a block that is not run takes from `mmsa` exists: `mmsa.name`, and `from mmsa... import name`."""
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "mmsa":
            wanted = [(str(node.module), alias.name) for alias in node.names]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "mmsa":
            wanted = [("mmsa", node.attr)]
        else:
            continue
        for module, name in wanted:
            assert hasattr(importlib.import_module(module), name), f"{module} has no {name}"


def run_page(page: Path) -> int:
    """Run the page's blocks one after the other in one namespace; returns how many were run."""
    namespace: dict[str, Any] = {"__name__": "__docs__"}
    ran = 0
    for block in python_blocks(page):
        code = compile(block, str(page), "exec")
        if is_only_compiled(block):
            check_names_of_mmsa(block)
            continue
        exec(code, namespace)
        ran += 1
    return ran


def table_rows(page: Path) -> list[list[str]]:
    """The cells of every table row of a page; fenced blocks hold none."""
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    lines = (line.strip() for line in text.splitlines())
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]


def slugs(page: Path) -> set[str]:
    """The anchors that a page's headings make."""
    headings = re.findall(r"^#+ (.*)$", BLOCK.sub("", page.read_text(encoding="utf-8")), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def broken_links(page: Path) -> list[str]:
    """Links of a page to files or headings that do not exist; addresses on the web are not followed."""
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", BLOCK.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in slugs(file)):
            broken.append(target)
    return broken


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        run_page(page)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_relative_links_resolve(page: Path) -> None:
    assert broken_links(page) == []


@pytest.mark.parametrize("page", sorted(FUSION.glob("*.md")), ids=name_of)
def test_lines_are_short(page: Path) -> None:
    lines = page.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if len(line) > 120] == []


def test_every_family_has_its_page() -> None:
    assert {head.family for head in head_classes().values()} == set(FAMILIES)
    assert {page.stem for page in FUSION.glob("*.md")} == {*FAMILIES, "README", "tools", "correctness"}


@pytest.mark.parametrize("family", FAMILIES)
def test_family_page_lists_its_heads_and_builds_each(family: str) -> None:
    """One row per head of the family, with short name and class, none of another family; each is built and trained."""
    page = FUSION / f"{family}.md"
    heads = {name: head.__name__ for name, head in head_classes().items() if head.family == family}
    rows = {row[0].strip("`"): row[1].strip("`") for row in table_rows(page) if row[0].startswith("`")}
    assert rows == heads
    (block,) = python_blocks(page)
    assert not is_only_compiled(block)
    used = {node.id for node in ast.walk(ast.parse(block)) if isinstance(node, ast.Name)}
    assert sorted(set(heads.values()) - used) == []


@pytest.mark.parametrize("name", head_classes())
def test_family_page_cites_the_heads_source(name: str) -> None:
    head = head_classes()[name]
    text = " ".join((FUSION / f"{head.family}.md").read_text(encoding="utf-8").split())
    assert f"Source: {head.paper}." in text


@pytest.mark.parametrize("name", head_classes())
def test_correctness_has_a_row_for_every_head_and_names_its_tests(name: str) -> None:
    page = FUSION / "correctness.md"
    (row,) = [row for row in table_rows(page) if row[0] == f"`{name}`"]
    assert row[1] == f"`{head_classes()[name].__name__}`"
    module = head_classes()[name].__module__.removeprefix("fusion.")
    assert f"`test_{module}.py`" in row[2]
    section = page.read_text(encoding="utf-8").split(f"\n### `{name}`\n")[1].split("\n#")[0]
    assert section.count("\n| ") >= 4, "a section needs its header and at least two rows"


def test_correctness_names_only_what_exists() -> None:
    """Test files, checks of the contract and mutants; an old name would claim what nobody checks."""
    tests = ROOT / "tests" / "fusion"
    text = (FUSION / "correctness.md").read_text(encoding="utf-8")
    assert [file for file in re.findall(r"`(test_\w+\.py)`", text) if not (tests / file).is_file()] == []
    checks = set(re.findall(r"^def (check_\w+)", (ROOT / "fusion" / "testing.py").read_text("utf-8"), re.MULTILINE))
    assert set(re.findall(r"`(check_\w+)`", text)) == checks
    mutants = re.findall(r"^class (\w+)\(Sound\)", (tests / "test_testing.py").read_text("utf-8"), re.MULTILINE)
    listed = text.split("### The checks themselves")[1].split("\n## ")[0]
    assert sorted(re.findall(r"^\| `(\w+)`", listed, re.MULTILINE)) == sorted(mutants)


def test_the_index_leads_to_every_page() -> None:
    index = (FUSION / "README.md").read_text(encoding="utf-8")
    others = {page.name for page in FUSION.glob("*.md")} - {"README.md"}
    assert others <= set(re.findall(r"\]\(([\w.]+)\)", index))
    assert [name for name in head_classes() if f"`{name}`" not in index] == []


def write(folder: Path, text: str) -> Path:
    page = folder / "page.md"
    page.write_text(text, encoding="utf-8")
    return page


def test_blocks_share_a_namespace_and_fail_at_their_own_line(tmp_path: Path) -> None:
    sound = "# Page\n\n```python\nx = 1\n```\n\n```sh\nexit 1\n```\n\n```python\nassert x == 1\n```\n"
    assert run_page(write(tmp_path, sound)) == 2
    with pytest.raises(AssertionError) as caught:
        run_page(write(tmp_path, sound.replace("x == 1", "x == 2")))
    assert caught.traceback[-1].lineno == 11  # counted from 0: the twelfth line of the page


def test_only_blocks_that_import_mmsa_are_not_run(tmp_path: Path) -> None:
    assert run_page(write(tmp_path, "```python\nimport mmsa\nraise SystemExit\n```\n")) == 0
    assert is_only_compiled("from mmsa.runs import train")
    assert not is_only_compiled("import torch\n# import mmsa")
    with pytest.raises(SyntaxError):
        run_page(write(tmp_path, "```python\nimport mmsa\ntrain(\n```\n"))
    with pytest.raises(AssertionError, match="mmsa has no trian"):
        run_page(write(tmp_path, "```python\nimport mmsa\nmmsa.trian()\n```\n"))


def test_broken_links_are_found(tmp_path: Path) -> None:
    links = "# A `b_c` title\n[1](page.md) [2](no.md) [3](#a-b_c-title) [4](page.md#x) [5](https://example.org/no)\n"
    assert broken_links(write(tmp_path, links)) == ["no.md", "page.md#x"]
