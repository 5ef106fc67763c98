"""Reads YAML that a person wrote as plain data, with bounds: no document can hang the program, exhaust memory or
contain anything but text, numbers, booleans, lists and mappings.

Pure: text in, data out; every error is a `YamlFault` that gives the place. Callers turn it into an error with a remedy.
"""

from __future__ import annotations

import math
import re
from typing import Any

import yaml

MAX_CHARS = 1 << 18  # parsed in some seconds at the worst; a configuration has some thousand
MAX_VALUES = 100_000  # counted once for every use of an alias
MAX_DEPTH = 64
MAX_INT = 2**63 - 1


class YamlFault(ValueError):
    """What is wrong with a document, and where."""


class Loader(yaml.SafeLoader):
    """YAML's safe subset, with `5e8` read as a number (PyYAML reads it as text), dates left as text, and repeated keys
    refused."""

    # Dates would become objects that no setting takes.
    yaml_implicit_resolvers = {  # noqa: RUF012  # PyYAML keeps it on the class
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        _refuse_repeated_keys(node)
        return super().construct_mapping(node, deep)

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        super().flatten_mapping(node)
        # Merged mappings come first and give way; without this, merges of merges double at every level.
        node.value = list({_key(key): (key, value) for key, value in node.value}.values())

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError, TypeError, ArithmeticError):
            problem = f"{str(node.value)[:40]!r} is no {node.tag.rpartition(':')[2]}"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from None


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+"), list("-+0123456789")
)


class TextLoader(yaml.BaseLoader):
    """Reads every scalar as text, so that a name like `No` or `2024` stays text; repeated keys are refused."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        _refuse_repeated_keys(node)
        return super().construct_mapping(node, deep)


def _key(node: yaml.Node) -> Any:
    return (node.tag, node.value) if isinstance(node, yaml.ScalarNode) else id(node)


def _refuse_repeated_keys(node: yaml.Node) -> None:
    if not isinstance(node, yaml.MappingNode):
        raise yaml.constructor.ConstructorError(None, None, "a mapping is expected here", node.start_mark)
    seen = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            if key.value in seen:
                problem = f"the key {key.value[:80]!r} is given twice in one mapping"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(key.value)


def read_yaml(
    text: str,
    loader: type[yaml.BaseLoader] | type[yaml.SafeLoader] = Loader,
    max_chars: int = MAX_CHARS,
    max_values: int = MAX_VALUES,
) -> Any:
    """The document in `text` as plain data: None, text, numbers, booleans, lists and mappings with text keys; no object
    occurs twice. Raises YamlFault."""
    if len(text) > max_chars:
        raise YamlFault(f"it has {len(text)} characters; {max_chars} are read at most")
    try:
        data = yaml.load(text, Loader=loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = "" if mark is None else f" (line {mark.line + 1}, column {mark.column + 1})"
        raise YamlFault(f"{error.problem or 'it cannot be parsed'}{where}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise YamlFault(f"the character U+{error.character:04X} may not be in YAML (line {line})") from None
    except yaml.YAMLError:
        raise YamlFault("it cannot be parsed") from None
    except RecursionError:
        raise YamlFault("it is nested too deeply") from None
    except (ValueError, LookupError, AttributeError, TypeError, ArithmeticError) as error:
        raise YamlFault(f"a value cannot be read ({error})") from None
    return _Copy(max_values).of(data, ())


class _Copy:
    """Counts the values that it copies: a few aliases of aliases can expand to more values than fit in memory."""

    def __init__(self, max_values: int):
        self._max_values = max_values
        self._num_values = 0

    def of(self, value: Any, place: tuple[str, ...]) -> Any:
        self._num_values += 1
        if self._num_values > self._max_values:
            raise YamlFault(f"it stands for more than {self._max_values} values")
        if len(place) > MAX_DEPTH:
            raise YamlFault(f"it is nested more than {MAX_DEPTH} levels deep")
        if isinstance(value, dict):
            return {self._key(key, place): self.of(item, (*place, str(key))) for key, item in value.items()}
        if isinstance(value, list):
            return [self.of(item, (*place, str(i))) for i, item in enumerate(value)]
        value = _paired(value)
        problem = _problem(value)
        if problem is not None:
            raise YamlFault(f"{'.'.join(place) or 'the value'} {problem}"[:300])
        return value

    @staticmethod
    def _key(key: Any, place: tuple[str, ...]) -> str:
        key = _paired(key)
        problem = "is no text: quote it" if not isinstance(key, str) else _problem(key)
        if problem is not None:
            below = f" below {'.'.join(place)}" if place else ""
            raise YamlFault(f"the key {str(key)[:80]!r}{below} {problem}"[:300])
        return key


def _paired(value: Any) -> Any:
    """The text with surrogate pairs replaced by the characters they encode: JSON writes such pairs, and JSON is valid
    YAML."""
    if not isinstance(value, str) or not any("\ud800" <= c <= "\udfff" for c in value):
        return value
    return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def _problem(value: Any) -> str | None:
    if isinstance(value, str):
        # YAML's escapes can spell what no file can hold.
        return (
            "holds a lone surrogate, which no UTF-8 text has" if any("\ud800" <= c <= "\udfff" for c in value) else None
        )
    if isinstance(value, float):
        return None if math.isfinite(value) else "is not a finite number"
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, int):
        return None if abs(value) <= MAX_INT else "does not fit 64 bits"
    return f"is a {type(value).__name__}, not text, a number, a truth value, a list or a mapping"
