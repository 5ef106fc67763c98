"""A failed request: what the server says about it (parsed by bodies.py), and the kind of failure. Pure."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Literal

from bohdi_ray.engines.openai.bodies import JOINT, MAX_SAID, Complaint, complaints_in, plain, speaks
from bohdi_ray.engines.openai.replies import content_of

RETRIED = frozenset({408, 409, 425, 429})  # and all from 500 on
UNREACHABLE = -1  # instead of a status, where there was no answer

# busy: ask again later. account: no request of this key is served. too_long, flagged: this request alone. refused: it
# depends on what is said.
Kind = Literal["busy", "account", "too_long", "flagged", "refused"]

TOO_LONG = re.compile(
    r"context[ _-]?(length|window|size)|max_model_len|maximum (input|prompt|model) length"
    r"|(prompt|input|message|request)s? (is |are )?too (long|large)|too many (input |prompt )?tokens"
    r"|(prompt|input)[^.]{0,40} exceeds? [^.]{0,40}(token|length|context)"
    r"|exceeds the (available|maximum|model)[^.]{0,20} (context|input|sequence)"
    r"|`?inputs`? (tokens )?(must have less than|\+ `?max_new_tokens`? must be)|string_above_max_length"
    r"|(request|payload|body) (entity )?too large|reduce (the length|your (prompt|message))",
    re.I,
)
FLAGGED = re.compile(
    r"content[ _-]?(filter|policy|management|moderation)|\bmoderat(ion|ed)\b|\bflagged\b|responsibleaipolicy"
    r"|data_inspection|inappropriate content|safety[ _-](system|policy|filter|settings|reasons|check)|usage polic"
    r"|violat(e|es|ed|ing|ion)\b[^.]{0,60}\bpolic|sensitive (content|words)|prohibited_content|blocked by",
    re.I,
)
NO_CREDIT = re.compile(r"insufficient[ _](quota|balance|credit|fund)|payment required|credit balance is too low", re.I)
BUSY = re.compile(
    r"overload|rate.?limit|too many requests|try (again|later)|temporar|unavailable|capacity|time[d -]*out"
    r"|internal (server )?error|server (is )?busy|upstream|bad gateway",
    re.I,
)


@dataclass(frozen=True, slots=True)
class Trouble:
    """A failed request. `status` is the HTTP status, or the one in the body of a 200; 0 for neither, UNREACHABLE if
    there was no answer."""

    status: int
    said: str
    complaints: tuple[Complaint, ...] = ()
    asks_s: float | None = None  # how long the server wants to be left alone

    @property
    def kind(self) -> Kind:
        codes = " ".join(complaint.code for complaint in self.complaints)
        both = f"{codes} {self.said}"
        if self.status in (401, 402):
            return "account"
        if self.status in (0, 400, 403, 429) and self.asks_s is None and NO_CREDIT.search(both):
            return "account"  # a quota that comes back within minutes says when
        if self.status == 413 or (0 <= self.status <= 500 and self.status != 429 and TOO_LONG.search(both)):
            return "too_long"
        if self.status == 429 and re.search(r"request (is )?too large", both, re.I):
            return "too_long"  # for the tokens a minute, however long it waits
        if self.status in (0, 400, 403, 406, 422, 451) and FLAGGED.search(both):
            return "flagged"
        if (
            self.status in RETRIED
            or self.status >= 500
            or self.status == UNREACHABLE
            or (not self.status and BUSY.search(both))
        ):
            return "busy"
        return "refused"

    def __str__(self) -> str:
        return f"HTTP {self.status}: {self.said}" if self.status > 0 else self.said


def trouble_of(status: int, body: str, headers: Mapping[str, str] | None = None, prompt: str = "") -> Trouble:
    """The failure that a body describes. The request's own `prompt`, which some servers repeat, is removed."""
    if len(prompt) > 8:
        as_json = (json.dumps(prompt, ensure_ascii=ascii)[1:-1] for ascii in (True, False))
        for written in {prompt, *as_json, repr(prompt)[1:-1]}:
            body = body.replace(written, "...")
    complaints = complaints_in(body)
    said = "; ".join(dict.fromkeys(complaint.text.replace(JOINT, "; ") for complaint in complaints))
    said = said or " ".join(body.split())
    if not complaints and body.strip():
        complaints = (Complaint(body.strip()[:MAX_SAID]),)
    return Trouble(status, said[:MAX_SAID] or "nothing is said", complaints, _asked_pause(headers or {}, body))


def trouble_in(reply: Any, body: str, prompt: str = "") -> Trouble | None:
    """The error in the body of an HTTP 200 response that has no answer, if there is one."""
    if isinstance(reply, list) and len(reply) == 1:
        reply = reply[0]
    if not isinstance(reply, dict):
        return None
    choices = reply.get("choices")
    first = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    error = first.get("error") or reply.get("error")
    if first and not first.get("error") and (not error or any(content_of(first.get("message")))):
        return None
    if not error and not speaks(reply) and not reply.get("base_resp"):
        return None
    told = trouble_of(0, json.dumps(error, ensure_ascii=False) if error else body, prompt=prompt)
    return Trouble(_status_in(error or reply), told.said, told.complaints, told.asks_s)


def _status_in(error: Any) -> int:
    """The HTTP status named by an error inside a 200 response; 0 for none."""
    named = plain(error) if isinstance(error, dict) else {}
    values = [named.get(key) for key in ("code", "status", "statuscode", "httpstatus", "httpstatuscode")]
    for value in values:
        if isinstance(value, str) and value.isdigit():
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and 400 <= value <= 599:
            return value
    return 0


def _asked_pause(headers: Mapping[str, str], body: str) -> float | None:
    """Seconds to wait as requested by the server: a number, milliseconds, or a date; also Google's `retryDelay`."""
    for name, scale in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        asked = headers.get(name, "").strip()
        if match := re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)\s*(ms|s)?", asked):
            return float(match[1]) / (1000.0 if match[2] == "ms" else scale)
        if asked:
            try:
                date = parsedate_to_datetime(asked)
                now = parsedate_to_datetime(headers["date"]) if headers.get("date") else None
            except (ValueError, TypeError, IndexError):
                continue
            return max(0.0, date.timestamp() - (now.timestamp() if now else time.time()))
    if match := re.search(r'"retryDelay":\s*"(\d{1,6}(?:\.\d+)?)s"', body):
        return float(match[1])
    return None
