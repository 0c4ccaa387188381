import io
import json

from mmsa.demo import worker
from mmsa.demo.script import write_script


def test_renders_the_job_and_reports_each_clip(tmp_path, monkeypatch, capsys):
    ids = [clip.id for clip in write_script(4, 1)[:2]]
    job = {"seed": 4, "clips_per_speaker": 1, "folder": str(tmp_path / "new"), "ids": ids}
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(job)))
    worker.main()
    assert capsys.readouterr().out.split() == ids
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [f"{clip_id}.mp4" for clip_id in ids]
