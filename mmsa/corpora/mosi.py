"""CMU-MOSI: sentiment in [-3, 3] of 2199 clips from 93 English video monologues.

Zadeh et al., "Multimodal Sentiment Intensity Analysis in Videos", IEEE Intelligent Systems 31(6), 2016.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mmsa.corpora.clip import Corpus
from mmsa.corpora.label_csv import read_label_csv
from mmsa.corpora.utterances import store_utterances
from mmsa.tasks import Regression

AUDIO = "audio_utterances.npz"
"""Audio features of whole utterances, beside `label.csv` (see `mmsa.corpora.utterances`)."""

SHUFFLE_SEED = 0
SHUFFLED_NOTE = (
    "A control: the audio vectors were dealt out anew among the clips of each split, so the audio says nothing about "
    "a clip. What a model gains over text alone here, it did not hear."
)


def load_mosi(root: Path) -> Corpus:
    """Read `label.csv` and `Raw/` (see `mmsa.corpora.label_csv`).

    The split is the table's, in the release for MMSA the standard folds: 1284, 229 and 686 clips, no video in two of
    them. Its text is upper case without punctuation.

    Raises:
        UsageError: the table is missing or holds what it cannot.
    """
    return read_label_csv("mosi", root / "label.csv", Regression("sentiment", -3.0, 3.0, metrics="mosi"))


def load_mosi_audio(root: Path) -> Corpus:
    """CMU-MOSI with ready-made audio features, one vector per clip, from `audio_utterances.npz` beside `label.csv`.

    Raises:
        UsageError: a file is missing or holds what it cannot.
    """
    return _with_audio(root, "mosi-audio", None, "")


def load_mosi_shuffled_audio(root: Path) -> Corpus:
    """The same with each clip given another clip's audio vector of the same split: a control for gains from audio.

    Raises:
        UsageError: a file is missing or holds what it cannot.
    """
    return _with_audio(root, "mosi-shuffled-audio", SHUFFLE_SEED, SHUFFLED_NOTE)


def _with_audio(root: Path, name: str, shuffle_seed: int | None, note: str) -> Corpus:
    corpus = load_mosi(root)
    folder = store_utterances(name, "audio", corpus.clips, root / AUDIO, shuffle_seed)
    return replace(corpus, name=name, note=" ".join(filter(None, (corpus.note, note))), features={"audio": folder})
