"""TreeManager: the state machine that owns tree and bandit. Plain, synchronous, never waits, never sees text.

Called by the tree-manager actor (one process, one thread), by `bohdi tree` and by simulations. Hands out tickets and
sprout requests, takes in proposals and outcomes. It guarantees that the state of the tree never depends on timing.

The order of a round's work, M steps, lag = harvest.step_lag:

    walks(s) done  ->  commit(s - lag)  ->  walks(s + 1) start           for s = 0 .. M - 1
    after walks(M - 1) are done:  commit(M - lag) .. commit(M - 1)  ->  close_round

- walks(s + 1) start only when steps 0 .. s - lag are committed; commit(c) is allowed only when walks(c + lag) are done
  (or all of the round's). So commits fall between walks, never into them: the walks of step s see exactly the credit
  of steps 0 .. s - 1 - lag, however early outcomes arrive. `committable()` says whose turn it is.
- Right after `commit_step` or `close_round` the state is a *commit point*: no walk is under way, no election half done.
  The next walks start with the first `work`, `propose` or `committable` after it, so that the caller can take the
  segment and, if wanted, a snapshot in between. `digest()` always speaks of the last commit point; given what the
  models said it is a function of config and seeds alone.
- A segment holds the events up to the last commit point. What walks did since then leaves with the next one. When the
  process dies, those walks are walked again from the commit point: same generators, same tree, same elections, so the
  same tickets with the same ids. Tickets of steps walked before the commit point and not yet committed are in the
  journal and are handed out again by `work(0)`. Proposals that arrived before it are in the journal too.
- Elections of a node take the answers to its polls in number order, so an answer asked ahead is used when its number
  comes, in this round or a later one, or never. It shows in no digest before that.

Every call may be repeated: a second answer to a poll, a second commit of a step, a second close of a round do nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import IO, TYPE_CHECKING, Any, TypeAlias

from bohdi_ray.config import FusionConfig
from bohdi_ray.errors import StepNotReady
from bohdi_ray.records import DomainPath, Outcome, Proposals
from bohdi_ray.tree import boundary, screening
from bohdi_ray.tree.description import describe
from bohdi_ray.tree.elections import parse_request_id
from bohdi_ray.tree.knowledge_tree import KnowledgeTree
from bohdi_ray.tree.messages import RoundClosed, Work
from bohdi_ray.tree.names import Grown, Seeds, valid_name
from bohdi_ray.tree.policies import make_policy
from bohdi_ray.tree.policies.policy import Policy
from bohdi_ray.tree.record import journal, snapshot
from bohdi_ray.tree.record.snapshot import StateCopy
from bohdi_ray.tree.requests import OpenRequests
from bohdi_ray.tree.state import TreeState, replay
from bohdi_ray.tree.walks import StepWalks

if TYPE_CHECKING:
    import pyarrow as pa

    Source: TypeAlias = bytes | pa.Buffer | pa.NativeFile | IO[bytes]


class TreeManager:
    def __init__(self, config: FusionConfig, seeds: Seeds = None, policy: Policy | None = None):
        """`policy`: a policy that no configuration names, for simulations; default: the configuration's."""
        self._config = config
        self._state = TreeState(config, policy or make_policy(config.bandit), seeds)
        self._journal = journal.Journal()
        self._walks: StepWalks | None = None  # of the step under way
        self._requests = OpenRequests(config.sprout.requests_ahead, config.tree.depth)
        self._digest: str | None = None  # of the last commit point, once walks have left it
        self.open_round(0, 0)

    # Rounds and work.

    def open_round(self, round: int, weights_version: int) -> None:
        """Opens the first round. Later ones are opened by `close_round`, in one step with its decisions."""
        state = self._state
        if (round, weights_version) == (state.round, state.weights_version):
            return
        if state.round >= 0:
            raise ValueError(f"round {state.round} is open; close_round opens round {state.round + 1}")
        self._emit(journal.RoundOpened(round, weights_version))
        self._journal.mark()

    def work(self, cursor: int) -> Work:
        """The tickets of this round issued since `cursor`, and all sprout requests now open.

        Cursors count tickets since the run began; 0 always means "from the start of this round". A caller that cannot
        know whether this is the same process must use 0, and may get known ids again.
        """
        self._advance()
        state = self._state
        skip = cursor - state.num_issued_before
        if not 0 <= skip <= len(state.issued):
            skip = 0
        tickets = tuple(t for t in state.issued[skip:] if t.step >= state.num_committed)
        return Work(
            round=state.round,
            tickets=tickets,
            cursor=state.num_issued_before + len(state.issued),
            sprouts=self._requests.all(() if self._walks is None else self._walks.waiting()),
            abandoned_for=dict(state.abandoned_for),
        )

    def propose(self, proposals: Proposals) -> None:
        """Takes the answer to a sprout request and lets the walks that waited for it go on.

        Ignores an answer to a poll that has one, and one for a node that this process does not know (a process that
        died requested it; the walks will ask again). Raises ValueError for an id that is not a sprout request's.
        """
        self._advance()
        path, poll = parse_request_id(proposals.request_id)
        self._requests.answered(proposals.request_id)
        try:
            node = self._state.tree.find(path)
        except KeyError:
            return
        if node.arms is None:
            raise ValueError(f"{path} is a leaf: it has no children, so no names were requested for it")
        if poll < node.arms.num_polls or poll in node.arms.proposals:
            return
        # Names end up in paths and ids, so no caller is trusted with them.
        names = tuple(name for name in proposals.names if valid_name(name) == name)
        num_invalid = proposals.num_invalid + len(proposals.names) - len(names)
        self._emit(journal.Proposed(proposals.request_id, names, num_invalid, proposals.num_tokens, proposals.problem))
        if self._walks is not None and poll == node.arms.num_polls:
            self._walks.resume(node)
            self._advance()

    @property
    def num_steps_left(self) -> int:
        """Number of steps of this round that are not committed yet; 0 means that the round may be closed."""
        return self._config.meditation.steps - self._state.num_committed

    # Outcomes.

    def screen(self, step: int, outcomes: Sequence[Outcome]) -> tuple[Outcome, ...]:
        """The step's outcomes in ticket order; those whose question their leaf already has become failures. Pure.

        `outcomes` are those of all tickets of the step, which must be the next to be committed: the questions of its
        leaves depend on earlier steps. Raises StepNotReady before its turn, ValueError for missing or foreign outcomes.
        """
        return tuple(outcome for _, outcome in screening.screen(self._state, step, outcomes))

    def committable(self) -> int | None:
        """The next step whose credit may be committed once its outcomes are there; None while walks must come first."""
        self._advance()
        return self._committable()

    def commit_step(self, step: int, outcomes: Sequence[Outcome], part: str) -> None:
        """Applies the step's credit in ticket order.

        `outcomes` are what `screen` returned; `part` names what holds the samples.
        Raises StepNotReady before the step's turn (after a restart, walks may have to be done again first), ValueError
        when outcomes are missing or unscreened.
        """
        of_earlier_round = outcomes and int(outcomes[0].ticket_id[1:].partition("-")[0]) < self._state.round
        if of_earlier_round or step < self._state.num_committed:
            return
        self._advance()
        if self._committable() != step:
            raise StepNotReady(f"step {step} cannot be committed now; the next one is {self._committable()}")
        ordered = screening.in_ticket_order(self._state, step, outcomes)
        if screening.screen(self._state, step, outcomes) != ordered:
            raise ValueError(f"the outcomes of step {step} hold duplicate questions; pass them through screen() first")
        for event in screening.events(step, ordered, part):
            self._emit(event)
        self._commit_point()

    def close_round(self, next_round: int, next_version: int) -> RoundClosed:
        """Ends a round in one step: draws its training rows, introspects if the next round has new target weights,
        opens that. Raises ValueError while steps are not committed."""
        state = self._state
        if state.round == next_round and state.last_closed is not None and state.last_closed.round == next_round - 1:
            return state.last_closed
        if next_round != state.round + 1 or state.num_committed < self._config.meditation.steps:
            raise ValueError(
                f"round {state.round} has {state.num_committed} of {self._config.meditation.steps} steps committed; "
                f"it cannot be closed for round {next_round}"
            )
        self._emit(journal.RowsDrawn(boundary.draw_rows(state)))
        if next_version != state.weights_version and self._config.bandit.introspection:
            if state.policy.ages:
                self._emit(journal.Aged())
            for event in boundary.rebirths(state):
                self._emit(event)
        closed = state.last_closed
        assert closed is not None
        self._emit(journal.RoundOpened(next_round, next_version))
        self._commit_point()
        return closed

    def draw_leaves(self, round: int, number: int) -> tuple[DomainPath, ...]:
        """Leaves for the rehearsal questions of `round`, drawn from the current tree. Changes nothing."""
        return boundary.draw_leaves(self._state, round, number)

    # Persistence.

    def take_segment(self) -> bytes:
        """The events since the last segment, up to the last commit point; empty when there was no commit in between."""
        return self._journal.take_segment()

    @property
    def events_since_commit(self) -> tuple[journal.AnyEvent, ...]:
        """The events since the last commit point; they will be part of the next commit's segment."""
        return self._journal.uncommitted

    @classmethod
    def replay(
        cls, config: FusionConfig, seeds: Seeds, segments: Iterable[bytes], base: Source | None = None
    ) -> TreeManager:
        """The manager in the state at the end of the last segment, which is a commit point.

        With `base`, a snapshot in the form that `restore` accepts, `segments` are those taken after it.
        """
        manager = cls(config, seeds) if base is None else cls.restore(config, base, seeds=seeds)
        manager._journal.take_segment()
        replay(manager._state, segments)
        return manager

    def copy_state(self) -> StateCopy:
        """An unchanging copy of the whole state; `snapshot.write` makes a file of it. Only right after `commit_step` or
        `close_round`, before `work`: raises ValueError if walks are in progress."""
        if self._digest is not None:
            raise ValueError("walks are under way: take a snapshot right after commit_step or close_round")
        return snapshot.copy_state(self._state)

    @classmethod
    def restore(
        cls, config: FusionConfig, source: Source, policy: Policy | None = None, seeds: Seeds = None
    ) -> TreeManager:
        """The manager in the state stored in a snapshot, which is a commit point. `seeds` count where the tree is
        grown.

        `source`: its bytes, or its file, open for reading. Raises RunDirError if it is damaged or does not fit.
        """
        manager = cls(config, seeds if isinstance(seeds, Grown) else None, policy)
        manager._journal.take_segment()
        snapshot.read_into(manager._state, source)
        return manager

    def digest(self) -> str:
        """The digest of the state at the last commit point."""
        return self._state.digest() if self._digest is None else self._digest

    # For people.

    @property
    def tree(self) -> KnowledgeTree:
        """The tree itself, for reading."""
        return self._state.tree

    def describe(self) -> dict[str, Any]:
        """The current tree as nested plain data."""
        return describe(self._state)

    def stats(self) -> dict[str, Any]:
        """Current counts since the run began, and the size of the tree."""
        return self._state.stats()

    # Inside.

    def _emit(self, event: journal.AnyEvent) -> None:
        self._state.apply(event)
        self._journal.append(event)

    def _commit_point(self) -> None:
        self._journal.mark()
        self._digest = None

    def _advance(self) -> None:
        """Starts and ends the walks of steps, as far as the order described above allows."""
        state, meditation = self._state, self._config.meditation
        while True:
            if self._walks is not None:
                if not self._walks.done:
                    return
                self._walks = None
                self._emit(journal.WalksDone(state.num_walked))
            step = state.num_walked
            if step == meditation.steps or state.num_committed < step - self._config.harvest.step_lag:
                return
            if self._digest is None:
                self._digest = state.digest()
            self._walks = StepWalks(state, step, self._emit)
            self._walks.start()

    def _committable(self) -> int | None:
        state = self._state
        step = state.num_committed
        needed = min(step + self._config.harvest.step_lag + 1, self._config.meditation.steps)
        return step if step < self._config.meditation.steps and state.num_walked >= needed else None
