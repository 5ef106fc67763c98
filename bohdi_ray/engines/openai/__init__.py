"""Remote sources: models behind servers that call themselves OpenAI-compatible.

What such a server takes and how it answers is learned from its own words: `lessons.py` and `constraints.py` are tables
of what servers refuse and what is sent instead, `replies.py` of how they write an answer. docs/servers.md tells users.
"""

from bohdi_ray.engines.openai.engine import RemoteEngine
from bohdi_ray.engines.openai.fields import CONTROL_TOKENS
from bohdi_ray.engines.openai.replies import completion_of
from bohdi_ray.engines.openai.secrets import resolve_secret

__all__ = ["CONTROL_TOKENS", "RemoteEngine", "completion_of", "resolve_secret"]
