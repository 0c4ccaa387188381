"""Putting modalities on one time line."""
