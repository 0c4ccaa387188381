"""Every fusion head at its default size on the demo corpus: a leaderboard over seeds.

    python benchmarks/demo_heads.py [--seeds 1,2,3] [--heads late,mult] [--jobs 2] [--output RESULTS]

Rows named after one modality are late fusion trained on that modality alone: what a head must beat. All rows share
features, optimiser, epochs and patience (the defaults of `mmsa.TrainConfig`); nothing was tuned. The corpus is
rendered, so the table ranks how well heads use three complementary sources, and says nothing about people.

`--export FILE` writes the features and labels to one file and stops; `--data FILE` reads them again, on a machine
without the extractors, say.
"""

from __future__ import annotations

import argparse
import csv
import json
import platform
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from extractors.spec import ExtractorSpec
from fusion import head_classes
from mmsa.config import TrainConfig
from mmsa.corpora.clip import Clip, Corpus
from mmsa.data import SplitData
from mmsa.evaluation import predict
from mmsa.features import FeatureTable
from mmsa.model import MultimodalModel
from mmsa.runs import Workshop, model_config, open_workshop
from mmsa.tasks import task_from_dict
from mmsa.training import fit

METRICS = ("sentiment.corr", "sentiment.mae", "sentiment.acc_2_non0", "emotion.weighted_f1", "emotion.accuracy")


@dataclass(frozen=True)
class Result:
    """One training."""

    head: str
    modalities: str
    seed: int
    parameters: int
    epochs: int
    seconds: float
    metrics: dict[str, float]


def export(shop: Workshop, path: Path) -> None:
    """Features, labels and tasks as one npz without pickles."""
    clips = [{"id": c.id, "split": c.split, "labels": dict(c.labels)} for c in shop.corpus.clips]
    meta = {"clips": clips, "tasks": [t.to_dict() for t in shop.tasks], "note": shop.corpus.note, "tables": {}}
    arrays = {}
    for key, table in shop.tables.items():
        meta["tables"][key] = {"names": list(table.names), "spec": table.spec.to_dict()}
        for part in ("values", "times", "offsets"):
            arrays[f"{key}.{part}"] = np.asarray(getattr(table, part))
    np.savez_compressed(path, meta=np.frombuffer(json.dumps(meta).encode(), np.uint8), **arrays)


def load(path: Path) -> Workshop:
    """What `export` wrote."""
    with np.load(path, allow_pickle=False) as data:
        meta = json.loads(data["meta"].tobytes())
        tasks = tuple(task_from_dict(task) for task in meta["tasks"])
        tables = {
            key: FeatureTable(
                spec=ExtractorSpec.from_dict(own["spec"]),
                names=tuple(own["names"]),
                values=data[f"{key}.values"],
                times=data[f"{key}.times"],
                offsets=data[f"{key}.offsets"],
                missing={},
            )
            for key, own in meta["tables"].items()
        }
    clips = tuple(Clip(clip["id"], clip["split"], clip["labels"]) for clip in meta["clips"])
    return Workshop(Corpus("demo", clips, tasks, meta["note"]), tasks, {}, tables)


def train_one(data: Path, head: str, modalities: tuple[str, ...], seed: int) -> Result:
    """One head, one seed, on one thread."""
    torch.set_num_threads(1)
    shop = load(data)
    shop = Workshop(shop.corpus, shop.tasks, {}, {key: shop.tables[key] for key in modalities})
    config = TrainConfig(fusion=head, seed=seed)
    torch.manual_seed(seed)
    model = MultimodalModel(model_config(config, shop))
    cpu = torch.device("cpu")
    start = time.perf_counter()
    splits: dict[str, SplitData] = {name: shop.split(name) for name in ("train", "valid", "test")}
    history = fit(model, splits["train"], splits["valid"], shop.tasks, config, device=cpu)
    seconds = time.perf_counter() - start
    metrics = predict(model, splits["test"], shop.tasks, device=cpu).metrics(shop.tasks)
    parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return Result(head, "+".join(modalities), seed, parameters, len(history.epochs), seconds, metrics)


def run_all(data: Path, heads: list[str], seeds: list[int], jobs: int) -> Iterator[Result]:
    """Single modalities first, then every head on all of them; in processes."""
    modalities = tuple(load(data).tables)
    work = [("late", (key,)) for key in modalities] + [(head, modalities) for head in heads]
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        futures = [pool.submit(train_one, data, head, keys, seed) for head, keys in work for seed in seeds]
        for future in as_completed(futures):
            yield future.result()


def table(results: list[Result], seeds: list[int]) -> str:
    """Markdown, best correlation first."""
    groups: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        groups.setdefault((result.head, result.modalities), []).append(result)
    rows = []
    for (head, modalities), runs in groups.items():
        name = head if "+" in modalities else f"*{modalities} alone*"
        cells = [name]
        for metric in METRICS:
            values = [run.metrics[metric] for run in runs]
            spread = statistics.stdev(values) if len(values) > 1 else float("nan")
            cells.append(f"{statistics.mean(values):.3f} ± {spread:.3f}")
        cells.append(f"{runs[0].parameters:,}")
        cells.append(f"{statistics.median(run.seconds for run in runs):.0f}")
        rows.append((statistics.mean(run.metrics[METRICS[0]] for run in runs), cells))
    header = ["head", *(m.replace(".", " ") for m in METRICS), "parameters", "train s"]
    lines = ["| " + " | ".join(header) + " |", "| --- |" + " ---: |" * (len(header) - 1)]
    lines += ["| " + " | ".join(cells) + " |" for _, cells in sorted(rows, key=lambda row: -row[0])]
    return "\n".join(lines)


def write(output: Path, results: list[Result], text: str) -> None:
    """`OUTPUT.md` with the table, `OUTPUT.csv` with every run."""
    output.parent.mkdir(parents=True, exist_ok=True)
    output.with_suffix(".md").write_text(text + "\n", encoding="utf-8")
    with output.with_suffix(".csv").open("w", newline="", encoding="utf-8") as file:
        flat = [{**asdict(r), **r.metrics} for r in sorted(results, key=lambda r: (r.modalities, r.head, r.seed))]
        for row in flat:
            row.pop("metrics")
        writer = csv.DictWriter(file, list(flat[0]))
        writer.writeheader()
        writer.writerows(flat)


def main() -> None:
    """Train, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--heads", help="with commas between; all by default")
    parser.add_argument("--jobs", type=int, default=2, help="processes of one thread each")
    parser.add_argument("--output", type=Path, help="write OUTPUT.md and OUTPUT.csv")
    parser.add_argument("--export", type=Path)
    parser.add_argument("--data", type=Path)
    options = parser.parse_args()
    data = options.data or options.export or Path("demo_features.npz")
    if options.data is None:
        export(open_workshop(TrainConfig()), data)
        if options.export:
            return
    heads = options.heads.split(",") if options.heads else list(head_classes())
    seeds = [int(seed) for seed in options.seeds.split(",")]
    results = []
    for result in run_all(data, heads, seeds, options.jobs):
        results.append(result)
        print(result.head, result.modalities, result.seed, f"{result.metrics['sentiment.corr']:.3f}", flush=True)
    text = (
        f"`python benchmarks/demo_heads.py --seeds {options.seeds}`: test split (64 clips of 4 speakers who are in no "
        f"other split), mean ± standard deviation over {len(seeds)} seeds. "
        f"Python {platform.python_version()}, torch {torch.__version__}, CPU, one thread a run, {options.jobs} runs "
        f"at once.\n\n**{load(data).corpus.note}**\n\n{table(results, seeds)}"
    )
    print(text)
    if options.output:
        write(options.output, results, text)


if __name__ == "__main__":
    main()
