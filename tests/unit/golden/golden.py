"""What scripted fusions come to, seed by seed, written down: nothing that is not meant to may change it.

`python tests/unit/golden/golden.py --write` writes the files beside this one anew, from the repository's root;
`test_golden.py` compares. Three fusions a seed, each with the real tree, harvest, gates, samples and rows over scripted
models: the default settings, `preset: paper`, and one whose models write in many languages.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
if __name__ == "__main__":
    sys.path[:0] = [str(HERE.parents[2]), str(HERE.parents[1])]

from fakes import ScriptedModels  # noqa: E402

from bohdi_ray.config import FusionConfig  # noqa: E402
from bohdi_ray.harvest.harvest import harvest_one  # noqa: E402
from bohdi_ray.harvest.plan import HarvestPlan  # noqa: E402
from bohdi_ray.harvest.sprout import sprout  # noqa: E402
from bohdi_ray.records import EngineReply, EngineRequest, Sample, ScoreRequest  # noqa: E402
from bohdi_ray.tree.manager import TreeManager  # noqa: E402

SEEDS = range(5)
ROUNDS = 2
# Questions and answers in many scripts, some too short, some alike but for an operator or a vowel sign, some refusals.
PHRASES = (
    "Warum ist der Himmel über dem Meer blau, und was hat Straße damit zu tun?",
    "Почему небо голубое днём и красное вечером, если свет один и тот же?",
    "Γιατί ο ουρανός είναι γαλανός το μεσημέρι και κόκκινος το βράδυ;",
    "لماذا تبدو السماء زرقاء في النهار وحمراء عند الغروب؟",
    "מדוע השמיים כחולים בצהריים ואדומים בערב, אם האור אותו אור?",
    "आकाश दिन में नीला और शाम को लाल क्यों दिखाई देता है?",
    "ஏன் வானம் பகலில் நீலமாகவும் மாலையில் சிவப்பாகவும் தெரிகிறது?",
    "ทำไมท้องฟ้าจึงเป็นสีฟ้าในตอนกลางวันและเป็นสีแดงในตอนเย็น",
    "为什么白天的天空是蓝色的，而傍晚的天空是红色的？",
    "昼の空が青く、夕方の空が赤く見えるのはなぜですか。",
    "낮에는 하늘이 파랗고 저녁에는 붉게 보이는 이유는 무엇입니까?",
    "Vì sao bầu trời ban ngày màu xanh mà chiều tối lại màu đỏ?",
    "What is 12 + 5 in this field, and how is it worked out by hand?",
    "What is 12 - 5 in this field, and how is it worked out by hand?",
    "什么是光？",
    "很抱歉，我无法回答这个问题。请换一个话题。",
)
NAMES = (
    "量子力学",
    "光学",
    "Квантовая механика",
    "Optik",
    "光学",
    "その他",
    "भौतिकी",
    "물리학",
    "قانون",
    "Straße",
    "STRASSE",
)


class ManyLanguages(ScriptedModels):
    """Scripted models whose questions, answers and names are of `PHRASES` and `NAMES`, picked by prompt and seed."""

    async def ask(self, model: str, request: EngineRequest) -> EngineReply:
        done = await super().ask(model, request)
        if isinstance(request, ScoreRequest):
            return done
        number = int(_digest(model, request.prompt, request.sampling.seed), 16)
        if request.role == "sprout" and number % 2:
            return replace(done, text=NAMES[number // 2 % len(NAMES)])
        if request.role == "question":
            phrase = PHRASES[number % len(PHRASES)]
            return replace(done, text=f"{phrase} {done.text}" if number // 16 % 3 else phrase)
        if request.role == "answer" and number % 3:
            return replace(done, text=f"{PHRASES[number // 3 % len(PHRASES)]} {done.text}")
        return done


def _config(seed: int, **settings: Any) -> FusionConfig:
    model = {"kind": "vllm", "model": "./m"}
    return FusionConfig.model_validate(
        {
            "run_dir": "/nowhere",
            "seed": seed,
            "sources": [{"name": name, **model} for name in ("alpha", "beta", "gamma")],
            "target": {"name": "student", **model},
            "meditation": {"steps": 2, "walks_per_step": 8},
            "enlightenment": {"steps": 2, "rows_per_step": 6},
            **settings,
        }
    )


KINDS: dict[str, tuple[dict[str, Any], type[ScriptedModels]]] = {
    "default": ({}, ScriptedModels),
    "paper": ({"preset": "paper", "bandit": {"window": 4}}, ScriptedModels),
    "languages": ({"tree": {"depth": 1}, "harvest": {"heldout_fraction": 0.2}}, ManyLanguages),
}


def fusion(kind: str, seed: int) -> dict[str, Any]:
    """One fusion, written down."""
    settings, kind_of_models = KINDS[kind]
    config, models = _config(seed, **settings), kind_of_models()
    plan, manager = HarvestPlan.from_config(config), TreeManager(config)
    kept: dict[str, Sample] = {}
    digests, failures, rounds = [], dict[str, int](), []
    while manager.stats()["round"] < ROUNDS:
        work, step = manager.work(0), manager.committable()
        if step is not None:
            tickets = [ticket for ticket in work.tickets if ticket.step == step]
            results = [asyncio.run(harvest_one(ticket, models, plan)) for ticket in tickets]
            outcomes = manager.screen(step, [outcome for outcome, _ in results])
            for outcome, (_, sample) in zip(outcomes, results, strict=True):
                if outcome.failure is not None:
                    failures[outcome.failure] = failures.get(outcome.failure, 0) + 1
                elif sample is not None:
                    kept[sample.sample_id] = sample
            manager.commit_step(step, outcomes, f"part-{work.round}-{step}")
        elif work.sprouts:
            manager.propose(asyncio.run(sprout(work.sprouts[0], models, plan)))
            continue
        else:
            version = max(0, work.round + 1 - config.harvest.max_staleness)
            closed = manager.close_round(work.round + 1, version)
            models.weights_version = version
            rounds.append(_rows(work.round, closed.row_sample_ids, kept))
        digests.append(manager.digest())
    heldout = sorted(sample.sample_id for sample in kept.values() if sample.heldout)
    return {
        "tree": digests,
        "failures": dict(sorted(failures.items())),
        "samples": [_sample(kept[sample_id]) for sample_id in sorted(kept)],
        "heldout": heldout,
        "rows": rounds,
    }


def _sample(sample: Sample) -> str:
    """A line that says whose sample it is and stands for all of it but the clock."""
    content = {name: value for name, value in asdict(sample).items() if not name.endswith("_at")}
    text = json.dumps(content, sort_keys=True, ensure_ascii=False)
    names = " / ".join(sample.path)
    return f"{sample.sample_id} {names}: {sample.verdict.winner} {sample.reward} {_digest(text)}"


def _rows(round: int, sample_ids: Sequence[str], kept: dict[str, Sample]) -> dict[str, Any]:
    rows = [
        {"round": round, "index": i, "sample_id": s, "question": kept[s].question, "answer": kept[s].answer}
        for i, s in enumerate(sample_ids)
    ]
    text = json.dumps([{**row, "reasoning": ""} for row in rows], sort_keys=True, ensure_ascii=False)
    return {"num_rows": len(rows), "sample_ids": list(sample_ids), "texts": _digest(text)}


def _digest(*parts: object) -> str:
    return blake2b("\x1f".join(map(str, parts)).encode(), digest_size=12).hexdigest()


def path_of(kind: str) -> Path:
    return HERE / f"{kind}.json"


def everything(kind: str) -> dict[str, Any]:
    return {f"seed {seed}": fusion(kind, seed) for seed in SEEDS}


def main() -> None:
    if sys.argv[1:] != ["--write"]:
        sys.exit("usage: python tests/unit/golden/golden.py --write")
    for kind in KINDS:
        text = json.dumps(everything(kind), indent=1, sort_keys=True, ensure_ascii=False)
        path_of(kind).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
