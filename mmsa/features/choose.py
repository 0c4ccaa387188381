"""Which extractors a configuration means for a corpus."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING

from mmsa.config import TrainConfig
from mmsa.corpora.clip import Corpus
from mmsa.errors import UsageError
from mmsa.features.identity import reads_words
from mmsa.features.transcripts import may_be_heard
from mmsa.languages import warn_of_mismatches

if TYPE_CHECKING:
    from extractors.base import Extractor


def choose_extractors(corpus: Corpus, config: TrainConfig) -> tuple[list[str], dict[str, Extractor]]:
    """The modalities whose features came with the corpus, and an extractor for each of the others.

    Features that came ready-made are used as they are, unless the configuration names an extractor or an encoder for
    their modality.

    Raises:
        UsageError: an unknown modality or extractor, one that cannot be built here, or an encoder of a modality that
            the corpus does not have.

    Warns:
        UserWarning: an extractor is made for another language than the corpus's.
    """
    heard = config.words.transcribe is not None and may_be_heard(corpus)
    modalities = config.modalities or modalities_of(corpus, heard=heard)
    if unused := sorted(set(config.encoders) - set(modalities)):
        raise UsageError(f"encoders.{unused[0]}: the corpus {corpus.name} has only {', '.join(modalities)}")
    if config.modalities is None and "vision" not in modalities and "faces" in _parameters(config, "vision"):
        has = ", ".join(modalities)
        raise UsageError(f"extractors.vision.parameters.faces has no effect: the corpus {corpus.name} has only {has}")
    own = {*config.extractors, *config.encoders}
    ready = sorted(key for key in modalities if key in corpus.features and key not in own)
    built = build_extractors(config, set(modalities) - set(ready))
    _check_words(config, ready, built, heard)
    warn_of_mismatches(built, corpus.language, corpus.name)
    return ready, built


def _parameters(config: TrainConfig, modality: str) -> Mapping[str, object]:
    """Those that the configuration names itself."""
    return config.extractors[modality].parameters if modality in config.extractors else {}


def _check_words(config: TrainConfig, ready: Collection[str], built: Mapping[str, Extractor], heard: bool) -> None:
    """Refuse speech models that would not be run."""
    if not config.words.options.listens:
        return
    if not any(map(reads_words, built.values())):
        why = "came ready-made with the corpus" if "text" in ready else "is not among the modalities"
        raise UsageError(f"words has no effect, as text {why}: leave words.transcribe and words.align out")
    if config.words.transcribe is not None and not heard:
        raise UsageError("words.transcribe has no effect, as no clip of the corpus has sound at hand: leave it out")


def build_extractors(config: TrainConfig, modalities: Iterable[str]) -> dict[str, Extractor]:
    """The configured extractor of each modality, on the configured device unless its own parameters name another.

    Raises:
        UsageError: none is configured, there is none of that name, or it cannot be built here.
    """
    import extractors as ex
    from extractors.registry import placement

    wanted = {key: config.extractor(key) for key in sorted(modalities)}
    try:
        built = {
            key: ex.build(choice.name, **{**placement(choice.name, config.device), **choice.parameters})
            for key, choice in wanted.items()
        }
    except (ValueError, TypeError, OSError, ImportError) as error:
        raise UsageError(str(error)) from None
    for key, extractor in built.items():
        if extractor.raw and key not in config.encoders:
            raise UsageError(
                f"extractors.{key}.name: {wanted[key].name} gives what an encoder reads, which says nothing to a head: "
                f"name the encoder with encoders.{key}.model instead"
            )
    wrong = [f"{wanted[k].name} makes {e.modality}, not {k}" for k, e in built.items() if e.modality != k]
    if wrong:
        raise UsageError("; ".join(wrong))
    return built


def modalities_of(corpus: Corpus, *, heard: bool = False) -> tuple[str, ...]:
    """What a corpus has: sound and picture where there are media, text where there are words, ready-made features.

    Args:
        corpus: the clips.
        heard: whether words will be recognised where there are none.
    """
    media = any(clip.media is not None for clip in corpus.clips)
    text = heard or any(clip.transcript for clip in corpus.clips)
    sound = any(clip.may_sound for clip in corpus.clips)
    extracted = (*(("audio",) if sound else ()), *(("vision",) if media else ()), *(("text",) if text else ()))
    return tuple(sorted({*extracted, *corpus.features}))
