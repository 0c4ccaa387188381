"""The generative model of the demo corpus: what each clip says, sounds and looks like, and its labels.

Each clip has a hidden feeling `z` in [-3, 3]. Words, voice and face each express a valence of their own: with
probability 0.45 the feeling (plus noise), with probability 0.25 next to nothing, with probability 0.30 its opposite.
So people say kind words in an angry voice, and no modality alone tells the sentiment. Besides valence, the voice
expresses an arousal and the brows a height, both in [-1, 1]. The labels follow from what is expressed, without noise:

    sentiment = clip(0.5 * (text + voice + face), -3, 3)

    emotion   = surprise   if arousal > 0.25 and brow > 0.25 and sentiment > -0.75
                joy        else if sentiment >= 0.75
                neutral    else if sentiment > -0.75
                fear       else if arousal > 0 and brow > 0
                anger      else if arousal > 0
                sadness    else if brow > 0
                disgust    otherwise

Words alone tell part of the polarity; only the voice tells arousal; only the face tells the brow. Emotions are
balanced by rejection: every speaker gets the same number of clips of each emotion, and what a clip expresses is drawn
from the prior until its emotion is the wanted one.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from mmsa.corpora.clip import Split
from mmsa.demo.sentences import NEGATIVE_FLAVOURS, compose
from mmsa.demo.speakers import SPEAKERS, Speaker

CLIPS_PER_SPEAKER = 16
SENTIMENT_WEIGHT = 0.5
_MIDDLE = 0.75
_LIVELY = 0.25
_OPPOSED = 0.75
_EMOTION_CYCLE = (
    "joy", "neutral", "anger", "sadness", "surprise", "joy", "fear", "disgust",
    "joy", "surprise", "anger", "neutral", "joy", "sadness", "fear", "disgust",
)  # fmt: skip


@dataclass(frozen=True)
class Expression:
    """What words, voice and face express.

    Attributes:
        text: valence of the words, an integer level from -3 to 3.
        voice: valence of the voice, -3 to 3.
        face: valence of the face (its mouth), -3 to 3.
        arousal: of the voice, -1 calm to 1 excited.
        brow: -1 lowered to 1 raised.

    Raises:
        ValueError: a value out of its range.
    """

    text: int = 0
    voice: float = 0.0
    face: float = 0.0
    arousal: float = 0.0
    brow: float = 0.0

    def __post_init__(self) -> None:
        limits = {"text": 3, "voice": 3, "face": 3, "arousal": 1, "brow": 1}
        for name, limit in limits.items():
            value = getattr(self, name)
            if not -limit <= value <= limit:
                raise ValueError(f"expression: {name} must lie in [{-limit}, {limit}], not {value!r}")

    @property
    def sentiment(self) -> float:
        """The label in [-3, 3]: half the sum of the three valences, clipped.

        Example:
            >>> Expression(text=2, voice=-1.0, face=2.0).sentiment
            1.5
        """
        return float(np.clip(SENTIMENT_WEIGHT * (self.text + self.voice + self.face), -3.0, 3.0))

    @property
    def emotion(self) -> str:
        """The label among MELD's seven emotions; the module says the rule."""
        sentiment = self.sentiment
        if self.arousal > _LIVELY and self.brow > _LIVELY and sentiment > -_MIDDLE:
            return "surprise"
        if sentiment >= _MIDDLE:
            return "joy"
        if sentiment > -_MIDDLE:
            return "neutral"
        if self.arousal > 0:
            return "fear" if self.brow > 0 else "anger"
        return "sadness" if self.brow > 0 else "disgust"

    @property
    def congruent(self) -> bool:
        """False where two of words, voice and face express clearly opposite valences."""
        valences = (self.text, self.voice, self.face)
        return not (max(valences) >= _OPPOSED and min(valences) <= -_OPPOSED)


PROTOTYPES = {
    "neutral": Expression(),
    "surprise": Expression(text=1, voice=1.5, face=1.0, arousal=0.9, brow=1.0),
    "fear": Expression(text=-2, voice=-2.0, face=-1.5, arousal=0.8, brow=0.9),
    "sadness": Expression(text=-2, voice=-2.0, face=-2.5, arousal=-0.9, brow=0.5),
    "joy": Expression(text=3, voice=2.5, face=3.0, arousal=0.5, brow=0.2),
    "disgust": Expression(text=-2, voice=-2.0, face=-2.5, arousal=-0.5, brow=-0.8),
    "anger": Expression(text=-3, voice=-2.5, face=-2.5, arousal=1.0, brow=-1.0),
}
"""A congruent, clear expression of each emotion."""


@dataclass(frozen=True)
class ClipScript:
    """One clip before it is rendered."""

    id: str
    speaker: Speaker
    transcript: str
    expression: Expression

    @property
    def split(self) -> Split:
        """The speaker's split."""
        return self.speaker.split


def clip_rng(seed: int, clip_id: str, stage: str) -> np.random.Generator:
    """Random numbers that depend on the seed, the clip and the stage, and not on the order of work."""
    return np.random.default_rng([seed, zlib.crc32(clip_id.encode()), zlib.crc32(stage.encode())])


def _sample_valence(feeling: float, rng: np.random.Generator) -> float:
    chance = rng.random()
    if chance < 0.45:
        value = feeling + rng.normal(0, 0.5)
    elif chance < 0.70:
        value = rng.normal(0, 0.3)
    else:
        value = -feeling * rng.uniform(0.5, 1.0) + rng.normal(0, 0.3)
    return float(np.clip(value, -3, 3))


def _sample_side(intensity: float, rng: np.random.Generator) -> float:
    """Arousal or brow: near rest where the feeling is weak, clearly to one side where it is strong."""
    if rng.random() > intensity:
        return float(np.clip(rng.normal(0, 0.12), -1, 1))
    return float(rng.choice([-1, 1]) * rng.uniform(0.4, 1.0))


def sample_expression(emotion: str, rng: np.random.Generator) -> Expression:
    """Draw from the prior until the emotion is the wanted one.

    Raises:
        ValueError: unknown emotion.
    """
    if emotion not in PROTOTYPES:
        raise ValueError(f"emotion must be one of {', '.join(PROTOTYPES)}, not {emotion!r}")
    while True:
        feeling = float(rng.uniform(-3, 3))
        intensity = min(1.0, abs(feeling) / 1.2)
        expression = Expression(
            text=round(_sample_valence(feeling, rng)),
            voice=round(_sample_valence(feeling, rng), 2),
            face=round(_sample_valence(feeling, rng), 2),
            arousal=round(_sample_side(intensity, rng), 2),
            brow=round(_sample_side(intensity, rng), 2),
        )
        if expression.emotion == emotion:
            return expression


def write_transcript(expression: Expression, rng: np.random.Generator) -> str:
    """Words of the expression's text level.

    Half the negative sentences take the words of the clip's own emotion where it is a negative one, the others those
    of any; a clip of surprise opens with an exclamation half the time, any other clip one time in ten.
    """
    emotion = expression.emotion
    flavour = str(rng.choice(NEGATIVE_FLAVOURS))
    if emotion in NEGATIVE_FLAVOURS and rng.random() < 0.5:
        flavour = emotion
    surprised = bool(rng.random() < (0.5 if emotion == "surprise" else 0.1))
    return compose(expression.text, rng, flavour, surprised)


def _write_clip(speaker: Speaker, number: int, seed: int) -> ClipScript:
    clip_id = f"{speaker.id}-{number:03d}"
    turn, position = divmod(number, len(_EMOTION_CYCLE))
    order = clip_rng(seed, speaker.id, f"order {turn}").permutation(len(_EMOTION_CYCLE))
    rng = clip_rng(seed, clip_id, "script")
    expression = sample_expression(_EMOTION_CYCLE[order[position]], rng)
    return ClipScript(clip_id, speaker, write_transcript(expression, rng), expression)


def write_script(seed: int = 0, clips_per_speaker: int | None = None) -> tuple[ClipScript, ...]:
    """Every clip of the corpus, in a stable order; the first clips of a longer script are those of a shorter one.

    Args:
        seed: a non-negative integer.
        clips_per_speaker: None is 16.

    Raises:
        ValueError: a negative seed, or fewer than one clip per speaker.
    """
    count = CLIPS_PER_SPEAKER if clips_per_speaker is None else clips_per_speaker
    if seed < 0:
        raise ValueError(f"the demo corpus's seed must be 0 or more, not {seed}")
    if count < 1:
        raise ValueError(f"clips_per_speaker must be 1 or more, not {count}")
    return tuple(_write_clip(speaker, number, seed) for speaker in SPEAKERS for number in range(count))
