"""The command `mmsa extract`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from mmsa.commands.console import Json, err, names, out, plain
from mmsa.errors import UsageError

if TYPE_CHECKING:
    from extractors.base import Extractor
    from mmsa.config import TrainConfig
    from mmsa.corpora.clip import Corpus
    from mmsa.features import FeatureTable, Filled
    from mmsa.features.files import FileFeatures
    from mmsa.features.inventory import Entry

SETTINGS = ("encoders", "extractors", "feature_dtype", "jobs", "modalities", "words")
"""What --set may change here: what decides the features, and nothing of the training."""

SHOWN = 5


def extract(
    corpus: Annotated[str | None, typer.Argument(help="A corpus as in `mmsa train`, or a folder of media.")] = None,
    root: Annotated[Path | None, typer.Option(help="The corpus's folder; without it, $MMSA_DATA/<corpus>.")] = None,
    modalities: Annotated[str | None, typer.Option(help="Such as text,audio,vision. Default: all there are.")] = None,
    faces: Annotated[
        str | None, typer.Option(help="Of several faces: first (the default), largest, speaking or all.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file of a training: the features it needs.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="key=value, such as extractors.audio.name=speech.torchaudio.")
    ] = None,
    jobs: Annotated[int | None, typer.Option(help="Processes. Default: one per core.", min=1)] = None,
    device: Annotated[
        str | None, typer.Option(help="Where frames are decoded and encoders compute: auto, cpu or cuda.")
    ] = None,
    dtype: Annotated[str | None, typer.Option(help="float32, or float16 for half the disk.")] = None,
    output: Annotated[Path | None, typer.Option(help="For a folder of media: where its features go.")] = None,
    transcribe: Annotated[
        str | None, typer.Option(help="A Whisper (hub id or folder) for what has no transcript.")
    ] = None,
    language: Annotated[str | None, typer.Option(help="What is spoken: en, english, … Default: heard.")] = None,
    align: Annotated[
        str | None, typer.Option(help="A CTC model (hub id or folder) that gives times to transcripts without.")
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="Say what the store holds; of CORPUS alone if given.")] = False,
    prune: Annotated[bool, typer.Option("--prune", help="Delete what nothing opens any more, and stop.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Delete without asking.")] = False,
    as_json: Json = False,
) -> None:
    """Fill the feature store with a corpus's features, or write those of a folder of media to files."""
    if list_ and prune:
        raise UsageError("--list and --prune are two commands: give one of them")
    if yes and not prune:
        raise UsageError("--yes answers what --prune asks: give both, or neither")
    if list_:
        _list(corpus, as_json)
        return
    if corpus is None and not prune:
        raise UsageError("what to extract? Give a corpus, such as `mmsa extract demo`, or a folder with media files")
    words = {"words.transcribe": transcribe, "words.language": language, "words.align": align}
    options = {
        **words,
        "corpus": corpus,
        "root": root,
        "modalities": names(modalities),
        "jobs": jobs,
        "feature_dtype": dtype,
        "device": device,
    }
    chosen = _config(config, {key: value for key, value in options.items() if value is not None}, set_ or [], faces)
    if chosen.device == "cuda":
        from mmsa.workshop import choose_device

        choose_device(chosen.device)
    if prune:
        _prune(chosen if corpus is not None else None, yes, as_json)
    elif corpus is not None and _is_media_folder(corpus):
        _extract_folder(Path(corpus), output, root, chosen, as_json)
    elif output is not None:
        raise UsageError(f"--output is for a folder of media; the features of {corpus} go to the feature store")
    else:
        _extract_corpus(chosen, as_json)


def _config(
    file: Path | None, options: Mapping[str, Any], settings: Sequence[str], faces: str | None = None
) -> TrainConfig:
    from mmsa.config import make_config, parse_settings
    from mmsa.faces import KEY, check_faces

    given = parse_settings(settings)
    for key in given:
        if key.split(".")[0] not in SETTINGS:
            raise UsageError(f"--set {key}=… has no effect on features: here it takes {', '.join(SETTINGS)}")
    chosen = make_config(file, {**options, **({} if faces is None else {KEY: faces}), **given})
    if faces is not None:
        check_faces(faces, chosen)
    return chosen


def _is_media_folder(given: str) -> bool:
    """Whether it is a folder, and neither a registered corpus nor a folder with a table of clips."""
    from mmsa.corpora import CORPORA
    from mmsa.corpora.table import find_table

    if given in CORPORA or not Path(given).is_dir():
        return False
    try:
        return find_table(given) is None
    except UsageError:
        return True


def _corpus(config: TrainConfig) -> tuple[Corpus, list[str], dict[str, Extractor]]:
    from mmsa.corpora import load_corpus
    from mmsa.features.choose import choose_extractors

    corpus = load_corpus(config.corpus, config.root)
    return corpus, *choose_extractors(corpus, config)


def _extract_corpus(config: TrainConfig, as_json: bool) -> None:
    from mmsa.features import fill_store
    from mmsa.features.transcripts import hear_words
    from mmsa.precomputed import open_precomputed

    corpus, ready, built = _corpus(config)
    corpus, heard, source = hear_words(corpus, config.words.options, built, jobs=config.jobs)
    tables = {key: open_precomputed(corpus, key) for key in ready}
    made, done = fill_store(corpus, built, jobs=config.jobs, store_dtype=config.feature_dtype, device=config.device)
    rows = [_row(key, table, done.get(key)) for key, table in sorted({**tables, **made}.items())]
    if as_json:
        if heard is not None:
            typer.echo(
                json.dumps({"corpus": corpus.name, "transcripts": {**vars(heard), "failed": dict(heard.failed)}})
            )
        for row in rows:
            typer.echo(json.dumps({"corpus": corpus.name, **row}))
    else:
        _print_rows(corpus.name, rows)
        for line in heard.told(source) if heard is not None and source is not None else ():
            out.print(plain(line), highlight=False, soft_wrap=True)


def _row(key: str, table: FeatureTable, done: Filled | None) -> dict[str, Any]:
    """What is printed of a modality; `done` is None for features that came ready-made."""
    from mmsa.features.table import count_notes

    reasons = Counter(table.missing.values())
    return {
        "modality": key,
        "extractor": table.spec.name if done is not None else f"ready-made ({table.spec.tool})",
        "fingerprint": table.spec.fingerprint,
        "dtype": table.values.dtype.name,
        "clips": len(table.offsets) - 1,
        "steps": int(table.offsets[-1]),
        "features": len(table.names),
        "missing": dict(reasons.most_common()),
        "notes": dict(count_notes(table).most_common()),
        "bytes": table.values.nbytes + table.times.nbytes + table.offsets.nbytes,
        "extracted": done.extracted if done else 0,
        "copied": done.copied if done else 0,
        "kept": done.kept if done else len(table.offsets) - 1,
        "seconds": round(done.seconds, 3) if done else 0.0,
        "folder": None if done is None else str(done.folder),
    }


def _print_rows(corpus: str, rows: Sequence[Mapping[str, Any]]) -> None:
    table = Table(
        "modality", "clips", "missing", "steps", "size", "extracted", "seconds", title=f"Features of {plain(corpus)}"
    )
    for row in rows:
        counts = (row["clips"], sum(row["missing"].values()), row["steps"])
        work = (size(row["bytes"]), f"{row['extracted']:,}", f"{row['seconds']:.1f}")
        table.add_row(row["modality"], *(f"{count:,}" for count in counts), *work)
    out.print(table)
    for row in rows:
        told = [f"{row['features']} features a step as {row['dtype']}"]
        told += [f"{row['copied']:,} clips copied from what was there"] * bool(row["copied"])
        told += [f"{row['kept']:,} clips there before"] * bool(row["kept"])
        out.print(f"{row['modality']} by {plain(row['extractor'])}: {', '.join(told)}", highlight=False, soft_wrap=True)
    for row in rows:
        _print_counts(f"{row['modality']} missing in", row["missing"], "reasons")
    for row in rows:
        _print_counts(f"{row['modality']}, a note on", row["notes"], "notes")


def _print_counts(what: str, counts: Mapping[str, int], kind: str) -> None:
    """The most frequent reasons or notes."""
    told = list(counts.items())
    for text, count in told[:SHOWN]:
        out.print(f"{what} {count}: {plain(text)}", highlight=False, soft_wrap=True)
    if len(told) > SHOWN:
        rest = sum(count for _, count in told[SHOWN:])
        out.print(f"{what} {rest} more, {len(told) - SHOWN} other {kind}: see --json")


def size(count: int) -> str:
    """A number of bytes for people.

    Example:
        >>> size(2_500_000)
        '2.5 MB'
    """
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def _extract_folder(folder: Path, output: Path | None, root: Path | None, config: TrainConfig, as_json: bool) -> None:
    from mmsa.features.choose import build_extractors
    from mmsa.features.files import extract_files, media_files
    from mmsa.progress import track
    from mmsa.sidecars import find_sidecar

    if root is not None:
        raise UsageError(f"{folder} is a folder of media: leave --root {root} out")
    if output is None:
        raise UsageError(
            f"{folder} is a folder of media, not a corpus: give --output FOLDER for its features. A corpus in its "
            f"official layout is given by name, with --root {folder}"
        )
    paths, words = media_files(folder), config.words.options
    spoken = ("text",) if words.transcribe is not None or any(map(find_sidecar, paths)) else ()
    built = build_extractors(config, config.modalities or ("audio", *spoken, "vision"))
    made = extract_files(
        paths,
        folder,
        output,
        built,
        jobs=config.jobs,
        store_dtype=config.feature_dtype,
        words=words,
        device=config.device,
    )
    results = []
    for result in track(made, "Extracting", len(paths)):
        results.append(result)
        if as_json:
            typer.echo(json.dumps(result.to_dict()))
    if not as_json:
        _print_files(results, output, list(built))
    for result in results:
        if result.error is not None:
            err.print(f"[red]failed[/] {plain(f'{result.path}: {result.error}')}", highlight=False, soft_wrap=True)
    if any(result.error is not None for result in results):
        raise typer.Exit(1)


def _print_files(results: Sequence[FileFeatures], output: Path, modalities: Sequence[str]) -> None:
    good = [result for result in results if result.error is None]
    if good:
        table = Table("file", *(f"{key} steps" for key in modalities), "", title=f"Features in {plain(str(output))}")
        for result in good:
            told = [f"{key}: {reason}" for key, reason in result.missing.items()]
            remarks = "; ".join([*(["kept"] if result.kept else []), *told, *result.notes])
            steps = (str(result.steps.get(key, 0)) for key in modalities)
            name = str(result.output.relative_to(output)).removesuffix(".safetensors")
            table.add_row(plain(name), *steps, plain(remarks))
        out.print(table)


def _list(corpus: str | None, as_json: bool) -> None:
    from mmsa.features.inventory import list_store
    from mmsa.features.store import store_root

    entries = [entry for entry in list_store() if corpus is None or entry.corpus == corpus]
    if as_json:
        for entry in entries:
            typer.echo(json.dumps(entry.to_dict()))
        return
    if not entries:
        what = f"no features made for {corpus}" if corpus is not None else "no features"
        out.print(f"{store_root()} holds {what}.", highlight=False, markup=False, soft_wrap=True)
        return
    for entry in entries:
        out.print(f"[bold]{plain(str(entry.folder.relative_to(store_root())))}[/]", highlight=False, soft_wrap=True)
        out.print(f"  {plain(_told(entry))}", highlight=False, soft_wrap=True)
    total = size(sum(entry.bytes for entry in entries))
    out.print(f"{total} in {plain(str(store_root()))}", highlight=False, soft_wrap=True)


def _told(entry: Entry) -> str:
    if entry.state == "unreadable":
        return f"unreadable, {size(entry.bytes)}: `mmsa extract --prune` deletes it"
    made_for = f", made for {entry.corpus}" if entry.corpus else ""
    made_by = "" if entry.spec is None else f" by {entry.spec.name} ({entry.spec.tool} {entry.spec.version})"
    counts = f"{entry.clips:,} clips ({entry.missing:,} missing), {entry.steps:,} steps"
    return f"{entry.state}{made_for}{made_by}: {counts}, {entry.dtype}, {size(entry.bytes)}"


def _prune(config: TrainConfig | None, yes: bool, as_json: bool) -> None:
    from mmsa.features.inventory import delete, find_stale

    if as_json and not yes:
        raise UsageError("--prune asks before it deletes, which --json leaves no room for: add --yes")
    if config is None:
        stale = find_stale()
    else:
        corpus, _, built = _corpus(config)
        stale = find_stale(corpus, built, config.feature_dtype)
    if not stale and not as_json:
        out.print("Everything in the feature store may still be opened: nothing to delete.")
    if not stale:
        return
    if not as_json:
        for own in stale:
            out.print(f"{own.path}", highlight=False, markup=False, soft_wrap=True)
            out.print(f"  {own.reason}, {size(own.bytes)}", highlight=False, markup=False, soft_wrap=True)
    total = size(sum(own.bytes for own in stale))
    if not yes and not typer.confirm(f"Delete what is listed, {total} in all?", err=True):
        return
    for own in stale:
        gone = delete(own)
        if as_json:
            typer.echo(json.dumps({**own.to_dict(), "deleted": gone}))
        elif not gone:
            out.print(f"{plain(str(own.path))} is in use: left as it is", highlight=False, soft_wrap=True)
