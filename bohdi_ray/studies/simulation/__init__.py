"""Simulated fusions: the real tree code with scripted models, to decide by numbers how walks should be allocated."""
