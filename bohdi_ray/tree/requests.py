"""The open sprout requests: those that walks wait for, and those sent ahead of need.

The manager owns one `OpenRequests`. Nothing here is part of the state: after a restart the walks ask again.
"""

from __future__ import annotations

from collections.abc import Iterable

from bohdi_ray.records import SproutRequest
from bohdi_ray.tree.elections import sprout_request
from bohdi_ray.tree.knowledge_tree import Node


class OpenRequests:
    def __init__(self, ahead: int, depth: int):
        self._ahead = ahead  # elections of a waiting node that are asked for besides the one it waits for
        self._depth = depth
        self._asked: dict[str, SproutRequest] = {}

    def answered(self, request_id: str) -> None:
        self._asked.pop(request_id, None)

    def all(self, waiting: Iterable[Node]) -> tuple[SproutRequest, ...]:
        """The requests that waiting nodes need, then those sent ahead. The latter stay open when their node
        continues."""
        needed: dict[str, SproutRequest] = {}
        for node in waiting:
            arms = node.arms
            for poll in range(arms.num_polls, arms.num_polls + 1 + self._ahead):
                if poll not in arms.proposals:
                    request = sprout_request(node, poll, self._depth)
                    self._asked.setdefault(request.request_id, request)
                    if poll == arms.num_polls:
                        needed[request.request_id] = request
        ahead = (request for key, request in self._asked.items() if key not in needed)
        return (*needed.values(), *ahead)
