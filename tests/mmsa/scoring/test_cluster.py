from __future__ import annotations

import sys

import pytest

from mmsa.errors import UsageError
from mmsa.scoring.cluster import Layout, connected, lay_out


@pytest.mark.parametrize(
    ("resources", "jobs", "encoders", "expected"),
    [
        # Without GPUs: every CPU extracts, and there is one with the model for eight of them.
        ({"CPU": 2.0}, None, False, Layout(2, 0.0, 1, 0.0)),
        ({"CPU": 9.0}, None, True, Layout(9, 0.0, 2, 0.0)),
        ({"CPU": 16.0}, 3, False, Layout(3, 0.0, 1, 0.0)),
        # Only the fusion model computes on them: it has one for itself, as long as there is enough to do.
        ({"CPU": 16.0, "GPU": 2.0}, None, False, Layout(16, 0.0, 2, 1.0)),
        ({"CPU": 16.0, "GPU": 4.0}, 1, False, Layout(1, 0.0, 1, 1.0)),
        # Encoders do, too: four extracting workers and the model share each.
        ({"CPU": 16.0, "GPU": 2.0}, None, True, Layout(8, 0.2, 2, 0.2)),
        ({"CPU": 16.0, "GPU": 2.0}, 3, True, Layout(3, 0.2, 2, 0.2)),
    ],
)
def test_workers_fit_the_cluster(
    resources: dict[str, float], jobs: int | None, encoders: bool, expected: Layout
) -> None:
    layout = lay_out(resources, jobs=jobs, encoders=encoders)
    assert layout == expected
    assert layout.extracting <= resources["CPU"]
    asked = layout.extracting * layout.extracting_gpus + layout.inferring * layout.inferring_gpus
    assert asked <= resources.get("GPU", 0.0)


def test_more_workers_than_cpus_would_wait_for_ever() -> None:
    with pytest.raises(UsageError, match=r"--jobs 3 workers need a CPU each, but the Ray cluster has 2: give --jobs 2"):
        lay_out({"CPU": 2.0}, jobs=3, encoders=False)
    with pytest.raises(UsageError, match="the Ray cluster offers no CPU"):
        lay_out({"GPU": 1.0}, jobs=None, encoders=False)


def test_without_ray_the_error_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(UsageError, match=r"pip install 'mmsa-framework\[ray\]'"),
        connected("local"),
    ):
        pass


def test_the_client_protocol_is_refused_with_what_to_do_instead() -> None:
    with pytest.raises(UsageError, match=r"Run mmsa on a node of the cluster"), connected("ray://head:10001"):
        pass
