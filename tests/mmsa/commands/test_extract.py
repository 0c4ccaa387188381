from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mmsa.commands.extract import size
from mmsa.config import TrainConfig
from mmsa.features.inventory import list_store

Mmsa = Callable[..., tuple[int, str, str]]
SETTINGS = (
    *("--set", "extractors.audio.name=small_extractors:Loudness"),
    *("--set", "extractors.text.name=small_extractors:WordLengths"),
)


def lines(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


@pytest.fixture
def words(untrained: TrainConfig) -> tuple[str, ...]:
    """`mmsa extract small` of 31 clips, two without words and one without sound."""
    return ("extract", "small", "--root", str(untrained.root), "--modalities", "audio,text", "--jobs", "1", *SETTINGS)


def test_every_modality_is_told(run_mmsa: Mmsa, words: tuple[str, ...]) -> None:
    code, out, _ = run_mmsa(*words, "--json")
    assert code == 0
    audio, text = lines(out)
    assert (audio["corpus"], audio["modality"], audio["extractor"]) == ("small", "audio", "small_extractors:Loudness")
    assert (audio["clips"], audio["extracted"], audio["kept"]) == (31, 31 - audio["copied"], 0)
    assert (audio["missing"], text["missing"]) == ({"silent": 1}, {"no transcript": 2})
    assert audio["bytes"] == audio["steps"] * (4 + 16) + 32 * 8
    assert (audio["features"], text["features"]) == (1, 2)
    assert Path(audio["folder"], "store.json").is_file()
    again = lines(run_mmsa(*words, "--json")[1])
    assert [(row["extracted"], row["copied"], row["kept"], row["seconds"]) for row in again] == [(0, 0, 31, 0.0)] * 2
    code, out, _ = run_mmsa(*words, "--dtype", "float16")
    assert code == 0
    assert "audio missing in 1: silent" in out
    assert "text by small_extractors:WordLengths: 2 features a step as float16, 31 clips copied from what" in out


def test_a_training_needs_no_more_extraction(
    run_mmsa: Mmsa, words: tuple[str, ...], untrained: TrainConfig, small: Any
) -> None:
    from mmsa.runs import open_workshop

    run_mmsa(*words, "--dtype", "float16")
    small.CALLS.clear()
    shop = open_workshop(untrained.model_copy(update={"feature_dtype": "float16"}))
    assert not small.CALLS
    assert shop.tables["audio"].values.dtype == "float16"


def test_the_store_is_listed(run_mmsa: Mmsa, words: tuple[str, ...]) -> None:
    code, out, _ = run_mmsa("extract", "--list")
    assert (code, "holds no features." in out) == (0, True)
    run_mmsa(*words)
    code, out, _ = run_mmsa("extract", "--list")
    assert code == 0
    for told in ("whole, made for small by small_extractors:Loudness (none 1): 31 clips (1 missing)", "float32, "):
        assert told in out
    rows = lines(run_mmsa("extract", "--list", "--json")[1])
    assert [row["spec"]["name"] for row in rows] == ["small_extractors:Loudness", "small_extractors:WordLengths"]
    assert run_mmsa("extract", "small", "--list", "--json")[1].count("\n") == 2
    assert run_mmsa("extract", "demo", "--list")[1].strip().endswith("holds no features made for demo.")


def test_only_what_is_of_no_use_is_pruned_and_only_when_told(
    run_mmsa: Mmsa, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run_mmsa(*words)
    assert "nothing to delete" in run_mmsa("extract", "--prune")[1]
    whole, damaged = (entry.folder for entry in list_store())
    (damaged / "values.raw").write_bytes(b"")
    monkeypatch.setattr("sys.stdin", (tmp_path / "answer").open("w+"))
    monkeypatch.setattr("typer.confirm", lambda *_, **__: False)
    code, out, _ = run_mmsa("extract", "--prune")
    assert (code, damaged.exists(), str(damaged) in out) == (0, True, True)
    assert run_mmsa("extract", "--prune", "--json")[0] == 2
    code, out, _ = run_mmsa("extract", "--prune", "--yes", "--json")
    (row,) = lines(out)
    assert (row["path"], row["deleted"], damaged.exists(), whole.exists()) == (str(damaged), True, False, True)
    assert run_mmsa("extract", "--prune", "--yes", "--json") == (0, "", "")


def test_a_superseded_table_is_pruned_with_its_corpus(
    run_mmsa: Mmsa, words: tuple[str, ...], untrained: TrainConfig, tmp_path: Path
) -> None:
    less = tmp_path / "less"
    less.mkdir()
    for path in sorted(Path(str(untrained.root)).iterdir())[10:]:
        (less / path.name).symlink_to(path)
    run_mmsa(*(str(less) if word == str(untrained.root) else word for word in words))
    rows = lines(run_mmsa(*words, "--json")[1])
    assert all(row["copied"] > 0 for row in rows)
    code, out, _ = run_mmsa(*words, "--prune", "--yes", "--json")
    assert code == 0
    assert len(lines(out)) == 2
    assert {str(entry.folder) for entry in list_store()} == {row["folder"] for row in rows}


@pytest.fixture
def media(untrained: TrainConfig, tmp_path: Path, write_wav: Callable[..., Path]) -> Path:
    folder = tmp_path / "media"
    folder.mkdir()
    write_wav(folder / "a.wav", [0.5, 0.25])
    (folder / "a.txt").write_text("so THEN")
    return folder


def test_a_folder_of_media_goes_to_files(run_mmsa: Mmsa, media: Path, tmp_path: Path) -> None:
    words = ("extract", media, "--output", tmp_path / "out", "--modalities", "audio,text", "--jobs", "1", *SETTINGS)
    code, out, _ = run_mmsa(*words, "--json")
    (row,) = lines(out)
    assert (code, row["steps"], row["kept"]) == (0, {"audio": 2, "text": 2}, False)
    assert Path(row["output"]) == tmp_path / "out" / "a.wav.safetensors"
    (media / "b.mp4").write_bytes(b"not a video")
    code, out, err = run_mmsa(*words)
    assert code == 1
    assert "│ a.wav " in out
    assert "kept" in out
    assert f"failed {media / 'b.mp4'}: not readable as media" in err
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.wav.safetensors"}


def test_text_is_asked_for_where_words_lie_beside_a_file(run_mmsa: Mmsa, media: Path, tmp_path: Path) -> None:
    words = ("extract", media, "--jobs", "1", *SETTINGS, "--set", "extractors.vision.name=small_extractors:Brightness")
    (row,) = lines(run_mmsa(*words, "--output", tmp_path / "out", "--json")[1])
    assert sorted(row["steps"]) == ["audio", "text", "vision"]
    (media / "a.txt").unlink()
    (row,) = lines(run_mmsa(*words, "--output", tmp_path / "out", "--json")[1])
    assert sorted(row["steps"]) == ["audio", "vision"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "what to extract? Give a corpus"),
        (["--list", "--prune"], "give one of them"),
        (["demo", "--yes"], "--yes answers what --prune asks"),
        (["mled"], "there is no corpus 'mled'. Did you mean 'meld'?"),
        (["demo", "--set", "epochs=3"], "--set epochs=… has no effect on features: here it takes encoders, extractors"),
        (["demo", "--dtype", "float64"], "feature_dtype: Input should be 'float32' or 'float16'"),
        (
            ["meld", "--output", "out"],
            "the features of meld go to the feature store",
        ),
        (["MEDIA"], "is a folder of media, not a corpus: give --output FOLDER"),
        (["MEDIA", "--output", "out", "--root", "x"], "leave --root x out"),
        (["EMPTY", "--output", "out"], "holds neither a corpus nor media files"),
        (["MEDIA", "--output", "out", "--modalities", "smell"], "no extractor is configured for the modality 'smell'"),
    ],
    ids=str,
)
def test_what_cannot_be_done_ends_with_a_message(
    run_mmsa: Mmsa, media: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    places = {"MEDIA": media, "EMPTY": tmp_path / "empty"}
    places["EMPTY"].mkdir()
    code, out, err = run_mmsa("extract", *(places.get(word, word) for word in words))
    assert (code, out) == (2, "")
    assert message in " ".join(err.split())
    assert not Path("out").exists()


def test_sizes_are_in_the_unit_that_fits() -> None:
    assert [size(n) for n in (0, 999, 1000, 1_500_000, 2_000_000_000, 3 * 10**12)] == [
        *("0 B", "999 B", "1.0 kB", "1.5 MB", "2.0 GB", "3.0 TB"),
    ]


def test_a_gpu_that_is_not_there(
    run_mmsa: Mmsa, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, small: Any
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    code, _, err = run_mmsa(*words, "--device", "cuda")
    assert code == 2
    assert "device 'cuda' was asked for, but torch sees none" in err
    assert not small.CALLS
    code, _, err = run_mmsa(*words, "--device", "gpu")
    assert code == 2
    assert "device" in err
    assert run_mmsa(*words, "--device", "cpu")[0] == 0


def test_what_an_encoder_reads_is_extracted_for_its_training(run_mmsa: Mmsa, untrained: TrainConfig) -> None:
    """The raw input of the encoder, in the table that a training with it opens."""
    from mmsa.config import make_config
    from mmsa.corpora import load_corpus
    from mmsa.features import store_folder
    from mmsa.features.choose import build_extractors

    encoder = {"encoders.audio.model": "some/encoder", "encoders.audio.tune": "frozen"}
    given = [part for key, value in encoder.items() for part in ("--set", f"{key}={value}")]
    words = ("extract", "small", "--root", str(untrained.root), "--modalities", "audio", "--jobs", "1", "--json")
    code, out, _ = run_mmsa(*words, *given)
    assert code == 0
    (audio,) = lines(out)
    assert (audio["extractor"], audio["clips"]) == ("speech.waveform", 31)
    built = build_extractors(make_config(None, encoder), ["audio"])
    assert Path(audio["folder"]) == store_folder(load_corpus("small", untrained.root), built["audio"])


def test_what_is_wrong_with_a_clip_is_told(
    run_mmsa: Mmsa, tmp_path: Path, small: Any, write_wav: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two clips of three go on behind their sound of 0.2 s; no decoder, no face, no words are asked for."""
    monkeypatch.chdir(tmp_path)
    rows = ["id,split,sentiment,media,end_seconds"]
    for clip, end in (("a", "3"), ("b", "3"), ("c", "")):
        write_wav(tmp_path / f"{clip}.wav", [0.5, 0.25])
        rows.append(f"{clip},train,0.5,{clip}.wav,{end}")
    (tmp_path / "mine.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "mine.yaml").write_text("tasks: {sentiment: {kind: regression, low: -1, high: 1}}\n")
    words = ("extract", "mine.csv", "--modalities", "audio", "--jobs", "1", *SETTINGS[:2])
    told = "the clip ends at 3 s, but its audio stream at 0.20 s"
    code, out, _ = run_mmsa(*words)
    assert code == 0
    assert f"audio, a note on 2: {told}" in out
    (row,) = lines(run_mmsa(*words, "--json")[1])
    assert (row["missing"], row["notes"]) == ({}, {told: 2})
