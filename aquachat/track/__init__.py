"""Metrics, W&B, pictures, reports."""
