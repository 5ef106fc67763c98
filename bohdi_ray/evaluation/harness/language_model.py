"""A model as lm-eval sees one: its requests in text become requests in token ids, its answers come from our engines.

Tokens are cut as lm-eval's own `hf` model cuts them, so that scores agree: a beginning-of-text token where the
tokenizer adds one, context and continuation encoded together and split, the beginning dropped of what is too long. vLLM
decodes one token even for a score, so of a window of w tokens a score sees w - 1; `hf` is the same with
`max_length=w - 2`.

Imports lm-eval (extra `eval`), which takes seconds: imported where an evaluation begins.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jinja2
from lm_eval import utils
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs, postprocess_generated_text

from bohdi_ray.engines.token_requests import CompletionRequest, TokenRequest
from bohdi_ray.errors import ConfigError
from bohdi_ray.evaluation.asking.asker import Asker, identified
from bohdi_ray.evaluation.asking.score_plan import Tokens, score_plan

log = logging.getLogger(__name__)

MAX_GENERATED = 256  # tokens, where a task does not say; lm-eval's own default
# Generation settings of tasks that vLLM has too, and those that mean nothing there.
OPTIONS = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
NO_OPTIONS = ("use_cache", "num_beams", "do_sample", "num_return_sequences", "early_stopping")


@dataclass(frozen=True, slots=True)
class Tokenization:
    """How text becomes token ids; recorded with the scores."""

    adds_bos: bool
    prefix_token: str  # what stands before a text without context
    window: int  # tokens of the engine
    chat_template: str | None  # the one that was applied


class EngineLM(TemplateLM):
    """`window` is the engine's max_model_len, `tokenizer` the model's Hugging Face one."""

    backend = "causal"

    def __init__(self, name: str, tokenizer: Any, window: int, asker: Asker, template_variables: dict[str, Any]):
        super().__init__()
        self.tokenizer: Any = tokenizer
        self._name, self._window, self._asker = name, window, asker
        self._template_variables = template_variables
        if (prefix := tokenizer.bos_token_id) is None and (prefix := tokenizer.eos_token_id) is None:
            rule = "has neither a token for the beginning nor one for the end of a text"
            raise ConfigError("MODEL", name, rule, "Name one in its tokenizer_config.json.")
        self._prefix: int = prefix
        self._prefix_text: str = tokenizer.decode([prefix])

    @property
    def eot_token_id(self) -> int:
        return self.tokenizer.eos_token_id

    @property
    def prefix_token_id(self) -> int:
        return self._prefix

    @property
    def max_length(self) -> int:
        """Tokens that a score's last one may stand behind."""
        return self._window - 2

    @property
    def tokenizer_name(self) -> str:
        return self._name

    def tokenization(self, with_template: bool) -> Tokenization:
        """What is recorded with the scores."""
        probe = self.tok_encode("a")
        template = self.chat_template(True) if with_template else None
        adds_bos = bool(probe) and probe[0] == self.tokenizer.bos_token_id
        return Tokenization(adds_bos, self._prefix_text, self._window, template)

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        if add_special_tokens is None and string.startswith(self._prefix_text):
            add_special_tokens = False  # a chat template wrote it already
        options = {} if add_special_tokens is None else {"add_special_tokens": add_special_tokens}
        return self.tokenizer.encode(string, **options)

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        def rendered(turns: list[dict[str, str]]) -> str:
            return self.tokenizer.apply_chat_template(
                turns,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=not add_generation_prompt,
                **self._template_variables,
            )

        try:
            return rendered(chat_history)
        except jinja2.TemplateError:  # no system turn, as lm-eval's `hf` model has it
            return rendered([turn for turn in chat_history if turn["role"] != "system"])

    # Scores.

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        return super().loglikelihood(requests, disable_tqdm=True)

    def _loglikelihood_tokens(self, requests: list[Any], **kwargs: Any) -> list[tuple[float, bool]]:
        pairs = [self._fitted(tuple(context), tuple(continuation)) for _, context, continuation in requests]
        self._asker.counts.num_needed += len(pairs)
        plan = score_plan(pairs)
        self._asker.counts.num_shared += len(pairs) - len(plan.requests)
        answers = self._asker.answers(plan.requests)
        return [plan.score(pair, answers) for pair in pairs]

    def _fitted(self, context: Tokens, continuation: Tokens) -> tuple[Tokens, Tokens]:
        """Without the beginning that the window has no room for."""
        over = len(context) + len(continuation) - (self._window - 1)
        if over <= 0:
            return context, continuation
        self._asker.counts.num_cut += 1
        if over >= len(context):  # the continuation alone is too long; its first tokens become context
            whole = (context + continuation)[over:]
            return whole[:1], whole[1:]
        return context[over:], continuation

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        windows: list[tuple[int, Any]] = []
        for number, request in enumerate(requests):
            pieces = utils.get_rolling_token_windows(
                token_list=self.tok_encode(request.args[0]),
                prefix_token=self._prefix,
                max_seq_len=self.max_length,
                context_len=1,
            )
            windows += [(number, (None, *utils.make_disjoint_window(piece))) for piece in pieces]
        scores = self._loglikelihood_tokens([window for _, window in windows])
        totals = [0.0] * len(requests)
        for (number, _), (logprob, _) in zip(windows, scores, strict=True):
            totals[number] += logprob
        return totals

    # Texts.

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        end = self.tokenizer.decode([self.eot_token_id], skip_special_tokens=False)
        repeats: Counter[str] = Counter()
        asked: list[tuple[TokenRequest, list[str]]] = []
        for request in requests:
            prompt, settings = request.args
            settings = normalize_gen_kwargs(settings, MAX_GENERATED)
            stop = handle_stop_sequences(settings.pop("until", None), eos=end)
            options, max_tokens = _options(settings), settings["max_gen_toks"]
            context = self._fitted_prompt(prompt, max_tokens)
            plain = CompletionRequest("", context, tuple(filter(None, stop)), max_tokens, options)
            one = identified(plain)
            if dict(options).get("temperature"):
                # A task that wants several samples asks as often; each is a request of its own, with a seed of its own.
                repeat = repeats[one.request_id]
                repeats[one.request_id] += 1
                seed = ("seed", int(one.request_id[:7], 16) + repeat)
                one = identified(replace(plain, options=(*options, seed)))
            asked.append((one, stop))
        self._asker.counts.num_needed += len(asked)
        self._asker.counts.num_shared += len(asked) - len({request.request_id for request, _ in asked})
        answers = self._asker.answers([request for request, _ in asked])

        def text(request: TokenRequest, stop: list[str]) -> str:
            decoded = self.tokenizer.decode(answers[request.request_id], skip_special_tokens=True)
            return postprocess_generated_text(decoded, stop, None)

        return [text(request, stop) for request, stop in asked]

    def _fitted_prompt(self, prompt: str, max_tokens: int) -> Tokens:
        room = self.max_length - max_tokens  # check_generation has seen that there is some
        ids = tuple(self.tok_encode(prompt))
        if len(ids) > room:
            self._asker.counts.num_cut += 1
        return ids[-room:]


def unknown_options(settings: dict[str, Any]) -> list[str]:
    """Generation settings of a task that mean something and that our engines do not have."""
    given = {name for name, value in settings.items() if value is not None}
    return sorted(given - {*OPTIONS, *NO_OPTIONS, "max_gen_toks", "until"})


def _options(settings: dict[str, Any]) -> tuple[tuple[str, float | int], ...]:
    """vLLM's sampling parameters beyond greedy decoding, by name."""
    greedy = not settings.get("temperature")
    kept = ("repetition_penalty",) if greedy else OPTIONS
    return tuple((name, settings[name]) for name in sorted(kept) if settings.get(name) is not None)
