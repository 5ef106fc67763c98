"""The console line for a round that was harvested or trained. Pure: figures in, one line out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bohdi_ray.observe.summary import RoundSummary, by_reason


def harvested(summary: RoundSummary) -> str:
    """The line for a harvested round."""
    rate = "-" if summary.reward_rate is None else f"{summary.reward_rate:.0%}"
    what = f"{summary.accepted} of {summary.tickets} tickets gave a sample"
    if summary.abandoned:
        what = f"{summary.accepted} of {summary.walks} walks gave a sample"
    if not summary.accepted:
        what = f"NO SAMPLE, {what}"
    return (
        f"round {summary.round}: {what} (lost: {by_reason(summary.losses)}); "
        f"sources won {rate}; {summary.heldout} held out; {summary.training_rows} rows to train on; "
        f"harvested with weights version {summary.weights_version} in {summary.seconds['harvest']:.0f} s"
    )


def trained(summary: RoundSummary, metrics: Mapping[str, Any]) -> str:
    """The line for a round that the trainer has committed."""
    version, rejected = summary.round + 1, sum(summary.rejected_rows.values())
    if not summary.training_rows:
        done = f"NOTHING to train on, weights version {version} is version {summary.round} unchanged"
    elif rejected >= summary.training_rows:
        done = f"NOTHING could be trained on, weights version {version} is version {summary.round} unchanged"
    else:
        done = f"trained to weights version {version}"
    loss, held = metrics.get("loss"), metrics.get("heldout_loss")
    return (
        f"round {summary.round}: {done}"
        + (f", loss {loss:.3f}" if loss is not None else "")
        + (f", held-out loss {held:.3f}" if held is not None else "")
        + (f"; {rejected} of {summary.training_rows} rows REJECTED" if rejected else "")
        + (f" ({by_reason(summary.rejected_rows)})" if rejected else "")
        + (f"; {n} held-out rows could not be measured" if (n := metrics.get("num_heldout_rejected")) else "")
    )
