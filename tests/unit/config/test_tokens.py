"""What is wrong with a token is said in words, from what Ray's services say about it; and a Ray that does not start."""

import subprocess
from types import SimpleNamespace

import pytest

import bohdi_ray.placement.ray_session as startup
from bohdi_ray.errors import BohdiError, ConfigError
from bohdi_ray.placement import cluster_token
from bohdi_ray.placement.cluster_token import check_token, token_error
from bohdi_ray.placement.ray_session import ray_session

MISSING = (
    "AuthenticationError RPC error: InvalidAuthToken: Authentication token is missing or incorrect. Note: "
    "RAY_AUTH_MODE is currently 'disabled' (not 'token'). Ensure that the token for the cluster is available"
)
WRONG = "AuthenticationError RPC error: InvalidAuthToken: Authentication token is missing or incorrect. Ensure"
SECRET = "f" * 64


@pytest.mark.parametrize(
    ("said", "environment", "field", "words"),
    [
        (MISSING, {}, "RAY_AUTH_MODE", "export RAY_AUTH_MODE=token"),
        (WRONG, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": SECRET}, "RAY_AUTH_TOKEN", "has another token"),
        (WRONG, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": "/t"}, "RAY_AUTH_TOKEN_PATH", "has another token"),
        (WRONG, {"RAY_AUTH_MODE": "token"}, "RAY_AUTH_TOKEN_PATH", "~/.ray/auth_token"),
        ("Missing authentication token", {}, "RAY_AUTH_MODE", "none is sent"),
        ("no authentication token found", {"RAY_AUTH_MODE": "token"}, "RAY_AUTH_TOKEN", "no token is found"),
        (
            "RAY_AUTH_TOKEN_PATH is set but file cannot be opened",
            {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": "/none"},
            "RAY_AUTH_TOKEN_PATH",
            "cannot be read",
        ),
    ],
)
def test_what_a_cluster_says_of_a_token_becomes_the_variable_to_mend(monkeypatch, said, environment, field, words):
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(
        subprocess, "run", lambda *args, **kwargs: SimpleNamespace(stdout=said, stderr="", returncode=0)
    )
    with pytest.raises(ConfigError) as caught:
        check_token("127.0.0.1:6379")
    assert caught.value.field == field and words in str(caught.value) and SECRET not in str(caught.value)
    assert str(token_error(said)) == str(caught.value)


@pytest.mark.parametrize("said", ["RpcError Timed out while waiting for GCS to become available.", "ValueError x"])
def test_what_answers_but_is_no_head_is_told_as_an_address_that_cannot_be_reached(monkeypatch, said):
    monkeypatch.setattr(
        subprocess, "run", lambda *args, **kwargs: SimpleNamespace(stdout=said, stderr="", returncode=0)
    )
    with pytest.raises(ConnectionError, match="other than a Ray head"):
        check_token("127.0.0.1:6379")


def test_a_head_that_answers_is_joined(monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: SimpleNamespace(stdout="", stderr="", returncode=0))
    check_token("127.0.0.1:6379")


@pytest.mark.parametrize("address", ["ray://head:10001", "local"])
def test_other_forms_of_address_start_nothing(monkeypatch, address):
    monkeypatch.setattr(cluster_token.subprocess, "run", lambda *args, **kwargs: pytest.fail("nothing is asked"))
    check_token(address)


def test_a_head_that_does_not_answer_is_given_up(monkeypatch):
    def run(*args, **kwargs):
        raise subprocess.TimeoutExpired("x", 1)

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(ConnectionError, match="too busy"):
        check_token("127.0.0.1:6379")


def test_a_ray_that_does_not_start_in_time_is_an_error_with_a_remedy(monkeypatch):
    def init(*args, _system_config, **kwargs):
        assert _system_config["task_events_max_num_task_in_gcs"] <= 10_000, "else its memory grows with the rounds"
        raise Exception("The current node timed out during startup.\nThis could happen because ...")

    ended = []
    fake = SimpleNamespace(is_initialized=lambda: False, init=init, shutdown=lambda: ended.append(True))
    monkeypatch.setattr(startup, "ray", fake)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(BohdiError, match=r"Ray did not start .*timed out") as caught, ray_session(None, 2):
        pass
    assert not isinstance(caught.value, ConfigError) and "ray start --head" in str(caught.value) and ended
