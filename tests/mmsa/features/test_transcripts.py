"""A corpus that is listened to, by models that are made here: once, whole or not at all, the same in scoring."""

from __future__ import annotations

import json
import shutil
import wave
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock

import mmsa.corpora
from extractors.transcription.transcribe import transcribe
from mmsa.bundle import load_bundle
from mmsa.config import TrainConfig, make_config
from mmsa.corpora import load_corpus
from mmsa.corpora.clip import Clip, Corpus
from mmsa.errors import UsageError
from mmsa.evaluating import evaluate
from mmsa.features import load_features
from mmsa.features.identity import clip_digests
from mmsa.features.inventory import find_stale
from mmsa.features.store import identify
from mmsa.features.transcripts import hear, transcripts_root
from mmsa.robustness.noise import NOISES, Damage
from mmsa.runs import train
from mmsa.scoring import Scorer
from mmsa.tasks import Regression
from mmsa.words import WordOptions, word_source
from mmsa.workshop import open_workshop

pytestmark = pytest.mark.slow

Mmsa = Callable[..., tuple[int, str, str]]
SAYS = {"low": [(" no", 0.4)], "high": [(" yes", 0.3), (" maybe", 1.0)]}


def write(path: Path, samples: np.ndarray) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(np.round(samples * 32767).astype("<i2").tobytes())
    return path


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, beeps: ModuleType) -> Path:
    """The small corpus's layout: low clips say "no", high ones "yes maybe"; two of the training split are written."""
    folder = tmp_path_factory.mktemp("spoken")
    for split, count in (("train", 6), ("valid", 2), ("test", 3)):
        for number in range(count):
            emotion = ("low", "high")[number % 2]
            length = 1.6 + number / 10 + {"train": 0.0, "valid": 0.03, "test": 0.06}[split]
            samples = beeps.spoken(SAYS[emotion], length)
            path = write(folder / f"{split}-{number:02}-{emotion}.wav", samples)
            if split == "train" and number < 2:
                path.with_suffix(".words").write_text("given words", encoding="utf-8")
    write(folder / "test-02-low.wav", np.zeros(20000))  # nobody speaks
    return folder


@pytest.fixture
def corpus(root: Path, small: Any, monkeypatch: pytest.MonkeyPatch) -> Corpus:
    monkeypatch.setitem(mmsa.corpora.CORPORA, "small", "small_extractors:load_small")
    return load_corpus("small", root)


@pytest.fixture
def heard(whisper: Path) -> WordOptions:
    return WordOptions(str(whisper), "en")


def said(corpus: Corpus) -> dict[str, str | None]:
    return {clip.id: clip.transcript for clip in corpus.clips}


def forbid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmsa.features.transcripts._listen", lambda *_: pytest.fail("listened again"))


def test_clips_without_a_transcript_get_what_is_said(corpus: Corpus, heard: WordOptions) -> None:
    found, done = hear(corpus, word_source(heard))
    for clip in found.clips:
        expected = {"low": "no", "high": "yes maybe"}[str(clip.labels["emotion"])]
        if clip.id in ("train-00-low", "train-01-high"):
            assert (clip.transcript, clip.timed) == ("given words", None)
        elif clip.id == "test-02-low":
            assert clip.transcript is None
            assert clip.timed is not None
            assert not clip.timed.segments
        else:
            assert clip.transcript == expected, clip.id
            assert clip.media is not None
            assert clip.timed == transcribe(clip.media, str(heard.transcribe), language="en")
            assert clip.timed is not None
            assert all(segment.words for segment in clip.timed.segments)
    assert (done.recognised, done.silent, done.kept, done.failed) == (9, 1, 0, {})
    assert list(done.told(word_source(heard))) == [
        f"9 clips had no transcript: recognised by {Path(str(heard.transcribe)).name}, 1 of them without speech"
    ]


def test_it_is_listened_to_once(corpus: Corpus, heard: WordOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = hear(corpus, word_source(heard))
    forbid(monkeypatch)
    renamed = replace(corpus, clips=tuple(replace(clip, id=f"x{clip.id}", labels={}) for clip in corpus.clips))
    again, done = hear(renamed, word_source(heard))
    assert [clip.timed for clip in again.clips] == [clip.timed for clip in first.clips]
    assert done.kept == done.recognised == 9
    with pytest.raises(pytest.fail.Exception, match="listened again"):
        hear(corpus, word_source(replace(heard, language="de")))


@pytest.mark.parametrize("harm", ["cut", "changed", "foreign"])
def test_a_line_that_is_not_whole_is_heard_again(
    corpus: Corpus, heard: WordOptions, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    """As a killed process, a failing disk or another program leaves them; whole lines are kept."""
    first, _ = hear(corpus, word_source(heard))
    (path,) = transcripts_root().glob("*.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) == 9
    last = {"cut": lines[-1][:60], "changed": lines[-1].replace(b"segments", b"segmentz"), "foreign": b"\xff\x00 {\n"}
    path.write_bytes(b"".join(lines[:-1]) + last[harm])
    calls: list[str] = []
    listen = mmsa.features.transcripts._listen

    def count(task: Any, extractors: Any) -> Any:
        calls.append(task.clip.id)
        return listen(task, extractors)

    monkeypatch.setattr("mmsa.features.transcripts._listen", count)
    again, done = hear(corpus, word_source(heard))
    assert said(again) == said(first)
    assert (len(calls), done.kept) == (1, 8)
    forbid(monkeypatch)
    assert said(hear(corpus, word_source(heard))[0]) == said(first)


def test_a_stop_in_the_middle_loses_nothing_that_was_heard(
    corpus: Corpus, heard: WordOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = hear(corpus, word_source(heard))
    (path,) = transcripts_root().glob("*.jsonl")
    expected = sorted(path.read_bytes().splitlines())
    path.unlink()
    listen = mmsa.features.transcripts._listen

    def stop(task: Any, extractors: Any) -> Any:
        if task.clip.id.startswith("valid"):
            raise KeyboardInterrupt("now")
        return listen(task, extractors)

    monkeypatch.setattr("mmsa.features.transcripts._listen", stop)
    with pytest.raises(KeyboardInterrupt, match="now"):
        hear(corpus, word_source(heard))
    monkeypatch.setattr("mmsa.features.transcripts._listen", listen)
    found, done = hear(corpus, word_source(heard))
    assert 0 < done.kept < 9
    assert said(found) == said(whole)
    assert sorted(path.read_bytes().splitlines()) == expected


def test_two_processes_hear_what_one_does(corpus: Corpus, heard: WordOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    one, _ = hear(corpus, word_source(heard))
    shutil.rmtree(transcripts_root())
    two, done = hear(corpus, word_source(heard), jobs=2)
    assert [clip.timed for clip in two.clips] == [clip.timed for clip in one.clips]
    assert done.kept == 0


def test_segments_of_one_file_have_the_files_times(
    heard: WordOptions, tmp_path: Path, beeps: ModuleType, write_wav: Any
) -> None:
    path = write(tmp_path / "long.wav", beeps.spoken([(" yes", 0.5), (" no", 3.5)], 5.0))
    clips = [Clip(f"{at}", "train", {}, path, start_seconds=at, end_seconds=at + 2) for at in (0.0, 3.0)]
    found, _ = hear(Corpus("long", tuple(clips), (Regression("sentiment", -1, 1),)), word_source(heard))
    assert [clip.transcript for clip in found.clips] == ["yes", "no"]
    starts = [clip.timed.segments[0].words[0].start_seconds for clip in found.clips if clip.timed]
    np.testing.assert_allclose(starts, [0.5, 3.5], atol=0.25)  # it begins with the margin of silence


def test_what_is_there_needs_no_lock(corpus: Corpus, heard: WordOptions) -> None:
    """Trainings side by side open it at once."""
    first, _ = hear(corpus, word_source(heard))
    (path,) = transcripts_root().glob("*.jsonl")
    with FileLock(path.with_name(f".{path.name}.lock")):
        again, done = hear(corpus, word_source(heard))
    assert (said(again), done.kept) == (said(first), 9)


def test_a_file_that_changes_meanwhile_stops_it(
    corpus: Corpus, heard: WordOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Path(shutil.copy(str(corpus.clips[-1].media), tmp_path / "live.wav"))
    one = replace(corpus, clips=(replace(corpus.clips[-1], media=place),))
    listen = mmsa.features.transcripts._listen

    def overwrite(task: Any, extractors: Any) -> Any:
        place.write_bytes(place.read_bytes()[:-100])
        return listen(task, extractors)

    monkeypatch.setattr("mmsa.features.transcripts._listen", overwrite)
    with pytest.raises(UsageError, match=r"live\.wav changed while it was listened to: when nothing writes"):
        hear(one, word_source(heard))
    assert not list(transcripts_root().glob("*.jsonl"))


def test_media_that_cannot_be_read_is_told_and_tried_again(corpus: Corpus, heard: WordOptions, tmp_path: Path) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"no sound at all")
    clip = replace(corpus.clips[-1], id="broken", media=broken)
    one = replace(corpus, clips=(clip,))
    for _ in range(2):
        found, done = hear(one, word_source(heard))
        assert found == one
        assert list(done.failed) == ["broken"]
        assert str(tmp_path) not in done.failed["broken"]
    (told,) = done.told(word_source(heard))
    assert told.startswith("1 clips could not be listened to (the first, broken: ")


def test_text_features_belong_to_the_words_that_were_heard(corpus: Corpus, heard: WordOptions, small: Any) -> None:
    found, _ = hear(corpus, word_source(heard))
    media = identify(corpus)
    before, after = (clip_digests(own.clips, True, media) for own in (corpus, found))
    assert [a == b for a, b in zip(before, after, strict=True)] == [clip.timed is None for clip in found.clips]
    assert clip_digests(corpus.clips, False, media) == clip_digests(found.clips, False, media)
    table = load_features(found, {"text": small.WordLengths()}, jobs=1)["text"]
    lengths = {clip.id: table.sequence(i).values[:, 0].tolist() for i, clip in enumerate(found.clips)}
    assert (lengths["valid-00-low"], lengths["valid-01-high"], lengths["train-00-low"]) == ([2.0], [3.0, 5.0], [5, 5])
    assert table.missing == {"test-02-low": "no speech was recognised"}
    # Neither of the two tables supersedes the other.
    load_features(corpus, {"text": small.WordLengths()}, jobs=1)
    assert find_stale(corpus, {"text": small.WordLengths()}) == []


def test_misheard_phrases_keep_their_times(corpus: Corpus, heard: WordOptions) -> None:
    found, _ = hear(corpus, word_source(heard))
    damage = Damage(found, "test", 0)
    extractor = object()
    worse, _ = damage.apply(NOISES["text"], 1.0, found, extractor)  # type: ignore[arg-type]
    same, _ = damage.apply(NOISES["text"], 0.0, found, extractor)  # type: ignore[arg-type]
    assert same == found
    for clip, other in zip(found.clips, worse.clips, strict=True):
        if clip.timed:
            assert other.timed is not None
            assert clip.transcript != other.transcript == (other.timed.text)
            assert [s.start_seconds for s in other.timed.segments] == [s.start_seconds for s in clip.timed.segments]


@pytest.fixture
def config(untrained: TrainConfig, root: Path, whisper: Path) -> TrainConfig:
    settings = {
        "root": root,
        "corpus": "small",
        "modalities": ["audio", "text"],
        "epochs": 2,
        "device": "cpu",
        "jobs": 1,
        "modality_dropout": 0.0,
        "extractors.audio.name": "small_extractors:Loudness",
        "extractors.text.name": "text.lexical",
        "extractors.text.parameters": {"hash_dim": 0},
        "words.transcribe": str(whisper),
        "words.language": "en",
    }
    return make_config(None, settings)


def changed(config: TrainConfig, **values: Any) -> TrainConfig:
    return TrainConfig.model_validate({**config.model_dump(), **values})


def test_a_model_listens_in_scoring_as_it_did_in_training(
    config: TrainConfig, whisper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the bundle moved elsewhere and the Whisper gone: the copy in the bundle is used, on a grid of its words."""
    mine = Path(shutil.copytree(whisper, tmp_path / "my-whisper"))
    config = changed(config, words={"transcribe": str(mine), "language": "en"}, grid="words", fusion="mfn")
    run = train(config)
    assert any("recognised by my-whisper" in note for note in run.notes)
    assert any(note.startswith("The words of 2 clips have no times") for note in run.notes)
    data = open_workshop(config).split("test")
    assert evaluate(run.id, trust_extractors=True).test_metrics == pytest.approx(run.test_metrics)
    folder = Path(shutil.move(run.bundle, tmp_path / "moved"))
    shutil.rmtree(mine)
    bundle = load_bundle(folder)
    scorer = Scorer(replace(bundle, calibration=None), trust_extractors=True)
    for row, clip in enumerate(data.clips):
        assert clip.media is not None
        with torch.no_grad():
            expected = float(bundle.model(data.batch(np.array([row])).inputs).prediction[0, 0])
        found = scorer.score(clip.media)
        assert found.scores["sentiment"].value == pytest.approx(min(max(expected, -1), 1), abs=1e-5), clip.id
        assert found.modalities["text"].present == (clip.id != "test-02-low")
        assert found.options["words"]["transcribe"]["model"] == "my-whisper"
    clip = data.clips[1]
    silent = Scorer(bundle, trust_extractors=True, words=WordOptions("none")).score(str(clip.media))
    assert (silent.modalities["text"].present, "transcribe" in silent.options.get("words", {})) == (False, False)
    other = Scorer(bundle, trust_extractors=True, words=WordOptions(str(whisper), "de"))
    assert other.words.options.language == "de"
    assert other.words.names == {"transcribe": whisper.name}
    shutil.rmtree(folder / "encoders")
    word_source.cache_clear()
    with pytest.raises(UsageError, match=r"no such folder.*trained on words that were made so; --transcribe none goes"):
        Scorer(load_bundle(folder), trust_extractors=True)
    assert Scorer(load_bundle(folder), trust_extractors=True, words=WordOptions("none")).words.specs == {}


def test_aligned_words_lie_where_they_are_said(config: TrainConfig, ctc: Path) -> None:
    """Given words of two clips, spread evenly without an aligner, get times of their own with it."""
    plain = open_workshop(changed(config, words={}, grid="words"))
    aligned = open_workshop(changed(config, words={"align": str(ctc)}, grid="words"))
    assert aligned.words.transcribe is None
    assert [note[:22] for note in plain.remarks] == ["The words of 2 clips h"]
    assert aligned.remarks == ()
    for place, clip in enumerate(aligned.corpus.clips[:11]):
        if clip.transcript is None:
            continue
        assert clip.timed is not None
        expected = [[w.start_seconds, w.end_seconds] for s in clip.timed.segments for w in s.words]
        np.testing.assert_allclose(aligned.tables["text"].sequence(place).times, expected)
        assert plain.tables["text"].sequence(place).times.tolist() != expected
        np.testing.assert_array_equal(
            aligned.tables["text"].sequence(place).values, plain.tables["text"].sequence(place).values
        )


def test_a_benchmark_compares_ways_of_hearing(config: TrainConfig, tmp_path: Path) -> None:
    from mmsa.benchmarking.runner import benchmark
    from mmsa.recipe import Recipe

    shared = config.model_dump(mode="json", exclude={"fusion", "head", "seed", "words"}, exclude_defaults=True)
    words = config.words.model_dump(exclude_defaults=True)
    rows = [{"head": "svm", "name": "written"}, {"head": "svm", "name": "heard", "train": {"words": words}}]
    found = benchmark(
        Recipe.model_validate({"name": "ways", "train": shared, "heads": rows, "seeds": [1]}),
        output=tmp_path / "out",
        jobs=1,
    )
    assert (found.failed, found.trained) == ({}, 2)
    kept = [json.loads(path.read_text("utf-8")) for path in (tmp_path / "out").rglob("result.json")]
    assert {row["row"]: row["settings"]["words"]["transcribe"] is None for row in kept} == {
        "written": True,
        "heard": False,
    }


def test_extracting_a_corpus_listens_first(run_mmsa: Mmsa, config: TrainConfig, root: Path, whisper: Path) -> None:
    words = ("extract", "small", "--root", str(root), "--modalities", "text", "--jobs", "1", "--json")
    given = (*words, "--set", "extractors.text.name=text.lexical", "--transcribe", str(whisper), "--language", "en")
    code, out, _ = run_mmsa(*given)
    assert code == 0
    transcripts, text = (json.loads(line) for line in out.splitlines())
    told = {"recognised": 9, "silent": 1, "aligned": 0, "unaligned": 0, "kept": 0, "failed": {}}
    assert transcripts == {"corpus": "small", "transcripts": told}
    assert text["missing"] == {"no speech was recognised": 1}
    out = run_mmsa(*given)[1]
    assert json.loads(out.splitlines()[0])["transcripts"] == {**told, "kept": 9}
    assert json.loads(out.splitlines()[1])["kept"] == 11


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"modalities": ("audio",)},
            "words has no effect, as text is not among the modalities: leave words.transcribe",
        ),
        (
            {"modalities": ("text",), "media": False},
            "words.transcribe has no effect, as no clip of the corpus has sound",
        ),
    ],
    ids=["no text", "no sound"],
)
def test_speech_models_that_would_not_be_run_are_refused(
    config: TrainConfig, values: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not values.pop("media", True):
        whole = load_corpus("small", config.root)
        mute = replace(whole, clips=tuple(replace(clip, media=None, transcript="so") for clip in whole.clips))
        monkeypatch.setattr("mmsa.workshop.load_corpus", lambda *_: mute)
    with pytest.raises(UsageError, match=message):
        open_workshop(changed(config, **values))


def test_a_language_alone_does_nothing_and_is_refused() -> None:
    with pytest.raises(UsageError, match=r"words: .*language has no effect without transcribe or align"):
        make_config(None, {"words.language": "en"})
