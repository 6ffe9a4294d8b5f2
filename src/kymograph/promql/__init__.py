"""PromQL and MetricsQL: parsed into a small tree, evaluated in NumPy over series × steps."""
