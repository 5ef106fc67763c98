"""The command line, `bohdi`; commands.py has the commands."""

from bohdi_ray.cli.commands import main

__all__ = ["main"]
