"""Training of the target: rows of a round become numbered global steps, which one long Ray Train run consumes."""
