"""What importing ready-made features costs: time and memory, against reading the same file with the library it is for.

    python benchmarks/corpus_import.py [--clips 2199] [--folder DIR] [--output FILE.md]

Two made-up corpora that can be learned from, at CMU-MOSI's sizes:

- an MMSA pickle (`unaligned_50.pkl`: text 50 x 768, audio 375 x 5, vision 500 x 20, float32), against `pickle.load` and
  saving the three arrays with `np.save`: the least that anyone who wants them on the disk must do;
- a folder of CMU-SDK sequences (words, GloVe, COVAREP at 100 Hz, FACET at 30 Hz, packed), against reading every dataset
  once with h5py.

Each is done in a process of its own, of which the time (of the wall and of the processor) and the peak of the memory
are taken. A malicious pickle of the same shapes is offered as well, and must be refused.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

SHARES = {"train": 1284 / 2199, "valid": 229 / 2199, "test": 686 / 2199}
STEPS = {"text": 50, "audio": 375, "vision": 500}
DIMS = {"text": 768, "audio": 5, "vision": 20}
PER_VIDEO = 24
CLIP_SECONDS = 4.0


class Payload:
    """Runs a command when Python's own unpickler meets it."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


def split_sizes(clips: int) -> dict[str, int]:
    """MOSI's shares of a number of clips."""
    sizes = {split: round(share * clips) for split, share in SHARES.items()}
    return {**sizes, "train": clips - sizes["valid"] - sizes["test"]}


def write_pickle(path: Path, clips: int, payload: Payload | None = None) -> None:
    """An MMSA file whose features say the label, padded on the right as MMSA-FET pads."""
    rng = np.random.default_rng(0)
    data = {}
    for split, count in split_sizes(clips).items():
        labels = rng.uniform(-3, 3, count)
        part: dict[str, Any] = {"regression_labels": labels}
        for key, steps in STEPS.items():
            lengths = rng.integers(steps // 5, steps + 1, count)
            values = rng.standard_normal((count, steps, DIMS[key]), np.float32) + (labels / 3)[:, None, None]
            values[np.arange(steps) >= lengths[:, None]] = 0
            part[key] = values.astype(np.float32)
            if key == "text":
                bert = np.zeros((count, 3, steps), np.float32)
                bert[:, 1] = np.arange(steps) < lengths[:, None]
                part["text_bert"] = bert
            else:
                part[f"{key}_lengths"] = lengths.tolist()
        part["raw_text"] = np.array([f"clip {i}" for i in range(count)])
        part["id"] = [f"{split}{i // PER_VIDEO}$_${i % PER_VIDEO}" for i in range(count)]
        data[split] = part
    if payload:
        data["test"]["annotations"] = payload
    with path.open("wb") as file:
        pickle.dump(data, file, 4)


def write_sequences(folder: Path, clips: int) -> None:
    """The CMU-SDK's files for as many clips, and the folds beside them."""
    import h5py

    folder.mkdir()
    rng = np.random.default_rng(0)
    videos = [f"video{i}" for i in range(-(-clips // PER_VIDEO))]
    seconds = PER_VIDEO * CLIP_SECONDS
    kinds = {"labels": (1 / CLIP_SECONDS, 1), "words": (3.0, 0), "glove_vectors": (3.0, 300), "COVAREP": (100.0, 74)}
    for name, (rate, width) in {**kinds, "FACET_4.2": (30.0, 47)}.items():
        with h5py.File(folder / f"{name}.csd", "w") as file:
            for video in videos:
                begins = np.arange(0, seconds, 1 / rate)
                values = rng.uniform(-3, 3, (len(begins), 1)) + rng.normal(size=(len(begins), width))
                features = np.clip(values, -3, 3) if width else np.full((len(begins), 1), b"word", "S32")
                group = file.create_group(f"{name}/data/{video}")
                group.create_dataset("features", data=features.astype("S32" if not width else "f4"), compression="gzip")
                group.create_dataset("intervals", data=np.stack([begins, begins + 1 / rate], 1), compression="gzip")
    folds = {"train": videos[2:], "valid": videos[:1], "test": videos[1:2]}
    (folder / "folds.json").write_text(json.dumps(folds), encoding="utf-8")


def load_pickle(source: Path, target: Path) -> None:
    """The peer's way: unpickle, and save what was read."""
    with source.open("rb") as file:
        data = pickle.load(file)  # noqa: S301  (made here)
    target.mkdir()
    for split in SHARES:
        for key in STEPS:
            np.save(target / f"{split}-{key}.npy", data[split][key])


def load_sequences(source: Path, _: Path) -> None:
    """Every dataset once."""
    import h5py

    for path in sorted(source.glob("*.csd")):
        with h5py.File(path, "r") as file:
            for group in file[next(iter(file))]["data"].values():
                group["features"][()], group["intervals"][()]


def import_it(source: Path, target: Path) -> None:
    """Mmsa's way."""
    from mmsa.corpora.imports import import_corpus

    import_corpus(source, target)


WAYS: dict[str, Callable[[Path, Path], None]] = {
    "pickle.load + np.save": load_pickle,
    "h5py, every dataset once": load_sequences,
    "mmsa corpus import": import_it,
}


def measure(way: str, source: Path, target: Path) -> dict[str, float]:
    """Seconds of the wall and of the processor, and the peak of the memory in MiB, of a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--way", way, str(source), str(target)], check=True, capture_output=True, text=True
    )
    row: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return row


def run_one(way: str, source: str, target: str) -> None:
    """What `measure` starts: imports are not counted, the peak is."""
    import h5py  # noqa: F401

    import mmsa.corpora.csd_import
    import mmsa.corpora.imports
    import mmsa.corpora.mmsa_pickle  # noqa: F401

    start, busy = time.perf_counter(), time.process_time()
    WAYS[way](Path(source), Path(target))
    row = {"wall": time.perf_counter() - start, "cpu": time.process_time() - busy, "peak": peak_bytes() / 2**20}
    print(json.dumps(row))


def peak_bytes() -> int:
    """The most memory this process has held, mapped pages of the source included.

    Linux counts what stood in `getrusage` before a process was replaced by another program; `/proc` does not.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def table(folder: Path, clips: int) -> Iterator[str]:
    """The table, row by row."""
    yield "| source | way | wall s | CPU s | peak MiB | CPU ratio | peak / size of source |"
    yield "| --- | --- | ---: | ---: | ---: | ---: | ---: |"
    pickled, sequences = folder / "unaligned_50.pkl", folder / "sdk"
    write_pickle(pickled, clips)
    write_sequences(sequences, clips)
    sources = {"pickle.load + np.save": pickled, "h5py, every dataset once": sequences}
    for peer, source in sources.items():
        files = [source] if source.is_file() else sorted(source.iterdir())
        size = sum(path.stat().st_size for path in files) / 2**20
        base = measure(peer, source, folder / f"peer-{source.name}")
        own = measure("mmsa corpus import", source, folder / f"own-{source.name}")
        for way, row in ((peer, base), ("mmsa corpus import", own)):
            cells = [f"{row['wall']:.1f}", f"{row['cpu']:.1f}", f"{row['peak']:.0f}", f"{row['cpu'] / base['cpu']:.2f}"]
            yield f"| {source.name}, {size:.0f} MiB | {way} | {' | '.join(cells)} | {row['peak'] / size:.2f} |"


def refuse(folder: Path, clips: int) -> str:
    """What is said of a malicious file of the same shapes."""
    from mmsa.corpora.imports import import_corpus
    from mmsa.errors import UsageError

    mark = folder / "ran"
    write_pickle(folder / "malicious.pkl", clips, Payload(f"touch {mark}"))
    try:
        import_corpus(folder / "malicious.pkl", folder / "malicious")
    except UsageError as error:
        assert not mark.exists()
        assert not (folder / "malicious").exists()
        return f"refused: {error}"
    raise SystemExit("the malicious file was not refused")


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=2199)
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder without it")
    parser.add_argument("--output", type=Path, help="a Markdown file to write the table to")
    parser.add_argument("--way", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.way:
        run_one(*given.way)
        return
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        rows = list(table(Path(folder), given.clips))
        rows += ["", f"A pickle with a command in it, {given.clips} clips: {refuse(Path(folder), given.clips)}"]
    text = "\n".join(rows).replace(folder, "…")
    print(text)
    if given.output:
        given.output.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
