from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import fsspec
import pytest

from mmsa.bundle import load_bundle
from mmsa.scoring.batch import Recipe, open_items, score_batch, score_input, scorer_of
from mmsa.scoring.inputs import Input
from mmsa.scoring.results import Score
from mmsa.scoring.store import ResultFile
from mmsa.scoring.timeline import Timeline

if TYPE_CHECKING:
    from conftest import Trained

Wav = Callable[[Path, list[float]], Path]


@pytest.fixture
def recipe(trained: Trained, tmp_path: Path) -> Recipe:
    """A model whose text extractor fails at the word "bad" and ends its process at "crash"."""
    return Recipe(_bundle(trained, tmp_path, "bad"), Timeline(), trust_extractors=True)


def _bundle(trained: Trained, tmp_path: Path, fail_at: str) -> Path:
    bundle = load_bundle(trained.run.bundle)
    text = bundle.extractors["text"]
    spec = replace(text, parameters={**text.parameters, "fail_at": fail_at})
    folder = tmp_path / f"bundle-{len(fail_at)}"
    replace(bundle, extractors={**bundle.extractors, "text": spec}).save(folder)
    return folder


@pytest.fixture
def items(tmp_path: Path, write_wav: Wav) -> list[Input]:
    found = []
    for name, text in (("one", "so it"), ("two", "bad luck"), ("three", "crash"), ("four", "WONDERFUL")):
        path = write_wav(tmp_path / f"{name}.wav", [0.125, 0.5, 0.25])
        path.with_suffix(".txt").write_text(text, encoding="utf-8")
        found.append(Input(str(path), extra={"name": name}))
    return [*found, Input(str(tmp_path / "gone.wav")), Input(str(tmp_path / "one.wav"), 1.0, 0.5, error="no length")]


def _errors(scores: list[Score]) -> list[str]:
    return [score.error or "" for score in scores]


def test_whatever_an_input_raises_becomes_its_row(recipe: Recipe, items: list[Input], tmp_path: Path) -> None:
    with ResultFile(tmp_path / "out.jsonl", scorer_of(recipe).model, recipe.timeline.to_dict()) as file:
        found = [score for _, score in score_batch(open_items(items, recipe, file), recipe, file=file)]
    assert [score.path for score in found] == [item.path for item in items]
    assert [bool(error) for error in _errors(found)] == [False, True, False, False, True, True]
    assert found[1].error == "RuntimeError: met bad"
    assert "No such file" in (found[4].error or "")
    assert found[5].error == "no length"
    assert [score.extra.get("name") for score in found][:4] == ["one", "two", "three", "four"]
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [Score.from_dict(row) for row in rows] == found


def test_rows_conform_to_the_schema(recipe: Recipe, items: list[Input]) -> None:
    import jsonschema

    import mmsa.scoring

    schema = json.loads(Path(mmsa.scoring.__file__).with_name("schema.json").read_text(encoding="utf-8"))
    for _, score in score_batch(open_items(items, recipe), recipe):
        jsonschema.Draft202012Validator(schema).validate(json.loads(json.dumps(score.to_dict())))


def test_what_is_in_the_file_is_left_out_and_failures_on_demand(
    recipe: Recipe, items: list[Input], tmp_path: Path
) -> None:
    path, model, options = tmp_path / "out.jsonl", scorer_of(recipe).model, recipe.timeline.to_dict()
    with ResultFile(path, model, options) as file:
        list(score_batch(open_items(items[:2], recipe, file), recipe, file=file))
    with ResultFile(path, model, options) as file:
        assert [item for item, _ in open_items(items, recipe, file)] == items[2:]
        assert [item for item, _ in open_items(items, recipe, file, retry_failed=True)] == items[1:]
        Path(items[0].path).with_suffix(".txt").write_text("other words", encoding="utf-8")
        assert items[0] in [item for item, _ in open_items(items, recipe, file)]


def test_media_at_an_address_are_scored_like_local_ones(recipe: Recipe, items: list[Input]) -> None:
    system = fsspec.filesystem("memory")
    for suffix in (".wav", ".txt"):
        system.pipe(f"/talks/one{suffix}", Path(items[0].path).with_suffix(suffix).read_bytes())
    try:
        far = score_input(recipe, Input("memory://talks/one.wav"))
        near = score_input(recipe, items[0])
        assert far.path == "memory://talks/one.wav"
        assert far.windows == near.windows
        system.pipe("/talks/bad.wav", b"nothing")
        assert "memory://talks/bad.wav: not readable as media" in (
            score_input(recipe, Input("memory://talks/bad.wav")).error or ""
        )
        small = replace(recipe, max_fetch_mb=1e-4)
        assert "larger than 0.0001 MB" in (score_input(small, Input("memory://talks/one.wav")).error or "")
    finally:
        system.rm("/talks", recursive=True)


@pytest.mark.slow
def test_processes_give_the_numbers_of_one_and_outlive_a_crash(
    trained: Trained, recipe: Recipe, items: list[Input], tmp_path: Path
) -> None:
    alone = {score.path: score for _, score in score_batch(open_items(items[:4], recipe), recipe)}
    deadly = replace(recipe, bundle=_bundle(trained, tmp_path, "kill:crash"))
    path = tmp_path / "out.jsonl"
    with ResultFile(path, scorer_of(deadly).model, deadly.timeline.to_dict()) as file:
        found = list(score_batch(open_items(items[:4], deadly, file), deadly, jobs=2, file=file))
    assert sorted(item.path for item, _ in found) == sorted(alone)
    for item, score in found:
        if item is items[2]:
            assert "tried twice" in (score.error or "")
            assert "SIGKILL" in (score.error or "")
        elif item is not items[1]:
            assert score.windows == alone[item.path].windows
    assert len(path.read_bytes().splitlines()) == 4
