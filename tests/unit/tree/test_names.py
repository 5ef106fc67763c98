import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from bohdi_ray.config import TreeConfig
from bohdi_ray.errors import ConfigError
from bohdi_ray.languages.fillers import FILLERS
from bohdi_ray.tree.names import read_seeds, seed_paths, valid_name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("physics", "Physics"),
        ("  quantum   FIELD\ttheory ", "Quantum Field Theory"),
        ("DNA repair", "Dna Repair"),
        ("médecine générale", "Médecine Générale"),
        ("Ｐｈｙｓｉｃｓ", "Physics"),
        ("物理", "物理"),
        ("unknown physics", "Unknown Physics"),
    ],
)
def test_one_to_three_words_of_letters_are_a_name_in_title_case(text, name):
    assert valid_name(text) == name


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "   ",
            "a b c d",
            "Physics.",
            "Physics, Chemistry",
            "R&D",
            "C++",
            "Web 2",
            "semi-conductors",
            "1. Physics",
        ),
        *(
            "unk",
            "UNKNOWN",
            "None",
            "null",
            "other",
            "main domain",
            "N/A",
            "Sprout/Physics",
            "../etc",
            "<b>Physics</b>",
        ),
        *("Physics\x00", "Phys\u200bics", "<|im_end|>", "'Physics'", "a" * 61, "\u202ePhysics", "🧪", "x" * 100_000),
    ],
)
def test_anything_else_is_no_name(text):
    assert valid_name(text) is None


@given(st.text())
def test_a_name_is_its_own_name_and_safe_in_ids(text):
    name = valid_name(text)
    if name is not None:
        assert valid_name(name) == name
        assert "/" not in name and name not in FILLERS and 1 <= len(name.split(" ")) <= (3 if name.isascii() else 6)


def test_no_filler_gets_through():
    assert [filler for filler in FILLERS if valid_name(filler) is not None] == []


def test_seeds_may_nest_mappings_lists_and_strings_in_any_way():
    text = """
    science:
      physics: [optics, {mechanics: }]
      chemistry: organic chemistry
    arts:
    """
    assert seed_paths(read_seeds(text), TreeConfig()) == [
        ("Science",),
        ("Science", "Physics"),
        ("Science", "Physics", "Optics"),
        ("Science", "Physics", "Mechanics"),
        ("Science", "Chemistry"),
        ("Science", "Chemistry", "Organic Chemistry"),
        ("Arts",),
    ]
    assert seed_paths(read_seeds(""), TreeConfig()) == []
    assert seed_paths(None, TreeConfig()) == []
    assert seed_paths(["Science", "Arts"], TreeConfig()) == [("Science",), ("Arts",)]


@pytest.mark.parametrize(
    ("text", "config", "rule"),
    [
        ("[Science, unknown]", {}, "1 to 3 words"),
        ("2024: Physics", {}, "1 to 3 words"),
        ("[[Science], {Arts: {3: x}}]", {}, "1 to 3 words"),
        ("{Science: {Physics: }, Arts: {physics: }}", {}, "occurs twice"),
        ("{A: {B: {C: {D: }}}}", {}, "tree.depth is 3"),
        ("{A: B}", {"depth": 1}, "tree.depth is 1"),
        ("[A, B, C]", {"max_children": (2, 2, 2)}, "may have 2 children"),
        ("{A: [B, C]}", {"depth": 2, "max_children": (2, 1)}, "may have 1 children"),
        ("{A: ", {}, "not valid YAML"),
    ],
)
def test_a_seed_that_breaks_a_rule_is_refused_with_its_place(text, config, rule):
    with pytest.raises(ConfigError) as caught:
        seed_paths(read_seeds(text), TreeConfig(**config))
    assert rule in str(caught.value) and caught.value.field == "tree.seed"


def test_a_yaml_tag_runs_nothing():
    assert read_seeds("!!python/object/apply:os.system [true]") == ["true"]


def test_a_domain_called_no_stays_a_word():
    assert seed_paths(read_seeds("[No, Yes]"), TreeConfig()) == [("No",), ("Yes",)]
    assert yaml.safe_load("[No]") == [False]
