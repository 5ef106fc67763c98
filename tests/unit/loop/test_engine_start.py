"""Which failed starts are worth another try; and work that begins again without a source that was left out."""

import asyncio

import pytest

from bohdi_ray.actors.harvest_task import with_those_present
from bohdi_ray.config import DeadlineConfig, OpenAIModel, VllmModel
from bohdi_ray.errors import ConfigError, DeadlineExceeded, EngineFailed, RemoteFailed, SourceLeftOut
from bohdi_ray.placement.pools.engine_start import MOST_STARTS, is_final, longest_replacement_s

HERE = VllmModel(name="ada", model="./none")
FAR = OpenAIModel(kind="openai", name="bob", model="b", base_url="http://none/v1")
LATE = DeadlineExceeded("engine ada-0 to start", 1800, "raise it")


@pytest.mark.parametrize(
    ("error", "model", "was_up", "final"),
    [
        (EngineFailed("out of memory"), HERE, False, False),
        (EngineFailed("out of memory"), HERE, True, False),
        (ConfigError("model", "x", "no such folder", "Mend it."), HERE, True, True),
        (LATE, HERE, False, True),  # perhaps it only loads slowly, and would again
        (LATE, HERE, True, False),  # it came up in that time before, so it hangs
        (LATE, FAR, True, True),
        (RemoteFailed("refused"), FAR, True, True),
    ],
)
def test_a_start_is_tried_again_where_that_may_end_better_and_in_time(error, model, was_up, final):
    assert is_final(error, model, was_up) is final


def test_who_waits_for_a_replacement_waits_longer_than_all_its_tries():
    deadlines = DeadlineConfig(start_s=100, placement_s=20, weights_s=5, idle_s=7)
    assert longest_replacement_s(deadlines) >= MOST_STARTS * (100 + 20 + 5)


class ScriptedModels:
    """`present()` gives the next of these sets of sources."""

    def __init__(self, *sets):
        self.sets = list(sets)

    def present(self):
        return self.sets.pop(0)


def test_work_begins_again_with_the_sources_that_are_left():
    seen = []

    async def work(sources):
        seen.append(sources)
        if "bob" in sources:
            raise SourceLeftOut("bob")
        return sources

    models = ScriptedModels(("ada", "bob", "cyd"), ("ada", "bob"), ("ada",))
    assert asyncio.run(with_those_present(models, work)) == ("ada",)
    assert len(seen) == 3


def test_any_other_error_ends_the_work():
    async def work(sources):
        raise EngineFailed("gone")

    with pytest.raises(EngineFailed):
        asyncio.run(with_those_present(ScriptedModels(("ada",)), work))
