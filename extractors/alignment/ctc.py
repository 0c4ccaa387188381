"""`CtcAligner`: when each word of a known text is said, by CTC forced alignment."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extractors import pretrained
from extractors.base import check_range, make_spec
from extractors.errors import ToolError
from extractors.listening import listen
from extractors.sequence import FeatureSequence
from extractors.speech.chunks import ChunkedStream, context_seconds
from extractors.speech.transformer import make_chunks, read_kind
from extractors.text.words import word_spans
from extractors.transcript import Transcript
from extractors.transcription.phrases import Word, phrases

_OVERLAP_SECONDS = 5.0
# A model's frames hold one sign at most, and nobody speaks more than this many of them per frame.
_SIGNS_PER_FRAME = 0.75
_DOUBTFUL = 0.1


class CtcAligner:
    """Times for the words of a transcript that has none, from a model trained with CTC on letters.

    The best path of the text's letters through the model's frames is found by `torchaudio.functional.forced_align`
    (Graves et al. 2006; Pratap et al. 2023). Letters are taken as the model writes them (upper or lower case); signs
    that it does not know, such as punctuation and digits, are passed over, and a word of nothing else gets the time
    between its neighbours.

    **Long recordings** are aligned in windows of `window_seconds`, so that memory is bounded: the text still to come is
    aligned to a window followed by frames in which everything is free, which take what is said later. Of the words
    found those that end a sixth of the window before its end are kept, and the next window begins behind them. A text
    of which long passages are not said, or the other way round, cannot be followed.

    Args:
        model: a model id of the Hugging Face hub, or a local folder with `config.json`, `model.safetensors`,
            `preprocessor_config.json` and the tokenizer's files, of a wav2vec 2.0-like model for CTC; or
            `"package:NAME/FOLDER"`.
        revision: commit, tag or branch of the hub model; resolved to its commit in the spec.
        weights_sha256: what the hash of the local folder must be; filled in when left out.
        window_seconds: how much sound is aligned at once.
        batch_size: chunks of 20 s per forward pass; changes speed and memory only.
        device: `"auto"` (CUDA where there is one), or a torch device; changes speed only.

    Raises:
        ValueError: a parameter is out of its range.
        ToolError: transformers or torchaudio is missing; the model cannot be had or is none for CTC on letters; or the
            folder is not the one the hash names.
    """

    NAME = "alignment.ctc"
    DEFINITION = 1

    def __init__(
        self,
        *,
        model: str,
        revision: str | None = None,
        weights_sha256: str | None = None,
        window_seconds: float = 60.0,
        batch_size: int = 4,
        device: str = "auto",
    ) -> None:
        check_range("window_seconds", window_seconds, 1.0, 600.0)
        check_range("batch_size", batch_size, 1, 4096)
        found = pretrained.find(model, revision, weights_sha256)
        self._source, self._device, self._batch_size = found.source, device, int(batch_size)
        self._kind = read_kind(found.config, found.source)
        if self._kind.mel:
            raise ToolError(f"{found.source.name}: Whisper is not trained with CTC: give a wav2vec 2.0-like model")
        self._chunks = make_chunks(self._kind, self._kind.default_seconds, _OVERLAP_SECONDS)
        self.sample_rate_hz, self.window_seconds = self._kind.rate, float(window_seconds)
        self.context_seconds = context_seconds(self._chunks, self.sample_rate_hz)
        self.letters: _Letters | None = None
        self.names: tuple[str, ...] = ()
        self._model: Any = None
        parameters = {**found.identity, "window_seconds": window_seconds}
        self.spec = make_spec(self.NAME, "torchaudio", self.DEFINITION, parameters, found.hints)

    def align(
        self,
        path: str | Path,
        transcript: Transcript,
        *,
        start_seconds: float | None = None,
        end_seconds: float | None = None,
    ) -> tuple[Transcript, tuple[str, ...]]:
        """The transcript with the times of its words, in phrases, and what a user should know of it.

        Args:
            path: the media file in which it is said.
            transcript: without times.
            start_seconds: where it begins to be said at the earliest; None is the beginning.
            end_seconds: where it ends; None is the end.

        Returns:
            The transcript as it was, with a note, where there is no sound, no letter that the model knows, or more
            text than the sound could hold.

        Raises:
            MediaError: the file cannot be used.
            ToolError: the model cannot be had.
        """
        stream = self.stream(transcript, start_seconds or 0.0)
        end = listen(path, self.sample_rate_hz, stream.push, start_seconds=start_seconds, end_seconds=end_seconds)
        if end is None:
            return transcript, ("the transcript has no times, and there is no sound to align it to",)
        return stream.finish()

    def stream(self, transcript: Transcript, start_seconds: float = 0.0) -> CtcStream:
        """A fresh alignment to sound that begins at `start_seconds`; the first one loads the model.

        Raises:
            ToolError: a part of the model cannot be had.
        """
        if self._model is None:
            self._load()
        return CtcStream(self, transcript, start_seconds)

    def empty(self) -> FeatureSequence:
        """No frames."""
        return FeatureSequence.empty(self.names)

    def emissions(self) -> ChunkedStream:
        """A stream of the model's log-probabilities, `(T, V)`."""
        return ChunkedStream(
            self,
            0,
            frames=self._kind.frames,
            chunks=self._chunks,
            encode=self._encode,
            silence_db=None,
            batch_size=self._batch_size,
        )

    def _encode(self, chunks: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        import torch

        kind = self._kind
        key = kind.prepare.model_input_names[0]
        prepared = [kind.prepare(np.asarray(c), sampling_rate=kind.rate, return_tensors="np")[key] for c in chunks]
        batch = torch.from_numpy(np.concatenate(prepared).astype(np.float32)).to(self._model.device)
        with torch.inference_mode():
            logits = self._model(batch).logits
            found = torch.log_softmax(logits.float(), dim=-1).cpu().numpy()
        return [np.asarray(one, np.float32) for one in found]

    def _load(self) -> None:

        tokenizer = pretrained.load("tokenizer", "AutoTokenizer", self._source)
        model = pretrained.load_weights(
            "AutoModelForCTC",
            self._source,
            advice="give a model that was trained with CTC",
            unused=lambda key: key.endswith("masked_spec_embed"),
        )
        self.letters = _Letters.of(tokenizer, model.config.pad_token_id, self._source.name)
        self.names = tuple(map(str, range(model.config.vocab_size)))
        self._model = model.to(pretrained.chosen_device(self._device))


@dataclass(frozen=True)
class _Letters:
    """The signs of a model.

    Attributes:
        numbers: by sign.
        blank: CTC's blank.
        between: the sign between words; None where there is none.
    """

    numbers: dict[str, int]
    blank: int
    between: int | None

    @classmethod
    def of(cls, tokenizer: Any, blank: int | None, name: str) -> _Letters:
        vocabulary = {sign: int(number) for sign, number in tokenizer.get_vocab().items() if len(sign) == 1}
        if blank is None or not any(sign.isalpha() for sign in vocabulary):
            raise ToolError(
                f"{name}: its tokenizer has no letters of one character each: give a model that writes letters"
            )
        return cls(vocabulary, int(blank), vocabulary.get(getattr(tokenizer, "word_delimiter_token", None) or "|"))

    def of_word(self, word: str) -> list[int]:
        """The numbers of a word's signs, those that the model knows."""
        found = []
        for sign in word:
            for form in (sign, sign.upper(), sign.lower()):
                if form in self.numbers and self.numbers[form] not in (self.blank, self.between):
                    found.append(self.numbers[form])
                    break
        return found


@dataclass(frozen=True)
class _Spoken:
    """A word to be found: its text (with the space before it) and its signs; then when it is said."""

    text: str
    signs: tuple[int, ...]
    start_seconds: float | None = None
    end_seconds: float | None = None


class CtcStream:
    """One recording and its text; the sound is fed in blocks of any size."""

    def __init__(self, aligner: CtcAligner, transcript: Transcript, start_seconds: float) -> None:
        assert aligner.letters is not None
        self._aligner, self._letters, self._transcript = aligner, aligner.letters, transcript
        self._start = start_seconds
        self._emissions = aligner.emissions()
        self._words = list(_spoken(transcript, self._letters))
        self._found: list[_Spoken] = []
        self._pending = [word for word in self._words if word.signs]
        self._from = 0.0
        self._samples = 0
        self._scores: list[float] = []

    def push(self, samples: NDArray[np.float32]) -> None:
        """Take the next samples: `(N,)`, mono."""
        aligner, rate = self._aligner, self._aligner.sample_rate_hz
        step = int(aligner.window_seconds * rate)
        for start in range(0, len(samples), step):
            block = samples[start : start + step]
            self._emissions.push(block)
            self._samples += len(block)
            while self._samples / rate >= self._from + aligner.window_seconds + aligner.context_seconds:
                self._window(self._from + aligner.window_seconds, final=False)

    def finish(self) -> tuple[Transcript, tuple[str, ...]]:
        """The transcript with times and notes, see `CtcAligner.align`; called once."""
        if not self._pending and not self._found:
            return self._transcript, ("the transcript has no times, and no letter that the aligning model knows",)
        end = self._samples / self._aligner.sample_rate_hz
        while end - self._from > self._aligner.window_seconds and self._pending:
            self._window(self._from + self._aligner.window_seconds, final=False)
        if self._pending:
            self._window(math.inf, final=True)
        if self._pending:
            said = f"{len(self._pending)} of {len(self._pending) + len(self._found)} words"
            return self._transcript, (f"the transcript could not be aligned: {said} do not fit into the sound",)
        words = [Word(one.text, *times) for one, times in zip(self._words, self._times(end), strict=True)]
        segments = tuple(phrases(words))
        sure = float(np.exp(np.mean(self._scores)))
        notes = (
            ()
            if sure >= _DOUBTFUL
            else (f"the transcript fits the sound badly (a probability of {sure:.2g} a letter)",)
        )
        return Transcript(segments, self._transcript.language), notes

    def _window(self, end: float, *, final: bool) -> None:
        """Align what is pending to the sound from where the last word ended, and keep what is certain."""
        if not self._pending:
            self._from = self._from if final else end
            self._emissions.forget(self._from - self._aligner.context_seconds)
            return
        found, _ = self._emissions.window(self._from, end)
        reach = len(found)
        if not reach:
            self._from = self._from if final else end
            return
        words = self._next_words(len(found) if not final else None)
        spans, scores = _align(found.values, words, self._letters, free=not final)
        sure = reach if final else reach - max(1, round(reach / 6))
        kept = 0
        for (first, after), score in zip(spans, scores, strict=True):
            if after > sure:
                break
            start, stop = float(found.times[first, 0]), float(found.times[after - 1, 1])
            self._found.append(replace(words[kept], start_seconds=self._start + start, end_seconds=self._start + stop))
            self._scores.append(score)
            kept += 1
        self._pending = self._pending[kept:]
        if final:
            return
        following = spans[kept][0] if kept < len(spans) else reach
        self._from = float(found.times[max(1, min(following, sure)), 0]) if reach > 1 else end
        self._emissions.forget(self._from - self._aligner.context_seconds)

    def _next_words(self, frames: int | None) -> list[_Spoken]:
        """The pending words, or as many of them as could be said in so many frames."""
        if frames is None:
            return list(self._pending)
        count, words = 0, list[_Spoken]()
        for word in self._pending:
            count += len(word.signs) + 1
            if words and count > frames * _SIGNS_PER_FRAME:
                break
            words.append(word)
        return words

    def _times(self, end: float) -> Iterator[tuple[float, float]]:
        """When each word is said; those without a sign lie between their neighbours. No word runs into the next."""
        found = iter(self._found)
        timed = [next(found) if word.signs else word for word in self._words]
        starts = [word.start_seconds for word in timed]
        latest = self._start
        for number, word in enumerate(timed):
            after = next((start for start in starts[number + 1 :] if start is not None), self._start + end)
            if word.start_seconds is None or word.end_seconds is None:
                yield latest, max(latest, after)
            else:
                latest = max(word.start_seconds, min(word.end_seconds, after))
                yield word.start_seconds, latest


def _spoken(transcript: Transcript, letters: _Letters) -> Iterator[_Spoken]:
    for segment in transcript.segments:
        at = 0
        for first, after in word_spans(segment.text):
            # The first word of a segment follows a space, too.
            spaced = first == 0 or first > at or at == 0
            text = segment.text[first:after]
            yield _Spoken(" " * spaced + text, tuple(letters.of_word(text)))
            at = after


def _align(
    emissions: NDArray[np.float32], words: Sequence[_Spoken], letters: _Letters, *, free: bool
) -> tuple[list[tuple[int, int]], list[float]]:
    """First and after-last frame of each word, and the mean log-probability of its signs.

    Args:
        emissions: `(T, V)` log-probabilities.
        words: with at least one sign each.
        letters: of the model.
        free: whether words may lie behind the last frame, where everything is free; they do, too, where there are more
            signs than the frames can hold.
    """
    import torch
    from torchaudio.functional import forced_align, merge_tokens

    targets: list[int] = []
    places: list[tuple[int, int]] = []
    for word in words:
        if letters.between is not None and targets and word.text[0] == " ":
            targets.append(letters.between)
        places.append((len(targets), len(targets) + len(word.signs)))
        targets += word.signs
    twice = sum(a == b for a, b in itertools.pairwise(targets))
    if len(targets) + twice > len(emissions):
        free = True
    rows = [emissions, np.zeros((len(targets) + twice, emissions.shape[1]), np.float32)] if free else [emissions]
    frames = torch.from_numpy(np.concatenate(rows))[None]
    path, scores = forced_align(frames, torch.tensor([targets], dtype=torch.int32), blank=letters.blank)
    merged = merge_tokens(path[0], scores[0], blank=letters.blank)
    spans = [(merged[first].start, merged[after - 1].end) for first, after in places]
    return spans, [float(np.mean([merged[i].score for i in range(*place)])) for place in places]
