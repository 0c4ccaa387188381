"""Sound read in chunks that overlap, for tools that look at a whole stretch at once: encoders, openSMILE, CTC models.

Chunks lie on a grid that is counted from the media's beginning. A stretch cut out of a long recording is decoded with
enough sound around it that its steps come from the very same chunks, so they are the same numbers whichever way it is
cut.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extractors.base import AudioStream
from extractors.sequence import SLACK_SECONDS, FeatureSequence

Encode = Callable[[Sequence[NDArray[np.float32]]], list[NDArray[np.float32]]]
"""Chunks of one length, `(N,)` each → for each `(T, D)`, the frames that `Frames.count(N)` announces."""


@dataclass(frozen=True)
class Frames:
    """Where the steps of a chunk lie, in samples: step `k` covers `[k * hop + offset, k * hop + offset + width)`.

    Attributes:
        hop: from one step to the next.
        width: how much a step covers.
        needs: how many samples a chunk must have to hold a first step.
        offset: of the first step's beginning; negative where steps are centred.
    """

    hop: int
    width: int
    needs: int
    offset: int = 0

    def count(self, samples: int) -> int:
        """How many steps a chunk of so many samples has."""
        return max(0, (samples - self.needs) // self.hop + 1)

    def middles(self, steps: NDArray[np.int64]) -> NDArray[np.int64]:
        """The samples in the middle of steps."""
        return steps * self.hop + self.offset + self.width // 2

    def times(self, steps: NDArray[np.int64], rate: int) -> NDArray[np.float64]:
        """Start and end of steps in seconds, `(T, 2)`; nothing begins before 0."""
        start = steps * self.hop + self.offset
        return np.asarray(np.maximum(np.stack([start, start + self.width], axis=1), 0) / rate)


@dataclass(frozen=True)
class Chunks:
    """Overlapping chunks, in samples; all multiples of the steps' hop.

    Chunk `c` owns `[c * advance, (c + 1) * advance)` and is read with `context` before and after: a step is taken from
    the chunk in which it stands furthest from an inner edge. The last chunk is the first one that reaches the end, and
    owns everything up to there.

    Attributes:
        length: of a chunk with its context.
        context: on each side.

    Raises:
        ValueError: nothing is left between the contexts.
    """

    length: int
    context: int

    def __post_init__(self) -> None:
        if self.advance <= 0:
            raise ValueError("the overlap of chunks must be shorter than a chunk")

    @property
    def advance(self) -> int:
        """From one chunk to the next."""
        return self.length - 2 * self.context

    def span(self, chunk: int) -> tuple[int, int]:
        """The first sample of a chunk and the one after its last."""
        return max(0, chunk * self.advance - self.context), (chunk + 1) * self.advance + self.context

    def first(self, sample: int) -> int:
        """The first chunk that lies wholly behind a sample with which the sound at hand begins."""
        return 0 if sample <= 0 else math.ceil((sample + self.context) / self.advance)

    def last(self, end: int) -> int:
        """The last chunk of sound that ends before this sample."""
        return max(0, math.ceil((end - self.context) / self.advance) - 1)


@dataclass(frozen=True)
class _Encoded:
    after: int
    first_step: int
    values: NDArray[np.float32] | None
    loud: NDArray[np.bool_]


class ChunkedStream(AudioStream):
    """Steps computed chunk by chunk; chunks of one length are encoded together, so that nothing is ever padded.

    Steps whose root mean square lies below the floor are left out, and chunks without any other are not encoded.
    """

    def __init__(
        self,
        extractor: Any,
        first_sample: int,
        *,
        frames: Frames,
        chunks: Chunks,
        encode: Encode,
        silence_db: float | None,
        batch_size: int = 1,
    ) -> None:
        """Start at a sample of the media's clock.

        Args:
            extractor: the `AudioExtractor` that the stream belongs to.
            first_sample: index of the first pushed sample; a multiple of the frames' hop.
            frames: where the steps of a chunk lie.
            chunks: how the sound is cut.
            encode: from chunks to their steps.
            silence_db: steps quieter than this are left out; None keeps all.
            batch_size: chunks that are encoded together at most.

        Raises:
            ValueError: `first_sample` is not on the grid.
        """
        if first_sample % frames.hop:
            raise ValueError(f"first_sample must be a multiple of {frames.hop}, not {first_sample}")
        self._extractor, self._frames, self._chunks, self._encode = extractor, frames, chunks, encode
        self._floor = None if silence_db is None else 10.0 ** (silence_db / 20.0)
        self._batch = batch_size
        self._started = self._kept_from = self._end = first_sample
        self._samples = np.zeros(0, np.float32)
        self._next = chunks.first(first_sample)
        self._encoded: dict[int, _Encoded] = {}

    def push(self, samples: NDArray[np.float32]) -> None:
        """Take the next samples; see `AudioStream.push`."""
        for start in range(0, len(samples), self._chunks.length):
            block = samples[start : start + self._chunks.length]
            self._samples = np.concatenate([self._samples, block])
            self._end += len(block)
            if len(self._complete()) >= self._batch:
                self._take(self._complete())

    def finish(self) -> FeatureSequence:
        """The features of the loud steps, in order."""
        self._take([*self._complete(), *self._rest()])
        return self._gather(-math.inf, math.inf)[0]

    def window(self, start_seconds: float, end_seconds: float) -> tuple[FeatureSequence, str]:
        """See `RollingStream.window`; a step is from the same chunk as in a stream of this segment alone."""
        self._take(self._complete())
        rate = self._extractor.sample_rate_hz
        if end_seconds * rate > self._next * self._chunks.advance:
            self._take(self._rest())
        sequence, seen = self._gather(start_seconds, end_seconds)
        if len(sequence):
            return sequence, ""
        return sequence, "silent" if seen else "too little sound for one step"

    def forget(self, before_seconds: float) -> None:
        """See `RollingStream.forget`."""
        before = int(before_seconds * self._extractor.sample_rate_hz)
        for chunk in [c for c in self._encoded if (c + 1) * self._chunks.advance <= before and c + 1 in self._encoded]:
            del self._encoded[chunk]

    def missing_reason(self) -> str:
        """Too short for one step, or silent."""
        if not self._frames.count(self._end - self._started):
            seconds = (self._end - self._started) / self._extractor.sample_rate_hz
            return f"only {seconds:.3f} s of sound, less than one step takes"
        return "silent"

    def _complete(self) -> list[int]:
        """Chunks that are all there and not encoded yet."""
        count = (self._end - self._chunks.context) // self._chunks.advance
        return list(range(self._next, count))

    def _rest(self) -> list[int]:
        """The last chunk, where the sound at hand ends within it."""
        last = self._chunks.last(self._end)
        first, after = self._chunks.span(last)
        known = self._encoded.get(last)
        if last < self._next or not first < self._end < after or (known is not None and known.after == self._end):
            return []
        return [last]

    def _take(self, chunks: Sequence[int]) -> None:
        """Encode chunks, those of one length together, and let go of sound that no later chunk needs."""
        pending: list[tuple[int, NDArray[np.float32], NDArray[np.bool_]]] = []
        for chunk in chunks:
            first, after = self._chunks.span(chunk)
            after = min(after, self._end)
            samples = self._samples[first - self._kept_from : after - self._kept_from]
            loud = self._loud(samples)
            self._encoded[chunk] = _Encoded(after, first // self._frames.hop, None, loud)
            if loud.any():
                pending.append((chunk, samples, loud))
        while pending:
            length = len(pending[0][1])
            batch = [one for one in pending if len(one[1]) == length][: self._batch]
            taken = {chunk for chunk, _, _ in batch}
            pending = [one for one in pending if one[0] not in taken]
            for (chunk, _, loud), values in zip(batch, self._encode([s for _, s, _ in batch]), strict=True):
                if len(values) != len(loud):
                    raise ValueError(f"{self._extractor!r}: {len(values)} steps of a chunk that has {len(loud)}")
                known = self._encoded[chunk]
                self._encoded[chunk] = _Encoded(known.after, known.first_step, values, loud)
        complete = (self._end - self._chunks.context) // self._chunks.advance
        self._next = max(self._next, complete)
        keep = max(self._kept_from, min(self._chunks.span(self._next)[0], self._end))
        self._samples, self._kept_from = self._samples[keep - self._kept_from :], keep

    def _loud(self, samples: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Which steps of a chunk are not silent: `(T,)`."""
        count = self._frames.count(len(samples))
        if self._floor is None:
            return np.ones(count, np.bool_)
        power = np.concatenate([[0.0], np.cumsum(samples.astype(np.float64) ** 2)])
        start = np.arange(count) * self._frames.hop + self._frames.offset
        first, after = np.clip(start, 0, len(samples)), np.clip(start + self._frames.width, 0, len(samples))
        mean = (power[after] - power[first]) / np.maximum(after - first, 1)
        return np.asarray(np.sqrt(np.maximum(mean, 0.0)) >= self._floor)

    def _gather(self, start_seconds: float, end_seconds: float) -> tuple[FeatureSequence, bool]:
        """The loud steps with their middle in a span, and whether there is any step, loud or silent."""
        rate, last = self._extractor.sample_rate_hz, self._chunks.last(self._end)
        values, numbers, seen = [], [], False
        for chunk in sorted(self._encoded):
            one = self._encoded[chunk]
            steps = one.first_step + np.arange(len(one.loud), dtype=np.int64)
            owned = np.clip(self._frames.middles(steps) // self._chunks.advance, 0, last) == chunk
            times = self._frames.times(steps, rate).mean(axis=1) + SLACK_SECONDS
            owned &= (times >= start_seconds) & (times < end_seconds)
            seen |= bool(owned.any())
            kept = owned & one.loud
            if one.values is not None and kept.any():
                values.append(one.values[kept])
                numbers.append(steps[kept])
        if not values:
            return self._extractor.empty(), seen
        times = self._frames.times(np.concatenate(numbers), rate)
        return FeatureSequence(np.concatenate(values), times, self._extractor.names), seen


def context_seconds(chunks: Chunks, rate: int) -> float:
    """How much sound around a segment is decoded, so that the chunks that own its ends are complete."""
    return (chunks.advance + chunks.context) / rate
