"""The command `mmsa evaluate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer
from rich.table import Table

from mmsa.commands.console import Json, names, out, plain

if TYPE_CHECKING:
    from mmsa.corpora.clip import Split
    from mmsa.evaluating import Evaluation
    from mmsa.robustness.curves import Curve


def evaluate(
    run: Annotated[str, typer.Argument(help="MLflow run id, bundle folder, or 'latest'.")] = "latest",
    corpus: Annotated[str | None, typer.Option(help="Another corpus than the run's own.")] = None,
    root: Annotated[Path | None, typer.Option(help="The corpus's folder; without it, as in training.")] = None,
    split: Annotated[str, typer.Option(help="train, valid or test.")] = "test",
    modalities: Annotated[str | None, typer.Option(help="Those to give the model. Default: all there are.")] = None,
    drop_modalities: Annotated[
        bool, typer.Option("--drop-modalities", help="Also every subset of modalities, and some missing at random.")
    ] = False,
    noise: Annotated[
        list[str] | None,
        typer.Option(
            help="KIND=LEVELS, repeatable: audio, audio-pink or audio-babble (SNR in dB), vision-blur (pixels), "
            "vision-drop (share of frames), text (word error rate). Such as audio=20,10,0."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of noise and of what is missing.", min=0)] = 0,
    repeats: Annotated[int, typer.Option(help="Draws of missing modalities to average.", min=1)] = 5,
    output: Annotated[Path | None, typer.Option(help="Also write tables, pictures and predictions here.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    jobs: Annotated[int | None, typer.Option(help="Processes that extract features.", min=1)] = None,
    trust_extractors: Annotated[
        bool, typer.Option("--trust-extractors", help="Run extractors that are not mmsa's own, named by the model.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Evaluate a run: on its own or another corpus, with modalities missing, with noise in the media."""
    from mmsa.evaluating import evaluate as evaluate_run
    from mmsa.robustness.noise import parse_noise

    result = evaluate_run(
        run,
        corpus=corpus,
        root=root,
        split=cast("Split", split),
        modalities=names(modalities),
        drop_modalities=drop_modalities,
        noise=parse_noise(noise or []),
        seed=seed,
        repeats=repeats,
        output=output,
        device=device,
        jobs=jobs,
        trust_extractors=trust_extractors,
    )
    if as_json:
        typer.echo(json.dumps(result.to_dict()))
    else:
        _print(result)


def _print(result: Evaluation) -> None:
    from mmsa.robustness.report import headline_keys

    keys = headline_keys(result.test_metrics)
    title = f"{result.corpus}, {result.split} split, {result.clips} clips"
    table = Table("modalities", *(key.replace(".", "\n") for key in keys), title=title)
    for subset, metrics in result.metrics.items():
        style = "bold" if metrics is result.test_metrics else None
        table.add_row(subset, *(f"{metrics[key]:.3f}" if key in metrics else "–" for key in keys), style=style)
    out.print(table)
    for curve in result.curves:
        _print_curve(curve, keys)
    for note in result.notes:
        out.print(f"Note: {plain(note)}", highlight=False, soft_wrap=True)
    where = f"; files in {result.artifacts}" if result.artifacts is not None else ""
    out.print(plain(f"MLflow run {result.id}, of {result.run}{where}"), highlight=False, soft_wrap=True)


def _print_curve(curve: Curve, keys: list[str]) -> None:
    single = curve.noise.modality
    head = ["level", *(["realised"] if curve.is_measured else []), *(key.replace(".", "\n") for key in keys)]
    head += [f"{single} alone\n{key}" for key in keys] if curve.has_alone else []
    table = Table(*head, title=plain(curve.noise.axis))
    for point in curve.points:
        level = "untouched" if point.level is None else f"{point.level:g}"
        realised = ["" if point.realised is None else f"{point.realised:.3f}"] if curve.is_measured else []
        both = [point.metrics, *([point.alone] if curve.has_alone else [])]
        cells = [f"{metrics[key]:.3f}" if key in metrics else "–" for metrics in both for key in keys]
        table.add_row(level, *realised, *cells)
    if curve.floor:
        cells = [f"{curve.floor[key]:.3f}" if key in curve.floor else "–" for key in keys]
        table.add_row(f"without {single}", *([""] if curve.is_measured else []), *cells, style="dim")
    out.print(table)
    lost = {p.level: len(set(p.without) - set(curve.lacking)) for p in curve.points if p.level is not None}
    if curve.lacking:
        out.print(f"Never had {single}, and stay as they are: {len(curve.lacking)} of the clips.", highlight=False)
    if any(lost.values()):
        counts = ", ".join(f"{count} at {level:g}" for level, count in lost.items())
        out.print(f"Clips that lost {single} altogether: {counts}.", highlight=False)
