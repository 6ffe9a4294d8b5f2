"""Rows in and out of files and streams: CSV, JSON lines, Parquet, Arrow IPC, all with bounded memory."""
