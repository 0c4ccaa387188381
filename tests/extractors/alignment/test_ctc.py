"""Forced alignment: emissions made by hand, whose alignment is known, and a tiny CTC model's real path."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

import extractors
from extractors.alignment.ctc import CtcAligner
from extractors.transcript import Segment, Transcript

SIGNS = ["<pad>", "<s>", "</s>", "<unk>", "|", "A", "B", "C", "D", "E"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wav2vec 2.0 with random weights that writes the letters A to E."""
    folder = tmp_path_factory.mktemp("ctc")
    (folder / "vocab.json").write_text(json.dumps({sign: number for number, sign in enumerate(SIGNS)}))
    transformers.Wav2Vec2CTCTokenizer(str(folder / "vocab.json")).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.Wav2Vec2Config(
        vocab_size=len(SIGNS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        conv_dim=(8,) * 7, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2, pad_token_id=0,
    )  # fmt: skip
    transformers.Wav2Vec2ForCTC(config).save_pretrained(folder)
    return folder


def written(said: list[tuple[str, int]], frames: int) -> np.ndarray:
    """Emissions `(T, V)` of a model that is quite sure: words begin at their frames, each letter lasts two of them.

    Between letters, and everywhere else, is the blank; the frame after a word holds the sign between words.
    """
    likely = np.full((frames, len(SIGNS)), 0.01)
    best = np.zeros(frames, int)
    for word, at in said:
        for letter in word:
            best[at : at + 2] = SIGNS.index(letter)
            at += 3
        best[at - 1] = SIGNS.index("|")
    likely[np.arange(frames), best] = 0.91
    return np.log(likely / likely.sum(axis=1, keepdims=True)).astype(np.float32)


def hand_made(folder: Path, emissions: np.ndarray, window: float = 60.0) -> CtcAligner:
    """The aligner with a model that knows the file by heart: each chunk's frames are those of the given emissions.

    The sound says where a chunk lies: every sample holds the number of its frame.
    """
    aligner = CtcAligner(model=str(folder), window_seconds=window)
    aligner._load()

    def encode(chunks: list[np.ndarray]) -> list[np.ndarray]:
        count = aligner._kind.frames.count(len(chunks[0]))
        firsts = [round(float(chunk[0]) * 32768) for chunk in chunks]
        return [emissions[first : first + count] for first in firsts]

    aligner._encode = encode  # type: ignore[method-assign, assignment]
    return aligner


def numbered(frames: int) -> np.ndarray:
    return np.repeat(np.arange(frames + 1) / 32768, 320).astype(np.float32)[: frames * 320 + 80]


def align(aligner: CtcAligner, text: str, frames: int, blocks: int = 10000) -> tuple[Transcript, tuple[str, ...]]:
    stream = aligner.stream(Transcript.of(text))
    sound = numbered(frames)
    for first in range(0, len(sound), blocks):
        stream.push(sound[first : first + blocks])
    return stream.finish()


def starts(transcript: Transcript) -> list[tuple[str, int, int]]:
    """Each word with its first frame and the one after its last."""
    return [
        (one.text[w.first : w.after], round(w.start_seconds * 50), round((w.end_seconds - 0.025) * 50) + 1)
        for one in transcript.segments
        for w in one.words
    ]


def test_words_are_found_where_they_were_written(folder: Path) -> None:
    said = [("BAD", 10), ("ABBE", 40), ("CAB", 70)]
    found, notes = align(hand_made(folder, written(said, 120)), "Bad abbé, abbe! cab.".replace("abbé, ", ""), 120)
    assert notes == ()
    assert starts(found) == [("Bad", 10, 18), ("abbe!", 40, 51), ("cab.", 70, 78)]
    assert [one.text for one in found.segments] == ["Bad abbe!", "cab."]
    assert found.segments[0].start_seconds == pytest.approx(10 * 0.02)


def test_what_has_no_letters_lies_between_its_neighbours(folder: Path) -> None:
    said = [("BAD", 10), ("CAB", 70)]
    found, _ = align(hand_made(folder, written(said, 100)), "42 bad 7 – cab 9", 100)
    words = {one.text[w.first : w.after]: w for one in found.segments for w in one.words}
    assert words["42"].start_seconds == 0.0
    assert words["42"].end_seconds == pytest.approx(0.2)
    assert words["7"].start_seconds == pytest.approx(words["bad"].end_seconds)
    assert words["7"].end_seconds == pytest.approx(words["cab"].start_seconds) == pytest.approx(1.4)
    assert words["9"].end_seconds == pytest.approx(2.005)


@pytest.mark.parametrize("window", [4.0, 9.0, 60.0])
def test_a_long_recording_is_aligned_window_by_window(folder: Path, window: float) -> None:
    """200 words over six minutes, with a silence longer than a window, found wherever the windows lie."""
    rng, at, said = np.random.default_rng(0), 30, []
    for number in range(200):
        word = "".join(rng.choice(list("ABCDE"), int(rng.integers(2, 7))))
        said.append((word, at))
        at += 3 * len(word) + int(rng.integers(3, 90)) + (3500 if number == 99 else 0)
    frames = at + 50
    assert frames * 0.02 > 5 * 60
    aligner = hand_made(folder, written(said, frames), window)
    stream = aligner.stream(Transcript.of(" ".join(word for word, _ in said)))
    held = 0
    for first in range(0, frames * 320 + 80, 16000):
        stream.push(numbered(frames)[first : first + 16000])
        held = max(held, sum(len(one.loud) for one in stream._emissions._encoded.values()))
    found, notes = stream.finish()
    assert notes == ()
    assert starts(found) == [(word, at, at + 3 * len(word) - 1) for word, at in said]
    assert held <= (window + 2 * aligner.context_seconds + 40) * 50


def test_sound_in_blocks_of_any_size_gives_the_same(folder: Path) -> None:
    said = [("ABE", 20 + 40 * k) for k in range(20)]
    text = " ".join(word for word, _ in said)
    aligner = hand_made(folder, written(said, 900), 5.0)
    assert align(aligner, text, 900, 777) == align(aligner, text, 900, 10**6)


def test_a_text_that_is_too_long_for_the_sound_stays_as_it_is(folder: Path) -> None:
    text = " ".join(["abcde"] * 50)
    found, notes = align(hand_made(folder, written([], 40)), text, 40)
    assert found == Transcript.of(text)
    assert len(notes) == 1
    assert "could not be aligned" in notes[0]
    assert "do not fit into the sound" in notes[0]


def test_a_text_that_was_not_said_is_doubted(folder: Path) -> None:
    _, notes = align(hand_made(folder, written([("BAD", 10)], 200)), "deed ebb accede", 200)
    assert "the transcript fits the sound badly" in notes[0]


def test_a_text_without_letters_stays_as_it_is(folder: Path) -> None:
    found, notes = align(hand_made(folder, written([], 40)), "42 !", 40)
    assert found == Transcript.of("42 !")
    assert notes == ("the transcript has no times, and no letter that the aligning model knows",)


def test_chinese_has_no_sign_between_characters(folder: Path, tmp_path: Path) -> None:
    """Characters are words of their own, and the model writes nothing between them."""
    other = shutil.copytree(folder, tmp_path / "zh")
    signs = ["好" if sign == "A" else "很" if sign == "B" else sign for sign in SIGNS]
    (other / "vocab.json").write_text(json.dumps({sign: number for number, sign in enumerate(signs)}))
    transformers.Wav2Vec2CTCTokenizer(str(other / "vocab.json")).save_pretrained(other)
    emissions = written([("BA", 10)], 60)
    found, _ = align(hand_made(other, emissions), "很好。", 60)
    assert starts(found) == [("很", 10, 12), ("好。", 13, 15)]
    assert found.text == "很好。"


def test_the_real_model_runs_through_a_file(folder: Path, write_wav: Callable[..., Path]) -> None:
    """With random weights nothing sensible is found, but every word is, in order and within the segment asked for."""
    path = write_wav("a.wav", np.random.default_rng(0).uniform(-0.5, 0.5, 8 * 16000).astype(np.float32))
    aligner = CtcAligner(model=str(folder))
    found, _ = aligner.align(path, Transcript.of("bad cab, 3 aced."), start_seconds=2.0, end_seconds=6.0)
    times = [(w.start_seconds, w.end_seconds) for one in found.segments for w in one.words]
    assert found.text == "bad cab, 3 aced."
    assert len(times) == 4
    assert 2.0 <= times[0][0] <= times[-1][1] <= 6.03
    whole = extractors.transcript.Transcript.of("bad")
    again = CtcAligner(model=str(folder), batch_size=1).align(path, whole)
    assert again == aligner.align(path, whole)


def test_the_model_s_own_emissions_are_aligned(folder: Path) -> None:
    """The path through real logits is the best one: brute force over a short sound agrees with it."""
    aligner = CtcAligner(model=str(folder))
    sound = np.random.default_rng(3).uniform(-0.5, 0.5, 320 * 6 + 80).astype(np.float32)
    stream = aligner.stream(Transcript.of("ab"))
    stream.push(sound)
    (segment,) = stream.finish()[0].segments
    prepare = transformers.AutoFeatureExtractor.from_pretrained(folder)
    model = transformers.AutoModelForCTC.from_pretrained(folder).eval()
    with torch.no_grad():
        inputs = prepare(sound, sampling_rate=16000, return_tensors="pt").input_values
        logs = torch.log_softmax(model(inputs).logits[0], dim=-1).numpy()
    a, b, count, best = SIGNS.index("A"), SIGNS.index("B"), len(logs), (-np.inf, (0, 0))
    for first in range(count):
        for a_end in range(first + 1, count):
            for second in range(a_end, count):
                for b_end in range(second + 1, count + 1):
                    row = np.zeros(count, int)
                    row[first:a_end], row[second:b_end] = a, b
                    best = max(best, (float(logs[np.arange(count), row].sum()), (first, b_end)))
    assert round(segment.words[0].start_seconds * 50) == best[1][0]
    assert round((segment.words[0].end_seconds - 0.025) * 50) + 1 == best[1][1]


def test_a_file_without_sound_says_so(folder: Path, media: Callable[..., Path], numbered: Callable[..., list]) -> None:
    found, notes = CtcAligner(model=str(folder)).align(media("a.mp4", frames=numbered(5)), Transcript.of("bad"))
    assert found == Transcript.of("bad")
    assert notes == ("the transcript has no times, and there is no sound to align it to",)


def test_what_is_no_ctc_model_is_refused(folder: Path, tmp_path: Path) -> None:
    transformers.WhisperConfig().save_pretrained(tmp_path)
    transformers.WhisperFeatureExtractor().save_pretrained(tmp_path)
    with pytest.raises(extractors.ToolError, match=r"Whisper is not trained with CTC: give a wav2vec 2\.0-like"):
        CtcAligner(model=str(tmp_path))
    bare = shutil.copytree(folder, tmp_path / "bare")
    model = transformers.Wav2Vec2Model.from_pretrained(folder)
    model.save_pretrained(bare)
    with pytest.raises(extractors.ToolError, match=r"its weights lack lm_head.* that was trained with CTC"):
        CtcAligner(model=str(bare)).stream(Transcript.of("bad"))
    with pytest.raises(ValueError, match="window_seconds must be a number from 1 to 600, not 0"):
        CtcAligner(model=str(folder), window_seconds=0)


def test_segments_keep_their_order(folder: Path) -> None:
    said = [("BAD", 10), ("CAB", 40)]
    aligner = hand_made(folder, written(said, 80))
    stream = aligner.stream(Transcript((Segment("bad"), Segment("cab"))))
    stream.push(numbered(80))
    assert starts(stream.finish()[0]) == [("bad", 10, 18), ("cab", 40, 48)]
