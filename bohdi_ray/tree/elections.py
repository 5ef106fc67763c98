"""Elections: choose the name of a new child (method, section 3). Pure; the tree is read, never changed.

Called by `walks.py` when `unk` wins at a node. The result of an election is an `Elected` event, which `state.py`
applies.
"""

from __future__ import annotations

from collections import Counter

from bohdi_ray.languages.names import name_key
from bohdi_ray.randomness import generator
from bohdi_ray.records import DomainPath, SproutRequest
from bohdi_ray.tree.knowledge_tree import KnowledgeTree, Node
from bohdi_ray.tree.record.journal import Elected

# Why an election fails, beside what `Proposals.problem` says: nothing that was proposed is a name, or all are taken.
NO_VALID_NAME, NAMES_TAKEN = "no_valid_name", "names_taken"


def request_id(path: DomainPath, poll: int) -> str:
    """The id of a request. Names are letters and spaces, so the separator is safe."""
    return "/".join(("sprout", *path, str(poll)))


def parse_request_id(text: str) -> tuple[DomainPath, int]:
    """(path, poll). Raises ValueError for any other text."""
    kind, *path, poll = text.split("/")
    if kind != "sprout" or not poll.isdecimal():
        raise ValueError(f"{text!r} is not the id of a sprout request")
    return tuple(path), int(poll)


def sprout_request(node: Node, poll: int, depth: int) -> SproutRequest:
    """The request for proposals for election number `poll` of the node, which must need some."""
    path = node.path
    return SproutRequest(request_id(path, poll), path, poll, leaf=len(path) + 1 == depth)


def hold(tree: KnowledgeTree, node: Node, seed: int, reuse_ballots: bool) -> Elected | None:
    """The outcome of the node's next election, or None if it needs proposals that are not there yet.

    While the ballot holds a free name no proposals are needed. Names found taken leave the ballot for good: a name
    never becomes free again. The winner is the free name with most votes; the election's own generator
    breaks ties.
    """
    arms, path = node.arms, node.path
    votes = _free(tree, node, arms.ballot)
    polled = not votes
    if polled:
        proposals = arms.proposals.get(arms.num_polls)
        if proposals is None:
            return None
        votes = _free(tree, node, Counter(proposals.names))
    winner = _winner(votes, seed, path, arms.num_elections)
    if winner is not None:
        del votes[winner]
    return Elected(path=path, polled=polled, winner=winner, ballot=votes if reuse_ballots else {})


def problem(node: Node) -> str:
    """Why the node's next election will fail: it has its proposals, and none of their names is free."""
    proposals = node.arms.proposals[node.arms.num_polls]
    return NAMES_TAKEN if proposals.names else proposals.problem or NO_VALID_NAME


def _free(tree: KnowledgeTree, node: Node, votes: dict[str, int]) -> dict[str, int]:
    return {name: count for name, count in _by_spelling(votes).items() if tree.is_free(name, node)}


def _by_spelling(votes: dict[str, int]) -> dict[str, int]:
    """Adds up votes for one name in several spellings (Straße, Strasse), under the spelling with most votes."""
    keys = {name: name_key(name) for name in votes}
    if len(set(keys.values())) == len(votes):
        return votes
    spellings: dict[str, list[str]] = {}
    for name in sorted(votes, key=lambda name: (-votes[name], name)):
        spellings.setdefault(keys[name], []).append(name)
    return {names[0]: sum(votes[name] for name in names) for names in spellings.values()}


def _winner(votes: dict[str, int], seed: int, path: DomainPath, election: int) -> str | None:
    if not votes:
        return None
    most = max(votes.values())
    tied = sorted(name for name, count in votes.items() if count == most)
    if len(tied) == 1:
        return tied[0]
    return tied[int(generator(seed, "election", "/".join(path), election).integers(len(tied)))]
