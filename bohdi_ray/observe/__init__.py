"""Observation of a run: metrics, console, summary."""
