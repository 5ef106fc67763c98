"""Sections of the configuration of which there are several kinds, each table of kinds in a file of its own."""
