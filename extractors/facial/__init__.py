"""The face: landmarks, expression and head pose."""
