from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import mmsa.encoders.speech
from fusion import ModalitySequence
from mmsa.encoders import build_encoder
from mmsa.encoders.config import EncoderConfig
from mmsa.encoders.encoder import Encoder
from mmsa.encoders.spec import encoder_spec
from mmsa.errors import UsageError

STEPS = (7, 1, 4, 7)


def encoder(folder: Path, **options: Any) -> Encoder:
    return build_encoder(encoder_spec("audio", EncoderConfig(model=str(folder), tune="frozen", **options)))


def sounds(seed: int = 0) -> list[torch.Tensor]:
    """Clips of 20 ms steps, with a mean that must be taken off."""
    random = np.random.default_rng(seed)
    return [torch.from_numpy(random.normal(0.02, 0.1, (n, 320)).astype(np.float32)) for n in STEPS]


def naive(folder: Path, samples: torch.Tensor) -> torch.Tensor:
    """One clip alone through transformers' own extractor and model, as its documentation shows."""
    prepare = transformers.AutoFeatureExtractor.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    given = prepare(samples.flatten().numpy(), sampling_rate=16000, return_tensors="pt")["input_values"]
    with torch.no_grad():
        return model(given).last_hidden_state[0]


@pytest.mark.parametrize("which", ["wav2vec2", "wav2vec2_group"])
def test_each_clip_as_if_alone(which: str, request: pytest.FixtureRequest) -> None:
    """Clips of other lengths in the batch change nothing, also where the network normalises over time."""
    folder = request.getfixturevalue(which)
    clips = sounds()
    with torch.no_grad():
        found = encoder(folder)(ModalitySequence.pad(clips))
    for row, clip in enumerate(clips):
        torch.testing.assert_close(found.values[row][found.mask[row]], naive(folder, clip), atol=1e-5, rtol=0)


def test_long_clips_are_heard_in_windows(wav2vec2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows of 6 steps, beginning every 3; each step is taken from the window where it is furthest from an edge."""
    monkeypatch.setattr(mmsa.encoders.speech, "WINDOW_STEPS", 6)
    clip = sounds()[0].repeat(2, 1)[:10]
    scaled = (clip - clip.mean()) / (clip.var(correction=0) + 1e-7).sqrt()
    model = transformers.AutoModel.from_pretrained(wav2vec2).eval()
    with torch.no_grad():
        parts = [model(scaled[a:b].reshape(1, -1)).last_hidden_state[0] for a, b in ((0, 6), (3, 9), (6, 10))]
        found = encoder(wav2vec2)(ModalitySequence.pad([clip]))
    # 80 samples a state, 4 a step; a window of 6 steps has (1920 - 98) // 80 + 1 = 23, the last one 15.
    assert [len(part) for part in parts] == [23, 23, 15]
    assert found.mask.sum() == (3200 - 98) // 80 + 1 == 24 + 15
    for place in range(39):
        # Distances to edges that cut something off; the first window has none to the left, the last none to the right.
        inner = [22 - place, min(place - 12, 34 - place), place - 24]
        inside = [place < 23, 12 <= place < 35, place >= 24]
        best = max((i for i in range(3) if inside[i]), key=lambda i: (inner[i], -i))
        torch.testing.assert_close(
            found.values[0, place], parts[best][place - 12 * best], atol=1e-5, rtol=0, msg=f"state {place}"
        )


def test_a_layer(wav2vec2: Path) -> None:
    clip = sounds()[0]
    model = transformers.AutoModel.from_pretrained(wav2vec2).eval()
    scaled = (clip - clip.mean()) / (clip.var(correction=0) + 1e-7).sqrt()
    with torch.no_grad():
        expected = model(scaled.reshape(1, -1), output_hidden_states=True).hidden_states[1][0]
        found = encoder(wav2vec2, layer=1)(ModalitySequence.pad([clip]))
    torch.testing.assert_close(found.values[0], expected, atol=1e-5, rtol=0)


def test_what_reads_no_samples_is_refused(bert: Path) -> None:
    with pytest.raises(UsageError, match=r"encoders\.audio: .*a BertConfig reads no samples; allowed are encoders"):
        encoder(bert)


def test_another_sample_rate_is_refused(wav2vec2: Path, tmp_path: Path) -> None:
    import shutil

    folder = Path(shutil.copytree(wav2vec2, tmp_path / "copy"))
    transformers.Wav2Vec2FeatureExtractor(sampling_rate=8000).save_pretrained(folder)
    with pytest.raises(UsageError, match=r"wants 8000 Hz; samples come at 16000 Hz"):
        encoder(folder)
