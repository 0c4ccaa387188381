"""CMU-MOSEI: sentiment in [-3, 3] of some 23,000 clips from English video monologues.

Zadeh et al., "Multimodal Language Analysis in the Wild: CMU-MOSEI Dataset and Interpretable Dynamic Fusion Graph",
ACL 2018.
"""

from __future__ import annotations

from pathlib import Path

from mmsa.corpora.clip import Corpus
from mmsa.corpora.label_csv import read_label_csv
from mmsa.tasks import Regression


def load_mosei(root: Path) -> Corpus:
    """Read `label.csv` and `Raw/` (see `mmsa.corpora.label_csv`).

    The split is the table's: 16326, 1871 and 4659 clips in the release for MMSA. The six emotions are not in this
    layout.

    Raises:
        UsageError: the table is missing or holds what it cannot.
    """
    return read_label_csv("mosei", root / "label.csv", Regression("sentiment", -3.0, 3.0, metrics="mosi"))
