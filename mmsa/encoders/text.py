"""`TextEncoder`: BERT, RoBERTa and their kin over word pieces."""

from __future__ import annotations

import torch
from torch import Tensor

from extractors.text.tokens import BASE, BEGINS, NO_WORD
from fusion import ModalitySequence
from mmsa.encoders.encoder import Encoder
from mmsa.encoders.windows import Windows, cut, join


class TextEncoder(Encoder):
    """Hidden states per word (the mean over its pieces) or per piece, as `text.transformers` makes them frozen.

    Special tokens are put around the pieces, read, and dropped. A text that is longer than the network takes is read
    in windows that overlap by half.
    """

    def encode(self, sequence: ModalitySequence) -> ModalitySequence:
        """See `Encoder.encode`; raw steps are those of `extractors.text.tokens.TextTokens`."""
        high, low, word = sequence.values.unbind(dim=2)
        ids = (high.round() * BASE + low.round()).long()
        windows = cut(sequence.lengths.cpu().numpy(), self.spec.reads["pieces"])
        longest = int(windows.counts.max())
        states = self.in_parts(len(windows), lambda part: self._read(ids, windows.only(part), longest))
        states, mask = join(states, windows, len(ids))
        mask = mask & (word != NO_WORD)  # (R, T): as long as the raw sequence
        if self.spec.options["unit"] == "subword":
            return ModalitySequence(states, mask).compacted().zeroed()
        return _per_word(states, mask, word == BEGINS)

    def probe(self) -> Tensor:
        """See `Encoder.probe`."""
        return torch.tensor([[0.0, 1.0, BEGINS], [0.0, 2.0, BEGINS], [0.0, 3.0, BEGINS]])

    def _read(self, ids: Tensor, windows: Windows, longest: int) -> Tensor:
        """`(N, longest, D)`: the states of the pieces of windows."""
        reads = self.spec.reads
        before, after = len(reads["prefix"]), len(reads["suffix"])
        place, real = windows.places(ids.device)
        clips = torch.from_numpy(windows.clips).to(ids.device)
        count, own = place.shape
        given = ids.new_full((count, before + own + after), reads["pad"])
        given[:, :before] = ids.new_tensor(reads["prefix"])
        given[:, before : before + own] = torch.where(real, ids[clips.unsqueeze(1), place], reads["pad"])
        lengths = real.sum(dim=1, keepdim=True)
        if after:
            ends = before + lengths + torch.arange(after, device=ids.device)
            given.scatter_(1, ends, ids.new_tensor(reads["suffix"]).expand(count, after))
        attended = torch.arange(given.shape[1], device=ids.device) < before + lengths + after
        output = self.network(
            input_ids=given, attention_mask=attended.long(), output_hidden_states=self.every_layer, return_dict=True
        )
        states = self.states(output)[:, before : before + own]
        return torch.nn.functional.pad(states, (0, 0, 0, longest - own))


def _per_word(states: Tensor, mask: Tensor, begins: Tensor) -> ModalitySequence:
    """The mean over the pieces of each word; the first piece of a clip begins one in any case."""
    begins = begins & mask
    first = mask & (mask.cumsum(dim=1) == 1)
    word = (begins | first).cumsum(dim=1)  # (R, T), from 1
    words = int(word.max())
    belongs = (word.unsqueeze(1) == torch.arange(1, words + 1, device=word.device).view(1, -1, 1)) & mask.unsqueeze(1)
    counts = belongs.sum(dim=2, keepdim=True)  # (R, W, 1)
    # In full precision also under autocast, which would make a product of matrices coarse.
    with torch.autocast(states.device.type, enabled=False):
        means = torch.bmm(belongs.to(states.dtype), states) / counts.clamp(min=1)
    return ModalitySequence(means, counts.squeeze(2) > 0)
