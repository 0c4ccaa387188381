from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from mmsa.errors import UsageError
from mmsa.recipe import Parameter, Recipe, load_recipe, make_recipe

FULL = """
train: {corpus: mosi, modalities: [text], epochs: 40, extractors: {text: {name: text.lexical}}}
heads:
  - late
  - {head: tfn, name: small tfn, options: {hidden_dim: 32}, train: {learning_rate: 5.0e-4, loss.kind: l1}}
  - {head: svm, reference: small tfn}
seeds: [1, 2]
reference: late
metrics: [sentiment.mae]
slices: [class]
search:
  parameters:
    head.hidden_dim: {low: 16, high: 256, log: true, kind: int}
    modality_dropout: {choices: [0.0, 0.2]}
  trials: 4
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    path = tmp_path / "mine.yaml"
    path.write_text(FULL.replace(", loss.kind: l1", ""), encoding="utf-8")
    return load_recipe(path)


def test_everything_is_read(recipe: Recipe) -> None:
    assert recipe.name == "mine"
    assert [(e.name, e.head, e.slug, e.classical) for e in recipe.heads] == [
        ("late", "late", "late", False),
        ("small tfn", "tfn", "small_tfn", False),
        ("svm", "svm", "svm", True),
    ]
    assert [recipe.reference_of(entry) for entry in recipe.heads] == [None, "late", "small tfn"]
    assert recipe.search is not None
    assert recipe.search.parameters["head.hidden_dim"] == Parameter(low=16, high=256, log=True, kind="int")
    assert recipe.search.metric == "loss"


def test_settings_of_a_row_lie_over_the_shared_ones(recipe: Recipe) -> None:
    late, tfn, svm = recipe.heads
    config = recipe.config(tfn, seed=7)
    assert (config.fusion, config.head, config.seed) == ("tfn", {"hidden_dim": 32}, 7)
    assert (config.corpus, config.epochs, config.learning_rate) == ("mosi", 40, 5e-4)
    assert recipe.config(late).learning_rate == 1e-3
    assert recipe.config(late).seed == 1
    assert recipe.config(svm).fusion == "late"  # a classical head has no fusion head of its own


def test_dotted_keys_reach_inside_without_changing_the_recipe() -> None:
    row = {"head": "late", "name": "b", "train": {"extractors.text.parameters.hash_dim": 8}}
    recipe = make_recipe({"train": {"extractors": {"text": {"name": "text.lexical"}}}, "heads": [row, "late"]})
    assert recipe.config(recipe.heads[0]).extractors["text"].parameters == {"hash_dim": 8}
    assert recipe.config(recipe.heads[1]).extractors["text"].parameters == {}


def test_defaults() -> None:
    recipe = make_recipe({"heads": ["late"]})
    assert recipe.seeds == (1, 2, 3, 4, 5)
    assert recipe.corpus_names == ("demo",)
    assert (recipe.reference, recipe.metrics, recipe.slices, recipe.cluster) == (None, None, (), "auto")


def test_several_corpora_and_a_row_on_its_own() -> None:
    recipe = make_recipe(
        {"corpora": ["a", "b"], "heads": ["late", {"head": "late", "name": "c", "train": {"corpus": "x"}}]}
    )
    late, own = recipe.heads
    assert recipe.corpora_of(late) == ("a", "b")
    assert [recipe.config(late, corpus=name).corpus for name in ("a", "b")] == ["a", "b"]
    assert recipe.corpora_of(own) == ("x",)
    assert recipe.config(own).corpus == "x"


def test_a_recipe_is_written_as_it_is_read(recipe: Recipe) -> None:
    again = make_recipe({"name": "mine", **yaml.safe_load(recipe.to_yaml())})
    assert again == recipe
    assert yaml.safe_load(recipe.to_yaml())["heads"][0] == "late"


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"headz": ["late"]}, ["headz: unknown key; did you mean 'heads'?", "heads: Field required"]),
        ({"heads": [{"head": "late", "optionz": {}}]}, ["heads.0.optionz: unknown key; did you mean 'options'?"]),
        ({"heads": []}, ["heads: Tuple should have at least 1 item"]),
        ({"heads": ["late", "late"]}, ["heads: the name late twice"]),
        ({"heads": ["late"], "seeds": [1, 1]}, ["seeds: the seed 1 twice"]),
        ({"heads": ["late"], "seeds": [-1]}, ["seeds.0: Input should be greater than or equal to 0, not -1"]),
        ({"heads": ["late"], "slices": ["spaeker"]}, ["'spaeker' is no slice; did you mean 'speaker'?"]),
        ({"heads": ["late"], "slices": ["mood"]}, ["'mood' is no slice; known are speaker,", "attribute.NAME"]),
        ({"heads": ["late"], "slices": ["class", "class"]}, ["slices: the slice class twice"]),
        ({"heads": ["late"], "metrics": ["mae"]}, ["'mae' must be <task>.<metric>, such as sentiment.mae"]),
        ({"heads": ["late"], "reference": "lat"}, ["reference: there is no row 'lat'; did you mean 'late'?"]),
        ({"heads": ["late"], "train": {"seed": 1}}, ["train.seed: a recipe says this under seeds"]),
        ({"heads": ["late"], "train": {"head.x": 1}}, ["train.head.x: a recipe says this under options"]),
        ({"heads": [{"head": "late", "train": {"fusion": "x"}}]}, ["row 'late': train.fusion: a recipe says this"]),
        ({"heads": ["late"], "train": {"epoch": 1}}, ["row 'late': ", "epoch: unknown key; did you mean 'epochs'?"]),
        ({"heads": ["late"], "corpora": ["a"], "train": {"corpus": "b"}}, ["leave one out"]),
        ({"heads": [{"head": "late", "name": "../up"}]}, ["a row's name takes letters"]),
        ({"heads": ["late"], "search": {"parameters": {}}}, ["search.parameters: "]),
        ({"heads": ["late"], "search": {"parameters": {"x": {"lwo": 1}}}}, ["x.lwo: unknown key; did you mean 'low'?"]),
        ({"heads": ["late"], "search": {"parameters": {"x": {"low": 2, "high": 1}}}}, ["with low below high"]),
        ({"heads": ["late"], "search": {"parameters": {"x": {"low": 0, "high": 1, "log": True}}}}, ["above 0"]),
        ({"heads": ["late"], "search": {"parameters": {"x": {"low": 0.5, "high": 1, "kind": "int"}}}}, ["whole"]),
        ({"heads": ["late"], "search": {"parameters": {"x": {"choices": [1], "low": 1}}}}, ["give choices"]),
    ],
)
def test_what_is_wrong_is_named(data: dict[str, Any], told: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        make_recipe(data)
    for words in told:
        assert words in str(caught.value)


def test_all_problems_at_once() -> None:
    with pytest.raises(UsageError) as caught:
        make_recipe({"heads": [{"head": "late", "train": {"epochs": 0}}, {"head": "tfn", "train": {"epoch": 1}}]})
    assert "row 'late'" in str(caught.value)
    assert "row 'tfn'" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("heads: [", "is not YAML"),
        ("fusion: late", "is a configuration, not a recipe: run `mmsa train --config "),
        ("- late", "must hold a mapping with the key heads, not a list"),
        (None, "cannot read"),
    ],
)
def test_files_that_are_no_recipe(tmp_path: Path, text: str | None, told: str) -> None:
    path = tmp_path / "mine.yaml"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=told):
        load_recipe(path)
