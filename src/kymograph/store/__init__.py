"""What users hold: tables, metrics, jobs, reports, export and import."""
