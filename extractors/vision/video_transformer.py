"""`TransformerVideo`: what a pretrained video encoder makes of windows of frames."""

from __future__ import annotations

from extractors.base import VisionExtractor, VisionStream, check_range, make_spec
from extractors.vision.frame_windows import FrameWindowStream
from extractors.vision.video_encoder import VideoEncoder


class TransformerVideo(VisionExtractor):
    """One step per window of sampled frames: VideoMAE, TimeSformer, ViViT or V-JEPA 2 on whole frames.

    **Windows.** Window `j` covers `num_frames` sampled frames from frame `j * hop_frames` of the media's clock on; its
    step lasts from the first frame to the end of the last. A window at the end of the media counts if at least half of
    its frames are there: the last one stands in for the rest, and the step ends with the media. A video that is shorter
    than half a window gives one step, and so does a still image. A segment gets the windows whose middle lies in it,
    with the numbers that the whole file has there; frames around it are read for that. Where segments are short, set
    `hop_frames` low: one that no window has its middle in has no step.

    **Frames** are prepared as the model's own video processor says (in its Pillow form, whatever else is installed),
    each once. `pooling` says what becomes the step's vector: `"mean"` the mean over all pieces of the window in what
    the model gives, without class tokens; `"cls"` the class token (TimeSformer, ViViT); `"pooled"` the model's own
    pooled output (ViViT). The last is refused where the checkpoint does not hold that layer's weights. V-JEPA 2's
    predictor is not run. Batching changes no value beyond rounding.

    Args:
        model: a model id of the Hugging Face hub, or a local folder with `config.json`, `model.safetensors` and
            `preprocessor_config.json` or `video_preprocessor_config.json`; `"package:NAME/FOLDER"` is such a folder
            inside the installed package `NAME`.
        revision: commit, tag or branch of the hub model; resolved to its commit in the spec.
        weights_sha256: what the hash of the local folder must be; filled in when left out. The spec identifies a local
            model by it and not by its path.
        pooling: `"mean"`, `"cls"` or `"pooled"`.
        num_frames: in a window; None is the number that the model was made for. VideoMAE and ViViT take no other;
            TimeSformer and V-JEPA 2 do.
        hop_frames: from the start of one window to that of the next; None is half a window.
        frames_per_second: how many frames per second of media are looked at. Kinetics models saw 16 frames in about
            two seconds (VideoMAE), or 8 in eight (TimeSformer).
        max_side_pixels: larger frames and images are scaled down by area before the video processor sees them.
        batch_size: windows per forward pass; changes speed and memory only.
        device: `"auto"` (CUDA where there is one), or a torch device; changes speed only.

    Raises:
        ValueError: a parameter is out of its range.
        ToolError: transformers is missing; the model cannot be had or is no video encoder; or the folder is not the one
            the hash names.
    """

    REGISTRY_NAME = "vision.video_transformers"
    DEFINITION = 1
    rolling = True
    uses_gpu = True

    def __init__(
        self,
        *,
        model: str,
        revision: str | None = None,
        weights_sha256: str | None = None,
        pooling: str = "mean",
        num_frames: int | None = None,
        hop_frames: int | None = None,
        frames_per_second: float = 8.0,
        max_side_pixels: int = 1280,
        batch_size: int = 4,
        device: str = "auto",
    ) -> None:
        check_range("frames_per_second", frames_per_second, 0.1, 120.0)
        check_range("max_side_pixels", max_side_pixels, 64, 8192)
        check_range("batch_size", batch_size, 1, 4096)
        self.frames_per_second, self.max_side_pixels = float(frames_per_second), int(max_side_pixels)
        self._batch_size = int(batch_size)
        self._encoder = VideoEncoder(
            model=model,
            revision=revision,
            weights_sha256=weights_sha256,
            pooling=pooling,
            num_frames=num_frames,
            hop_frames=hop_frames,
            device=device,
        )
        self.before_seconds = self.after_seconds = self._encoder.windows.context_seconds(self.frames_per_second)
        self.names = self._encoder.names
        parameters = {
            **self._encoder.parameters,
            "frames_per_second": frames_per_second,
            "max_side_pixels": max_side_pixels,
        }
        self.spec = make_spec(self.REGISTRY_NAME, "transformers", self.DEFINITION, parameters, self._encoder.hints)

    def load(self) -> None:
        """See `Extractor.load`."""
        self._encoder.load()

    def stream(self) -> VisionStream:
        """A fresh stream; the first one loads the model.

        Raises:
            ToolError: see `VideoEncoder.load`.
        """
        self.load()
        encoder = self._encoder
        return FrameWindowStream(self, encoder.windows, encoder.prepare, encoder.encode, self._batch_size)
