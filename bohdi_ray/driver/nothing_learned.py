"""A run that learns nothing must not end as a success: decides when it fails, and says why and what to do.

Called by fusion.py at the end of a round's harvest and by finish.py. Pure, but for reading the weights once. Empty
rounds before a resume still count: the next empty round ends the run again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from bohdi_ray.config import FusionConfig
from bohdi_ray.errors import NothingLearned
from bohdi_ray.observe.summary import RoundSummary, by_reason
from bohdi_ray.run.run_dir import RunDir, weights_dir
from bohdi_ray.run.same_weights import same_weights

LIKELY = 0.5  # share of the losses from which on a reason is named
BY_HAND = "ask one of them by hand"
REMEDIES = {
    "sources_failed": "no source answers a request for names: see the sources' engines or servers, and RUN/quarantine",
    "no_proposals": "the sources answer nothing where names of domains are asked for: " + BY_HAND,
    "no_valid_name": "what the sources name are no names of domains (one to three words of letters): " + BY_HAND,
    "no_supported_name": "no source finds the names likely: lower sprout.min_support or sprout.support_probability",
    "names_taken": "the sources propose only names that the tree has: raise sprout.proposals_per_source",
    "invalid_question": "the sources ask no question that can be used (empty, too short, a refusal, cut off): look at "
    "harvest.min_question_chars and sampling.question.max_tokens, and " + BY_HAND,
    "no_eligible_answer": "no answer can be used (empty, too short, repetitive, a refusal, cut off): look at "
    "harvest.min_answer_chars and sampling.answer.max_tokens",
    "corpus_used_up": "every row of the corpus was drawn: raise questions.epochs, or begin a run with more",
    "duplicate_question": "the sources ask the same questions again and again: raise their temperature; or the corpus "
    "has the same prompts in one domain",
}
OTHERWISE = "see what the reasons mean in docs/observability.md, and the engines' logs"


def check_rounds(config: FusionConfig, run: RunDir, rounds: Sequence[RoundSummary]) -> None:
    """Raises NothingLearned if none of the newest `stop.empty_rounds` rounds gave a sample."""
    num_empty = empty_rounds(rounds)
    if num_empty < config.stop.empty_rounds:
        return
    losses = lost(rounds[-num_empty:])
    raise NothingLearned(
        f"{_rounds(rounds[-num_empty:])} gave no sample; lost: {by_reason(losses)}. {remedy(losses)} Then "
        f"continue with `bohdi resume {run.location}` (stop.empty_rounds says how many such rounds in a row end a run: "
        f"{config.stop.empty_rounds})"
    )


def empty_rounds(rounds: Sequence[RoundSummary]) -> int:
    """How many of the newest rounds, in a row, gave no sample."""
    return next((n for n, round in enumerate(reversed(rounds)) if round.accepted), len(rounds))


def why_nothing_was_learned(run: RunDir, rounds: Sequence[RoundSummary], newest: int) -> str | None:
    """Why a run is no success although all its rounds are trained, up to weights version `newest`; None if it is
    one."""
    if newest and not same_weights(run.place(weights_dir(0)), run.place(weights_dir(newest))):
        return None
    losses, rejected = lost(rounds), rejected_rows(rounds)
    why = f"nothing was learned: weights version {newest} is the target as it was given. "
    if not any(round.training_rows for round in rounds):
        why += f"No round had a row to train on; lost: {by_reason(losses)}. {remedy(losses)}"
    elif sum(rejected.values()) >= sum(round.training_rows for round in rounds):
        why += f"All training rows were rejected ({by_reason(rejected)}): see training.max_rejected_fraction."
    else:
        why += "Training moved no weight: raise training.learning_rate, or train on more rows."
    return why + f" RUN/target is not written. To continue: bohdi resume {run.location} stop.rounds={2 * len(rounds)}"


def lost(rounds: Sequence[RoundSummary]) -> Counter[str]:
    """Number of walks without a sample, by reason."""
    return sum((Counter(round.losses) for round in rounds), Counter())


def rejected_rows(rounds: Sequence[RoundSummary]) -> Counter[str]:
    """Number of training rows without weight, by reason."""
    return sum((Counter(round.rejected_rows) for round in rounds), Counter())


def remedy(losses: Counter[str]) -> str:
    """What to do about the most frequent reasons."""
    total = losses.total() or 1
    large = [reason for reason, number in losses.most_common() if number >= LIKELY * total]
    sentence = "; ".join(REMEDIES.get(reason, OTHERWISE) for reason in large) or OTHERWISE
    return sentence[0].upper() + sentence[1:] + "."


def _rounds(rounds: Sequence[RoundSummary]) -> str:
    first, last = rounds[0].round, rounds[-1].round
    return f"round {first}" if first == last else f"rounds {first} to {last}"
