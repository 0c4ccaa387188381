"""`PretrainedScorer`: scoring with published classifiers, for whoever has no corpus to train on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmsa.errors import UsageError
from mmsa.scoring.ensemble import EMOTIONS, EXTRACTORS, FILES, Ensemble, Member, read_ensemble
from mmsa.scoring.opinions import LabelMap, Opinion, pool, shapley
from mmsa.scoring.parts import Ending
from mmsa.scoring.predictor import Prediction, Predicts
from mmsa.scoring.results import ModalityScore, Score, TaskScore, WindowScore, number
from mmsa.scoring.scorer import Scorer
from mmsa.scoring.timeline import Timeline
from mmsa.tasks import Classification, Regression
from mmsa.words import WordOptions, word_source

if TYPE_CHECKING:
    from extractors import Extraction, Extractor

TASKS = (Regression("sentiment", -1.0, 1.0), Classification("emotion", EMOTIONS))
"""What is scored: valence, under the name that trained models give it, and the emotion."""


class PretrainedScorer(Scorer):
    """Published classifiers, one per modality, fused late (`mmsa.scoring.opinions`).

    It gives what a scorer of a trained run gives, and is used alike; only `bundle` is missing, since nothing was
    trained, and with it intervals and calibration.

    Args:
        ensemble: which classifiers; None takes those of `mmsa/scoring/pretrained.yaml`.
        words: see `Scorer`.
        media_device: see `Scorer`.

    Attributes:
        ensemble: as given.
        extractors: what runs the classifiers, by modality.

    Raises:
        UsageError: models cannot be had or used here, or their labels are not those of the ensemble; all are named at
            once.
    """

    def __init__(
        self, ensemble: Ensemble | None = None, *, words: WordOptions | None = None, media_device: str = "auto"
    ) -> None:
        self.ensemble, self.media_device = ensemble or read_ensemble(), media_device
        self.extractors, self._maps = _load(self.ensemble, media_device)
        self.words = word_source((words or WordOptions()).over(WordOptions()))
        self.predictor = EnsemblePredictor(self._maps)

    @cached_property
    def model(self) -> dict[str, str]:
        """Which classifiers: digest of all that the numbers depend on, and what must be read with them."""
        about = self.ensemble.model_dump(mode="json", exclude={"models"})
        about = {key: value for key, value in about.items() if key == "valence" or value is not None}
        specs = {key: one.spec.fingerprint for key, one in self.extractors.items()}
        seen = json.dumps([about, specs], sort_keys=True).encode()
        members = self.ensemble.members
        who = "; ".join(f"{key}: {_told(member, self._maps[key])}" for key, member in members.items())
        return {
            "digest": hashlib.sha256(seen).hexdigest()[:32],
            "corpus": "",
            "note": f"Late fusion of published classifiers, neither trained nor calibrated by mmsa. {who}.",
            "calibration": "none: probabilities are those of published classifiers, as they are",
        }

    def join(
        self,
        path: Path | str,
        timeline: Timeline,
        windows: list[WindowScore],
        ending: Ending,
        *,
        span: tuple[float | None, float | None] = (None, None),
    ) -> Score:
        """See `Scorer.join`; a note says where nobody knew some of the emotions."""
        found = super().join(path, timeline, windows, ending, span=span)
        return replace(found, notes=(*found.notes, *self._unknown_notes(found.windows)))

    def _unknown_notes(self, windows: Sequence[WindowScore]) -> list[str]:
        scored = [window for window in windows if window.scores]
        counts: dict[tuple[str, ...], int] = {}
        for window in scored:
            present = [self._maps[key].known for key, one in window.modalities.items() if one.present]
            known = np.any(present, axis=0)
            lacking = tuple(name for name, is_known in zip(EMOTIONS, known, strict=True) if not is_known)
            if lacking:
                counts[lacking] = counts.get(lacking, 0) + 1
        return [
            f"nothing that is present knows {', '.join(lacking)}, whose probability is therefore 0"
            + (f" (in {count} of {len(scored)} windows)" if len(scored) > 1 else "")
            for lacking, count in counts.items()
        ]

    @property
    def clip_seconds(self) -> None:
        """See `Scorer.clip_seconds`: what others trained on is not known."""
        return None


class EnsemblePredictor(Predicts):
    """From the classifiers' probabilities to predictions.

    Args:
        maps: what the labels of each modality's classifier mean.
    """

    def __init__(self, maps: Mapping[str, LabelMap]) -> None:
        self._maps = maps

    def predict(self, found: Sequence[Extraction], starts: Sequence[float] | None = None) -> list[Prediction]:
        """One prediction for each extraction, in order; where it starts is of no account."""
        del starts
        return [self._predict(one) for one in found]

    def _predict(self, found: Extraction) -> Prediction:
        opinions: dict[str, Opinion] = {}
        for key, meaning in self._maps.items():
            sequence = found.sequences[key]
            opinion = meaning.read(sequence.values, np.diff(sequence.times)[:, 0]) if len(sequence) else None
            if opinion is not None:
                opinions[key] = opinion
        if not opinions:
            return Prediction({}, {key: self._missing(found, key) for key in self._maps})
        together = pool(list(opinions.values()))
        chosen = 1 + int(together[1:].argmax())
        moved, total = shapley(opinions), sum(one.weight for one in opinions.values())
        modalities = {}
        for key in self._maps:
            opinion = opinions.get(key)
            if opinion is None:
                modalities[key] = self._missing(found, key)
                continue
            modalities[key] = ModalityScore(
                present=True,
                reason=None,
                steps=len(found.sequences[key]),
                weight=number(opinion.weight / total),
                contribution={"sentiment": number(moved[key][0]), "emotion": number(moved[key][chosen])},
                scores=_scores(pool([opinion])),
            )
        return Prediction(_scores(together), modalities)

    def _missing(self, found: Extraction, key: str) -> ModalityScore:
        steps = len(found.sequences[key])
        reason = "the classifier sees none of its emotions" if steps else found.missing.get(key, "no data")
        return ModalityScore(present=False, reason=reason, steps=steps, weight=0.0)


def _scores(pooled: Any) -> dict[str, TaskScore]:
    probabilities = {name: number(float(share)) for name, share in zip(EMOTIONS, pooled[1:], strict=True)}
    label = max(probabilities, key=lambda name: probabilities[name])
    valence = min(max(float(pooled[0]), -1.0), 1.0)
    return {"sentiment": TaskScore(value=number(valence)), "emotion": TaskScore(None, label, None, probabilities)}


def _told(member: Member, meaning: LabelMap) -> str:
    known = [name for name, is_known in zip(EMOTIONS, meaning.known, strict=True) if is_known]
    limits = "" if len(known) == len(EMOTIONS) else f", knows {', '.join(known)} only"
    return f"{Path(member.model).name if Path(member.model).is_dir() else member.model} ({member.licence}{limits})"


def _load(ensemble: Ensemble, device: str) -> tuple[dict[str, Extractor], dict[str, LabelMap]]:
    """All classifiers, ready to run.

    Raises:
        UsageError: some cannot be; all are named.
    """
    import extractors as ex
    from extractors.registry import placement

    built, maps, absent, wrong = {}, {}, {}, []
    unreachable = False
    for key, member in ensemble.members.items():
        place = ensemble.place(key)
        local = place is not None and place.is_dir()
        revision = None if local else member.revision
        model = str(place) if local else member.model
        if unreachable and place is not None and not local and not _is_cached(member):
            absent[key] = "it is not in the hub's cache either"  # the hub would let us wait as long again
            continue
        try:
            given = {**placement(EXTRACTORS[key], device), **member.parameters}
            built[key] = ex.build(EXTRACTORS[key], **{**given, "model": model, "revision": revision})
            if member.parameters.get("faces") == "all":
                raise ValueError("faces: all gives no one opinion of several faces: set largest or speaking")
            maps[key] = LabelMap(member.match(built[key].names), ensemble.valence, member.weight)
            built[key].load()
        except ex.ToolError as error:
            absent[key] = str(error.__cause__ or error).strip().splitlines()[0]
            unreachable = unreachable or _is_unreachable(error)
        except ValueError as error:
            wrong.append(f"{key}: {error}")
    if wrong:
        raise UsageError("the classifiers do not fit what is said of them:\n" + "\n".join(f"  {one}" for one in wrong))
    if absent:
        raise UsageError(_absent(ensemble, absent))
    return built, maps


def _is_unreachable(error: BaseException | None) -> bool:
    """Whether something could not be had because the hub did not answer."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    while error is not None:
        if isinstance(error, LocalEntryNotFoundError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _is_cached(member: Member) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(member.model, "config.json", revision=member.revision), str)


def _absent(ensemble: Ensemble, reasons: Mapping[str, str]) -> str:
    """What is missing, where it belongs, and how it gets there."""
    lines = [f"{len(reasons)} of {len(ensemble.members)} models cannot be had here:"]
    commands = []
    for key, reason in reasons.items():
        member, place = ensemble.members[key], ensemble.place(key)
        lines.append(f"  {key}: {member.model} ({reason})")
        if place is not None:
            lines.append(f"    belongs into {place}: {', '.join(FILES[key])}")
            at = f" --revision {member.revision}" if member.revision else ""
            commands.append(f"  hf download {member.model}{at} --local-dir {place.relative_to(ensemble.folder)}")
    if commands:
        lines += [
            "Where the Hugging Face hub can be reached, in an empty folder:",
            *commands,
            f"Then move what is in it to {ensemble.folder}, or name its place with --models FOLDER or $MMSA_MODELS.",
            "Weights are read from safetensors alone, never from pickles.",
        ]
    rest = [key for key in ensemble.members if key not in reasons]
    if rest:
        lines.append(f"Or score without them: --modalities {','.join(rest)}")
    return "\n".join(lines)
