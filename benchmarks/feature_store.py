"""What the feature store costs at CMU-MOSEI's size: opening it, memory, reading clips at random.

    python benchmarks/feature_store.py [--clips 23453] [--folder FOLDER] [--dtype float16]

A store of that many clips and three modalities is made in FOLDER (a temporary one by default) and deleted afterwards:
as many steps as MOSEI has (7.3 s a clip; 100 a second for sound, 15 for pictures, 3 words), but few features each, so
that it takes 1 GB and not 100. Media are files of a few bytes. What opening costs depends on the number of clips and
not on the width of a step.

Measured in a fresh process each: opening what is there (`load_features`, with a look at every media file), the same
with the identity of every media file to be found out first, and reading. Seconds are given as they pass and as the
process worked, which differ on a busy machine. Memory is what the process has more than before: its own, and pages of
the mapped files. The latter belong to the system's cache, which takes them back when memory is short; the system maps
64 kB at a touch, so that of narrow tables more is mapped than was read. The limit next to the reading rate is reading
the same bytes with one plain `read` a clip and part.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from extractors import AudioExtractor, AudioStream, ExtractorSpec, TextExtractor, VisionExtractor, VisionStream
from extractors.sequence import FeatureSequence
from mmsa.corpora.clip import Clip, Corpus

SECONDS = 7.3
RATES = {"audio": 100.0, "text": 3.0, "vision": 15.0}
WIDTHS = {"audio": 8, "text": 16, "vision": 8}
READ_CLIPS = 2000


class _Made:
    """An extractor that is never asked: everything is in the store."""

    def __init__(self, modality: str) -> None:
        self.names = tuple(f"{modality}_{i}" for i in range(WIDTHS[modality]))
        self.spec = ExtractorSpec(f"benchmark.{modality}", "none", "1", {})


class Audio(_Made, AudioExtractor):
    """Sound."""

    def stream(self, first_sample: int = 0) -> AudioStream:
        """Never called."""
        raise NotImplementedError


class Vision(_Made, VisionExtractor):
    """Pictures."""

    def stream(self) -> VisionStream:
        """Never called."""
        raise NotImplementedError


class Text(_Made, TextExtractor):
    """Words."""

    def extract_text(self, *_: object) -> FeatureSequence:
        """Never called."""
        raise NotImplementedError


EXTRACTORS = {"audio": Audio("audio"), "text": Text("text"), "vision": Vision("vision")}


def make_corpus(folder: Path, clips: int) -> Corpus:
    """Clips that name files in `folder`, a hundred in each folder of it."""
    made = (
        Clip(str(i), "train", {}, folder / "media" / str(i // 100) / f"{i}.mp4", f"what clip {i} says")
        for i in range(clips)
    )
    return Corpus("benchmark", tuple(made), ())


def fill(folder: Path, clips: int, dtype: str) -> None:
    """Write media and tables as an extraction would."""
    from mmsa.features.part import Part
    from mmsa.features.store import locate

    corpus = make_corpus(folder, clips)
    for clip in corpus.clips:
        assert clip.media is not None
        clip.media.parent.mkdir(parents=True, exist_ok=True)
        clip.media.write_text(clip.id)
    generator = np.random.default_rng(0)
    seconds = np.minimum(generator.gamma(2.5, SECONDS / 2.5, clips), 100)
    for wanted in locate(corpus, EXTRACTORS, dtype):
        own = wanted.extractor
        part = Part(wanted.folder, own.spec, own.names, wanted.dtype, wanted.digests)
        longest = int(seconds.max() * RATES[wanted.key]) + 1
        values = generator.standard_normal((longest, len(own.names)), np.float32)
        starts = np.arange(longest) / RATES[wanted.key]
        times = np.stack([starts, starts + 1 / RATES[wanted.key]], axis=1)
        for i in range(clips):
            steps = max(1, int(seconds[i] * RATES[wanted.key]))
            part.add(FeatureSequence(values[:steps], times[:steps], own.names), None, str(i))
        part.finish(corpus.name)


def memory() -> tuple[int, int]:
    """Bytes that this process has for itself, and bytes of mapped files."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    own, mapped = (int(lines[name].split()[0]) * 1024 for name in ("RssAnon", "RssFile"))
    return own, mapped


class Span:
    """Seconds, work and memory between two moments."""

    def __init__(self) -> None:
        self.start = time.perf_counter(), time.process_time(), *memory()

    def end(self, name: str) -> dict[str, float]:
        """What has been added since the start, by names that begin with this one."""
        now = time.perf_counter(), time.process_time(), *memory()
        parts = ("seconds", "work", "own", "mapped")
        return {f"{name}_{part}": b - a for part, a, b in zip(parts, self.start, now, strict=True)}


def measure(folder: Path, clips: int, dtype: str) -> dict[str, float]:
    """Open the store and read from it."""
    from mmsa.features import load_features

    corpus = make_corpus(folder, clips)
    import extractors.base  # noqa: F401 - its import is no part of the opening

    span = Span()
    tables = load_features(corpus, EXTRACTORS, store_dtype=dtype)
    found = span.end("open")
    order = np.random.default_rng(1).permutation(clips)[:READ_CLIPS]
    span, count = Span(), 0
    for i in order:
        for table in tables.values():
            sequence = table.sequence(i)
            count += sequence.values.size * table.values.itemsize + sequence.times.nbytes
    found |= {**span.end("read"), "read_bytes": count}
    found["table_bytes"] = sum(table.values.nbytes + table.times.nbytes for table in tables.values())
    found["steps"] = sum(len(table.times) for table in tables.values())
    span = Span()
    for table in tables.values():
        for part in (table.values, table.times):
            assert isinstance(part, np.memmap)
            width = part.shape[1] * part.itemsize
            file = os.open(str(part.filename), os.O_RDONLY)
            for i in order:
                first, last = int(table.offsets[i]) * width, int(table.offsets[i + 1]) * width
                os.pread(file, last - first, first)
            os.close(file)
    return found | span.end("limit")


def run(folder: Path, options: argparse.Namespace, step: str) -> dict[str, float]:
    """One step in a process of its own."""
    words = ["--clips", str(options.clips), "--dtype", options.dtype, "--folder", str(folder), "--step", step]
    environment = {**os.environ, "MMSA_CACHE": str(folder / "cache")}
    done = subprocess.run([sys.executable, __file__, *words], check=True, capture_output=True, env=environment)
    return json.loads(done.stdout or b"{}")


def report(options: argparse.Namespace, folder: Path) -> None:
    """Make the store, measure, print."""
    start = time.perf_counter()
    run(folder, options, "fill")
    filled = time.perf_counter() - start
    shutil.rmtree(folder / "cache" / "features" / ".media")
    time.sleep(2.5)  # media that were just written are not remembered
    first, again = run(folder, options, "measure"), run(folder, options, "measure")
    table_mb = again["table_bytes"] / 1e6
    print(f"{options.clips} clips, {again['steps']:,.0f} steps in {len(EXTRACTORS)} tables, {options.dtype}")
    print(f"  {table_mb:,.0f} MB of values and times, written in {filled:.0f} s")
    for name, found in (("known", again), ("unknown", first)):
        print(f"open, media {name}: {times(found, 'open')}, {growth(found, 'open')}")
    print(f"read {READ_CLIPS} clips at random, {again['read_bytes'] / 1e6:.0f} MB: {times(again, 'read')}")
    print(f"  {growth(again, 'read')}")
    ratio = again["read_work"] / again["limit_work"]
    print(f"  plain reads of the same bytes: {times(again, 'limit')}; reading sequences is {ratio:.1f} × their work")


def times(found: dict[str, float], name: str) -> str:
    """As they pass, and as the process worked."""
    return f"{found[f'{name}_seconds']:.2f} s ({found[f'{name}_work']:.2f} s of work)"


def growth(found: dict[str, float], name: str) -> str:
    """Memory that was added."""
    return f"{found[f'{name}_own'] / 1e6:.0f} MB of its own, {found[f'{name}_mapped'] / 1e6:.0f} MB of mapped files"


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=23453)
    parser.add_argument("--dtype", choices=("float32", "float16"), default="float32")
    parser.add_argument("--folder", type=Path, help="where to make the store; some 2 GB")
    parser.add_argument("--step", choices=("fill", "measure"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step == "fill":
        fill(options.folder, options.clips, options.dtype)
    elif options.step == "measure":
        print(json.dumps(measure(options.folder, options.clips, options.dtype)))
    else:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            report(options, Path(folder))


if __name__ == "__main__":
    main()
