"""SQL over an engine: read-only, bounded, with time-series functions. DataFusion is used nowhere else."""
