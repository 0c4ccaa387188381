from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from mmsa.bundle import load_bundle
from mmsa.corpora import load_corpus
from mmsa.features import load_features
from mmsa.judging import Judge
from mmsa.runs import open_workshop
from mmsa.tasks import Classification, Regression
from mmsa.transfer import map_tasks

if TYPE_CHECKING:
    from conftest import Trained

CPU = torch.device("cpu")


def test_answers_are_the_models_own_clip_by_clip(trained: Trained, small: Any) -> None:
    """Each clip through the model by itself, its outputs cut by hand."""
    bundle, shop = load_bundle(trained.run.bundle), open_workshop(trained.config)
    judge = Judge(
        bundle.model, bundle.tasks, map_tasks(bundle.tasks, shop.corpus.tasks, "small"), shop.corpus, "test", CPU
    )
    answers = judge.answer(shop.tables, ("audio", "text"))
    assert judge.clips == tuple(clip.id for clip in shop.corpus.split("test"))
    for row, clip in enumerate(judge.clips):
        batch = shop.split("test").batch(np.array([row]))
        with torch.no_grad():
            own = bundle.model(batch.inputs).prediction[0].numpy()
        np.testing.assert_allclose(answers["sentiment"][row], own[:1], atol=1e-5, err_msg=clip)
        np.testing.assert_allclose(answers["emotion"][row], own[1:], atol=1e-5, err_msg=clip)
    assert judge.measure(answers) == trained.run.test_metrics


def test_labels_that_the_model_could_not_read_do_no_harm(trained: Trained, small: Any) -> None:
    """On another scale and with another class; the model's own tasks would refuse both."""
    bundle, shop = load_bundle(trained.run.bundle), open_workshop(trained.config)
    tasks = (Regression("sentiment", 0, 10), Classification("emotion", ("high", "none", "low")))
    marks = {"high": 7.5, "low": 2.5}  # what 0.5 and -0.5 in [-1, 1] are on the new scale
    clips = tuple(
        replace(
            clip,
            labels={
                "sentiment": marks[str(clip.labels["emotion"])],
                "emotion": "none" if i % 5 == 0 else clip.labels["emotion"],
            },
        )
        for i, clip in enumerate(shop.corpus.clips)
    )
    other = replace(shop.corpus, clips=clips, tasks=tasks)
    judge = Judge(bundle.model, bundle.tasks, map_tasks(bundle.tasks, tasks, "other"), other, "test", CPU)
    answers = judge.answer(shop.tables, ("audio", "text"))
    metrics = judge.measure(answers)
    assert metrics["sentiment.mae"] == pytest.approx(5 * trained.run.test_metrics["sentiment.mae"], rel=1e-5)
    assert metrics["emotion.accuracy"] == 1.0  # those left out are not counted
    assert int(np.isnan(judge.labels["emotion"]).sum()) == sum(
        c.labels["emotion"] == "none" for c in other.split("test")
    )


def test_modalities_that_are_not_given_are_missing(trained: Trained, small: Any) -> None:
    bundle = load_bundle(trained.run.bundle)
    corpus = load_corpus("small", trained.root)
    shop = open_workshop(trained.config)
    maps = map_tasks(bundle.tasks, corpus.tasks, "small")
    judge = Judge(bundle.model, bundle.tasks, maps, corpus, "test", CPU)
    text = load_features(corpus, {"text": shop.extractors["text"]}, jobs=1)
    alone, given = judge.answer(shop.tables, ("text",)), judge.answer(text, ("text",))
    for task in judge.tasks:
        np.testing.assert_array_equal(alone[task.name], given[task.name])
    assert judge.measure(alone) == trained.run.metrics["text"]
