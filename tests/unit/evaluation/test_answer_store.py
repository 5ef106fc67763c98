"""Answers survive a kill, and several writers."""

from __future__ import annotations

from bohdi_ray.engines.token_requests import CompletionRequest, ContinuationRequest, NextTokenRequest, TokenReply
from bohdi_ray.errors import BohdiError, RequestRefused
from bohdi_ray.evaluation.asking.answer_store import AnswerStore
from bohdi_ray.evaluation.asking.asker import Asker, identified
from bohdi_ray.run.filesystem import place_of


def store_in(folder) -> AnswerStore:
    return AnswerStore(place_of(str(folder)))


def test_what_was_added_is_there_without_a_close(tmp_path):
    store_in(tmp_path / "a").add({"k": [-1.5, True]})
    assert store_in(tmp_path / "a")["k"] == [-1.5, True]


def test_an_answer_cut_off_by_a_kill_is_not_there_and_the_others_are(tmp_path):
    first = store_in(tmp_path)
    first.add({"k": "text\nin two lines", "l": [1, 2]})
    file = next(tmp_path.glob("*.jsonl"))
    file.write_bytes(file.read_bytes()[:-4])
    again = store_in(tmp_path)
    assert again["k"] == "text\nin two lines" and "l" not in again
    again.add({"l": [3]})
    again.close()
    assert store_in(tmp_path)["l"] == [3] and len(store_in(tmp_path)) == 2


def test_two_writers_do_not_disturb_each_other(tmp_path):
    one, other = store_in(tmp_path), store_in(tmp_path)
    one.add({"a": 1})
    other.add({"b": 2})
    one.add({"c": 3})
    assert {key: store_in(tmp_path)[key] for key in "abc"} == {"a": 1, "b": 2, "c": 3}


class Scripted:
    """Answers everything, and notes what it was asked."""

    def __init__(self, error: BohdiError | None = None):
        self.asked: list[str] = []
        self._error = error

    def ask(self, requests, deliver):
        for request in requests:
            self.asked.append(request.request_id)
            base = {"request_id": request.request_id, "model": "m", "weights_version": 0, "num_prompt_tokens": 2}
            if self._error is not None:
                deliver([TokenReply(**base, error=self._error)])
            elif isinstance(request, NextTokenRequest):
                deliver([TokenReply(**base, logprobs=(-1.0,) * len(request.candidates), most_likely=7)])
            elif isinstance(request, ContinuationRequest):
                deliver([TokenReply(**base, logprob=-2.0, greedy=True)])
            else:
                deliver([TokenReply(**base, token_ids=(5, 6, 7), num_tokens=3)])


REQUESTS = [
    identified(ContinuationRequest("", (1, 2), (3, 4))),
    identified(NextTokenRequest("", (1, 2), (3, 4))),
    identified(CompletionRequest("", (1, 2), ("\n",), 8)),
]


def test_equal_requests_are_asked_once_and_never_again(tmp_path):
    told, engines = [], Scripted()
    asker = Asker(engines, store_in(tmp_path), lambda done, total: told.append((done, total)))
    answers = asker.answers([*REQUESTS, *REQUESTS])
    assert list(answers.values()) == [[-2.0, True], [[-1.0, -1.0], 7], [5, 6, 7]]
    assert len(engines.asked) == 3 and told == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert (asker.counts.num_asked, asker.counts.num_prompt_tokens, asker.counts.num_decoded_tokens) == (3, 6, 3)
    later, nobody = [], Scripted(RequestRefused("nobody asks"))
    again = Asker(nobody, store_in(tmp_path), lambda done, total: later.append((done, total)))
    assert again.answers(REQUESTS) == answers and nobody.asked == [] and later == [(3, 3)]
    assert (again.counts.num_asked, again.counts.num_stored) == (0, 3)


def test_every_part_of_a_request_is_part_of_its_id():
    others = [
        identified(ContinuationRequest("", (1,), (2, 3, 4))),
        identified(NextTokenRequest("", (1, 2), (4, 3))),
        identified(CompletionRequest("", (1, 2), ("\n",), 9)),
        identified(CompletionRequest("", (1, 2), (), 8)),
        identified(CompletionRequest("", (1, 2), ("\n",), 8, (("seed", 1),))),
    ]
    ids = [request.request_id for request in (*REQUESTS, *others)]
    assert len(set(ids)) == len(ids)
    assert identified(REQUESTS[0]) == REQUESTS[0], "its old id plays no part"


def test_a_refused_request_ends_the_evaluation_with_its_reason(tmp_path):
    asker = Asker(Scripted(RequestRefused("no such token")), store_in(tmp_path), lambda done, total: None)
    try:
        asker.answers(REQUESTS)
    except BohdiError as error:
        assert "no such token" in str(error)
    else:
        raise AssertionError("nothing was raised")
    assert len(store_in(tmp_path)) == 0
