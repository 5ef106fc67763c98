"""How the target learns: rows of a round become numbered global steps, one long Ray Train run consumes them."""
