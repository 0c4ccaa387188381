"""CMU-MOSEI: sentiment in [-3, 3] and six emotions of some 23,000 clips from English video monologues.

Zadeh et al., "Multimodal Language Analysis in the Wild: CMU-MOSEI Dataset and Interpretable Dynamic Fusion Graph",
ACL 2018.
"""

from __future__ import annotations

from pathlib import Path

from mmsa.corpora.clip import Corpus
from mmsa.corpora.label_csv import read_label_csv
from mmsa.tasks import MultiLabel, Regression

EMOTIONS = MultiLabel("emotions", ("happy", "sad", "anger", "surprise", "disgust", "fear"))
"""Which of the six emotions are present, in the order of the SDK's labels; several may be, or none."""


def load_mosei(root: Path) -> Corpus:
    """Read `label.csv` and `Raw/` (see `mmsa.corpora.label_csv`).

    The split is the table's: 16326, 1871 and 4659 clips in the release for MMSA, which has no emotions. Where a table
    has the columns `happy`, `sad`, `anger`, `surprise`, `disgust` and `fear` with intensities from 0 to 3, those above
    0 are the classes of the task `emotions`, which is learned when asked for. The CMU-SDK's own files, which carry
    them, are read by `mmsa corpus import` (`mmsa.corpora.csd_import`).

    Raises:
        UsageError: the table is missing or holds what it cannot.
    """
    sentiment = Regression("sentiment", -3.0, 3.0, metrics="mosi")
    return read_label_csv("mosei", root / "label.csv", sentiment, emotions=EMOTIONS)
