"""WHAT to ask: the knowledge tree, the bandit over it, and the state machine that hands out tickets.

Pure Python and numpy; no Ray, no model, no text. Start reading in `manager.py`.
"""
