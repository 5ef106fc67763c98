"""What vLLM itself takes where we say nothing, as long as it knows that a server starts it."""

from __future__ import annotations

from typing import Any


class LargeCard:
    """vLLM's platform, on a GPU of 80 GB."""

    def __init__(self, platform: Any):
        self._platform = platform

    def __getattr__(self, name: str) -> Any:
        return getattr(self._platform, name)

    def get_device_total_memory(self, *_: Any) -> int:
        return 80 * 2**30

    def get_device_name(self, *_: Any) -> str:
        return "NVIDIA H100 80GB HBM3"

    def is_cpu(self) -> bool:
        return False


def test_a_server_on_a_large_card_takes_8192_batched_tokens_and_nobody_2048(monkeypatch):
    """tests/unit/engines/test_vllm_arguments.py sees that engines say that a server starts them."""
    from vllm.engine import arg_utils
    from vllm.usage.usage_lib import UsageContext

    monkeypatch.setattr(arg_utils, "current_platform", LargeCard(arg_utils.current_platform))
    tokens, _ = arg_utils.EngineArgs.get_batch_defaults(world_size=1)
    assert tokens[UsageContext.OPENAI_API_SERVER] == 8192
    assert UsageContext.ENGINE_CONTEXT not in tokens  # AsyncLLM's own; it then takes the scheduler's 2048
    assert arg_utils.SchedulerConfig.DEFAULT_MAX_NUM_BATCHED_TOKENS == 2048
