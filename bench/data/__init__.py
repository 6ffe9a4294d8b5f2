"""Seeded reference data, as Arrow batches: the same arguments give the same bytes."""
