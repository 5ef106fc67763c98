"""When an engine counts as hanging, and how long it was idle."""

import pytest

from bohdi_ray.engines.vllm.in_flight import InFlight


@pytest.fixture
def now():
    return [0.0]


@pytest.fixture
def in_flight(now):
    return InFlight(lambda: now[0])


def test_idle_time_is_the_time_without_any_request(now, in_flight):
    now[0] = 5.0
    in_flight.begin()  # loading is no idle time
    now[0] = 7.0
    with in_flight.one() as first:
        now[0] = 8.0
        with in_flight.one() as second:
            assert first != second and len(in_flight) == 2
        now[0] = 10.0
        assert in_flight.idle_s == 2.0
    now[0] = 14.0
    assert (in_flight.idle_s, in_flight.uptime_s) == (6.0, 9.0)


def test_an_engine_without_requests_does_not_hang(now, in_flight):
    now[0] = 1000.0
    assert in_flight.hangs(idle_s=10, request_s=100) is None
    with in_flight.one():  # the time before it does not count
        assert in_flight.hangs(idle_s=10, request_s=100) is None


def test_requests_without_a_token_or_too_old_are_a_hang(now, in_flight):
    with in_flight.one():
        now[0] = 11.0
        assert in_flight.hangs(10, 100) == "hangs: 1 requests and no token for 10 s"
        in_flight.moved()
        assert in_flight.hangs(10, 100) is None
        now[0] = 101.0
        in_flight.moved()
        assert in_flight.hangs(10, 100) == "hangs: a request is not finished after 100 s"


def test_a_request_that_fails_is_not_in_flight_any_more(in_flight):
    with pytest.raises(ValueError), in_flight.one():
        raise ValueError
    assert len(in_flight) == 0
