"""Whatever a configuration file or an override holds: a `FusionConfig`, or errors with field, rule and remedy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest
from hostile_input import ANY_TEXT, examples, says_what_to_do, within
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel

from bohdi_ray.config import FusionConfig, OpenAIModel, TreeConfig, VllmModel
from bohdi_ray.config.loading import dump_config, load_config
from bohdi_ray.config.plain_yaml import Loader, YamlFault, read_yaml
from bohdi_ray.errors import ConfigError, ConfigErrors
from bohdi_ray.tree.names import read_seeds, seed_paths, valid_name

QUICKSTART = Path(__file__).parents[3] / "jobs" / "configs" / "quickstart.yaml"
VALID = {
    "run_dir": "runs/x",
    "sources": [
        {"name": "one", "model": "someone/one-1b", "revision": "abc"},
        {"name": "two", "kind": "openai", "model": "two", "base_url": "http://127.0.0.1:1/v1", "api_key": "env:KEY"},
    ],
    "target": {"name": "student", "model": "someone/student-1b", "revision": "abc"},
}
# What YAML can say that a setting may not expect.
TOKENS = st.sampled_from(
    [
        *("~", "yes", "0", "-1", "1e400", ".inf", "-.inf", ".nan", "9" * 30, "9" * 5000, "-" + "9" * 400, "0x_", "0b_"),
        *("1:99:99", "2020-13-45", "2020-01-01", "!!int x", "!!binary AAAA", "!!set {a}", "!!float x", "=", "<<", "*x"),
        *("&x [*x]", "&x {a: *x}", "[]", "{}", "[[[[1]]]]", "{1: 2}", "{? [a] : b}", "[1, 2", "'", "\t", "|", ">"),
        *('"\\ud800"', '"\\0"', '"\\x1b[31m"', '"' + "a" * 5000 + '"', "~nobody-of-that-name/x", "5e8", "1_000", "''"),
        *("!!python/object/apply:os.system [id]", "%TAG", "---", "...", "{<<: {a: 1}, <<: {b: 2}}", "nan", "1e-400"),
    ]
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([10**12, -1, 2**63]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def keys_of(section: type[BaseModel], above: str = "") -> list[str]:
    """Every key of a section and of those below it, as overrides name them."""
    found = []
    for name, field in section.model_fields.items():
        found.append(f"{above}{name}")
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                found += keys_of(kind, f"{above}{name}.")
    return found


KEYS = [
    *keys_of(FusionConfig),
    *keys_of(VllmModel, "sources.0."),
    *keys_of(OpenAIModel, "sources.two."),
    *("engine", "sources", "sources.7.name", "sources.x", "nothing", "a.b.c", "", "stop..rounds", ".", "stop.rounds.x"),
]


def load(path: Path, overrides: tuple[str, ...] = ()) -> FusionConfig | None:
    """The configuration, which must survive being written down and read again; None where it was refused."""
    with within(20):
        try:
            config = load_config(path, overrides)
        except ConfigErrors as errors:
            assert says_what_to_do(errors)
            return None
    path.with_name("again.yaml").write_text(dump_config(config), "utf-8")
    assert load_config(path.with_name("again.yaml")) == config
    return config


def load_bytes(folder: Path, data: bytes) -> FusionConfig | None:
    path = folder / "config.yaml"
    path.write_bytes(data)
    return load(path)


@examples(70)
@given(data=st.binary(max_size=200))
@example(b"\xef\xbb\xbfrun_dir: x")
@example("run_dir: ü".encode("latin-1"))
@example("run_dir: x".encode("utf-16"))
@example(b"")
@example(b"\0" * 100)
@example(b"run_dir: \x1b]52;c;AAAA\x07")
def test_random_bytes_are_refused_with_a_remedy(tmp_path, data):
    assert load_bytes(tmp_path, data) is None


@examples(50)
@given(data=st.data())
def test_a_damaged_configuration_is_read_or_refused(tmp_path, data):
    """The quickstart's file with something cut out and something else put there."""
    text = QUICKSTART.read_text("utf-8")
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 40)))
    inserted = data.draw(
        TOKENS | st.sampled_from(["\t", "\r\n", "  ", ": ", "- ", "#", "\n", "&a ", "*a", "? "]) | ANY_TEXT
    )
    load_bytes(tmp_path, (text[:start] + inserted + text[end:]).encode("utf-8", "surrogatepass"))


@examples(90)
@given(key=st.sampled_from(KEYS), value=VALUES)
def test_any_value_at_any_key_is_taken_or_refused(tmp_path, key, value):
    """Values as JSON, which is YAML; with the odd float that only Python writes."""
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps(VALID), "utf-8")
    load(path, (f"{key}={json.dumps(value)}",))


@examples(90)
@given(key=st.sampled_from(KEYS), token=TOKENS)
def test_any_token_at_any_key_is_taken_or_refused(tmp_path, key, token):
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps(VALID), "utf-8")
    load(path, (f"{key}={token}",))


@examples(40)
@given(overrides=st.lists(ANY_TEXT | st.tuples(ANY_TEXT, ANY_TEXT).map("=".join), min_size=1, max_size=3))
@example([".".join("a" * 5000) + "=1"])
@example(["sources." + "9" * 5000 + ".name=x"])
@example(["sources=[{name: 3}, 4]", "sources.x=1"])
def test_overrides_of_any_text_are_taken_or_refused(tmp_path, overrides):
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps(VALID), "utf-8")
    load(path, tuple(overrides))


def bomb(unit: str, levels: int = 40) -> str:
    return "a0: &a0 {k: v}\n" + "".join(f"a{i}: &a{i} {unit.format(i - 1)}\n" for i in range(1, levels))


@pytest.mark.parametrize(
    "text",
    [
        bomb("[*a{0}, *a{0}]"),
        bomb("{{x: *a{0}, y: *a{0}}}"),
        "[" * 1500,
        "a: " + "[" * 500 + "]" * 500,
        "\n".join(" " * depth + "a:" for depth in range(400)),
        "a: &a [*a]",
        "a: &a {b: *a}",
        "x" * (1 << 20),
        "a: 1\na: 2",
        "a: {b: 1, 'b': 2}",
        "a: .nan",
        "a: 1e999",
        "a: " + "9" * 30,
        "a: " + "9" * 5000,
        'a: "\\ud800"',
        "1: 2",
        "? {a: b}\n: c",
        "a: !!binary AAAA",
        "a: !!set {b}",
        "a: !!map x",
    ],
    ids=lambda text: text[:20],
)
def test_documents_that_would_hang_or_surprise_are_refused(text):
    with within(10), pytest.raises(YamlFault, match=r"\w"):
        read_yaml(text)


def test_a_fault_says_where_it_is():
    for text, where in (("a: 1\nb: !!int x", "'x' is no int (line 2, column 4)"), ("a:\n  b: .inf", "a.b is not")):
        with pytest.raises(YamlFault) as fault:
            read_yaml(text)
        assert where in str(fault.value)


def test_merges_of_merges_do_not_double():
    with within(5):
        assert read_yaml(bomb("{{<<: [*a{0}, *a{0}], x: {0}}}"))["a39"] == {"k": "v", "x": 38}


def test_what_is_merged_gives_way_to_what_is_written_and_nothing_is_shared():
    read = read_yaml("a: &a {x: {y: 1}, z: 2}\nb: {<<: *a, z: 3}")
    assert read["b"] == {"x": {"y": 1}, "z": 3}
    read["b"]["x"]["y"] = 9
    assert read["a"]["x"] == {"y": 1}


@examples(40)
@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=10,
    )
)
def test_plain_data_is_read_as_it_was_written(value):
    assert read_yaml(json.dumps(value), Loader) == value


@pytest.mark.parametrize("name", ["config\0.yaml", "x" * 300, ".", "absent.yaml", "absent/config.yaml"])
def test_a_path_that_no_file_can_have_is_refused(tmp_path, name):
    assert load(tmp_path / name) is None


def test_an_endless_file_is_refused():
    assert load(Path("/dev/zero")) is None


@pytest.mark.parametrize("key", ["run_dir", "tree.seed", "harvest.prompts", "target.model"])
@pytest.mark.parametrize("path", ["/a/" + "x" * 300, "/" + "x/" * 3000, '/a/"\\0"', "~nobody-of-that-name/x"])
def test_text_that_no_path_can_be_is_refused(tmp_path, key, path):
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps(VALID), "utf-8")
    with pytest.raises(ConfigErrors, match=key.replace(".", r"\.")):
        load_config(
            config, (f"{key}={json.dumps(path) if '0' not in path else chr(34) + '/a/' + chr(92) + '0' + chr(34)}",)
        )


def test_a_secret_in_the_wrong_place_is_not_repeated(tmp_path):
    config = tmp_path / "config.yaml"
    spoiled: dict[str, Any] = json.loads(json.dumps(VALID))
    spoiled["sources"][1]["api_key"] = "sk-secret"
    config.write_text(json.dumps(spoiled), "utf-8")
    for override in ("sources.two.api_key.x=1", 'sources.two.api_key="sk-secret', "sources.two.api_key=sk-secret"):
        with pytest.raises(ConfigErrors) as refused:
            load_config(config, (override,))
        assert "sk-secret" not in str(refused.value)


@examples(70)
@given(
    text=ANY_TEXT
    | st.recursive(
        ANY_TEXT | st.just([]),
        lambda s: st.lists(s, max_size=3) | st.dictionaries(ANY_TEXT, s, max_size=3),
        max_leaves=6,
    ).map(json.dumps)
)
@example(bomb("[*a{0}, *a{0}]"))
@example("a: &a [*a]")
@example("Science: {Physics: Optics}\nScience: Art")
@example("\u3164: \u115f")
@example("x" * 5000)
def test_starting_domains_are_valid_names_or_refused(text):
    config = TreeConfig(depth=3)
    with within(10):
        try:
            paths = seed_paths(read_seeds(text), config)
        except ConfigError as error:
            assert says_what_to_do(error)
            return
    assert all(valid_name(name) == name for path in paths for name in path)
    assert len({path[-1] for path in paths}) == len(paths)


def test_starting_domains_that_are_given_twice_are_not_lost():
    with pytest.raises(ConfigError, match="given twice"):
        read_seeds("Science: [Physics]\nScience: [Optics]")
