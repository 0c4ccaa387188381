"""A rendering process: one JSON job on standard input, one line per finished clip on standard output.

Separate processes rather than `multiprocessing`: forking a process that has threads (torch, OpenCV) may hang, and
spawning asks every user's script for an `if __name__ == "__main__"` guard.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from mmsa.demo.render import render_clip
from mmsa.demo.script import write_script


def main() -> None:
    """Render the clips of the job, in order."""
    job = json.load(sys.stdin)
    clips = {clip.id: clip for clip in write_script(job["seed"], job["clips_per_speaker"])}
    for clip_id in job["ids"]:
        render_clip(Path(job["folder"]) / f"{clip_id}.mp4", clips[clip_id], job["seed"])
        sys.stdout.write(f"{clip_id}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
