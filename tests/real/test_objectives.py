"""The seam for objectives, proved by two that no configuration offers: pairs with a reference, heavy distributions.

Pairs: two terms with different counts, a reference that is where the round begins. Distributions: 500 KB a row.
"""

from __future__ import annotations

import pytest
from training_support import of_rank_0, tiny_config

from bohdi_ray.config import TrainingConfig
from bohdi_ray.training.weights.versions import publish_base

PROGRAM, DEADLINE_S = "objective_ranks.py", 240


@pytest.mark.timeout(3 * DEADLINE_S)
def test_pairs_have_one_gradient_for_any_ranks_micro_batches_and_stage(tiny_model_dir, tmp_path):
    import torch

    model_dir = tiny_model_dir("llama", tie_word_embeddings=True)
    base = str(tmp_path / "base")
    publish_base(tiny_config(model_dir).target, base)
    variants = [(2, 2, False), (2, 4, False), (2, 2, True), (3, 2, False)]
    cases = []
    for stage, micro_batch_size, packing in variants:
        fields = {"dtype": "float32", "gradient_clipping": 0.0, "deepspeed": {"zero_optimization": {"stage": stage}}}
        config = tiny_config(model_dir, micro_batch_size=micro_batch_size, packing=packing, **fields)
        cases.append({"base": base, "config": config.model_dump(mode="json")})
    found = [
        one for world_size in (1, 2) for one in of_rank_0(PROGRAM, world_size, DEADLINE_S, cases, tmp_path, "pairs")
    ]
    wanted = found[0]
    scale = max(g.abs().max().item() for g in wanted["gradients"].values())
    assert scale > 1e-3
    assert wanted["first"] == pytest.approx({"pairs": 0.693147, "tokens": wanted["first"]["tokens"]}, abs=1e-4)
    assert wanted["second"]["pairs"] < wanted["first"]["pairs"], "the reference stays where the round began"
    for variant, one in zip(variants * 2, found, strict=True):
        assert one["first"] == pytest.approx(wanted["first"], rel=1e-5), variant
        assert one["measured"] == wanted["measured"] and one["whole_pairs"], variant
        for name, gradient in one["gradients"].items():
            torch.testing.assert_close(
                gradient, wanted["gradients"][name], rtol=1e-3, atol=1e-5 * scale, msg=f"{variant} {name}"
            )


@pytest.mark.timeout(2 * DEADLINE_S)
def test_rows_of_half_a_megabyte_are_read_by_id_and_learned(tiny_model_dir, tmp_path):
    model_dir = tiny_model_dir("llama", tie_word_embeddings=True)
    base = str(tmp_path / "base")
    publish_base(tiny_config(model_dir).target, base)
    config = tiny_config(model_dir, dtype="float32", max_length=512, learning_rate=1e-2)
    case = {"base": base, "config": config.model_dump(mode="json"), "run": str(tmp_path / "run")}
    (found,) = of_rank_0(PROGRAM, 1, DEADLINE_S, [case], tmp_path, "distributions")
    assert found["row_bytes"] > 450_000 and found["groups"] > 1, "row groups of at most 8 MB"
    assert found["losses"][-1] < found["losses"][0]


def test_a_round_is_read_whole_and_scored_before_its_first_step_where_the_objective_has_a_reference():
    """With the loop's own generator and a learner that only writes down what it is asked."""
    from bohdi_ray.training.batches.encoding import EncodedExample
    from bohdi_ray.training.feed.encoded_step import EncodedStep
    from bohdi_ray.training.feed.queue import Ended
    from bohdi_ray.training.rank_steps import Heldout, StageLearner, with_reference

    class WritesDown:
        def __init__(self, reference):
            self.objective, self.reference, self.scored = type("Any", (), {"reference": reference}), {}, []

        def score_reference(self, examples):
            self.scored.append([one.example_id for one in examples])
            self.reference = {one.example_id: (0.0,) for one in examples}

    def step(number, round, last, *ids, heldout=()):
        rows = tuple(EncodedExample(one, ()) for one in ids)
        return EncodedStep(number, round, last, 0.0, rows, heldout, tuple(EncodedExample(one, ()) for one in heldout))

    taken = []

    def steps():
        for one in (step(0, 0, False, "a"), step(1, 0, True, "b", heldout=("h",)), step(2, 1, True, "c"), Ended()):
            taken.append(getattr(one, "step", "end"))
            yield one

    learner, seen = WritesDown("round_start"), []
    for one in with_reference(steps(), StageLearner(TrainingConfig(), learner, 0, None), Heldout()):
        now = getattr(one, "step", "end"), list(taken), sorted(learner.reference)
        seen.append(now)
    assert learner.scored == [["a", "b", "h"], ["c"]]
    assert seen[:2] == [(0, [0, 1], ["a", "b", "h"]), (1, [0, 1], ["a", "b", "h"])]
    assert seen[2:] == [(2, [0, 1, 2], ["c"]), ("end", [0, 1, 2, "end"], [])]
    taken.clear()
    plain = WritesDown(None)
    learners = StageLearner(TrainingConfig(), plain, 0, None)
    assert next(with_reference(steps(), learners, Heldout())).step == 0 and taken == [0] and plain.scored == []
