"""Duplicates, contamination, balance and lengths: what `aquachat prepare --check` tells."""
