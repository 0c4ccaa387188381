"""Every recipe is a valid configuration that names things that exist."""

from __future__ import annotations

from pathlib import Path

import pytest

import extractors
from fusion import head_class
from mmsa.config import make_config
from mmsa.corpora import CORPORA

FOLDER = Path(__file__).resolve().parents[2] / "experiments"
RECIPES = sorted(FOLDER.glob("*.yaml"))


def test_there_are_recipes_and_the_readme_names_each() -> None:
    assert RECIPES
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in RECIPES if f"`{path.name}`" not in readme] == []


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_is_valid(path: Path) -> None:
    config = make_config(path)
    assert config.corpus in CORPORA
    assert head_class(config.fusion)
    for modality, choice in config.extractors.items():
        assert extractors.build(choice.name, **choice.parameters).modality == modality
