"""A corpus on a grid against the definition, cell by cell; and the same clip in training, evaluation and scoring."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from extractors import Extraction, FeatureSequence
from mmsa.bundle import load_bundle
from mmsa.config import TrainConfig, make_config
from mmsa.corpora import load_corpus
from mmsa.corpora.clip import Clip, Corpus
from mmsa.data import SplitData
from mmsa.errors import UsageError
from mmsa.evaluating import evaluate
from mmsa.features import load_features, table_writer
from mmsa.features.aligned import align_tables, aligned_root, clip_cells, on_grid
from mmsa.features.table import FeatureTable, open_table
from mmsa.judging import Judge
from mmsa.precomputed import precomputed_spec
from mmsa.runs import resume, train
from mmsa.scoring import Scorer
from mmsa.scoring.predictor import Predictor
from mmsa.tasks import Regression
from mmsa.transfer import map_tasks
from mmsa.workshop import model_config, open_workshop

if TYPE_CHECKING:
    from conftest import WriteWav

TASK = Regression("sentiment", -1, 1)
GRIDS = ["words", 4.0]


def made(steps: list[tuple[float, float, float]], name: str = "x") -> FeatureSequence:
    """`[(start, end, value)]` → a sequence of one feature."""
    times = np.array([[a, b] for a, b, _ in steps], np.float64).reshape(-1, 2)
    return FeatureSequence(np.array([[v] for _, _, v in steps], np.float32).reshape(-1, 1), times, (name,))


# A clip from 2 s on; one whose sound does not reach the second word; without words; without sound; without anything.
CLIPS: dict[str, tuple[float | None, dict[str, FeatureSequence]]] = {
    "cut": (2.0, {"audio": made([(2.0, 2.5, 1), (2.5, 3.25, 3)]), "text": made([(2.1, 2.3, 7), (2.4, 3.0, 8)])}),
    "short": (None, {"audio": made([(0.0, 0.2, 5)]), "text": made([(0.0, 0.1, 1), (0.5, 0.9, 2)])}),
    "mute words": (None, {"audio": made([(0.0, 0.3, 2), (0.3, 0.4, 4)]), "text": made([])}),
    "no sound": (0.0, {"audio": made([]), "text": made([(0.0, 1.0, 3)])}),
    "nothing": (0.0, {"audio": made([]), "text": made([])}),
}


@pytest.fixture
def store(tmp_path: Path) -> dict[str, FeatureTable]:
    """The clips' features as tables on the disk."""
    from extractors.spec import ExtractorSpec

    for key in ("audio", "text"):
        with table_writer(tmp_path / "group" / key, ExtractorSpec(f"{key}.made", "none", "1"), ("x",)) as writer:
            for name, (_, sequences) in CLIPS.items():
                notes = ("a note",) * (name == "no sound" and key == "audio")
                writer.add(name, sequences[key], None if len(sequences[key]) else "made without", notes=notes)
    return {key: open_table(tmp_path / "group" / key) for key in ("audio", "text")}


@pytest.fixture
def corpus() -> Corpus:
    clips = [Clip(name, "train", {"sentiment": 0.0}, start_seconds=start) for name, (start, _) in CLIPS.items()]
    return Corpus("made", tuple(clips), (TASK,))


def cells_by_hand(name: str, grid: str | float) -> list[tuple[float, float]]:
    start, sequences = CLIPS[name]
    words = [tuple(row) for row in sequences["text"].times]
    ends = [float(b) for sequence in sequences.values() for _, b in sequence.times]
    if not ends:
        return []
    if grid == "words":
        return words or [(0.0, max(ends))]
    cells, at = [], start or 0.0
    while at < max(ends):
        cells.append((at, min(at + 1 / float(grid), max(ends))))
        at += 1 / float(grid)
    return cells


def pooled_by_hand(sequence: FeatureSequence, cell: tuple[float, float]) -> float | None:
    weights = [max(0.0, min(cell[1], b) - max(cell[0], a)) for a, b in sequence.times]
    return float(np.average(sequence.values[:, 0], weights=weights)) if sum(weights) > 0 else None


@pytest.mark.parametrize("grid", GRIDS)
def test_a_corpus_on_a_grid_is_every_cell_by_hand(store: dict[str, FeatureTable], corpus: Corpus, grid: Any) -> None:
    data = SplitData(corpus, align_tables(corpus, store, grid), "train", (TASK,))
    batch = data.batch(np.arange(len(CLIPS)))
    for row, name in enumerate(CLIPS):
        for key, sequence in batch.inputs.items():
            expected = [pooled_by_hand(CLIPS[name][1][key], cell) for cell in cells_by_hand(name, grid)]
            mask = [value is not None for value in expected]
            steps = len(expected) if any(mask) else 0  # a modality that no cell has is missing
            assert sequence.mask[row].tolist() == mask[:steps] + [False] * (sequence.mask.shape[1] - steps), name
            values = [value for value in expected if value is not None]
            assert sequence.values[row, sequence.mask[row], 0].tolist() == pytest.approx(values, abs=1e-6), name
            assert bool((sequence.values[row][~sequence.mask[row]] == 0).all())


def test_a_step_has_one_place_in_every_modality(store: dict[str, FeatureTable], corpus: Corpus) -> None:
    """In the clip whose sound does not reach the second word, that word's sound is a gap, not a shorter sequence."""
    tables = align_tables(corpus, store, "words")
    one, two = (slice(table.offsets[1], table.offsets[2]) for table in (tables["audio"], tables["text"]))
    np.testing.assert_array_equal(tables["audio"].times[one], tables["text"].times[two])
    audio, text = tables["audio"].present, tables["text"].present
    assert audio is not None
    assert text is not None
    assert (audio[one].tolist(), text[two].tolist()) == ([True, False], [True, True])
    assert len(tables["audio"].sequence(1)) == 1
    assert tables["audio"].missing == {"no sound": "made without", "nothing": "made without"}
    assert (tables["audio"].notes, tables["text"].notes) == ({"no sound": ("a note",)}, {})


def test_empty_cells_are_no_data_for_the_normaliser(store: dict[str, FeatureTable], corpus: Corpus) -> None:
    for grid in GRIDS:
        tables = align_tables(corpus, store, grid)  # type: ignore[arg-type]
        data = SplitData(corpus, tables, "train", (TASK,))
        for key in tables:
            real = np.concatenate([tables[key].sequence(row).values for row in range(len(CLIPS))]).astype(np.float64)
            found = data.moments(key)
            assert found.count == len(real)
            assert float(found.total[0]) == pytest.approx(float(real.sum()))


def test_overlapping_words_are_not_mixed() -> None:
    words = made([(0.0, 1.0, 1), (0.5, 1.5, 2)])
    found = on_grid({"text": words, "audio": made([(0.0, 0.5, 4), (0.5, 1.5, 8)])}, "words", None)
    assert found.values["text"][:, 0].tolist() == [1.0, 2.0]
    assert found.values["audio"][:, 0].tolist() == [6.0, 8.0]


def test_an_instant_at_the_end_has_a_cell() -> None:
    """A still image, or a word without length, behind all that has some."""
    instant = made([(1.0, 1.0, 9)])
    found = on_grid({"vision": instant, "audio": made([(0.0, 1.0, 4)])}, 2.0, None)
    assert found.present["vision"].tolist() == [False, False, True]
    assert len(clip_cells({"vision": made([(0.0, 0.0, 1)])}, 2.0, None)) == 1


def test_it_is_made_once_and_again_when_anything_changes(
    store: dict[str, FeatureTable], corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = align_tables(corpus, store, 4.0)
    others = [
        align_tables(corpus, store, 5.0),
        align_tables(corpus, store, "words"),
        align_tables(corpus, {"audio": store["audio"]}, 4.0),
        align_tables(
            replace(corpus, clips=(replace(corpus.clips[0], start_seconds=2.1), *corpus.clips[1:])), store, 4.0
        ),
    ]
    places = {found["audio"].folder for found in (first, *others)}
    assert len(places) == 5
    monkeypatch.setattr("mmsa.features.aligned.on_grid", lambda *_: pytest.fail("made again"))
    again = align_tables(corpus, store, 4.0)
    np.testing.assert_array_equal(again["audio"].values, first["audio"].values)
    assert first["audio"].folder is not None
    (first["audio"].folder / "store.json").unlink()  # as a process leaves it that dies
    with pytest.raises(pytest.fail.Exception, match="made again"):
        align_tables(corpus, store, 4.0)


def test_half_precision_stays_half(tmp_path: Path, corpus: Corpus) -> None:
    from extractors.spec import ExtractorSpec

    with table_writer(tmp_path / "group" / "audio", ExtractorSpec("made", "none", "1"), ("x",), "float16") as writer:
        for name, (_, sequences) in CLIPS.items():
            writer.add(name, sequences["audio"], None)
    assert align_tables(corpus, {"audio": open_table(tmp_path / "group" / "audio")}, 4.0)["audio"].values.dtype == "f2"


SHORT = {
    "epochs": 2,
    "extractors.text.name": "text.lexical",
    "extractors.text.parameters": {"hash_dim": 0},
    "modality_dropout": 0.0,
}


def short(config: TrainConfig, **settings: Any) -> TrainConfig:
    """Two epochs of a small training, with a text extractor that has times."""
    chosen = {"root": config.root, **SHORT, **{key.replace("__", "."): value for key, value in settings.items()}}
    kept = config.model_dump(exclude={"extractors", "head", "grid_steps"}, exclude_defaults=True)
    return make_config(None, {**kept, "extractors.audio.name": "small_extractors:Loudness", **chosen})


@pytest.mark.parametrize(("grid", "head"), [("words", "mfn"), (4.0, "mfn"), (4.0, "early"), ("words", "late")])
def test_scoring_puts_a_clip_on_the_same_grid_as_training(untrained: TrainConfig, grid: Any, head: str) -> None:
    """From the bundle and the file alone what the run says of its test split."""
    config = short(untrained, fusion=head, grid=grid)
    run = train(config)
    bundle = load_bundle(run.bundle)
    assert (bundle.model.config.grid, bundle.model.config.grid_steps) == (grid, None)
    assert bundle.model.config.head_options == ({"grid_steps": None} if head == "early" else {})
    shop = open_workshop(config)
    data = shop.split("test")
    scorer = Scorer(replace(bundle, calibration=None), trust_extractors=True)
    lengths = set()
    for row, clip in enumerate(data.clips):
        assert clip.media is not None
        batch = data.batch(np.array([row]))
        with torch.no_grad():
            expected = float(bundle.model(batch.inputs).prediction[0, 0])
        lengths.add(batch.inputs["audio"].mask.shape[1])
        found = scorer.score(clip.media, text=clip.transcript or "").scores["sentiment"].value
        assert found == pytest.approx(min(max(expected, -1), 1), abs=1e-5), clip.id
    assert len(lengths) > 1
    assert evaluate(run.id, trust_extractors=True).test_metrics == pytest.approx(run.test_metrics)


def test_a_window_of_a_timeline_is_on_the_grid_of_that_stretch(untrained: TrainConfig, write_wav: WriteWav) -> None:
    """Cells of 0.2 s are counted from where a stretch starts, here every 0.3 s."""
    scorer = Scorer(load_bundle(train(short(untrained, fusion="mfn", grid=5)).bundle), trust_extractors=True)
    path = write_wav(Path("long.wav"), [0.1, 0.5, 0.2, 0.4, 0.1, 0.3, 0.6, 0.2, 0.5, 0.4])
    windows = scorer.score(path, window_seconds=0.5, hop_seconds=0.3, smooth_seconds=0.0).windows
    assert len(windows) > 1
    for window in windows:
        own = scorer.score(path, start_seconds=window.start_seconds, end_seconds=window.end_seconds)
        assert own.scores["sentiment"].value == pytest.approx(window.scores["sentiment"].value, abs=1e-6)


def test_what_misses_every_word_is_missing(untrained: TrainConfig) -> None:
    bundle = load_bundle(train(short(untrained, fusion="mfn", grid="words")).bundle)
    text = FeatureSequence(np.ones((1, 20), np.float32), np.array([[0.25, 0.3]]), tuple(map(str, range(20))))
    found = Extraction({"audio": made([(0.0, 0.2, 0.5)], "loudness"), "text": text}, {}, 0.3)
    (result,) = Predictor(bundle).predict([found])
    audio = result.modalities["audio"]
    assert (audio.present, audio.reason, audio.steps) == (False, "nothing of it overlaps a word", 0)
    assert result.modalities["text"].present


def test_a_run_on_a_grid_is_gone_on_with(untrained: TrainConfig) -> None:
    config = short(untrained, fusion="mfn", grid="words", epochs=3)
    whole = train(config)

    def stop(epoch: Any) -> None:
        if epoch.number == 2:
            raise KeyboardInterrupt("")

    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        train(config, on_epoch=stop)
    again = resume("latest")
    assert again.epochs == 3
    assert again.test_metrics == whole.test_metrics


def test_words_place_the_steps_that_a_model_is_given_without_them(untrained: TrainConfig) -> None:
    """Evaluated on sound alone: still a step per word, as in training, and not one per clip."""
    run = train(short(untrained, fusion="mfn", grid="words"))
    bundle = load_bundle(run.bundle)
    whole = open_workshop(short(untrained, fusion="mfn", grid="words"))
    judge = Judge(
        bundle.model,
        bundle.tasks,
        map_tasks(bundle.tasks, whole.corpus.tasks, "small"),
        whole.corpus,
        "test",
        torch.device("cpu"),
    )
    expected = judge.measure(judge.answer(whole.extracted, ("audio",)))
    found = evaluate(run.id, modalities=["audio"], trust_extractors=True)
    assert found.modalities == ("audio",)
    assert found.test_metrics == pytest.approx(expected)
    other = judge.measure(judge.answer({"audio": whole.extracted["audio"]}, ("audio",)))
    assert other != pytest.approx(expected)


def test_a_benchmark_compares_grids(untrained: TrainConfig, tmp_path: Path) -> None:
    from mmsa.benchmarking.runner import benchmark
    from mmsa.recipe import Recipe

    config = short(untrained)
    shared = config.model_dump(mode="json", exclude={"fusion", "head", "seed"}, exclude_defaults=True)
    rows = [
        {"head": "mfn", "name": "by number"},
        {"head": "mfn", "name": "by word", "train": {"grid": "words"}},
        {"head": "mfn", "name": "by time", "train": {"grid": 5}},
        {"head": "svm", "name": "svm by word", "train": {"grid": "words"}},
    ]
    recipe = Recipe.model_validate({"name": "grids", "train": shared, "heads": rows, "seeds": [1]})
    found = benchmark(recipe, output=tmp_path / "out", jobs=1)
    assert (found.failed, found.trained) == ({}, 4)
    kept = [json.loads(path.read_text("utf-8")) for path in (tmp_path / "out").rglob("result.json")]
    assert {row["row"]: row["settings"]["grid"] for row in kept} == {
        "by number": None,
        "by word": "words",
        "by time": 5.0,
        "svm by word": "words",
    }
    assert benchmark(recipe, output=tmp_path / "out", jobs=1).trained == 0


def test_heads_are_told_that_features_lie_on_a_grid(untrained: TrainConfig) -> None:
    shop = open_workshop(short(untrained, grid="words"))
    assert model_config(short(untrained, fusion="early", grid="words"), shop).head_options == {"grid_steps": None}
    own = short(untrained, fusion="early", grid="words", head={"grid_steps": 8})
    assert model_config(own, shop).head_options == {"grid_steps": 8}
    plain = model_config(short(untrained, fusion="early"), shop)
    assert (plain.head_options, plain.grid_steps) == ({}, 32)
    assert "grid" not in plain.identity()
    assert model_config(own, shop).identity()["grid"] == "words"


def test_words_of_a_model_without_text_are_refused_before_any_work(untrained: TrainConfig, small: Any) -> None:
    with pytest.raises(UsageError, match=r"grid: words needs the words, and text is not .* \(audio\): add it, or give"):
        open_workshop(short(untrained, modalities=["audio"], grid="words"))
    assert not small.CALLS


def test_ready_made_features_have_no_times() -> None:
    from mmsa.features.aligned import check_grid

    with pytest.raises(UsageError, match=r"ready-made have none: audio \(from pack\.pkl\).*grid_steps: null"):
        check_grid(5.0, {"audio": precomputed_spec("pack.pkl", "0" * 64)})


def test_features_in_memory_have_no_identity(make_table: Callable[..., FeatureTable], corpus: Corpus) -> None:
    with pytest.raises(ValueError, match="only tables of the feature store"):
        align_tables(corpus, {"audio": make_table("audio", [np.ones((1, 1))] * len(CLIPS))}, 4.0)
    assert not aligned_root().exists()


def test_the_store_itself_stays_as_it_is(untrained: TrainConfig) -> None:
    plain, shop = open_workshop(short(untrained)), open_workshop(short(untrained, grid=5))
    corpus = load_corpus("small", untrained.root)
    for key, table in load_features(corpus, shop.extractors).items():
        assert table.present is None
        np.testing.assert_array_equal(shop.extracted[key].values, plain.tables[key].values)
