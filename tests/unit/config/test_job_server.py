"""Following a job over connections that break, and what the programs that follow it exit with."""

from types import SimpleNamespace

import pytest

from bohdi_ray.cli.jobs import _again
from bohdi_ray.config.job_paths import stop_wait_s
from bohdi_ray.errors import ConfigError, ConfigErrors, JobError
from bohdi_ray.submit import job_server
from bohdi_ray.submit.job_server import ADDRESSES, RUN_KEY, STOP_WAIT_KEY, JobServer, JobState, server_address

LOG = ["a first line\n", "a \x1b[1msecond\x1b[22m line\n", "a third \x1b[2J line\n"]


class Jobs:
    """Ray's client of one job: each connection begins at the start of the log and breaks after so many pieces."""

    def __init__(self, breaks_after: list[int], status: str = "SUCCEEDED", metadata: dict | None = None):
        self.breaks_after, self.status, self.metadata = list(breaks_after), status, metadata or {}

    def get_job_info(self, job):
        if job != "known":
            raise RuntimeError(f"Request failed with status code 404: Job {job} does not exist.")
        status = "RUNNING" if self.breaks_after else self.status
        return SimpleNamespace(status=status, driver_exit_code=3, message="why", metadata=self.metadata)

    async def tail_job_logs(self, job):
        number = self.breaks_after.pop(0) if self.breaks_after else len(LOG)
        for piece in LOG[:number]:
            yield piece
        if number < len(LOG):
            raise RuntimeError("WebSocket connection closed unexpectedly with close code 1006")


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(job_server, "POLL_S", 0.0)

    def of(jobs):
        made = JobServer.__new__(JobServer)
        made.address, made._client = "http://head:8265", jobs
        return made

    return of


def test_a_broken_connection_repeats_nothing_and_loses_nothing(server):
    heard = []
    state = server(Jobs([2, 1, 3])).follow("known", heard.append)
    assert "".join(heard) == "a first line\na second line\na third �[2J line\n"
    assert state.has_ended and state.program_exit_code == 0


def test_a_cluster_that_stays_away_is_told_with_how_to_follow_again(server, monkeypatch):
    monkeypatch.setattr(job_server, "LOST_S", -1.0)
    with pytest.raises(JobError, match=r"the job may go on\. Follow it again: bohdi logs known --follow"):
        server(Jobs([1] * 5)).follow("known", lambda text: None)


@pytest.mark.parametrize(
    ("status", "code", "exits_with"),
    [("SUCCEEDED", 0, 0), ("FAILED", 2, 2), ("FAILED", None, 1), ("FAILED", -9, 137), ("STOPPED", None, 130)],
)
def test_a_program_exits_with_the_jobs_code(status, code, exits_with):
    assert JobState(status, code, "").program_exit_code == exits_with


def test_an_address_is_the_dashboards_and_given_or_from_rays_variables(monkeypatch):
    for name in ADDRESSES:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="no cluster is given"):
        server_address(None)
    monkeypatch.setenv("RAY_ADDRESS", "https://head/ray/")
    assert server_address(None) == "https://head/ray" and server_address("head:8265") == "http://head:8265"
    for wrong in ("ray://head:10001", "http://user:word@head:8265", "auto it"):
        with pytest.raises(ConfigError) as caught:
            server_address(wrong)
        assert caught.value.field == "--address" and "word" not in str(caught.value)


def test_a_run_is_gone_on_with_by_the_job_that_ran_it(server):
    metadata = {RUN_KEY: "runs/x", STOP_WAIT_KEY: "77"}
    ended = server(Jobs([], metadata=metadata))
    command, run, wait_s = _again(ended, "known", ("stop.rounds=9",), True)
    assert command == ["resume", "--reset-optimizer", "--", "runs/x", "stop.rounds=9"]
    assert (run, wait_s) == ("runs/x", 77)
    assert _again(ended, "~/runs/y", ("deadlines.drain_s=5",), False)[1:] == ("~/runs/y", stop_wait_s(5))
    with pytest.raises(ConfigError, match="a run has one driver"):
        _again(server(Jobs([1], metadata=metadata)), "known", (), False)
    with pytest.raises(ConfigError, match="its run directory is not known"):
        _again(server(Jobs([])), "known", (), False)
    with pytest.raises(ConfigError, match="knows no such job"):
        _again(ended, "other", (), False)
    with pytest.raises(ConfigErrors) as caught:
        _again(ended, "known", ("sources.a.api_key=opensesame",), False)
    assert "opensesame" not in str(caught.value)
