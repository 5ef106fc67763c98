"""The source of all random draws of a run: generators keyed by their purpose.

A draw depends only on the run's seed and its key, never on timing or on how many draws were made elsewhere. So a run is
repeatable with any number of tasks in flight, and after a resume.
"""

import hashlib

import numpy as np


def _key_words(key: tuple[int | str, ...]) -> list[int]:
    text = "\x1f".join(str(part) for part in key).encode()
    digest = hashlib.blake2b(text, digest_size=16).digest()
    return [int.from_bytes(digest[i : i + 4], "little") for i in range(0, 16, 4)]


def generator(seed: int, *key: int | str) -> np.random.Generator:
    """A generator for one purpose, for example `generator(seed, round, step, index, "walk")`."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, *_key_words(key)])))


def derived_seed(seed: int, *key: int | str) -> int:
    """A 31-bit seed for another program's sampler (vLLM wants a non-negative 64-bit one; OpenAI servers less)."""
    return (
        int.from_bytes(hashlib.blake2b("\x1f".join(map(str, (seed, *key))).encode(), digest_size=4).digest(), "little")
        & 0x7FFFFFFF
    )
