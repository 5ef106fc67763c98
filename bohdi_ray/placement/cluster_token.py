"""Checks Ray's token authentication before anything joins a cluster, and explains what is wrong with the token.

Without it Ray tries for half a minute and more, prints warnings of its own, and ends with another cause.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys

from bohdi_ray.errors import ConfigError
from bohdi_ray.placement.machines import knock

ASK_S = 60.0  # for a process that imports Ray and asks once
# A process of its own: Ray reads mode and token once, and its client library writes warnings to the terminal.
_ASK = """
import sys
from ray._raylet import GcsClient
from ray._private.services import canonicalize_bootstrap_address_or_die
try:
    address = sys.argv[1]
    if address == "auto":
        address = canonicalize_bootstrap_address_or_die(address)
    GcsClient(address=address).get_all_node_info(timeout=10)
except Exception as error:
    print(type(error).__name__, str(error), file=sys.stdout)
"""
_AUTHENTICATION = (
    "AuthenticationError",
    "InvalidAuthToken",
    "Unauthenticated",
    "authentication token",
    "RAY_AUTH_TOKEN_PATH is set but",
)


def knock_and_show_token(address: str) -> None:
    """Raises ConnectionError if nothing, or no Ray head, answers at an address, and ConfigError if it rejects this
    process's token."""
    knock(address)
    check_token(address)


def check_token(address: str) -> None:
    """Raises ConfigError if the cluster at `host:port` rejects this process's token, or requires one and none is set.

    Raises ConnectionError if something other than a Ray head answers. Other forms of address are left to Ray.
    """
    if re.fullmatch(r"[\w.-]+:\d+|auto", address) is None:
        return
    command = [sys.executable, "-c", _ASK, address]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ASK_S)
    except subprocess.TimeoutExpired:
        raise ConnectionError(
            f"something other than a Ray head answers there, or it is too busy to answer within {ASK_S:.0f} s"
        ) from None
    said = done.stdout + (done.stderr if done.returncode else "")  # without a token Ray ends the process
    if any(mark in said for mark in _AUTHENTICATION):
        raise token_error(said)
    if done.stdout:
        raise ConnectionError(f"something other than a Ray head answers there: {' '.join(done.stdout.split())[:300]}")


def token_error(said: str) -> ConfigError:
    """Which variable to fix, and how; never contains the token."""
    mode, path = os.environ.get("RAY_AUTH_MODE"), os.environ.get("RAY_AUTH_TOKEN_PATH")
    remedy = "Put the cluster's token into ~/.ray/auth_token, or its file's path into RAY_AUTH_TOKEN_PATH."
    # The dashboard's words, and those of the cluster's own service.
    if "Missing authentication token" in said or "RAY_AUTH_MODE is currently" in said:
        rule = "the cluster requires a token, and none is sent in this mode"
        return ConfigError("RAY_AUTH_MODE", mode, rule, f"export RAY_AUTH_MODE=token. {remedy}")
    if os.environ.get("RAY_AUTH_TOKEN"):
        name, value = "RAY_AUTH_TOKEN", "(not shown)"
    elif path is not None:
        name, value = "RAY_AUTH_TOKEN_PATH", path
    else:
        name, value = "RAY_AUTH_TOKEN", None
    if "Invalid authentication token" in said or "InvalidAuthToken" in said:
        if value is None:
            name, value = "RAY_AUTH_TOKEN_PATH", "~/.ray/auth_token"
        return ConfigError(name, value, "the cluster has another token", remedy)
    rule = "the file cannot be read, or is empty" if name == "RAY_AUTH_TOKEN_PATH" else "no token is found"
    return ConfigError(name, value, f"RAY_AUTH_MODE is token, and {rule}", remedy)
