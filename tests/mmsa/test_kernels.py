from __future__ import annotations

import os
import subprocess
import sys

import pytest

READ_TWICE = """
from mmsa.kernels import KEPT, bound_kernel_cache
bound_kernel_cache()
import torch
lstm = torch.nn.LSTM(4, 4, batch_first=True)
with torch.no_grad():
    for turn in range(2):
        print("turn", turn, flush=True)
        for steps in range(1, KEPT + 5):
            lstm(torch.zeros(2, steps, 4))
"""


@pytest.mark.parametrize(("own", "kept"), [(None, False), ("1024", True)])
def test_kernels_of_many_shapes_are_not_all_kept(own: str | None, kept: bool) -> None:
    """More shapes than may stay, twice in the same order: the second time, none is left of those longest unused."""
    surroundings = {key: value for key, value in os.environ.items() if key != "ONEDNN_PRIMITIVE_CACHE_CAPACITY"}
    surroundings |= {"ONEDNN_VERBOSE": "profile_create", "OMP_NUM_THREADS": "1"}
    if own is not None:
        surroundings["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] = own
    done = subprocess.run(
        [sys.executable, "-c", READ_TWICE], env=surroundings, capture_output=True, text=True, check=True
    )
    first, second = ([line for line in turn.splitlines() if ",rnn," in line] for turn in done.stdout.split("turn 1\n"))
    if not first:
        pytest.skip("this build of torch reads LSTMs without oneDNN")
    assert all("cache_miss" in line for line in first)
    assert len(second) == len(first)
    assert all(("cache_hit" if kept else "cache_miss") in line for line in second)
