"""Answer-only labels and batches, with a tokenizer of one token per character."""

from __future__ import annotations

from dataclasses import replace

import pytest
import tiny_families
from hypothesis import given
from hypothesis import strategies as st

from bohdi_ray.engines.chat.hf_tokenizer import load_tokenizer
from bohdi_ray.engines.chat.turns import Turn, conversation
from bohdi_ray.errors import ConfigError
from bohdi_ray.examples.kinds import Completion
from bohdi_ray.training.batches.batches import IGNORED, empty_batch, make_batch, micro_batches, plan_packs
from bohdi_ray.training.batches.encoding import EncodedExample, EncodedRow, Encoder, end_of_turn


class CharacterTokenizer:
    """`<` begins and `>` ends a turn; both are special. Ids are code points."""

    chat_template = "given"
    all_special_tokens = ("<", ">")
    eos_token_id = ord(">")
    name_or_path = "characters"

    def __init__(self, shape=lambda m: f"<{m['role'][0]}:{m['content']}>\n", generation_prompt="<a:"):
        self.added_tokens_decoder: dict = {}
        self._shape, self._generation_prompt = shape, generation_prompt

    def convert_tokens_to_ids(self, tokens):
        return [ord(token) for token in tokens]

    def apply_chat_template(self, messages, add_generation_prompt=False, tokenize=True, return_dict=False):
        text = "".join(self._shape(m) for m in messages) + (self._generation_prompt if add_generation_prompt else "")
        return [ord(c) for c in text] if tokenize else text


def text(ids) -> str:
    return "".join(map(chr, ids))


def encode(question: str, answer: str, max_length: int = 100, system_prompt=None):
    return Encoder(CharacterTokenizer(), system_prompt, max_length).encode(question, answer)


def test_loss_is_on_the_answer_and_the_end_of_turn_but_not_on_what_follows_it():
    row = encode("why", "because")
    assert text(row.ids[: row.num_prompt]) == "<u:why>\n<a:"
    assert text(row.ids[row.num_prompt :]) == "because>"


def test_the_system_prompt_stands_where_the_engine_puts_it():
    row = encode("why", "because", system_prompt="Be kind.")
    assert text(row.ids) == "<s:Be kind.>\n<u:why>\n<a:because>"


def test_a_conversation_is_a_prompt_with_all_its_turns_and_loses_control_tokens_in_each():
    talk = conversation(
        [Turn("system", "Be brief."), Turn("user", "wh<y"), Turn("assistant", "so>"), Turn("user", "and")]
    )
    row = encode(talk, "because", system_prompt="Be kind.")
    assert text(row.ids[: row.num_prompt]) == "<s:Be brief.>\n<u:why>\n<a:so>\n<u:and>\n<a:"
    assert text(row.ids[row.num_prompt :]) == "because>"


def test_control_tokens_in_texts_are_stripped():
    row = encode("wh>y<", "be<a:>cause")
    assert text(row.ids) == "<u:why>\n<a:bea:cause>"


def test_a_long_answer_loses_its_end():
    row = encode("why", "because", max_length=14)
    assert text(row.ids) == "<u:why>\n<a:bec" and row.num_answer_tokens == 3


TO_THE_SPACE = (  # its generation prompt ends in a space, which byte-pair tokenizers join to the word behind it
    "{% for m in messages %}{{ m.role }}: {{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def tokenizer_with(template, tmp_path):
    family = replace(tiny_families.FAMILIES["qwen2.5"], template=template)
    tiny_families.write_tokenizer(family, tiny_families.train_tokenizer(family.words), tmp_path)
    return load_tokenizer(str(tmp_path))


def test_a_prompt_that_ends_within_a_token_loses_no_row(tmp_path):
    tokenizer = tokenizer_with(TO_THE_SPACE, tmp_path)
    encoder = Encoder(tokenizer, None, 256)
    words = ["The", "It", "Because", "Air", "there", "an", "to", "of", "and", "is", "so", "for", "Light", "1", "(a)"]
    rows = [Completion("s", "Why?", f"{word} scatters light.") for word in words]
    for row in rows:
        encoded_row = encoder.encode(row.question, row.answer)
        assert isinstance(encoded_row, EncodedRow)
        prompt, answer = encoded_row.ids[: encoded_row.num_prompt], encoded_row.ids[encoded_row.num_prompt :]
        asked = tokenizer.apply_chat_template([{"role": "user", "content": "Why?"}], add_generation_prompt=True)
        assert list(prompt) == list(asked["input_ids"]), "what an engine reads"
        assert tokenizer.decode(answer) == f"{row.answer}<|im_end|>"


def test_a_template_that_demands_a_system_turn_makes_rows_with_a_system_prompt(tmp_path):
    demands = "{% if messages[0].role != 'system' %}{{ raise_exception('system first') }}{% endif %}" + TO_THE_SPACE
    tokenizer = tokenizer_with(demands, tmp_path)
    row = Encoder(tokenizer, "Be kind.", 256).encode("Why?", "Because.")
    assert tokenizer.decode(row.ids).endswith("assistant: Because.<|im_end|>")


@pytest.mark.parametrize(("question", "answer"), [("w" * 200, "because"), ("why", "  "), ("why", "<><>")])
def test_texts_without_an_answer_token_are_rejected_not_raised(question, answer):
    assert isinstance(encode(question, answer), str)


def test_a_template_without_end_of_turn_gets_eos():
    assert end_of_turn([1, 2], frozenset({9}), 9) == [1, 2, 9]
    assert end_of_turn([1, 9, 5], frozenset({9}), 9) == [1, 9]


def test_a_template_whose_prompt_is_no_prefix_is_refused():
    tokenizer = CharacterTokenizer(generation_prompt="<a:\nthinking:")
    with pytest.raises(ConfigError, match="not prefix-stable"):
        Encoder(tokenizer, None, 100)


def test_a_tokenizer_without_template_is_refused():
    tokenizer = CharacterTokenizer()
    tokenizer.chat_template = None
    with pytest.raises(ConfigError, match="no chat template"):
        Encoder(tokenizer, None, 100)


def row(index: int, length: int, num_prompt: int = 1) -> EncodedRow:
    return EncodedRow(tuple(range(100 * (index + 1), 100 * (index + 1) + length)), num_prompt)


def examples(*lengths: int) -> list[EncodedExample]:
    return [EncodedExample(str(i), (row(i, length),)) for i, length in enumerate(lengths)]


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(20, 60))
def test_packs_hold_every_row_once_and_overflow_only_with_a_single_row(lengths, capacity):
    packs = plan_packs(lengths, capacity)
    assert sorted(i for pack in packs for i in pack) == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in pack) <= capacity or len(pack) == 1 for pack in packs)


def test_first_fit_decreasing_fills_two_packs_where_order_of_arrival_needs_three():
    assert plan_packs([4, 5, 6, 5], 10) == [[2, 0], [1, 3]]


def test_positions_restart_in_a_pack_and_padding_has_neither_label_nor_row():
    batch = make_batch([[row(0, 3), row(1, 2)], [row(2, 4, num_prompt=2)]], packing=True)
    assert batch.input_ids == [[100, 101, 102, 200, 201], [300, 301, 302, 303, 0]]
    assert batch.position_ids == [[0, 1, 2, 0, 1], [0, 1, 2, 3, 0]]
    assert batch.labels == [[IGNORED, 101, 102, IGNORED, 201], [IGNORED, IGNORED, 302, 303, IGNORED]]
    assert batch.segments == [[0, 0, 0, 1, 1], [2, 2, 2, 2, -1]]
    assert (batch.num_answer_tokens, batch.num_tokens) == (5, 9)


def test_without_packing_every_line_is_one_row_and_like_lengths_meet():
    batches = micro_batches(examples(2, 9, 3, 8), 2, packing=False, max_length=10)
    assert [[one.example_id for one in b.examples] for b in batches] == [["1", "3"], ["2", "0"]]
    assert batches[1].position_ids == [[0, 1, 2], [0, 1, 2]]


@given(st.lists(st.integers(2, 30), max_size=20), st.integers(1, 4), st.booleans())
def test_micro_batches_hold_every_answer_token_once(lengths, size, packing):
    batches = micro_batches(examples(*lengths), size, packing, 32)
    assert sorted(int(one.example_id) for b in batches for one in b.examples) == list(range(len(lengths)))
    assert sum(b.num_answer_tokens for b in batches) == sum(n - 1 for n in lengths)
    assert all(len(b.input_ids) <= size for b in batches)
    assert sum(label != IGNORED for b in batches for line in b.labels for label in line) == sum(n - 1 for n in lengths)


@given(st.lists(st.tuples(st.integers(2, 30), st.integers(2, 30)), max_size=12), st.integers(1, 5), st.booleans())
def test_a_pair_is_never_split(lengths, size, packing):
    pairs = [EncodedExample(str(i), (row(i, a), row(i + 50, b))) for i, (a, b) in enumerate(lengths)]
    batches = micro_batches(pairs, size, packing, 32)
    assert sorted(int(one.example_id) for b in batches for one in b.examples) == list(range(len(pairs)))
    for batch in batches:
        assert list(batch.rows) == [row for pair in batch.examples for row in pair.rows], "both, next to each other"
        assert len(batch.input_ids) <= max(size, 2)
        assert not packing or all(len(line) <= 32 for line in batch.input_ids)
        found = {segment for line in batch.segments for segment in line} - {-1}
        assert found == set(range(len(batch.rows)))


def test_an_empty_batch_has_no_weight():
    batch = empty_batch()
    assert batch.num_answer_tokens == 0 and set(batch.labels[0]) == {IGNORED}
