"""What is true of text in any language: scripts, length, sameness, refusals, labels, names. Pure."""
