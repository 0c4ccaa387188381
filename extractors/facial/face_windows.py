"""`FaceWindowStream`: windows of every face, from frames with several."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from extractors.base import VisionExtractor
from extractors.facial.face_choice import FaceChoice
from extractors.facial.faces_stream import track_ranks
from extractors.sequence import FeatureSequence
from extractors.vision.frame_windows import Describe, FrameWindows, Shown, WindowStep, WindowSteps, WindowStream


class FaceWindowStream(WindowStream):
    """Follows all faces of a clip and gives a step per window for each that is in at least half of its frames.

    `WindowSteps` has what stands in a window where a face is not seen; never another face. Steps of one window have
    equal times, and are ordered by track. The feature `faces_stream.TRACK`, which comes last, is a track's rank in the
    sequence (`track_ranks`), by the first window that shows it in half of its frames; how far to the left a face is in
    a window, the first of its frames there says.

    Of a segment, windows around it are not described, and count for no rank.

    Args:
        extractor: whose stream this is.
        choice: follows all faces; it keeps what a window holds of one.
        windows: where windows lie.
        describe: windows → `(N, D)`, each row a function of its own window.
        batch_size: windows per call of `describe`, whoever is in them.
    """

    def __init__(
        self,
        extractor: VisionExtractor,
        choice: FaceChoice,
        windows: FrameWindows,
        describe: Describe,
        batch_size: int,
    ) -> None:
        rate = choice.frames_per_second / choice.every
        steps = WindowSteps(windows, describe, batch_size, rate, "face", each="the same face")
        super().__init__(extractor, steps, rate)
        self._choice = choice

    def expect_segment(self, start_seconds: float, end_seconds: float) -> None:
        """See `VisionStream.expect_segment`."""
        self._steps.only(start_seconds, end_seconds)

    def push(self, image: NDArray[np.uint8], indices: Sequence[int]) -> None:
        """See `VisionStream.push`; a frame is looked at once, however long it is shown."""
        for instant in self._choice.push(image, indices):
            self._steps.add([instant.step], [Shown(face.track, face.left, face.kept) for face in instant.faces])

    def finish(self) -> FeatureSequence:
        """See `VisionStream.finish`."""
        self.close()
        return super().finish()

    def close(self) -> None:
        """Free the tools."""
        self._choice.close()

    def _arranged(
        self, rows: Sequence[NDArray[np.float32]], steps: Sequence[WindowStep]
    ) -> tuple[Sequence[NDArray[np.float32]], Sequence[WindowStep]]:
        ranks = track_ranks((step.number, step.left, step.who) for step in steps)
        order = sorted(range(len(steps)), key=lambda i: (steps[i].number, ranks[steps[i].who]))
        return [np.append(rows[i], np.float32(ranks[steps[i].who])) for i in order], [steps[i] for i in order]
