"""Every file in `experiments/` is a valid recipe or configuration that names things that exist."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

import extractors
from extractors.errors import ToolError
from fusion import head_class, head_classes
from mmsa.config import TrainConfig, make_config
from mmsa.corpora import CORPORA, load_corpus
from mmsa.errors import UsageError
from mmsa.metrics import metric_names
from mmsa.model import check_options
from mmsa.recipe import load_recipe

FOLDER = Path(__file__).resolve().parents[2] / "experiments"
FILES = sorted(FOLDER.glob("*.yaml"))
RECIPES = [path for path in FILES if "heads" in yaml.safe_load(path.read_text(encoding="utf-8"))]
CONFIGURATIONS = [path for path in FILES if path not in RECIPES]


def check_names(config: TrainConfig) -> None:
    """Corpus, head and extractors exist and are for their modality; an encoder that is not installed is left out."""
    assert config.corpus in CORPORA
    assert head_class(config.fusion)
    chosen = {key: config.extractor(key) for key in {*config.extractors, *config.encoders}}
    for modality, choice in chosen.items():
        try:
            built = extractors.build(choice.name, **choice.parameters)
        except ToolError as error:
            assert "mmsa-framework[bench]" in str(error)  # noqa: PT017 - what is missing can be installed
            continue
        assert built.modality == modality


def test_there_are_files_and_the_readme_names_each() -> None:
    assert RECIPES
    assert CONFIGURATIONS
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in FILES if f"`{path.name}`" not in readme] == []


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.stem)
def test_configuration_is_valid(path: Path) -> None:
    check_names(make_config(path))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_is_valid(path: Path) -> None:
    recipe = load_recipe(path)
    checked: dict[str, None] = {}
    for entry in recipe.heads:
        if not entry.classical:
            check_options(entry.head, entry.options)
        for corpus in recipe.corpora_of(entry):
            config = recipe.config(entry, corpus=corpus)
            key = config.model_dump_json(exclude={"fusion", "head", "modalities"})
            if key not in checked:
                check_names(config)
                checked[key] = None
    assert len(recipe.seeds) >= 3


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_metrics_are_those_of_the_corpus(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMSA_CACHE", str(tmp_path))
    recipe = load_recipe(path)
    for corpus in recipe.corpus_names:
        if corpus == "demo":  # would be rendered; its tasks are those of MOSI and MELD
            continue
        try:
            tasks = load_corpus(corpus).tasks
        except UsageError:
            pytest.skip(f"MMSA_DATA holds no {corpus}")
        known = {f"{task.name}.{name}" for task in tasks for name in metric_names(task)}
        assert set(recipe.metrics or ()) <= known


def test_the_demo_recipe_has_every_head() -> None:
    recipe = load_recipe(FOLDER / "demo.yaml")
    assert set(head_classes()) <= {entry.head for entry in recipe.heads}
