"""The frozen records that cross processes. No behaviour beyond what a record can say about itself.

Everything here pickles fast and imports nothing beyond the standard library and other light modules, so that a Ray
worker that needs a record needs nothing else. `Sample` is the full account of one harvest (docs/design.md, section
"Records"); the others are messages.
"""

from __future__ import annotations

import functools
import hashlib
import re
from dataclasses import dataclass, field
from typing import Literal

from bohdi_ray.errors import BohdiError
from bohdi_ray.languages.questions import normalised

# A domain is named by the titles on the way to it, without the root: ("Science", "Physics", "Optics").
DomainPath = tuple[str, ...]
Role = Literal["sprout", "question", "answer", "judge"]
ROLES: tuple[Role, ...] = ("sprout", "question", "answer", "judge")


@dataclass(frozen=True, slots=True)
class Ticket:
    """A permission to harvest one sample: where, in which round and step, and against which version of the target."""

    ticket_id: str
    round: int
    step: int
    index: int  # position within the step; credit is committed in this order
    path: DomainPath
    weights_version: int
    place: int = 0  # among the leaf's tickets, from 0, in order of their walks


def ticket_id(round: int, step: int, index: int) -> str:
    """The id of a ticket, sortable as text within a run."""
    return f"r{round:04d}-s{step:03d}-t{index:05d}"


def rehearsal_ticket(round: int, index: int, path: DomainPath) -> Ticket:
    """What a question for rehearsal is asked by: no ticket of the tree's, and with a step that none of these has, so
    that
    its draws are its own."""
    return Ticket(f"replay-r{round:04d}-t{index:05d}", round, MAX_STEPS, index, path, 0)


def is_rehearsal(ticket: Ticket) -> bool:
    """Whether `rehearsal_ticket` made it."""
    return ticket.step == MAX_STEPS


_TICKET_ID = re.compile(r"r(\d{4}|[1-9]\d{4,})-s(\d{3}|[1-9]\d{3,})-t(\d{5}|[1-9]\d{5,})", re.ASCII)
# Rounds, steps of a round and tickets of a step that a packed id has room for.
MAX_ROUNDS, MAX_STEPS, MAX_TICKETS = 1 << 24, 1 << 16, 1 << 24


def pack_ticket_id(text: str) -> int:
    """A ticket's id as an unsigned integer of 64 bits: 24 of the round, 16 of the step, 24 of the index; sorts alike.

    Raises ValueError for text that `ticket_id` cannot have written, and where a field does not fit.
    """
    match = _TICKET_ID.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a ticket's id")
    round, step, index = map(int, match.groups())
    if round >= MAX_ROUNDS or step >= MAX_STEPS or index >= MAX_TICKETS:
        raise ValueError(
            f"{text} does not fit 64 bits: rounds end at {MAX_ROUNDS - 1}, steps at {MAX_STEPS - 1}, "
            f"tickets of a step at {MAX_TICKETS - 1}"
        )
    return round << 40 | step << 24 | index


def unpack_ticket_id(packed: int) -> str:
    """The id that `pack_ticket_id` packed."""
    return ticket_id(packed >> 40, packed >> 24 & MAX_STEPS - 1, packed & MAX_TICKETS - 1)


@dataclass(frozen=True, slots=True)
class SproutRequest:
    """A request for names of new children of one node.

    The prompt made from it depends on nothing but this record, so it may be sent before its election.
    """

    request_id: str
    path: DomainPath  # of the node that wants a child; () is the root
    election: int  # number of the poll, from 0: elections at the node that the ballot could decide do not count
    leaf: bool  # whether the wanted child is a leaf


@dataclass(frozen=True, slots=True)
class SourceCounts:
    """The counts of requests to one source and of their failures."""

    asked: dict[str, int] = field(default_factory=dict)  # by role
    lost: dict[str, int] = field(default_factory=dict)  # of these, by "role:reason"
    said: str = ""  # the newest error in words

    @property
    def num_asked(self) -> int:
        return sum(self.asked.values())

    @property
    def num_lost(self) -> int:
        return sum(self.lost.values())


@dataclass(frozen=True, slots=True)
class Proposals:
    """What the sources proposed for one `SproutRequest`."""

    request_id: str
    names: tuple[str, ...]  # valid names in title case, repeats included, in order of source and proposal
    num_invalid: int  # those without support included
    num_tokens: int  # decoded by all sources for this request
    quarantined: tuple[str, ...] = ()  # parts of RUN/quarantine with requests that were set aside: abstentions
    sources: dict[str, SourceCounts] = field(default_factory=dict)  # what became of the requests, by source
    model_tokens: dict[str, int] = field(default_factory=dict)  # the same tokens by `tokens_name`
    num_unsupported: int = 0  # valid names that too few sources find likely (`sprout.min_support`)
    problem: str = ""  # why there are no names, as walks that are lost for want of one are counted; else empty


@dataclass(frozen=True, slots=True)
class SamplingSpec:
    """How one completion is sampled. Temperatures and top_p as in vLLM; `seed` makes it reproducible."""

    temperature: float
    top_p: float
    max_tokens: int  # of the answer itself
    seed: int
    reasoning_max_tokens: int = 0  # room for reasoning before it, on top of max_tokens


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One user turn for one model. At most one of `choices` and `regex` constrains the answer."""

    request_id: str
    role: Role
    prompt: str  # the user turn; the engine adds the model's system prompt and chat template
    sampling: SamplingSpec
    choices: tuple[str, ...] | None = None  # answer is one of these; their log-probabilities come back
    regex: str | None = None


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """A request to score `answer` after `prompt`: how likely the model finds it. Costs a prefill, decodes nothing."""

    request_id: str
    role: Role
    prompt: str
    answer: str


EngineRequest = GenerationRequest | ScoreRequest


@dataclass(frozen=True, slots=True)
class EngineReply:
    """An engine's answer to one request. Exactly one of `finish_reason` and `error` is set."""

    request_id: str
    model: str
    weights_version: int  # 0 for sources: they never change
    text: str = ""
    num_prompt_tokens: int = 0
    num_tokens: int = 0  # decoded
    finish_reason: Literal["stop", "length"] | None = None
    choice_logprobs: dict[str, float] | None = None  # natural log, normalised over the choices
    logprob: float | None = None  # of `answer` in a ScoreRequest: sum over its tokens, natural log
    num_bytes: int = 0  # of `answer` in a ScoreRequest, UTF-8
    error: BohdiError | None = None  # this request alone cannot be served (PromptTooLong)
    reasoning: str = ""  # what the model wrote before its text, where it thinks; never part of `text`


@dataclass(frozen=True, slots=True)
class Candidate:
    """One model's answer to a question."""

    model: str
    weights_version: int
    text: str
    num_tokens: int
    finish_reason: str
    rejected: str | None  # why it was not eligible; None means eligible
    reasoning: str = ""  # what the model wrote before its answer; nobody judges it


@dataclass(frozen=True, slots=True)
class Verdict:
    """Who won and by how much. `scores`, higher is better: probabilities (judge, consensus),
    minus mean ranks (likelihood) or log-odds (others)."""

    policy: str  # `only`: a single answer was eligible, nobody judged
    judge: str | None  # the model that judged; None if nobody needed to or all did
    scores: dict[str, float]  # by model, eligible ones only
    order_logprobs: tuple[dict[str, float], ...]  # per presented order: label log-probability by model; with
    # `likelihood` and `consensus`, per judging model: log-probability per byte of the answers it did not write
    orders: tuple[tuple[str, ...], ...]  # per presented order: the models from the first slot to the last
    winner: str  # the model whose answer becomes the row
    margin: float | None  # best score minus the next best one; 0 is a tie; None with a single eligible answer
    order_judges: tuple[str, ...] = ()  # per presented order: the model that judged it


@dataclass(frozen=True, slots=True)
class Sample:
    """Everything that made one accepted question-answer pair, so that any later use needs no new generation."""

    sample_id: str  # the ticket's id
    round: int
    step: int
    path: DomainPath
    style: str
    leader: str
    question: str
    question_hash: str
    candidates: tuple[Candidate, ...]
    verdict: Verdict
    reward: int  # 0: the target's own answer is strictly the best; 1: a source's is
    heldout: bool
    template_hash: str  # of all prompt templates in force
    sampling: dict[str, dict[str, float]]  # by "role/model": temperature, top_p, max_tokens
    seed: int  # the run's
    started_at: float  # Unix time, s
    finished_at: float
    question_reasoning: str = ""  # what the leader wrote before its question

    @property
    def answer(self) -> str:
        """The winner's text."""
        return next(c.text for c in self.candidates if c.model == self.verdict.winner)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the tree learns from one harvest: no text. Exactly one of `failure` and `reward` is set."""

    ticket_id: str
    failure: str | None = None  # a reason from harvest/, counted by name
    reward: int | None = None
    question_hash: str | None = None
    heldout: bool = False
    leader: str | None = None
    winner: str | None = None
    num_tokens: dict[str, int] = field(default_factory=dict)  # decoded, by role
    model_tokens: dict[str, int] = field(default_factory=dict)  # the same tokens by `tokens_name`
    counts: dict[str, int] = field(default_factory=dict)  # requests, retries and rejections by name
    quarantined: str | None = None  # the part of RUN/quarantine with the request that was set aside
    sources: dict[str, SourceCounts] = field(default_factory=dict)  # what became of the requests to each source


@dataclass(frozen=True, slots=True)
class RehearsalRow:
    """A question for `training.rehearsal`, and the answer of the target's version 0, if there is one."""

    replay_id: str
    path: DomainPath
    leader: str
    question: str
    answer: str
    probability: float  # of the answer, geometric mean per decoded token
    num_tokens: int  # decoded for it, question and answer
    rejected: str | None  # why it is not trained on; None: it may be


@functools.cache  # the same text object each time: the outcomes of a task are pickled together
def tokens_name(role: Role, model: str) -> str:
    """The name under which tokens decoded by `model` for `role` are counted."""
    return f"{role}/{model}"


def question_hash(question: str) -> str:
    """128 bits of the question as `languages/questions.py` normalises it, as hexadecimal text."""
    return hashlib.blake2b(normalised(question).encode(), digest_size=16).hexdigest()


def is_heldout(hash_of_question: str, fraction: float) -> bool:
    """Whether a question belongs to the held-out set: a function of its text alone, stable over runs and versions."""
    return int(hash_of_question[:13], 16) / 16**13 < fraction
