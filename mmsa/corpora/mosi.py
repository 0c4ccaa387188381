"""CMU-MOSI: sentiment in [-3, 3] of 2199 clips from 93 English video monologues.

Zadeh et al., "Multimodal Sentiment Intensity Analysis in Videos", IEEE Intelligent Systems 31(6), 2016.
"""

from __future__ import annotations

from pathlib import Path

from mmsa.corpora.clip import Corpus
from mmsa.corpora.label_csv import read_label_csv
from mmsa.tasks import Regression


def load_mosi(root: Path) -> Corpus:
    """Read `label.csv` and `Raw/` (see `mmsa.corpora.label_csv`).

    The split is the table's, in the release for MMSA the standard folds: 1284, 229 and 686 clips, no video in two of
    them. Its text is upper case without punctuation.

    Raises:
        UsageError: the table is missing or holds what it cannot.
    """
    return read_label_csv("mosi", root / "label.csv", Regression("sentiment", -3.0, 3.0, metrics="mosi"))
