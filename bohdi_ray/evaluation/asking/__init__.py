"""Asks engines for the answers that an evaluation needs, each once."""
