"""OpenTelemetry's metrics."""
