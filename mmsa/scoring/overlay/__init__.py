"""The overlay: the scored video with face mesh, emotion bars, timeline and subtitle burnt in.

`write_overlay(score, target, face_tracker(scorer.extractors))` is the whole of it for one result.
"""

from mmsa.scoring.overlay.writer import Overlay, face_tracker, write_overlay

__all__ = ["Overlay", "face_tracker", "write_overlay"]
