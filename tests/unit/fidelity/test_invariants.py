"""What holds after any sequence of walks, elections, outcomes, commits, rounds, deaths and restarts.

Hypothesis plays the models, the trainer and the machines that die; a model of a few lists keeps every node's rewards.

2.3   test_any_program_keeps_the_invariants
2.5   test_any_program_keeps_the_invariants
5.1   test_any_program_keeps_the_invariants
5.2   test_any_program_keeps_the_invariants
5.3   test_any_program_keeps_the_invariants
5.5   test_any_program_keeps_the_invariants
6.3   test_any_program_keeps_the_invariants
6.9   test_any_program_keeps_the_invariants
7.8   test_any_program_keeps_the_invariants
"""

from collections import Counter, defaultdict

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from method_by_hand import (
    by_scipy,
    described,
    failed,
    make_config,
    posterior,
    replayed,
    restored,
    sample,
    snapshot_of,
)

from bohdi_ray.records import Proposals
from bohdi_ray.tree.manager import TreeManager
from bohdi_ray.tree.record import journal

STARTS = [None, ["Aa", "Ab"], {"Aa": None}]
NAMES = [f"{head}{tail}" for head in "BCDF" for tail in "aei"] + ["Unknown", "No 1"]
OUTCOMES = ["win", "loss", "win", "loss", "heldout", "failed"]


REACHED: Counter = Counter()  # what the programs did, so that a test that reaches nothing fails

KINDS = (
    "committed",
    "heldout",
    "abandoned",
    "failed_sprouts",
    "ballot_sprouts",
    "rebirths",
    "no_eligible_answer",
    "duplicate_question",
    "third round",
    "closed unk",
    "replay from a snapshot",
    "replay from nothing",
)


class Fusion(RuleBasedStateMachine):
    @initialize(
        depth=st.integers(1, 3),
        lag=st.integers(0, 2),
        steps=st.integers(1, 2),
        num_walks=st.integers(1, 6),
        reuse=st.booleans(),
        max_failures=st.integers(1, 3),
        window=st.integers(1, 4),
        threshold=st.sampled_from([0.123, 0.5, 0.9, 0.999]),
        limit=st.sampled_from([None, 1, 2]),
        seeds=st.sampled_from(STARTS),
        seed=st.integers(0, 1000),
    )
    def start(self, depth, lag, steps, num_walks, reuse, max_failures, window, threshold, limit, seeds, seed):
        limit = 2 if limit == 1 and isinstance(seeds, list) else limit
        self.config = make_config(
            seed=seed,
            tree={"depth": depth, "max_children": None if limit is None else (limit,) * depth},
            sprout={"reuse_ballots": reuse, "max_failures": max_failures, "requests_ahead": lag},
            bandit={"window": window, "threshold": threshold},
            meditation={"steps": steps, "walks_per_step": num_walks},
            enlightenment={"steps": 2, "rows_per_step": 3},
            harvest={"step_lag": lag},
        )
        self.seeds = seeds
        self.manager = TreeManager(self.config, seeds)
        self.segments: list[bytes] = []
        self.digests: list[str] = []
        self.copies: dict[int, object] = {}  # snapshots by the number of segments before them
        self.num_deaths = 0
        self.digest_at_start = self.manager.digest()
        # The model, of what is committed. Rewards by node since its birth; where the posterior's history begins.
        self.rewards: dict[tuple, list[int]] = defaultdict(list)
        self.begins: Counter = Counter()
        self.num_samples: Counter = Counter()  # by leaf
        self.trainable: dict[str, tuple] = {}  # sample ids and their leaves
        self.questions: set[tuple] = set()
        self.num_accepted = self.num_heldout = self.num_failed = self.num_rebirths = 0

    # What models, trainer and driver do.

    @precondition(lambda self: self.manager.work(0).sprouts)
    @rule(
        data=st.data(),
        answers=st.lists(st.lists(st.sampled_from(NAMES), max_size=6), min_size=1, max_size=8),
        again=st.booleans(),
    )
    def answer(self, data, answers, again):
        for names in answers:
            requests = self.manager.work(0).sprouts
            if not requests:
                return
            request = data.draw(st.sampled_from(requests))
            self.manager.propose(Proposals(request.request_id, tuple(names), 0, 1))
        if again:
            before = described(self.manager)
            self.manager.propose(Proposals(request.request_id, ("Twice",), 0, 1))
            assert described(self.manager) == before

    @precondition(lambda self: self.manager.committable() is not None)
    @rule(data=st.data(), keep=st.booleans())
    def commit(self, data, keep):
        step = self.manager.committable()
        tickets = sorted((t for t in self.manager.work(0).tickets if t.step == step), key=lambda t: t.index)
        outcomes = [self.outcome(ticket, data) for ticket in tickets]
        shuffled = data.draw(st.permutations(outcomes))
        screened = self.manager.screen(step, shuffled)
        self.manager.commit_step(step, screened[::-1], "part")
        for ticket, outcome in zip(tickets, outcomes, strict=True):
            self.note(ticket, outcome)
        self.point(keep)
        self.manager.commit_step(step, screened, "part")
        assert self.manager.digest() == self.digests[-1], "a second commit does nothing"

    def outcome(self, ticket, data):
        kind = data.draw(st.sampled_from(OUTCOMES))
        question = str(data.draw(st.integers(0, 30)))
        if kind == "failed":
            return failed(ticket)
        return sample(ticket, int(kind == "win"), question=question, heldout=kind == "heldout")

    def note(self, ticket, outcome):
        """What the model learns of a ticket; whether the question is a repeat it finds out for itself."""
        key = (ticket.path, outcome.question_hash)
        if outcome.failure is not None or key in self.questions:
            self.num_failed += 1
            return
        self.questions.add(key)
        self.num_accepted += 1
        self.num_samples[ticket.path] += 1
        self.num_heldout += outcome.heldout
        if not outcome.heldout:
            self.trainable[ticket.ticket_id] = ticket.path
            for depth in range(1, len(ticket.path) + 1):
                self.rewards[ticket.path[:depth]].append(outcome.reward)

    @precondition(lambda self: self.manager.num_steps_left == 0)
    @rule(new_version=st.sampled_from([True, True, False]), keep=st.booleans())
    def close(self, new_version, keep):
        stats = self.manager.stats()
        version = stats["weights_version"] + new_version
        closed = self.manager.close_round(stats["round"] + 1, version)
        assert len(closed.row_sample_ids) == (6 if self.trainable else 0)
        assert set(closed.row_sample_ids) <= self.trainable.keys()
        window = self.config.bandit.window
        expected, unclear = set(), set()
        for path, rewards in self.rewards.items():
            alpha, beta = self.posterior(path)
            if new_version and len(rewards) >= window:
                p = by_scipy(alpha, beta, sum(rewards[-window:]), window)[1]
                expected |= {path} if p < self.config.bandit.threshold else set()
                unclear |= {path} if abs(p - self.config.bandit.threshold) < 1e-9 else set()
        reborn = {rebirth.path for rebirth in closed.reborn}
        assert reborn - unclear == expected - unclear
        for path in reborn:
            self.begins[path] = len(self.rewards[path]) - window
        self.num_rebirths += len(reborn)
        self.point(keep)
        assert self.manager.close_round(stats["round"] + 1, version) == closed

    def point(self, keep):
        """A commit point: the segment is written; sometimes a copy of the state is kept."""
        if keep:
            self.copies[len(self.segments) + 1] = snapshot_of(self.manager)
        self.segments.append(self.manager.take_segment())
        self.digests.append(self.manager.digest())

    # Deaths.

    @precondition(lambda self: self.num_deaths <= len(self.segments))
    @rule(from_snapshot=st.booleans())
    def die_and_replay(self, from_snapshot):
        """The process dies; another one replays the journal, from the newest snapshot or from nothing."""
        self.num_deaths += 1
        digest = self.manager.digest()
        start = max(self.copies, default=0) if from_snapshot else 0
        base = self.copies[start] if start else None
        REACHED["replay from a snapshot" if start else "replay from nothing"] += 1
        self.manager = replayed(self.config, self.seeds, self.segments[start:], base)
        assert self.manager.digest() == digest == (self.digests or [self.digest_at_start])[-1]

    @precondition(lambda self: self.copies)
    @rule(data=st.data())
    def look_at_a_snapshot(self, data):
        """Any snapshot is still what it was when it was taken, and the journal leads from it to today."""
        number = data.draw(st.sampled_from(sorted(self.copies)))
        other = restored(self.config, self.copies[number])
        assert other.digest() == self.digests[number - 1]
        whole = replayed(self.config, self.seeds, self.segments[:number])
        assert described(other) == described(whole) and other.stats() == whole.stats()

    def teardown(self):
        if hasattr(self, "manager"):
            stats = self.manager.stats()
            for name in ("committed", "heldout", "abandoned", "failed_sprouts", "ballot_sprouts", "rebirths"):
                REACHED[name] += stats[f"num_{name}"] > 0
            REACHED.update(reason for reason in stats["num_failed"])
            REACHED["third round"] += stats["round"] >= 2
            REACHED["closed unk"] += any(b"UnkClosed" in segment for segment in self.segments)

    # What holds at every moment.

    def posterior(self, path):
        counted = self.rewards[path][self.begins[path] :]
        return 1 + sum(counted), 1 + len(counted) - sum(counted)

    @invariant()
    def posteriors_and_windows_are_the_rewards(self):
        window = self.config.bandit.window
        for path, node in described(self.manager).items():
            if path:
                assert posterior(node) == self.posterior(path), path
                assert node["window"] == self.rewards[path][-window:], path
                counted = len(self.rewards[path]) - self.begins[path]
                assert node["alpha"] + node["beta"] - 2 == counted
            else:
                assert (posterior(node), node["window"]) == ((1, 1), [])

    @invariant()
    def counts_of_a_node_are_the_sums_of_its_childrens(self):
        nodes = described(self.manager)
        leaves_of = Counter(self.trainable.values())
        for path, node in nodes.items():
            if len(path) == self.config.tree.depth:
                assert (node["num_samples"], node["trainable"]) == (self.num_samples[path], leaves_of[path])
                assert node["children"] == [] and node["unk"] is None
            else:
                for count in ("num_samples", "trainable"):
                    assert node[count] == sum(child[count] for child in node["children"])
        assert nodes[()]["num_samples"] == self.num_accepted
        assert self.num_samples.keys() <= nodes.keys()

    @invariant()
    def unk_counts_its_elections(self):
        past = [event for segment in self.segments for event in journal.decode(segment)]
        held = [e for e in (*past, *self.manager.events_since_commit) if isinstance(e, journal.Elected)]
        won, lost = Counter(), Counter()
        for event in held:
            (lost if event.winner is None else won)[event.path] += 1
        given = described(TreeManager(self.config, self.seeds))
        for path, node in described(self.manager).items():
            if node["unk"] is not None:
                assert (node["unk"]["alpha"], node["unk"]["beta"]) == (1 + won[path], 1 + lost[path]), path
                of_user = len(given[path]["children"]) if path in given else 0
                assert len(node["children"]) == won[path] + of_user

    @invariant()
    def every_ticket_is_accounted_for(self):
        stats = self.manager.stats()
        num_failed = sum(stats["num_failed"].values())
        assert stats["num_issued"] == stats["num_committed"] + num_failed + stats["num_in_flight"]
        assert (stats["num_committed"], stats["num_heldout"]) == (self.num_accepted, self.num_heldout)
        assert (num_failed, stats["num_rebirths"]) == (self.num_failed, self.num_rebirths)
        work = self.manager.work(0)
        assert (
            len({ticket.ticket_id for ticket in work.tickets})
            == len(work.tickets)
            == self.manager.stats()["num_in_flight"]
        )


def test_any_program_keeps_the_invariants():
    """60 programs of up to 50 calls that are always the same and reach what they should, then 25 new ones."""
    quiet = [HealthCheck.too_slow, HealthCheck.filter_too_much]
    plain = settings(stateful_step_count=50, deadline=None, suppress_health_check=quiet)
    REACHED.clear()
    run_state_machine_as_test(Fusion, settings=settings(plain, max_examples=60, derandomize=True, database=None))
    assert not [name for name in KINDS if not REACHED[name]], REACHED
    run_state_machine_as_test(Fusion, settings=settings(plain, max_examples=25))
