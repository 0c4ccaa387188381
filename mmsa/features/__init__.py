"""Features of corpora, on disk: extracted once, memory-mapped, shared by every corpus that has the same clips."""

from __future__ import annotations

from mmsa.features.extraction import extract_clip
from mmsa.features.store import Filled, fill_store, load_features, store_folder
from mmsa.features.table import (
    DTYPES,
    FeatureTable,
    StoreDtype,
    TableWriter,
    open_table,
    summarise_missing,
    summarise_notes,
    table_writer,
)

__all__ = [
    "DTYPES",
    "FeatureTable",
    "Filled",
    "StoreDtype",
    "TableWriter",
    "extract_clip",
    "fill_store",
    "load_features",
    "open_table",
    "store_folder",
    "summarise_missing",
    "summarise_notes",
    "table_writer",
]
