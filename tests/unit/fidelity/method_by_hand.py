"""A tree manager answered by hand, states made of events, and exact probabilities of Thompson sampling.

All the tests of this folder touch of the tree's inside is here: who renames something there changes a line here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from io import BytesIO
from typing import Any

import numpy as np
from scipy.special import betainc, betaln, xlogy
from scipy.stats import chi2

from bohdi_ray.config import FusionConfig
from bohdi_ray.records import DomainPath, Outcome, Proposals, SproutRequest, Ticket, ticket_id
from bohdi_ray.tree.manager import TreeManager
from bohdi_ray.tree.messages import RoundClosed
from bohdi_ray.tree.policies import make_policy
from bohdi_ray.tree.record import journal, snapshot
from bohdi_ray.tree.state import TreeState

CHAIN = {"Aa": {"Bb": ["Cc"]}}
LEAF = ("Aa", "Bb", "Cc")
POINTS, WEIGHTS = np.polynomial.legendre.leggauss(64)
ONE_CHILD = {"depth": 3, "max_children": (1, 1, 1)}  # with CHAIN as start every walk ends at LEAF


def make_config(**sections) -> FusionConfig:
    """The paper's settings, rounds of one step with one walk, and nothing asked ahead; `sections` win."""
    sections = {"meditation": {"steps": 1, "walks_per_step": 1}, **sections}
    sections["sprout"] = {"requests_ahead": 0, **sections.get("sprout", {})}
    return FusionConfig.model_validate(
        {
            "run_dir": "/nowhere",
            "preset": "paper",
            "seed": 3,
            "sources": [{"name": name, "model": f"/{name}"} for name in ("source-a", "source-b", "source-c")],
            "target": {"name": "target", "model": "/target"},
            **sections,
        }
    )


def snapshot_of(manager: TreeManager) -> Any:
    """A copy of the state; it becomes a file only when it is restored, after the manager has gone on."""
    return manager.copy_state()


def restored(config: FusionConfig, copy: Any) -> TreeManager:
    return TreeManager.restore(config, as_file(copy))


def as_file(copy: Any) -> bytes:
    sink = BytesIO()
    snapshot.write(copy, sink)
    return sink.getvalue()


def replayed(config: FusionConfig, seeds: Any, segments: Iterable[bytes], base: Any = None) -> TreeManager:
    return TreeManager.replay(config, seeds, segments, base and as_file(base))


def described(manager: TreeManager) -> dict[DomainPath, dict[str, Any]]:
    """Every node's plain description by its path, the root's too; without the round, which is not the tree's."""
    found = {}
    root = {key: value for key, value in manager.describe().items() if key not in ("round", "weights_version")}
    pending: list[tuple[DomainPath, dict[str, Any]]] = [((), root)]
    while pending:
        path, node = pending.pop()
        found[path] = node
        pending += [((*path, child["name"]), child) for child in node["children"]]
    return found


def posterior(node: dict[str, Any]) -> tuple[float, float]:
    return node["alpha"], node["beta"]


class ByHand:
    """A manager whose models are the test."""

    def __init__(self, seeds: Any = None, **sections):
        self.config = make_config(**sections)
        self.manager = TreeManager(self.config, seeds)

    def node(self, *path: str) -> dict[str, Any]:
        return described(self.manager)[path]

    def unk(self, *path: str) -> tuple[float, float]:
        unk = self.node(*path)["unk"]
        return unk["alpha"], unk["beta"]

    @property
    def requests(self) -> tuple[SproutRequest, ...]:
        return self.manager.work(0).sprouts

    def answer(self, *names: str, path: DomainPath | None = None) -> None:
        """Answers the first open request, or the first of the node at `path`."""
        request = next(r for r in self.requests if path is None or r.path == path)
        self.manager.propose(Proposals(request.request_id, names, 0, 0))

    def answer_all(self, names: Callable[[SproutRequest], Sequence[str]]) -> None:
        while self.requests:
            request = self.requests[0]
            self.manager.propose(Proposals(request.request_id, tuple(names(request)), 0, 0))

    def tickets(self, step: int | None = None) -> list[Ticket]:
        return [t for t in self.manager.work(0).tickets if step is None or t.step == step]

    def commit(self, outcome: Callable[[Ticket], Outcome], step: int = 0) -> None:
        outcomes = [outcome(ticket) for ticket in self.tickets(step)]
        self.manager.commit_step(step, self.manager.screen(step, outcomes), "part")

    def close(self, version: int = 0) -> RoundClosed:
        return self.manager.close_round(self.manager.stats()["round"] + 1, version)


def sample(ticket: Ticket, reward: int, question: str | None = None, heldout: bool = False) -> Outcome:
    return Outcome(ticket.ticket_id, reward=reward, question_hash=question or ticket.ticket_id, heldout=heldout)


def failed(ticket: Ticket) -> Outcome:
    return Outcome(ticket.ticket_id, failure="no_eligible_answer")


def rewards_on_a_chain(rewards: Sequence[int], **sections) -> ByHand:
    """One round of one step whose walks all end at LEAF and bring `rewards` in ticket order; not yet closed."""
    steps = {"steps": 1, "walks_per_step": len(rewards)}
    hand = ByHand(CHAIN, **{"tree": ONE_CHILD, "meditation": steps, **sections})
    hand.commit(lambda ticket: sample(ticket, rewards[ticket.index]))
    return hand


def state_of(events: Iterable[journal.AnyEvent], **sections) -> TreeState:
    """A state in which exactly these events happened in round 0."""
    config = make_config(**sections)
    state = TreeState(config, make_policy(config.bandit), None)
    state.apply(journal.RoundOpened(0, 0))
    for event in events:
        state.apply(event)
    state.tree.start_step()
    return state


def born(*path: str) -> journal.Elected:
    """`unk` of the parent succeeds with this name."""
    return journal.Elected(path[:-1], False, path[-1], {})


def failures(number: int, *path: str) -> list[journal.AnyEvent]:
    """`unk` at `path` fails so often."""
    return [journal.Elected(path, False, None, {})] * number


def samples_at(path: DomainPath, rewards: str, first: int) -> list[journal.AnyEvent]:
    """Accepted samples of a leaf: `1` or `0` for their rewards, `h` for one held out; tickets from index `first`."""
    return [
        journal.Credited(ticket_id(0, 0, index), path, f"q{index}", None if mark == "h" else int(mark))
        for index, mark in enumerate(rewards, first)
    ]


def chances(posteriors: Sequence[tuple[float, float]]) -> np.ndarray:
    """P(arm's draw is the largest) for independent Beta posteriors with whole parameters.

    Gauss-Legendre on pdf times the others' cdf: a polynomial here, of a degree for which 64 points are exact.
    """
    assert sum(alpha + beta for alpha, beta in posteriors) < 120
    x, weights = (POINTS + 1) / 2, WEIGHTS / 2
    a, b = np.array(posteriors, float).T[:, :, None]
    pdf = np.exp((a - 1) * np.log(x) + (b - 1) * np.log1p(-x) - betaln(a, b))
    cdf = betainc(a, b, x)
    found = []
    for arm in range(len(posteriors)):
        others = np.delete(cdf, arm, axis=0).prod(axis=0)
        found.append(float(np.sum(weights * pdf[arm] * others)))
    assert abs(sum(found) - 1) < 1e-10
    return np.array(found)


def by_scipy(alpha: float, beta: float, num_wins: int, num_rewards: int) -> tuple[float, float]:
    """Lambda and p-value of the likelihood-ratio test, by the formula, with 0 ln 0 = 0 as scipy has it."""
    old, new, losses = (alpha - 1) / (alpha + beta - 2), num_wins / num_rewards, num_rewards - num_wins
    ratio = xlogy(num_wins, new) - xlogy(num_wins, old) + xlogy(losses, 1 - new) - xlogy(losses, 1 - old)
    return 2 * ratio, float(chi2.sf(max(0.0, 2 * ratio), 1))
