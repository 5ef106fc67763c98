"""Finds the processes that an engine started, and makes sure that they end. Pure operating-system work."""

from __future__ import annotations

import contextlib

import psutil


def child_processes() -> set[psutil.Process]:
    """All descendants of this process except multiprocessing's resource tracker, which lives as long as this
    process."""
    children = set()
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if "multiprocessing.resource_tracker" not in " ".join(child.cmdline()):
                children.add(child)
    return children


def end_processes(processes: set[psutil.Process], grace_s: float) -> None:
    """Waits for the processes to end by themselves, then kills the rest with their descendants. Takes at most about
    twice `grace_s`."""
    _, left = psutil.wait_procs(processes, timeout=grace_s)
    for process in left:
        with contextlib.suppress(psutil.Error):
            for descendant in process.children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    descendant.kill()
            process.kill()
    psutil.wait_procs(left, timeout=grace_s)
