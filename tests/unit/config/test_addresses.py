"""Locations as text: names join in front of an address's settings, secrets are found and never shown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bohdi_ray.config.addresses import above, below, is_address, secret_in, without_secrets

S3 = "s3://bucket/runs/x?endpoint_override=http://127.0.0.1:9000&region=eu-west-1"


def test_names_join_in_front_of_the_settings():
    assert below(S3, "checkpoints", "round-1") == S3.replace("runs/x", "runs/x/checkpoints/round-1")
    assert above(below(S3, "a")) == S3
    assert below("/runs/x", "a", "b") == "/runs/x/a/b" and above("/runs/x/a") == "/runs/x"
    assert below("gs://bucket/", "a") == "gs://bucket/a"


@given(st.sampled_from([S3, "gs://bucket/run", "/runs/x"]), st.lists(st.text("abc-0", min_size=1), min_size=1))
def test_what_is_below_has_what_is_above(location, names):
    there = below(location, *names)
    for _ in names:
        there = above(there)
    assert there == location


@pytest.mark.parametrize(
    "address",
    [
        "s3://AKIA:hunter2@bucket/run",
        "s3://AKIA:hunter2/with-slash@bucket/run?region=x",
        "gs://user:hunter2@bucket/run",
        "https://user:hunter2@host/run",
        "abfs://c@a.dfs.core.windows.net/run?sas_token=hunter2",
        "abfs://c@a.dfs.core.windows.net/run?account_key=hunter2",
        "s3://bucket/run?endpoint_override=http://user:hunter2@host:9000&region=x",
    ],
)
def test_a_secret_is_found_and_not_shown(address):
    assert secret_in(address)
    assert "hunter2" not in without_secrets(address) and "(hidden)" in without_secrets(address)
    assert "hunter2" not in without_secrets(f"cannot open {address}: refused")


@pytest.mark.parametrize(
    "location", [S3, "gs://anonymous@bucket/run", "abfs://c@a.dfs.core.windows.net/run", "/a:b@c/run", "runs/x?key=1"]
)
def test_what_holds_no_secret_is_left_as_it_is(location):
    assert secret_in(location) is None and without_secrets(location) == location


@given(st.text())
def test_any_text_is_taken(text):
    assert isinstance(without_secrets(text), str) and isinstance(is_address(text), bool)
    secret_in(text)
