"""The result of a miniature's fusion compared with the ground truth. Pure: answers, samples and domains in, plain data
out.

An answer is right if its text equals the fact's answer (exact match). A leaf's accuracy is the share of its taught
questions that are answered right; the overall accuracy is the mean over leaves, so that a leaf with more facts has no
more weight. Untaught instances of a rule are never included.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from bohdi_ray.languages.terminal_text import one_line
from bohdi_ray.records import DomainPath, RehearsalRow, Sample
from bohdi_ray.studies.miniature.world import World, facts_by_question, questions
from bohdi_ray.studies.simulation.report import table

Answers = Mapping[str, str]  # a model's answer to every question of the world


def right(world: World, answers: Answers) -> dict[str, bool]:
    """For each question, whether the answer equals the fact's answer."""
    return {question: answers[question] == fact.answer for fact, question in questions(world)}


def report(
    world: World,
    versions: Mapping[int, Answers],
    sources: Mapping[str, Answers],
    samples: Sequence[Sample],
    found: Iterable[DomainPath],
    rehearsal: Iterable[RehearsalRow] = (),
) -> dict[str, Any]:
    """The report as plain data for JSON. `versions` are the target's answers by weights version (0: before the fusion);
    `found` are all domains of the run's tree, `rehearsal` the rows of which version 0 was sure."""
    scores = {version: right(world, answers) for version, answers in sorted(versions.items())}
    before, after = scores[0], scores[max(scores)]
    taught = {name: right(world, answers) for name, answers in sources.items()}
    per_leaf = Counter(sample.path for sample in samples)
    domains = [_domain(world, leaf, before, after, taught, per_leaf[leaf]) for leaf in world.leaves]
    return {
        "seed": world.seed,
        "overall": _change(domains),
        "untaught": _untaught(world, before, after, taught, samples),
        "versions": [{"version": version, "accuracy": overall(world, score)} for version, score in scores.items()],
        "sources": {name: overall(world, score) for name, score in taught.items()},
        "domains": domains,
        "tree": tree_figures(world, found),
        "judge": judge_figures(world, samples),
        "rehearsal": rehearsal_figures(world, rehearsal),
        "num_samples": len(samples),
        "num_samples_elsewhere": sum(number for path, number in per_leaf.items() if path not in world.leaves),
    }


def overall(world: World, score: Mapping[str, bool]) -> float:
    """Mean over leaves of the share of taught questions that are answered exactly."""
    shares = [_share([score[question] for question in _taught(world, leaf)]) for leaf in world.leaves]
    return sum(shares) / len(shares)


def _taught(world: World, leaf: DomainPath) -> list[str]:
    return [question for fact, question in questions(world) if fact.path == leaf and fact.taught]


def _share(hits: Sequence[bool]) -> float:
    return sum(hits) / len(hits) if hits else 0.0


def _domain(
    world: World,
    leaf: DomainPath,
    before: Mapping[str, bool],
    after: Mapping[str, bool],
    sources: Mapping[str, Mapping[str, bool]],
    num_samples: int,
) -> dict[str, Any]:
    asked = _taught(world, leaf)
    return {
        "path": list(leaf),
        "rule": next(fact.rule for fact in world.facts if fact.path == leaf),
        "questions": len(asked),
        "before": _share([before[question] for question in asked]),
        "after": _share([after[question] for question in asked]),
        "gained": sum(after[question] and not before[question] for question in asked),
        "lost": sum(before[question] and not after[question] for question in asked),
        "best_source": max(_share([score[question] for question in asked]) for score in sources.values()),
        "samples": num_samples,
    }


def _change(domains: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    means = {name: sum(domain[name] for domain in domains) / len(domains) for name in ("before", "after")}
    totals = {name: sum(domain[name] for domain in domains) for name in ("questions", "gained", "lost")}
    return {**means, "gain": means["after"] - means["before"], **totals}


def _untaught(
    world: World,
    before: Mapping[str, bool],
    after: Mapping[str, bool],
    sources: Mapping[str, Mapping[str, bool]],
    samples: Sequence[Sample],
) -> dict[str, Any]:
    """Generalisation inside rule leaves: results on instances that no model was taught. An instance that a source asked
    about nevertheless and that became a sample is excluded."""
    asked = {sample.question for sample in samples}
    kept = [fact for fact in world.facts if not fact.taught and not asked.intersection(fact.questions)]
    known = [question for fact in kept for question in fact.questions]
    return {
        "questions": len(known),
        "left_out": 2 * sum(not fact.taught for fact in world.facts) - len(known),
        "before": _share([before[question] for question in known]),
        "after": _share([after[question] for question in known]),
        "sources": {name: _share([score[question] for question in known]) for name, score in sources.items()},
    }


def tree_figures(world: World, found: Iterable[DomainPath]) -> dict[str, Any]:
    """How much of the true tree was found, and how many other names: names that exist elsewhere, and names that do not
    exist."""
    found, true = set(found), set(world.domains)
    names = {path[-1] for path in true}
    wrong = sorted(found - true)
    return {
        "levels": [
            {
                "level": level,
                "true": sum(len(path) == depth for path in true),
                "found": sum(len(path) == depth for path in found & true),
            }
            for depth, level in enumerate(world.level_names, 1)
        ],
        "misplaced": [list(path) for path in wrong if path[-1] in names],
        "invented": [list(path) for path in wrong if path[-1] not in names],
    }


def judge_figures(world: World, samples: Sequence[Sample]) -> dict[str, Any]:
    """How often the chosen answer is right. `right_there`: an eligible answer is right; `contested`: a different answer
    is eligible too, so that there is a choice."""
    facts = facts_by_question(world)
    known = [(sample, facts[sample.question]) for sample in samples if sample.question in facts]
    there = [(sample, fact) for sample, fact in known if fact.answer in _eligible(sample)]
    contested = [(sample, fact) for sample, fact in there if len(_eligible(sample)) > 1]
    return {
        "unknown_questions": len(samples) - len(known),
        "right_there": len(there),
        "chosen": sum(sample.answer == fact.answer for sample, fact in there),
        "contested": len(contested),
        "chosen_contested": sum(sample.answer == fact.answer for sample, fact in contested),
        "right_rows": sum(sample.answer == fact.answer for sample, fact in known),
    }


def rehearsal_figures(world: World, rows: Iterable[RehearsalRow]) -> dict[str, int]:
    """Of the distinct questions with a sure answer, how many were answered right: a sure answer may be wrong."""
    facts = facts_by_question(world)
    answers = {row.question: row.answer for row in rows}
    return {
        "questions": len(answers),
        "right": sum(question in facts and facts[question].answer == text for question, text in answers.items()),
        "unknown_questions": sum(question not in facts for question in answers),
    }


def _eligible(sample: Sample) -> set[str]:
    return {candidate.text for candidate in sample.candidates if candidate.rejected is None}


def text_of(plain: Mapping[str, Any]) -> str:
    """The result of `report` as tables for people."""
    return "\n\n".join(_parts(plain))


def _parts(plain: Mapping[str, Any]) -> Iterator[str]:
    heading = ["domain", "questions", "before", "after", "gained", "lost", "best source", "samples"]
    rows = [
        [
            " / ".join(domain["path"]) + (f" ({domain['rule']})" if domain["rule"] else ""),
            str(domain["questions"]),
            f"{domain['before']:.2f}",
            f"{domain['after']:.2f}",
            str(domain["gained"]),
            str(domain["lost"]),
            f"{domain['best_source']:.2f}",
            str(domain["samples"]),
        ]
        for domain in plain["domains"]
    ]
    total = plain["overall"]
    counts = [str(total["gained"]), str(total["lost"]), "", str(plain["num_samples"])]
    rows.append(["all", str(total["questions"]), f"{total['before']:.3f}", f"{total['after']:.3f}", *counts])
    yield "Exact match of the target by domain; all: the mean over domains\n" + table(heading, rows)
    curve = ", ".join(f"{entry['accuracy']:.3f}" for entry in plain["versions"])
    known = ", ".join(f"{name} {accuracy:.3f}" for name, accuracy in plain["sources"].items())
    yield f"target by version: {curve}\nsources: {known}"
    if (untaught := plain["untaught"])["questions"]:
        sources = ", ".join(f"{name} {accuracy:.2f}" for name, accuracy in untaught["sources"].items())
        yield (
            f"instances of a rule that nobody was taught ({untaught['questions']} questions): "
            f"{untaught['before']:.2f} before, {untaught['after']:.2f} after; sources: {sources}"
        )
    tree, judge = plain["tree"], plain["judge"]
    levels = ", ".join(f"{level['level']} {level['found']} of {level['true']}" for level in tree["levels"])
    wrong = [one_line(" / ".join(path)) for path in (*tree["misplaced"], *tree["invented"])]
    yield (
        f"domains found: {levels}; in a wrong place: {len(tree['misplaced'])}, invented: {len(tree['invented'])}"
        + (f" ({'; '.join(wrong[:8])}{' …' if len(wrong) > 8 else ''})" if wrong else "")
    )
    yield (
        f"judge: chose a right answer {judge['chosen']} of {judge['right_there']} times when there was one, "
        f"{judge['chosen_contested']} of {judge['contested']} when there was a wrong one too; "
        f"{judge['right_rows']} of {plain['num_samples']} samples are right, "
        f"{judge['unknown_questions']} ask about nothing in the world"
    )
    if (rehearsal := plain["rehearsal"])["questions"]:
        yield (
            f"rehearsal: {rehearsal['questions']} questions whose answer the target was sure of before, "
            f"{rehearsal['right']} of them rightly; {rehearsal['unknown_questions']} ask about nothing in the world"
        )
