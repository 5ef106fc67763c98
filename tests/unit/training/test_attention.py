"""Attention is chosen by the model's family; what computes it wrong is refused."""

from __future__ import annotations

import pytest

from bohdi_ray.errors import ConfigError
from bohdi_ray.training.weights.attention import attention_for, check_name

GEMMA2 = {"model_type": "gemma2", "attn_logit_softcapping": 50.0}
LLAMA = {"model_type": "llama"}


def test_a_plain_decoder_gets_what_transformers_takes():
    assert attention_for(None, LLAMA).name is None
    assert attention_for("flash_attention_2", LLAMA).name == "flash_attention_2"


@pytest.mark.parametrize(
    "config",
    [
        GEMMA2,
        {"model_type": "vaultgemma", "attn_logit_softcapping": 50.0},  # no family of the table
        {"model_type": "gemma3_text", "attn_logit_softcapping": 30.0},  # a setting that families share
        {"model_type": "wrapper", "text_config": {"model_type": "gemma2", "attn_logit_softcapping": 50.0}},
    ],
)
def test_capped_attention_logits_are_not_left_to_sdpa(config):
    chosen = attention_for(None, config)
    assert chosen.name == "eager" and "cap" in chosen.why
    with pytest.raises(ConfigError, match="sdpa leaves the cap out"):
        attention_for("sdpa", config)
    assert attention_for("flash_attention_2", config).name == "flash_attention_2"


@pytest.mark.parametrize("off", [None, 0.0])
def test_a_cap_that_is_off_asks_for_nothing(off):
    assert attention_for("sdpa", {"model_type": "gemma3_text", "attn_logit_softcapping": off}).name == "sdpa"


def test_a_family_without_sdpa_gets_what_the_table_says(monkeypatch):
    from bohdi_ray.engines.families import Family
    from bohdi_ray.training.weights import attention

    sinks = Family("Sinks", (), ("sinks",), attention=("eager", "flex_attention"))
    monkeypatch.setattr(attention, "family_of", lambda config: sinks)
    assert attention_for(None, {}).name == "eager"
    with pytest.raises(ConfigError, match="Sinks"):
        attention_for("flash_attention_2", {})
    assert attention_for("kernels-community/vllm-flash-attn3", {}).name == "kernels-community/vllm-flash-attn3"


def test_misspelt_and_impossible_names_are_refused():
    for name in (None, "sdpa", "kernels-community/flash-attn3"):
        check_name(name, has_gpus=False)
    with pytest.raises(ConfigError, match="Did you mean flash_attention_2"):
        check_name("flash_attention2", has_gpus=True)
    with pytest.raises(ConfigError, match="needs a GPU"):
        check_name("flash_attention_2", has_gpus=False)
    check_name("flash_attention_2", has_gpus=None)
