"""Prompts: renders templates to text (`render_*`) and parses models' text back to values (`parse_*`).

Owns the template set (the package's, optionally overridden by a user's folder), its check before a run and its hash.
Called by `harvest/`. Never talks to an engine and never adds chat templates or system prompts: that is the engine's
part.

Model text that goes into a prompt as material (a question and its answers before a judge) is fenced: put between two
marks that carry a digest of all fenced texts, so that no text can contain them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from bohdi_ray.engines.chat.turns import Turn, conversation, shown, turns_of
from bohdi_ray.errors import ConfigError, ConfigErrors
from bohdi_ray.languages import headings
from bohdi_ray.languages.labels import label_of
from bohdi_ray.languages.listed_names import listed_name
from bohdi_ray.records import DomainPath

TEMPLATE_NAMES = ("sprout", "question", "answer", "judge")
LABELS = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
# A heading ends in a colon, or stands in brackets, or is a line of its own that is bold or behind number signs.
_QUESTION = rf"(?:{headings.QUESTION})(?: ?\d+)?"
_LABEL = re.compile(
    rf"[\s>#*_【\[]*+{_QUESTION}[*_】\]]*\s*[:：][*_]*\s*"
    rf"|[\s>#*_]*+[【\[]{_QUESTION}[】\]][*_]*\s*"
    rf"|\s*+(?:#++ *+[*_]*+|\*\*|__){_QUESTION}[*_]*+ *+\n\s*",
    re.I,
)
# Possessive, and no run of blank lines or marks is looked through twice: a megabyte of them would take hours.
_OWN_ANSWER = re.compile(
    rf"\n(?:[^\S\n]|[>#*_【\[(（])*+(?=\w)(?:{headings.ANSWER})[*_】\])）]*+\s*+[:：]"
    rf"|\n(?:[^\S\n]|[>#*_])*+[【\[](?:{headings.ANSWER})[】\]](?![(\[])"
    rf"|\n[> ]{{0,3}}+(?:\#{{1,6}} ?+[*_]*+|\*\*|__)(?:{headings.ANSWER})[*_#]*+[^\S\n]*+(?=\n|\Z)"
    r"|\n[> ]*+(?P<fence>```|~~~)",
    re.I,
)
_CODE_FENCE = re.compile(r"(`{3,}+|~{3,}+)[^\n`]*\n(?P<body>.*)\n\1\s*", re.S)
_FENCE_FIRST = re.compile(r"```|~~~")
_MARKS = " \t>#*_"
_QUOTES = headings.QUOTES


@dataclass(frozen=True, slots=True)
class TemplateSet:
    """The texts of all templates in use. Picklable; compiled once per process."""

    texts: tuple[tuple[str, str], ...]  # (name, source) in the order of TEMPLATE_NAMES

    @property
    def template_hash(self) -> str:
        """64 bits of all sources, as hexadecimal text; stored with every sample."""
        text = "\x1e".join(f"{name}\x1f{source}" for name, source in self.texts)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def render_sprout(self, path: DomainPath, level: str, *, leaf: bool, election: int = 0) -> str:
        """Ask for one name of a child below `path`; `level` is what such a child is called.

        `election` numbers the elections at the node, so that a template may vary what it shows.
        """
        return self._render("sprout", path=path, level=level, leaf=leaf, election=election)

    def render_question(self, path: DomainPath, style: str) -> str:
        """Ask for one question inside the leaf `path`, of the given style."""
        return self._render("question", path=path, style=style)

    def render_answer(self, question: str) -> str:
        """Put the question to a model: of a conversation the last turn. The default template is the bare question, as
        training sees it."""
        *before, last = turns_of(question)
        return conversation([*before, Turn(last.role, self._render("answer", question=last.text))])

    def render_judge(self, question: str, answers: list[str]) -> str:
        """Ask for the label of the best answer; answer i gets label LABELS[i]. All texts arrive fenced."""
        question = shown(question)
        begin, end = fence_marks(question, *answers)
        candidates = [
            {"label": label, "text": f"{begin}\n{text}\n{end}"} for label, text in zip(LABELS, answers, strict=False)
        ]
        assert len(candidates) == len(answers), "more answers than labels"
        fenced = f"{begin}\n{question}\n{end}"
        return self._render("judge", question=fenced, candidates=candidates, begin=begin, end=end)

    def _render(self, name: str, **values: object) -> str:
        return _compiled(self.texts)[name].render(**values).strip()


@lru_cache(maxsize=8)
def _compiled(texts: tuple[tuple[str, str], ...]) -> dict[str, jinja2.Template]:
    environment = ImmutableSandboxedEnvironment(
        undefined=jinja2.StrictUndefined, autoescape=False, trim_blocks=True, lstrip_blocks=True
    )
    return {name: environment.from_string(source) for name, source in texts}


def load_templates(folder: str | None = None) -> TemplateSet:
    """The package's templates, replaced by those of the same name in `folder` (`harvest.prompts`).

    Every template is rendered once with sample values. Raises ConfigErrors for a folder that is not there, files that
    replace nothing, text that is not UTF-8, syntax errors, unknown variables and templates that leave out what they
    must pass on.
    """
    packaged = resources.files("bohdi_ray.engines") / "templates"
    texts = {name: (packaged / f"{name}.jinja").read_text("utf-8") for name in TEMPLATE_NAMES}
    if folder is not None:
        texts.update(_overrides(Path(folder).expanduser()))
    templates = TemplateSet(tuple((name, texts[name]) for name in TEMPLATE_NAMES))
    errors = [error for name in TEMPLATE_NAMES if (error := _fault(templates, name, folder)) is not None]
    if errors:
        raise ConfigErrors(errors)
    return templates


def _overrides(folder: Path) -> dict[str, str]:
    known = ", ".join(f"{name}.jinja" for name in TEMPLATE_NAMES)
    if not folder.is_dir():
        raise ConfigErrors(
            [_refused(str(folder), "is not a folder", "Name a folder with *.jinja files, or leave it out.")]
        )
    texts, errors = {}, []
    for path in sorted(folder.iterdir()):
        if path.suffix != ".jinja":
            continue
        if path.stem not in TEMPLATE_NAMES:
            errors.append(_refused(str(path), "replaces no template", f"The templates are {known}."))
            continue
        try:
            texts[path.stem] = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as cause:
            errors.append(_refused(str(path), f"cannot be read as UTF-8 text ({cause})", "Save it as UTF-8."))
    if errors:
        raise ConfigErrors(errors)
    return texts


def _refused(value: str, rule: str, remedy: str) -> ConfigError:
    return ConfigError("harvest.prompts", value, rule, remedy)


def _fault(templates: TemplateSet, name: str, folder: str | None) -> ConfigError | None:
    where = f"{folder or 'bohdi_ray/engines/templates'}/{name}.jinja"
    one = TemplateSet(tuple((n, source if n == name else "") for n, source in templates.texts))
    for render, needed in _SAMPLES[name]:
        try:
            text = render(one)
        except jinja2.TemplateSyntaxError as cause:
            return _refused(where, f"line {cause.lineno}: {cause.message}", "Correct the template's syntax.")
        except jinja2.UndefinedError as cause:
            return _refused(where, f"uses a variable it does not get: {cause}", f"It gets {_VARIABLES[name]}.")
        except Exception as cause:
            return _refused(
                where, f"cannot be rendered: {type(cause).__name__}: {cause}", f"It gets {_VARIABLES[name]}."
            )
        for value in needed:
            if value not in text:
                return _refused(where, f"leaves out {value!r} of the sample values", f"Use all of {_VARIABLES[name]}.")
    return None


_VARIABLES = {
    "sprout": "path (titles from the root down), level, leaf, election (a number)",
    "question": "path (titles from the root down), style",
    "answer": "question",
    "judge": "question, candidates (each with label and text), begin, end",
}
_PATH = ("Sample Science", "Sample Optics")
_SAMPLES: dict[str, list[tuple[Callable[[TemplateSet], str], tuple[str, ...]]]] = {
    "sprout": [
        (lambda t: t.render_sprout((), "sample level", leaf=False), ("sample level",)),
        (lambda t: t.render_sprout((), "sample level", leaf=True), ("sample level",)),
        (lambda t: t.render_sprout(_PATH, "sample level", leaf=False), ("sample level", _PATH[-1])),
        (lambda t: t.render_sprout(_PATH, "sample level", leaf=True), ("sample level", _PATH[-1])),
    ],
    "question": [(lambda t: t.render_question(_PATH, "sample style"), (_PATH[-1], "sample style"))],
    "answer": [(lambda t: t.render_answer("sample question?"), ("sample question?",))],
    "judge": [
        (
            lambda t: t.render_judge("sample question?", ["first sample", "second sample"]),
            ("sample question?", "first sample", "second sample"),
        )
    ],
}


def fence_marks(*texts: str) -> tuple[str, str]:
    """An opening and a closing mark that occur in none of the texts.

    They hold a digest of all texts, so a text would have to contain its own digest; should one, another is taken.
    """
    digest = hashlib.blake2b("\x1f".join(texts).encode("utf-8", "replace"), digest_size=4)
    while any(digest.hexdigest() in text for text in texts):
        digest.update(b"again")
    return f"[text {digest.hexdigest()}]", f"[end {digest.hexdigest()}]"


def clean_text(text: str) -> str:
    """Model text as it is stored: line ends are \\n, no control characters, no lone surrogates, no outer spaces."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _CONTROL.sub("", text).encode("utf-8", "replace").decode("utf-8").strip()


def parse_question(text: str) -> str:
    """The question a model wrote, without labels, quotes or a code fence around it, less an answer of its own."""
    text = _unwrapped(clean_text(text))
    if (own := _own_answer(text)) is not None:
        lines = text[:own].split("\n")
        while len(lines) > 1 and not lines[-1].strip(_MARKS + "-="):  # of the answer's heading, or a rule over it
            lines.pop()
        text = _unwrapped("\n".join(lines).rstrip())
    return text


def _own_answer(text: str) -> int | None:
    """The position of the heading of the author's own answer; inside a block of code "# Solution" is a comment."""
    in_code = _FENCE_FIRST.match(text) is not None
    for found in _OWN_ANSWER.finditer(text):
        if found["fence"] is not None:
            in_code = not in_code
        elif not in_code:
            return found.start()
    return None


def _unwrapped(text: str) -> str:
    for _ in range(4):
        before = text
        if fenced := _CODE_FENCE.fullmatch(text):
            text = fenced["body"].strip()
        if label := _LABEL.match(text):
            text = text[label.end() :].strip()
        for opening, closing in _QUOTES:
            inner = text[1:-1]
            if len(text) > 1 and text[0] == opening and text[-1] == closing and not {opening, closing} & set(inner):
                text = inner.strip()
        if text == before:
            break
    return text


def parse_name(text: str, number: int = 1) -> str:
    """The bare name in a proposal that was asked for entry `number` of a list (`languages/listed_names.py` has the
    rule). Not validated."""
    return listed_name(clean_text(text), number)


def parse_label(text: str, labels: tuple[str, ...]) -> str | None:
    """The label a judge's text names as its answer, or None (`languages/labels.py` has the rule)."""
    return label_of(clean_text(text), labels)
