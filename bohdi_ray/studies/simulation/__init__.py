"""Simulated fusions: the real tree code with scripted models, used to decide how walks should be allocated."""
