"""What every extractor is: a modality, feature names, a spec, and a way from media or text to a `FeatureSequence`."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from extractors.sequence import FeatureSequence
from extractors.spec import ExtractorSpec
from extractors.transcript import Transcript


def tool_version(distribution: str, definition: int) -> str:
    """Version of a tool and of our own definitions built on it, such as `"0.11.0+1"`.

    Args:
        distribution: name of the installed distribution; it is not imported.
        definition: raised by one whenever an extractor's own arithmetic changes.
    """
    return f"{metadata.version(distribution)}+{definition}"


class Extractor(ABC):
    """Turns one modality of a clip into a `FeatureSequence`.

    Subclass `AudioExtractor`, `VisionExtractor` or `TextExtractor`. A constructor takes keyword arguments that are
    JSON values, and sets `spec` (with every argument that changes a number) and `names` before any extraction.

    Attributes:
        modality: `"audio"`, `"vision"` or `"text"`.
        languages: ISO 639-1 codes of the languages that it suits; None is any.
        rolling: whether its streams can hand over windows while they go on (`RollingStream`).
        raw: whether its values are what a pretrained encoder reads, and nothing to a fusion head.
        uses_gpu: whether it computes on a GPU where there is one.
        spec: what must be known to compute the same numbers again.
        names: one name per feature; its length is the dimension `D` of every sequence the extractor returns.
    """

    modality: ClassVar[str]
    languages: tuple[str, ...] | None = None
    rolling: ClassVar[bool] = False
    raw: ClassVar[bool] = False
    uses_gpu: ClassVar[bool] = False
    spec: ExtractorSpec
    names: tuple[str, ...]

    def load(self) -> None:  # noqa: B027 - most extractors have nothing to load
        """Load models now, so that what is missing is known before any media is read; safe to call twice.

        Raises:
            ToolError: one cannot be had or used.
        """

    def empty(self) -> FeatureSequence:
        """The sequence of a clip in which this modality is missing."""
        return FeatureSequence.empty(self.names)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.spec.name}, D={len(self.names)}, {self.spec.fingerprint})"


class RollingStream:
    """What a stream can do beside `finish` if its extractor is `rolling`: serve windows of a long file in one pass."""

    def expect_windows(self) -> None:
        """Windows will be asked for, and `finish` will not be called; called before anything is pushed."""

    def window(self, start_seconds: float, end_seconds: float) -> tuple[FeatureSequence, str]:
        """The steps whose middle lies in `[start_seconds, end_seconds)`, and why there is none, or "".

        Everything up to the end, and the extractor's context after it, has been pushed, or will never be.
        """
        raise NotImplementedError(f"{type(self).__name__} serves no windows")

    def forget(self, before_seconds: float) -> None:
        """No later window needs anything before this; `finish` is not called any more."""
        raise NotImplementedError(f"{type(self).__name__} serves no windows")


class AudioStream(RollingStream, ABC):
    """One clip's sound, fed in blocks of any size."""

    @abstractmethod
    def push(self, samples: NDArray[np.float32]) -> None:
        """Take the next samples: `(N,)`, mono, full scale is ±1."""

    @abstractmethod
    def finish(self) -> FeatureSequence:
        """The features of all samples pushed; called once."""

    def missing_reason(self) -> str:
        """Why `finish` returned no step, in plain words."""
        return "silent"


class AudioExtractor(Extractor):
    """An extractor that listens.

    Attributes:
        sample_rate_hz: what the samples are resampled to before `push`.
        hop_samples: the streams of segments begin at multiples of this, so that step `k` of a segment falls on the
            same instants as in the whole recording.
        context_seconds: how much sound outside a step's own time enters its features; that much is decoded
            around a segment.
    """

    modality: ClassVar[str] = "audio"
    sample_rate_hz: int
    hop_samples: int = 1
    context_seconds: float = 0.0

    @abstractmethod
    def stream(self, first_sample: int = 0) -> AudioStream:
        """A fresh stream whose first pushed sample has this index on the media's clock."""

    def extract_samples(self, samples: NDArray[np.float32]) -> FeatureSequence:
        """Features of a whole signal in memory: `(N,)`, mono, at `sample_rate_hz`."""
        stream = self.stream()
        stream.push(np.asarray(samples, np.float32))
        return stream.finish()


class VisionStream(RollingStream, ABC):
    """One clip's sampled frames, fed in order of time."""

    @abstractmethod
    def push(self, image: NDArray[np.uint8], indices: Sequence[int]) -> None:
        """Take the next sampled frame.

        Args:
            image: `(H, W, 3)` RGB; a torch tensor where the extractor's `frames_device` names a device.
            indices: the instants `k / frames_per_second` at which this frame is shown; more than one where the
                video shows a frame for longer than a sampling period.
        """

    def expect_segment(self, start_seconds: float, end_seconds: float) -> None:
        """Of what `finish` gives, only the steps whose middle lies in `[start_seconds, end_seconds)` will be kept.

        Called before anything is pushed, where the clip is a part of its media: frames around it are pushed as well, by
        `before_seconds` and `after_seconds`. A stream may leave out the steps of these.
        """

    def listen(self, samples: NDArray[np.float32], first_sample: int) -> None:
        """Take the next sound of the same clip; only where the extractor listens.

        Sound and frames come in the order in which they lie in the file: either may be seconds ahead of the other.

        Args:
            samples: `(N,)`, mono, full scale is ±1, at the extractor's `listens_at_hz`.
            first_sample: index of the first one on the media's clock.
        """
        raise NotImplementedError(f"{type(self).__name__} does not listen")

    def no_more_sound(self) -> None:
        """No sound comes any more: the media has none, or it cannot be decoded; only where the extractor listens."""

    @abstractmethod
    def finish(self) -> FeatureSequence:
        """The features of all frames pushed; called once. Frees what the stream holds."""

    def missing_reason(self) -> str:
        """Why `finish` returned no step, in plain words."""
        return "nothing found in the sampled frames"

    def notes(self, start_seconds: float = 0.0, end_seconds: float = math.inf) -> tuple[str, ...]:
        """What the user should know of how the steps in a span came about; asked after the last one."""
        return ()

    def close(self) -> None:
        """Free what the stream holds without finishing; safe to call twice and after `finish`."""


class VisionExtractor(Extractor):
    """An extractor that watches.

    Attributes:
        frames_per_second: how many frames per second of media are sampled.
        max_side_pixels: sampled frames are scaled down so that neither side exceeds this.
        listens_at_hz: at which rate its streams are given the clip's sound as well (`VisionStream.listen`); None is not
            at all.
        before_seconds: how much before a step's own time bears on it; that much is read before a segment.
        after_seconds: how much after it does; that much is read after a segment, and windows wait for it.
    """

    modality: ClassVar[str] = "vision"
    frames_per_second: float
    max_side_pixels: int
    listens_at_hz: int | None = None
    before_seconds: float = 0.0
    after_seconds: float = 0.0

    @property
    def frames_device(self) -> str | None:
        """The torch device on which its streams want frames, as uint8 tensors; None is NumPy arrays in memory.

        Frames of videos come as asked for, straight from the GPU's decoder where that is on the same device; still
        images always come as arrays.
        """
        return None

    @abstractmethod
    def stream(self) -> VisionStream:
        """A fresh stream; nothing is carried over from clip to clip."""


class TextExtractor(Extractor):
    """An extractor that reads."""

    modality: ClassVar[str] = "text"

    @abstractmethod
    def extract_text(
        self, transcript: Transcript, start_seconds: float = 0.0, end_seconds: float | None = None
    ) -> FeatureSequence:
        """Features of a transcript.

        Args:
            transcript: what is said; its segments' times are on the media's clock.
            start_seconds: where the clip starts; segments without times are spread from here.
            end_seconds: where the clip ends; None where the duration is unknown.
        """

    def extract_many(self, transcripts: Sequence[Transcript]) -> Iterator[FeatureSequence]:
        """Features of many transcripts without media, in the given order; batched where that pays."""
        return (self.extract_text(transcript) for transcript in transcripts)


def make_spec(
    name: str,
    distribution: str,
    definition: int,
    parameters: Mapping[str, Any],
    hints: Mapping[str, Any] | None = None,
) -> ExtractorSpec:
    """The spec of a built-in extractor; see `ExtractorSpec` for the arguments and `tool_version` for `definition`."""
    return ExtractorSpec(
        name, distribution, tool_version(distribution, definition), dict(parameters), dict(hints or {})
    )


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Check a numeric parameter.

    Raises:
        ValueError: `value` is not a number in `[low, high]`.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ValueError(f"{name} must be a number from {low:g} to {high:g}, not {value!r}")
