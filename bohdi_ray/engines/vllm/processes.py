"""The processes an engine started, and making sure that they are gone. Pure operating-system work."""

from __future__ import annotations

import contextlib

import psutil


def child_processes() -> set[psutil.Process]:
    """All descendants of this process but multiprocessing's resource tracker, which lives as long as we do."""
    children = set()
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if "multiprocessing.resource_tracker" not in " ".join(child.cmdline()):
                children.add(child)
    return children


def end_processes(processes: set[psutil.Process], grace_s: float) -> None:
    """Waits for them to end by themselves, then kills what is left with its descendants. Takes at most about twice
    `grace_s`."""
    _, left = psutil.wait_procs(processes, timeout=grace_s)
    for process in left:
        with contextlib.suppress(psutil.Error):
            for descendant in process.children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    descendant.kill()
            process.kill()
    psutil.wait_procs(left, timeout=grace_s)
