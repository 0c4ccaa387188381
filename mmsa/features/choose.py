"""Which extractors a configuration means for a corpus."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from mmsa.config import TrainConfig
from mmsa.corpora.clip import Corpus
from mmsa.errors import UsageError
from mmsa.languages import warn_of_mismatches

if TYPE_CHECKING:
    from extractors.base import Extractor


def choose_extractors(corpus: Corpus, config: TrainConfig) -> tuple[list[str], dict[str, Extractor]]:
    """The modalities whose features came with the corpus, and an extractor for each of the others.

    Features that came ready-made are used as they are, unless the configuration names an extractor for their modality.

    Raises:
        UsageError: an unknown modality or extractor, or one that cannot be built here.

    Warns:
        UserWarning: an extractor is made for another language than the corpus's.
    """
    modalities = config.modalities or modalities_of(corpus)
    ready = sorted(key for key in modalities if key in corpus.features and key not in config.extractors)
    built = build_extractors(config, set(modalities) - set(ready))
    warn_of_mismatches(built, corpus.language, corpus.name)
    return ready, built


def build_extractors(config: TrainConfig, modalities: Iterable[str]) -> dict[str, Extractor]:
    """The configured extractor of each modality.

    Raises:
        UsageError: none is configured, there is none of that name, or it cannot be built here.
    """
    import extractors as ex

    wanted = {key: config.extractor(key) for key in sorted(modalities)}
    try:
        built = {key: ex.build(choice.name, **choice.parameters) for key, choice in wanted.items()}
    except (ValueError, TypeError, OSError, ImportError) as error:
        raise UsageError(str(error)) from None
    wrong = [f"{wanted[k].name} makes {e.modality}, not {k}" for k, e in built.items() if e.modality != k]
    if wrong:
        raise UsageError("; ".join(wrong))
    return built


def modalities_of(corpus: Corpus) -> tuple[str, ...]:
    """What a corpus has: sound and picture where there are media, text where there are words, ready-made features."""
    media = any(clip.media is not None for clip in corpus.clips)
    text = any(clip.transcript for clip in corpus.clips)
    sound = any(clip.may_sound for clip in corpus.clips)
    extracted = (*(("audio",) if sound else ()), *(("vision",) if media else ()), *(("text",) if text else ()))
    return tuple(sorted({*extracted, *corpus.features}))
