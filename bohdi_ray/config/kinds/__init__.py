"""Sections of the configuration that have several kinds; each table of kinds is in a file of its own."""
