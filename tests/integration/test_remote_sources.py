"""A fusion whose sources are servers: what they do not take is learned at the start, what is lost is told by name."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from openai_server import helpful, reply, serving
from scripted_parts import scripted_config, scripted_parts

from bohdi_ray.actors.engine_actor import make_engine_actor
from bohdi_ray.fusion import fuse
from bohdi_ray.observe.status import status_of

pytestmark = [pytest.mark.usefixtures("ray_session"), pytest.mark.timeout(120)]

SMALL = {
    "meditation": {"steps": 1, "walks_per_step": 12},
    "stop": {"rounds": 1},
    "harvest": {"max_tasks_in_flight": 4, "tickets_per_task": 4},
}
NAMES = ("Optics", "Algebra", "Botany", "Geology", "Rhetoric", "Acoustics", "Ethics", "Genetics")


def error(message, **fields):
    return {"error": {"message": message, "type": "invalid_request_error", **fields}}


def willing(sent):
    """A source that answers every role, and each request in words of its own."""
    asked, number = sent["messages"][-1]["content"], len(sent["messages"][-1]["content"]) % 97
    if "Name a colour" in asked or "letter A or B" in asked:
        return helpful(sent)
    if "structured_outputs" in sent and "choice" in sent["structured_outputs"]:
        return 200, reply("A", [("A", -0.2), ("B", -1.8)]), {}
    if "structured_outputs" in sent:
        number = sent["structured_outputs"]["regex"].partition("\\")[0]
        return 200, reply(f"{number}. {NAMES[int(number) % len(NAMES)]}"), {}
    if "user who writes" in asked or "question" in asked.lower():
        return 200, reply(f"Why do {number} colours and {sent['seed'] % 9973} others change in the evening light?"), {}
    return 200, reply(f"Because light is scattered {sent['seed'] % 9973} times on its long way through the air."), {}


def particular(sent):
    """It takes nothing but its own default temperature, and no seed."""
    if "temperature" in sent:
        message = "Unsupported value: 'temperature' does not support 0.7. Only the default (1) value is supported."
        return 400, error(message, param="temperature", code="unsupported_value"), {}
    return None


def test_servers_are_sources_in_their_own_dialects_and_what_one_refuses_is_told_by_name(tmp_path, capsys):
    with serving() as bob, serving() as cyd:
        bob.default = cyd.default = willing
        bob.rules = [particular]
        flagged = (400, error("The prompt was filtered", code="content_filter"), {})
        cyd.rules = [
            lambda sent: (
                None if "colour." in str(sent) or "sciences" in str(sent) or "letter A or B" in str(sent) else flagged
            )
        ]
        far = [{"kind": "openai", "model": "m", "name": n, "base_url": s.url} for n, s in (("bob", bob), ("cyd", cyd))]
        sources = [{"kind": "vllm", "name": "ada", "model": "./none"}, *far]
        parts = scripted_parts()

        def make(config):
            scripted = parts.make_engine(config)

            def one(model, replica_id, version, weights_dir, group):
                if model.name in ("bob", "cyd"):
                    return make_engine_actor(model, replica_id, version, weights_dir, group, config)
                return scripted(model, replica_id, version, weights_dir, group)

            return one

        config = scripted_config(str(tmp_path / "run"), **SMALL, sources=sources)
        summary = fuse(config, parts=replace(parts, make_engine=make))
        refused = [sent for sent in bob.requests if "temperature" in sent]
    assert len(refused) == 1 and summary.num_accepted > 0
    assert summary.sources["bob"].num_lost == 0 and summary.sources["bob"].num_asked > 0
    lost = summary.sources["cyd"].lost
    assert lost["answer:request_failed"] == summary.sources["cyd"].asked["answer"]
    assert not (tmp_path / "run" / "quarantine").exists() or not list((tmp_path / "run" / "quarantine").iterdir())
    said = capsys.readouterr().err
    assert said.count("bob: it does not take temperature") == 1
    assert "cyd answered NONE of its" in said and "The prompt was filtered" in said
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["model"] for line in lines if line["kind"] == "source_silent"] == ["cyd"]
    learned = [line["learned"] for line in lines if line["kind"] == "source_dialect" and line["model"] == "bob"]
    assert sum("does not take temperature" in text for text in learned) == 1
    text = status_of(str(tmp_path / "run")).text()
    assert "sources in round 0: cyd answered NONE" in text and "The prompt was filtered" in text
