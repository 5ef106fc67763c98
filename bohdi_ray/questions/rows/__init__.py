"""Rows of files as prompts: which files, which rows at which leaf, and a row's prompt."""
