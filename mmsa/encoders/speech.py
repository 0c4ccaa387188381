"""`SpeechEncoder`: wav2vec 2.0, HuBERT, WavLM and their kin over samples."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch
from torch import Tensor

from extractors.speech.waveform import STEP_SAMPLES
from fusion import ModalitySequence
from mmsa.encoders.encoder import Encoder
from mmsa.encoders.windows import Windows, cut, join

WINDOW_STEPS = 1000
"""20 s: longer clips are heard in windows, as attention costs the square of the length."""


class SpeechEncoder(Encoder):
    """Hidden states per step of the network, 20 ms for most.

    Samples are scaled to mean 0 and variance 1 over each clip where the model was pretrained so. A clip of more than
    20 s is heard in windows of 20 s that overlap by half. Networks whose first layer normalises over time
    (`feat_extract_norm: group`, such as wav2vec 2.0 base) would hear padding: they get windows of one length at a time.
    """

    def encode(self, sequence: ModalitySequence) -> ModalitySequence:
        """See `Encoder.encode`; raw steps are those of `extractors.speech.waveform.Waveform`."""
        stride, field = self.spec.reads["stride"], self.spec.reads["field"]
        lengths = sequence.lengths.cpu().numpy()
        samples = self._scaled(sequence)
        windows = cut(lengths, WINDOW_STEPS, multiple=math.lcm(stride, STEP_SAMPLES) // STEP_SAMPLES)
        heard = Windows(
            windows.clips,
            windows.firsts * STEP_SAMPLES // stride,
            np.maximum(1, (windows.counts * STEP_SAMPLES - field) // stride + 1),
        )
        states, mask = join(self._hear(samples, windows, int(heard.counts.max())), heard, len(lengths))
        return ModalitySequence(states, mask)

    def probe(self) -> Tensor:
        """See `Encoder.probe`."""
        steps = -(-(self.spec.reads["field"] + 3 * self.spec.reads["stride"]) // STEP_SAMPLES)
        return torch.sin(torch.arange(steps * STEP_SAMPLES) * 0.3).view(steps, STEP_SAMPLES)

    def _scaled(self, sequence: ModalitySequence) -> Tensor:
        """`(R, T * STEP_SAMPLES)`: samples as the model was pretrained on, 0 behind each clip's end."""
        values = sequence.values
        if self.spec.reads["normalise"]:
            real = sequence.mask.unsqueeze(2)
            count = (sequence.lengths * STEP_SAMPLES).view(-1, 1, 1)
            mean = values.sum(dim=(1, 2), keepdim=True) / count
            centred = (values - mean) * real
            variance = centred.square().sum(dim=(1, 2), keepdim=True) / count
            values = centred / (variance + 1e-7).sqrt()
        return values.flatten(1)

    def _hear(self, samples: Tensor, windows: Windows, longest: int) -> Tensor:
        """`(N, longest, D)`: the states of windows of samples."""
        groups = [np.arange(len(windows))]
        if self.spec.reads["whole"]:
            groups = [np.flatnonzero(windows.counts == count) for count in np.unique(windows.counts)]
        parts = []
        for group in groups:
            hear = partial(self._batch, samples, windows.only(group), longest)
            parts.append(self.in_parts(len(group), hear))
        back = torch.from_numpy(np.argsort(np.concatenate(groups), kind="stable")).to(samples.device)
        return torch.cat(parts).index_select(0, back)

    def _batch(self, samples: Tensor, windows: Windows, longest: int, part: slice) -> Tensor:
        some = windows.only(part)
        some = Windows(some.clips, some.firsts * STEP_SAMPLES, some.counts * STEP_SAMPLES)
        place, real = some.places(samples.device)
        clips = torch.from_numpy(some.clips).to(samples.device).unsqueeze(1)
        given = samples[clips, place] * real
        attended = real.long()
        short = self.spec.reads["field"] - given.shape[1]
        if short > 0:
            given = torch.nn.functional.pad(given, (0, short))
            attended = torch.nn.functional.pad(attended, (0, short))
        # Less than the network needs for one step is filled up with silence.
        attended[:, : self.spec.reads["field"]] = 1
        options = {} if self.spec.reads["whole"] else {"attention_mask": attended}
        output = self.network(given, output_hidden_states=self.every_layer, return_dict=True, **options)
        states = self.states(output)
        return torch.nn.functional.pad(states, (0, 0, 0, longest - states.shape[1]))
