"""What of this machine's environment reaches a server, and what does not: keys, headers, proxies."""

from __future__ import annotations

import pytest
from openai_server import request, serving

from bohdi_ray.engines.openai.client import ServerClient
from bohdi_ray.engines.openai.proxies import proxy_of
from bohdi_ray.engines.openai.secrets import resolve_secret
from bohdi_ray.errors import ConfigError

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def server():
    with serving() as server:
        yield server


def test_nothing_that_is_meant_for_openai_reaches_another_server(server, monkeypatch):
    secrets = {
        "OPENAI_API_KEY": "sk-of-openai",
        "OPENAI_ADMIN_KEY": "sk-admin",
        "OPENAI_ORG_ID": "org-secret",
        "OPENAI_PROJECT_ID": "proj-secret",
        "OPENAI_WEBHOOK_SECRET": "hook-secret",
        "OPENAI_BASE_URL": "http://127.0.0.1:1/elsewhere",
        "OPENAI_CUSTOM_HEADERS": "X-Secret: header-secret\nAuthorization: Bearer header-secret\nA: secret",
        "AZURE_OPENAI_API_KEY": "azure-secret",
    }
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("FAR_KEY", "sk-of-far\n")
    for fields, key in (({}, "none"), ({"api_key": "env:FAR_KEY"}, "sk-of-far")):
        assert server.ask(request(), **fields)["a"].text == "fine"
        headers = server.headers[-1]
        assert headers["authorization"] == f"Bearer {key}"
        told = " ".join(f"{name}: {value}" for name, value in headers.items())
        assert not any(value.split("\n")[0] in told for value in secrets.values())
        assert "secret" not in told and "openai-organization" not in headers and "openai-project" not in headers


def test_an_address_with_a_version_keeps_it_and_gets_the_key_in_azures_header_too(server, monkeypatch):
    monkeypatch.setenv("FAR_KEY", "sk-of-far")
    url = server.url.replace("/v1", "/openai/deployments/m?api-version=2024-10-21")
    server.ask(request(), base_url=url, api_key="env:FAR_KEY")
    assert server.paths[-1] == "/openai/deployments/m/chat/completions?api-version=2024-10-21"
    assert server.headers[-1]["api-key"] == "sk-of-far"
    for given in (server.url + "/", server.url + "/chat/completions"):
        server.ask(request(), base_url=given)
        assert server.paths[-1] == "/v1/chat/completions" and "api-key" not in server.headers[-1]


@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
def test_a_socks_proxy_without_its_package_is_refused_at_the_start_with_a_remedy(server, monkeypatch, scheme):
    monkeypatch.setenv("ALL_PROXY", f"{scheme}://user:secret@proxy.example:1080")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"socksio.*pip install.*NO_PROXY") as raised:
        server.ask(request())
    assert raised.value.field == "ALL_PROXY" and "secret" not in str(raised.value)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert server.ask(request())["a"].text == "fine"


@pytest.mark.parametrize(
    "value",
    ["ftp://proxy:21", "http://", "socks4://proxy:1080", "http://proxy:port", "http://[::1", "://x", "http:/proxy"],
)
def test_a_proxy_that_is_none_is_refused_at_the_start(server, monkeypatch, value):
    monkeypatch.setenv("http_proxy", value)
    with pytest.raises(ConfigError, match=r"HTTP_PROXY"):
        server.ask(request())


def test_requests_go_through_the_proxy_of_their_scheme_and_past_it_where_it_says_so(server, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://none.invalid:1")
    assert server.ask(request())["a"].text == "fine"
    monkeypatch.setenv("HTTP_PROXY", server.url.removesuffix("/v1"))
    assert server.ask(request(), base_url="http://models.invalid/v1")["a"].text == "fine"
    assert server.paths[-1] == "http://models.invalid/v1/chat/completions"
    monkeypatch.setenv("NO_PROXY", ".invalid,localhost")
    assert proxy_of("http://models.invalid/v1") is None and proxy_of("http://models.example/v1") is not None
    monkeypatch.setenv("NO_PROXY", "*")
    assert proxy_of("http://models.example/v1") is None
    monkeypatch.setenv("HTTP_PROXY", "proxy.example:3128")
    monkeypatch.delenv("NO_PROXY")
    assert proxy_of("http://models.example/v1") == "http://proxy.example:3128"


def test_certificates_that_cannot_be_read_are_refused_at_the_start(server, monkeypatch, tmp_path):
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    with pytest.raises(ConfigError, match="SSL_CERT_FILE"):
        ServerClient(server.model())


@pytest.mark.parametrize("key", ["two\nlines", "schlüssel", "“quoted”"])
def test_a_key_that_no_header_can_hold_is_refused_and_not_shown(monkeypatch, key):
    monkeypatch.setenv("FAR_KEY", key)
    with pytest.raises(ConfigError, match="HTTP header") as raised:
        resolve_secret("env:FAR_KEY")
    assert key not in str(raised.value)
