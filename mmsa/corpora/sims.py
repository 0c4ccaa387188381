"""CH-SIMS and CH-SIMS v2: sentiment in [-1, 1] of Chinese film and television clips, and of each modality alone.

Yu et al., "CH-SIMS: A Chinese Multimodal Sentiment Analysis Dataset with Fine-grained Annotation of Modality",
ACL 2020. Liu et al., "Make Acoustic and Visual Cues Matter: CH-SIMS v2.0 Dataset and AV-Mixup Consistent Module",
ICMI 2022.

The labels of single modalities (`label_T`, `label_A`, `label_V`) are the tasks `sentiment_text`, `sentiment_audio` and
`sentiment_vision` where the table has them. They are learned only when asked for (`tasks` in the configuration): by
default a model learns `sentiment`, as published tables report it.
"""

from __future__ import annotations

from pathlib import Path

from mmsa.corpora.clip import Corpus
from mmsa.corpora.label_csv import read_label_csv
from mmsa.tasks import Regression

SENTIMENT = Regression("sentiment", -1.0, 1.0, metrics="sims")
SENTIMENT_V2 = Regression("sentiment", -1.0, 1.0, metrics="simsv2")


def load_sims(root: Path) -> Corpus:
    """CH-SIMS: read `label.csv` and `Raw/` (see `mmsa.corpora.label_csv`).

    The split is the table's: 1368, 456 and 457 clips in the official one, which cuts through videos (see the note).

    Raises:
        UsageError: the table is missing or holds what it cannot.
    """
    return read_label_csv("sims", root / "label.csv", SENTIMENT, unimodal=True)


def load_sims_en(root: Path) -> Corpus:
    """CH-SIMS with an English translation as text: the same layout, from `label_en.csv`.

    Raises:
        UsageError: the table is missing or holds what it cannot.
    """
    return read_label_csv("sims-en", root / "label_en.csv", SENTIMENT, unimodal=True)


def load_simsv2(root: Path) -> Corpus:
    """CH-SIMS v2, the supervised part: the same layout; the table may also be called `meta.csv`.

    The authors' repository names the table of the supervised part `meta.csv`; MMSA-FET reads `label.csv`. Neither
    was at hand when this was written: columns and modes are taken to be those of CH-SIMS.

    Raises:
        UsageError: the table is missing or holds what it cannot.
    """
    meta = root / "meta.csv"
    table = meta if meta.is_file() and not (root / "label.csv").is_file() else root / "label.csv"
    return read_label_csv("simsv2", table, SENTIMENT_V2, unimodal=True)
