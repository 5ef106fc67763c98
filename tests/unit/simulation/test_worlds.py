"""Worlds: the rules of their YAML, and what is drawn from them."""

import numpy as np
import pytest
from click.testing import CliRunner

from bohdi_ray.cli import main
from bohdi_ray.errors import ConfigErrors
from bohdi_ray.records import SproutRequest
from bohdi_ray.studies.simulation.world import World
from bohdi_ray.studies.simulation.world_spec import SHAPES, WorldSpec, load_world, parse_world
from bohdi_ray.tree.names import valid_name


@pytest.mark.parametrize(
    ("data", "field", "rule", "remedy"),
    [
        ({"gaps": 1}, "gaps", "no such key", "Did you mean `gap`"),
        ({"judge": {"first_slot": 1}}, "judge.first_slot", "no such key", "first_slot_bonus"),
        ({"sources": []}, "sources", "at least one source", "It is: The models that teach"),
        ({"sources": [{"levle": 1}]}, "sources.0.levle", "no such key", "Did you mean `level`"),
        ({"branching": [3, 0]}, "branching", "1 child or more", "It is:"),
        ({"failure_rate": 1.0}, "failure_rate", "less than 1", "It is: Share of tickets"),
        ({"regions": [{"level": 4}]}, "CONFIG", "regions.0.level is 4; branching has 3 levels", "docs/"),
        (
            {"learning": {"to_cousins": 0.5}},
            "learning",
            "to_cousins must not exceed to_siblings",
            "It is: How the target",
        ),
        ({"shifts": [{"round": 0, "by": 1}]}, "shifts.0.round", "greater than or equal to 1", "It is: First round"),
    ],
)
def test_a_mistake_is_refused_with_field_value_rule_and_remedy(data, field, rule, remedy):
    with pytest.raises(ConfigErrors) as refused:
        parse_world(data)
    (error,) = refused.value.errors
    assert error.field == field and rule in error.rule and remedy in error.remedy


@pytest.mark.parametrize("text", [None, "[1, 2]", "a: [", "\xff"])
def test_a_file_that_holds_no_world_is_refused_by_the_command(tmp_path, text):
    path = tmp_path / "mine.yaml"
    if text is not None:
        path.write_text(text, encoding="latin-1")
    done = CliRunner().invoke(main, ["simulate", str(path)])
    assert done.exit_code == 2 and "WORLD" in done.output and "balanced.yaml" in done.output


def test_an_unknown_shape_is_refused_with_the_known_ones():
    done = CliRunner().invoke(main, ["simulate", "flat"])
    assert done.exit_code == 2 and "weak_branch" in done.output


def test_settings_of_a_shipped_world_can_be_replaced():
    spec = load_world("weak_branch", ["learning.rate=0.06", "regions.0.gap=3"])[1]
    assert spec.learning.rate == 0.06 and spec.regions[0].gap == 3.0 and spec.regions[0].share == 0.2
    done = CliRunner().invoke(main, ["simulate", "--set", "learning.pace=1"])
    assert done.exit_code == 2 and "learning.pace" in done.output


@pytest.mark.parametrize("name", SHAPES)
def test_shipped_worlds_load_and_say_what_they_are(name):
    loaded, spec = load_world(name)
    assert loaded == name and spec.description
    world = World(spec, 1, 20)
    assert len({leaf.path for leaf in world.leaves}) == world.num_leaves
    names = [domain.name for domain in world.by_path.values() if domain.path]
    assert len(set(names)) == len(names) and all(valid_name(name) == name for name in names)


def test_branching_stays_within_its_spread():
    spec = WorldSpec(branching=(4, 10), branching_spread=0.25)
    numbers = [len(d.children) for seed in range(20) for d in World(spec, seed, 1).levels[1]]
    assert min(numbers) == 8 and max(numbers) == 12
    assert {len(World(spec, seed, 1).root.children) for seed in range(20)} == {3, 4, 5}


def test_the_same_seed_draws_the_same_world_and_another_one_does_not():
    spec = load_world("weak_branch")[1]
    one, two, other = World(spec, 3, 5), World(spec, 3, 5), World(spec, 4, 5)
    assert list(one.by_path) == list(two.by_path)
    assert np.array_equal(one.start, two.start) and np.array_equal(one.source_skill, two.source_skill)
    assert list(one.by_path) != list(other.by_path)


def test_regions_differ_from_the_rest_and_never_overlap():
    spec = parse_world(
        {
            "gap": 0.0,
            "gap_spread": 0.0,
            "branching_spread": 0.0,
            "regions": [
                {"level": 1, "share": 0.4, "gap": 2.0, "learnable": 0.0},
                {"level": 2, "share": 0.2, "gap": 1.0},
            ],
        }
    )
    world = World(spec, 2, 1)
    gap = world.source_skill[0].max(axis=0) - world.start
    numbers = {value: int(np.isclose(gap, value).sum()) for value in (0.0, 1.0, 2.0)}
    assert numbers == {0.0: 80 - 32 - 16, 1.0: 16, 2.0: 32}
    assert np.array_equal(np.isclose(world.ceiling, world.start), np.isclose(gap, 2.0))


def test_shifts_come_in_equal_parts_and_only_where_they_belong():
    shift = {"who": "target", "round": 3, "over_rounds": 4, "by": 2.0, "level": 1, "share": 0.2}
    world = World(parse_world({"shifts": [shift, {**shift, "who": "source"}]}), 1, 10)
    moved = world.target_shift.sum(axis=0) > 0
    assert 0 < moved.sum() < world.num_leaves
    assert np.allclose(world.target_shift[3:7, moved], 0.5) and world.target_shift[7:].sum() == 0
    drift = world.source_skill[:, 0] - world.source_skill[0, 0]
    assert np.allclose(drift[[2, 3, 6, 10]].max(axis=1), [0, 0.5, 2, 2])
    assert np.array_equal(world.source_skill[0, 1:], world.source_skill[-1, 1:])


def test_proposals_depend_on_the_request_alone_and_favour_popular_names():
    world = World(parse_world({"discovery": {"invalid_rate": 0.2, "synonym_rate": 0.0}}), 5, 1)
    first: dict[str, int] = {}
    num_invalid = num_names = 0
    for poll in range(300):
        request = SproutRequest(f"sprout/{poll}", (), poll, False)
        proposals = world.propose(request, 5)
        assert proposals == world.propose(request, 5)
        num_invalid += proposals.num_invalid
        num_names += len(proposals.names)
        for name in proposals.names[:1]:
            first[name] = first.get(name, 0) + 1
    assert num_invalid + num_names == 300 * 15
    assert num_invalid / (300 * 15) == pytest.approx(0.2, abs=0.03)
    popular = max(world.root.children, key=lambda child: child.log_popularity)
    assert max(first, key=first.get) == popular.name


def test_a_synonym_stands_for_the_same_leaf():
    world = World(parse_world({"discovery": {"invalid_rate": 0.0, "synonym_rate": 0.9}}), 5, 1)
    leaf = world.leaves[0]
    names = world.propose(SproutRequest("sprout/x/0", leaf.path[:-1], 0, True), 5).names
    synonyms = [name for name in names if " " in name]
    assert len(synonyms) > len(names) / 2
    for name in synonyms:
        number = world.leaf((*leaf.path[:-1], name))
        assert world.leaves[number].name == name.split()[0] and valid_name(name) == name
