"""Language-independent text rules: scripts, length, equality, refusals, labels, names. Pure."""
