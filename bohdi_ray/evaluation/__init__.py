"""Evaluation of weights versions: what the target has gained."""
