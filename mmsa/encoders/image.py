"""`ImageEncoder`: ViT, CLIP, DINOv2 and their kin over the pictures of a clip."""

from __future__ import annotations

import torch
from torch import Tensor

from fusion import ModalitySequence
from mmsa.encoders.encoder import Encoder
from mmsa.errors import UsageError


class ImageEncoder(Encoder):
    """One hidden state per picture: the class token, or the mean over patches, as `vision.transformers` makes them."""

    def encode(self, sequence: ModalitySequence) -> ModalitySequence:
        """See `Encoder.encode`; raw steps are those of `extractors.vision.pixels.Pixels`."""
        pictures = sequence.values[sequence.mask].view(-1, *self.spec.reads["shape"])
        found = self.in_parts(len(pictures), lambda part: self._look(pictures[part]))
        values = found.new_zeros(*sequence.mask.shape, found.shape[1])
        return ModalitySequence(values.masked_scatter(sequence.mask.unsqueeze(2), found), sequence.mask)

    def probe(self) -> Tensor:
        """See `Encoder.probe`."""
        channels, height, width = self.spec.reads["shape"]
        return torch.linspace(-1, 1, channels * height * width).view(1, -1)

    def _look(self, pictures: Tensor) -> Tensor:
        """`(N, C, H, W)` → `(N, D)`."""
        output = self.network(pixel_values=pictures, output_hidden_states=self.every_layer, return_dict=True)
        hidden = self.states(output)
        pooling = self.spec.options["pooling"]
        if hidden.ndim == 4:  # convolutions: (N, D, H', W')
            if pooling == "cls":
                raise self._no_class_token()
            return hidden.mean(dim=(2, 3))
        special = self._special(hidden.shape[1])
        if pooling == "mean":
            return hidden[:, special:].mean(dim=1)
        if not special:
            raise self._no_class_token()
        return hidden[:, 0]

    def _special(self, tokens: int) -> int:
        """How many of the first tokens are none of the patches; hierarchical encoders merge patches and have none."""
        patch = getattr(self.network.config, "patch_size", None)
        if patch is None:
            return 0
        rows, columns = (patch, patch) if isinstance(patch, int) else patch
        _, height, width = self.spec.reads["shape"]
        return max(0, tokens - int((height // rows) * (width // columns)))

    def _no_class_token(self) -> UsageError:
        return UsageError("encoders.vision: the network has no class token: set encoders.vision.pooling=mean")
