"""Values without I/O or clock: time, labels, matchers, schemas, batches."""
