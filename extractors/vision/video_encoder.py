"""`VideoEncoder`: what a pretrained video encoder makes of windows of frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extractors import pretrained
from extractors.base import check_range
from extractors.errors import ToolError
from extractors.vision.frame_windows import FrameWindows
from extractors.vision.transformer import POOLINGS
from extractors.vision.video_processor import load_video_processor

_PROBE_SIDE = 64


class VideoEncoder:
    """Video processor and encoder, found; loaded by `load`.

    Args:
        model: see `vision.video_transformers`, also for the others.
        revision: of the hub model.
        weights_sha256: of the local folder.
        pooling: `"mean"`, `"cls"` or `"pooled"`.
        num_frames: in a window; None is the model's own number.
        hop_frames: from the start of one window to that of the next; None is half a window.
        device: `"auto"` (CUDA where there is one), or a torch device.

    Attributes:
        names: one for each number that the encoder gives.
        windows: where windows lie.
        parameters: what changes a number, for a spec.
        hints: what only helps to find the model again.

    Raises:
        ValueError: a parameter is out of its range.
        ToolError: transformers is missing; the model cannot be had or is no video encoder; or the folder is not the one
            the hash names.
    """

    def __init__(
        self,
        *,
        model: str,
        revision: str | None,
        weights_sha256: str | None,
        pooling: str,
        num_frames: int | None,
        hop_frames: int | None,
        device: str,
    ) -> None:
        if pooling not in POOLINGS:
            raise ValueError(f"pooling must be one of {POOLINGS}, not {pooling!r}")
        found = pretrained.find(model, revision, weights_sha256)
        width, own_frames = _read(found.config, model)
        frames = _whole("num_frames", own_frames if num_frames is None else num_frames, 1024)
        self.windows = FrameWindows(
            frames, _whole("hop_frames", max(1, frames // 2) if hop_frames is None else hop_frames, frames)
        )
        self.names = tuple(f"hidden_{i}" for i in range(width))
        self.parameters = {
            **found.identity,
            "pooling": pooling,
            "num_frames": frames,
            "hop_frames": self.windows.hop,
        }
        self.hints = found.hints
        self._source, self._pooling, self._device, self._own_frames = found.source, pooling, device, own_frames
        self._kind = str(found.config.model_type)
        self._model: Any = None

    def load(self) -> None:
        """Load the model and encode a window, so that what does not fit is known before any media is read.

        Raises:
            ToolError: weights or processor cannot be had, the model does not take windows of so many frames, or gives
                nothing of this width and pooling.
        """
        if self._model is not None:
            return
        import torch

        self._torch, self._chosen = torch, pretrained.chosen_device(self._device)
        self._processor = load_video_processor(self._source, self._kind)
        model = pretrained.load_weights(
            "AutoModel",
            self._source,
            advice=f"give a checkpoint that holds them, or set pooling to another of {POOLINGS}",
            unused=self._unused,
        )
        # V-JEPA 2 predicts what it is not shown by a second part, which takes as long and is not asked for.
        part = model.encoder if self._kind == "vjepa2" else model
        self._input, self._patch = model.main_input_name, _patch(model.config)
        self._model = part.to(self._chosen)
        try:
            self._check()
        except ToolError:
            self._model = None
            raise

    def prepare(self, image: NDArray[np.uint8]) -> Any:
        """One frame `(H, W, 3)` as the model reads it, `(C, H', W')`, on its device."""
        prepared = self._processor([image], input_data_format="channels_last", return_tensors="np")["pixel_values"]
        return self._torch.from_numpy(np.asarray(prepared[0][0], np.float32)).to(self._chosen)

    def encode(self, windows: Sequence[Sequence[Any]]) -> NDArray[np.float32]:
        """Windows of prepared frames → `(N, D)`."""
        torch = self._torch
        with torch.inference_mode():
            batch = torch.stack([torch.stack(list(window)) for window in windows])  # (B, T, C, H, W)
            pooled = self._pool(self._model(**{self._input: batch}), tuple(batch.shape))
            return np.asarray(pooled.float().cpu().numpy(), np.float32)

    def _pool(self, output: Any, shape: tuple[int, ...]) -> Any:
        """`(B, D)` from the model's output for a batch of this shape."""
        if self._pooling == "pooled":
            pooled = getattr(output, "pooler_output", None)
            if pooled is None:
                raise self._lacks("no pooled output")
            return pooled
        hidden = output.last_hidden_state  # (B, N, D)
        _, frames, _, height, width = shape
        long, high, wide = self._patch
        special = hidden.shape[1] - (frames // long) * (height // high) * (width // wide)
        if special < 0:
            raise self._lacks(f"{hidden.shape[1]} states for {frames} frames of {height} by {width}, fewer than pieces")
        if self._pooling == "mean":
            return hidden[:, special:].mean(dim=1)
        if not special:
            raise self._lacks("no class token")
        return hidden[:, 0]

    def _check(self) -> None:
        frames, width = self.windows.frames, len(self.names)
        probe = np.tile(np.linspace(0, 255, _PROBE_SIDE).astype(np.uint8)[:, None, None], (1, _PROBE_SIDE, 3))
        try:
            found = self.encode([[self.prepare(probe)] * frames])
        except ToolError:
            raise
        except (TypeError, ValueError, KeyError, AttributeError, RuntimeError) as error:
            other = "" if frames == self._own_frames else f"; it is made for {self._own_frames}: leave num_frames out"
            reason = " ".join(str(error).split())[:300]
            raise ToolError(
                f"{self._source.name}: cannot encode windows of {frames} frames ({reason}){other}"
            ) from error
        if found.shape[1] != width:
            raise self._lacks(f"{found.shape[1]} numbers where the configuration announces {width}")

    def _lacks(self, what: str) -> ToolError:
        return ToolError(
            f"{self._source.name}: has {what} with pooling={self._pooling!r}: set pooling to another of {POOLINGS}"
        )

    def _unused(self, key: str) -> bool:
        return (self._pooling != "pooled" and "pooler" in key) or key.startswith("predictor.")


def own_frames(config: Any) -> int | None:
    """How many frames a video encoder is made for; None for any other model."""
    count = getattr(config, "num_frames", None) or getattr(config, "frames_per_clip", None)
    return count if isinstance(count, int) else None


def _read(config: Any, model: str) -> tuple[int, int]:
    width, frames = getattr(config, "hidden_size", None), own_frames(config)
    if not isinstance(width, int) or frames is None:
        raise ToolError(
            f"model={model!r}: its configuration ({type(config).__name__}) is not that of a video encoder, such as "
            "VideoMAE, TimeSformer, ViViT or V-JEPA 2: image encoders go with vision.transformers and "
            "facial.transformers"
        )
    return width, frames


def _patch(config: Any) -> tuple[int, int, int]:
    """Frames, height and width of the pieces that a video is cut into."""
    tubelet, patch = getattr(config, "tubelet_size", 1), getattr(config, "patch_size", None)
    if isinstance(tubelet, list | tuple):  # ViViT
        return int(tubelet[0]), int(tubelet[1]), int(tubelet[2])
    height, width = patch if isinstance(patch, list | tuple) else (patch, patch)
    return int(tubelet), int(height or 1), int(width or 1)


def _whole(name: str, value: int, most: int) -> int:
    check_range(name, value, 1, most)
    if value != int(value):
        raise ValueError(f"{name} must be a whole number, not {value!r}")
    return int(value)
