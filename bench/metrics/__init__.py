"""Metrics, computed from saved predictions."""
