"""`TransformerVision`: what a pretrained image encoder makes of each frame."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from extractors import pretrained
from extractors.base import VisionExtractor, VisionStream, check_range, make_spec
from extractors.errors import ToolError
from extractors.vision.per_frame import PerFrameStream

if TYPE_CHECKING:
    from torch import Tensor

POOLINGS = ("cls", "mean", "pooled")
PREPARATIONS = ("pillow", "torch")
# The name that transformers has for each.
_BACKENDS = {"pillow": "pil", "torch": "torchvision"}
_PROBE_SIDE = 64


class TransformerVision(VisionExtractor):
    """One step per sampled frame: any image encoder that `transformers` knows, such as ViT, CLIP, DINOv2 or ConvNeXt.

    A frame is prepared as the model's own image processor says (its Pillow form, whatever else is installed) and
    encoded whole. `pooling` says what becomes the step's vector: `"cls"` the class token of the last layer, `"mean"`
    the mean over the patches of the last layer without class, register and other special tokens, `"pooled"` the
    model's own pooled output. The last is refused where the checkpoint does not hold the pooling layer's weights, as
    with ViTs trained to classify, for it would be random.

    Of a model for images and text (CLIP, SigLIP) the image half is used. Batching changes no value beyond rounding.

    With `preparation="torch"` frames are prepared on the device instead: colours by `extractors.device_frames`, the
    rest by the torchvision form of the model's own image processor. Frames that a GPU decoded then never leave it.
    Pictures differ from Pillow's by a grey level or two, and with them the features; so this is part of the spec, and
    a model is scored with what it was trained on, whatever the device.

    Args:
        model: a model id of the Hugging Face hub, or a local folder with `config.json`, `model.safetensors` and
            `preprocessor_config.json`; `"package:NAME/FOLDER"` is such a folder inside the installed package `NAME`.
        revision: commit, tag or branch of the hub model; resolved to its commit in the spec.
        weights_sha256: what the hash of the local folder must be; filled in when left out. The spec identifies a local
            model by it and not by its path.
        pooling: `"cls"`, `"mean"` or `"pooled"`.
        frames_per_second: how many frames per second of media are looked at.
        max_side_pixels: larger frames and images are scaled down by area before the image processor sees them.
        batch_size: frames per forward pass; changes speed and memory only.
        device: `"auto"` (CUDA where there is one), or a torch device; changes speed only.
        preparation: `"pillow"`, or `"torch"` for GPUs, which needs torchvision.

    Raises:
        ValueError: a parameter is out of its range.
        ToolError: transformers or torchvision is missing; the model cannot be had or is no image encoder; or the folder
            is not the one the hash names.
    """

    REGISTRY_NAME = "vision.transformers"
    DEFINITION = 1
    rolling = True
    uses_gpu = True

    def __init__(
        self,
        *,
        model: str,
        revision: str | None = None,
        weights_sha256: str | None = None,
        pooling: str = "cls",
        frames_per_second: float = 2.0,
        max_side_pixels: int = 1280,
        batch_size: int = 16,
        device: str = "auto",
        preparation: str = "pillow",
    ) -> None:
        check_range("frames_per_second", frames_per_second, 0.1, 120.0)
        check_range("max_side_pixels", max_side_pixels, 64, 8192)
        check_range("batch_size", batch_size, 1, 4096)
        if pooling not in POOLINGS:
            raise ValueError(f"pooling must be one of {POOLINGS}, not {pooling!r}")
        if preparation not in PREPARATIONS:
            raise ValueError(f"preparation must be one of {PREPARATIONS}, not {preparation!r}")
        self._preparation = preparation
        self.frames_per_second, self.max_side_pixels = float(frames_per_second), int(max_side_pixels)
        self._pooling, self._batch_size, self._device = pooling, int(batch_size), device
        found = pretrained.find(model, revision, weights_sha256)
        self._source = found.source
        self._encoder: ImageEncoder | None = None
        self.names = tuple(f"hidden_{i}" for i in range(encoder_width(found.config, model)))
        parameters = {
            **found.identity,
            "pooling": pooling,
            "frames_per_second": frames_per_second,
            "max_side_pixels": max_side_pixels,
            **({"preparation": preparation} if preparation != "pillow" else {}),  # what is stored keeps its fingerprint
        }
        self.spec = make_spec(self.REGISTRY_NAME, "transformers", self.DEFINITION, parameters, found.hints)

    @property
    def frames_device(self) -> str | None:
        """See `VisionExtractor.frames_device`: where the model is, if frames are prepared there."""
        return pretrained.chosen_device(self._device) if self._preparation == "torch" else None

    def stream(self) -> VisionStream:
        """A fresh stream; the first one loads the model.

        Raises:
            ToolError: the weights or the image processor cannot be had, or the model has not what `pooling` asks for.
        """
        if self._encoder is None:
            encoder = ImageEncoder(self._source, self._pooling, self._device, self._preparation)
            encoder.check(len(self.names))
            self._encoder = encoder
        return PerFrameStream(self, self._encoder.encode, self._batch_size)


class ImageEncoder:
    """Image processor and encoder, loaded; see `TransformerVision` for the arguments."""

    def __init__(self, source: pretrained.Source, pooling: str, device: str, preparation: str = "pillow") -> None:
        import torch

        self._name, self._pooling, self._torch = source.name, pooling, torch
        self._on_device = preparation == "torch"
        self._processor = _load_processor(source, preparation)
        model = pretrained.load_weights(
            "AutoModel",
            source,
            advice=f"give a checkpoint that holds them, or set pooling to another of {POOLINGS}",
            # A pooling layer that is not used may be missing.
            unused=lambda key: pooling != "pooled" and "pooler" in key,
        )
        model = getattr(model, "vision_model", model)
        self._chosen = pretrained.chosen_device(device)
        self._model = model.to(self._chosen)
        self._patch = _pair(getattr(model.config, "patch_size", None))

    def check(self, width: int) -> None:
        """Encode an image twice, so that what does not fit is known before any frame is decoded.

        Raises:
            ToolError: the model takes no images, gives nothing of this width and pooling, or is not deterministic.
        """
        probe = np.tile(np.linspace(0, 255, _PROBE_SIDE).astype(np.uint8)[:, None, None], (1, _PROBE_SIDE, 3))
        try:
            first, again = self.encode([probe]), self.encode([probe])
        except ToolError:
            raise
        except (TypeError, ValueError, KeyError, AttributeError, RuntimeError) as error:
            raise ToolError(f"{self._name}: is no image encoder that can be used here ({error})") from error
        if first.shape[1] != width:
            raise ToolError(
                f"{self._name}: pooling={self._pooling!r} gives {first.shape[1]} numbers where the configuration "
                f"announces {width}: set pooling to another of {POOLINGS}"
            )
        if not np.allclose(first, again, atol=1e-5):
            raise ToolError(
                f"{self._name}: gives other numbers for the same image every time, as encoders that mask patches at "
                "random do (ViTMAE): give one that does not"
            )

    def encode(self, images: Sequence[NDArray[np.uint8] | Tensor]) -> NDArray[np.float32]:
        """`(H, W, 3)` RGB images → `(N, D)`; tensors may lie anywhere."""
        torch = self._torch
        pixels = self._prepare(images)
        parts = []
        with torch.inference_mode():
            # Processors that keep an image's proportions give sizes that cannot share a batch.
            for _, run in groupby(pixels, key=lambda image: tuple(image.shape)):
                batch = torch.stack(list(run)).to(self._chosen)
                parts.append(self._pool(self._model(pixel_values=batch), batch.shape[2:]).float().cpu().numpy())
        return np.asarray(np.concatenate(parts), np.float32)

    def _prepare(self, images: Sequence[NDArray[np.uint8] | Tensor]) -> list[Tensor]:
        """`(C, H, W)` of each image, as the model reads it."""
        if not self._on_device:
            return [
                self._processor(images=image, input_data_format="channels_last", return_tensors="pt")["pixel_values"][0]
                for image in images
            ]
        placed = [self._torch.as_tensor(image, device=self._chosen).permute(2, 0, 1) for image in images]
        return list(self._processor(images=placed, input_data_format="channels_first")["pixel_values"])

    def _pool(self, output: Any, size: tuple[int, int]) -> Any:
        """`(B, D)` from the model's output for images of this height and width."""
        if self._pooling == "pooled":
            pooled = getattr(output, "pooler_output", None)
            if pooled is None:
                raise self._lacks("no pooled output")
            return pooled.flatten(1)
        hidden = output.last_hidden_state
        if hidden.ndim == 4:  # convolutions: (B, D, H', W')
            if self._pooling == "cls":
                raise self._lacks("no class token")
            return hidden.mean(dim=(2, 3))
        special = 0
        if self._patch is not None:  # hierarchical encoders merge patches, so that fewer are left than were cut
            special = max(0, hidden.shape[1] - (size[0] // self._patch[0]) * (size[1] // self._patch[1]))
        if self._pooling == "mean":
            return hidden[:, special:].mean(dim=1)
        if not special:
            raise self._lacks("no class token")
        return hidden[:, 0]

    def _lacks(self, what: str) -> ToolError:
        return ToolError(f"{self._name}: has {what}: set pooling to another of {POOLINGS}")


def _load_processor(source: pretrained.Source, preparation: str) -> Any:
    """The image processor of a model, in the form asked for.

    Raises:
        ToolError: it cannot be had, or transformers has it in another form only.
    """
    backend = _BACKENDS[preparation]
    if backend == "torchvision" and find_spec("torchvision") is None:
        raise ToolError(
            "preparation='torch' needs torchvision, which is not installed: pip install 'mmsa-framework[gpu]', or set "
            "preparation to 'pillow'"
        )
    processor = pretrained.load("image processor", "AutoImageProcessor", source, backend=backend)
    if backend == "torchvision" and getattr(processor, "backend", None) != backend:
        raise ToolError(
            f"{source.name}: transformers has its image processor ({type(processor).__name__}) in no form for torch: "
            "set preparation to 'pillow'"
        )
    return processor


def encoder_width(config: Any, model: str) -> int:
    """How many numbers an image encoder gives.

    Args:
        config: its configuration.
        model: its name, for the error.

    Raises:
        ToolError: it is no image encoder.
    """
    if getattr(config, "num_frames", None) or getattr(config, "frames_per_clip", None):
        raise ToolError(
            f"model={model!r}: is a video encoder ({type(config).__name__}): use vision.video_transformers, or "
            "facial.video_transformers for faces"
        )
    vision = getattr(config, "vision_config", config)
    width = getattr(vision, "hidden_size", None) or (getattr(vision, "hidden_sizes", None) or [None])[-1]
    if not isinstance(width, int):
        raise ToolError(f"model={model!r}: its configuration ({type(config).__name__}) is not that of an image encoder")
    return width


def _pair(size: Any) -> tuple[int, int] | None:
    if isinstance(size, int):
        return size, size
    return (int(size[0]), int(size[1])) if isinstance(size, list | tuple) and len(size) == 2 else None
