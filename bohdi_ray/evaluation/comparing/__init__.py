"""Scores of several models side by side: differences, interference, tables."""
