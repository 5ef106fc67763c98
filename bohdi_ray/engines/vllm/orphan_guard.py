"""Runs in vLLM's worker processes: ends them when the process that owns the engine is gone.

vLLM's own processes outlive an owner that was killed (SIGKILL, `ray.kill`, out of memory) and keep its memory and
cards. vLLM imports this module in every worker because it is named as `worker_extension_cls`; importing it in any other
process does nothing. When a worker ends, vLLM ends the rest of that engine.
"""

from __future__ import annotations

import os
import select
import threading

OWNER_VARIABLE = "BOHDI_ENGINE_OWNER"  # process id; inherited by the processes vLLM starts


class OrphanGuard:
    """Mixed into vLLM's worker class; the import itself starts the guard."""


def _end_with(owner: int) -> None:
    try:
        descriptor = os.pidfd_open(owner)
    except ProcessLookupError:
        os._exit(1)
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)  # readable once the process has ended
    poll.poll()
    os._exit(1)


_owner = int(os.environ.get(OWNER_VARIABLE, "0"))
if _owner and _owner != os.getpid():
    threading.Thread(target=_end_with, args=(_owner,), name="orphan-guard", daemon=True).start()
