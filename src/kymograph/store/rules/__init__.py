"""Recording and alerting rules: rule files of Prometheus, evaluated on schedule over one store."""
