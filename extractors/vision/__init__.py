"""Whole pictures to numbers: frames of a video, photographs, drawings; faces have `extractors.facial`."""
