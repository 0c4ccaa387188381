"""The benchmark: many heads at one setting, and how sure one can be of what sets them apart."""
