"""Rehearsal rows lie evenly among those that were drawn, so that every step has its share."""

from hypothesis import given
from hypothesis import strategies as st

from bohdi_ray.config import FusionConfig
from bohdi_ray.driver.target.rehearsal import spread


def rows(kind, number):
    return [f"{kind}{i}" for i in range(number)]


@given(st.integers(0, 60), st.integers(0, 40))
def test_every_stretch_has_its_share_and_both_keep_their_order(num_drawn, num_others):
    names = mixed = spread(rows("d", num_drawn), rows("o", num_others))
    assert [name for name in names if name[0] == "d"] == [f"d{i}" for i in range(num_drawn)]
    assert [name for name in names if name[0] == "o"] == [f"o{i}" for i in range(num_others)]
    for end in range(1, len(mixed) + 1):
        before = sum(name[0] == "o" for name in names[:end])
        assert abs(before - end * num_others / len(mixed)) <= 1


def config(share):
    return FusionConfig.model_validate(
        {
            "run_dir": "./none",
            "sources": [{"name": "ada", "model": "org/ada"}],
            "target": {"name": "student", "model": "org/student"},
            "enlightenment": {"steps": 3, "rows_per_step": 20},
            "training": {"rehearsal": {"share": share}, "global_batch_size": 10},
            "stop": {"rounds": 2},
        }
    )


def test_the_share_is_one_of_all_rows_and_counts_among_the_steps():
    assert (config(0.0).rehearsal_rows_per_round, config(0.25).rehearsal_rows_per_round) == (0, 20)
    assert config(0.25).most_rows_per_round == 80
    assert (config(0.0).most_steps(), config(0.25).most_steps()) == (12, 16)
