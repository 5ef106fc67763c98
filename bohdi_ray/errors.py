"""Every error bohdi_ray raises on purpose. All survive pickling, so they cross Ray's process borders unchanged.

A `ConfigError` must be fixed by the user and always gives field, value, rule and remedy. The others say what was waited
for or what broke, and what to do. Bugs of this package are assertions, not errors of this module.
"""

# Where what a Ray actor or task printed can be read.
SEE_LOGS = "see its log in the Ray dashboard or in Ray's folder, /tmp/ray/session_latest/logs by default"
# What a run that failed through no fault of its input leaves.
SAFE = "Everything committed so far is safe; continue with `bohdi resume RUN` afterwards."


class BohdiError(Exception):
    """Base class. Catching it catches every error with a remedy, and no bug."""

    def __reduce__(self):
        # Exceptions pickle by re-calling __init__ with self.args, which fails for keyword-only signatures.
        return _rebuild, (type(self), self.args, self.__dict__.copy())


def _rebuild(kind: type[BohdiError], args: tuple, state: dict) -> BohdiError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    return error


class ConfigError(BohdiError):
    """A setting that cannot work, found before anything starts."""

    def __init__(self, field: str, value: object, rule: str, remedy: str):
        self.field, self.value, self.rule, self.remedy = field, value, rule, remedy
        super().__init__(f"{field} = {value!r}: {rule}. {remedy}")


class ConfigErrors(BohdiError):
    """Several `ConfigError`s found in one pass, so that the user can fix them all at once."""

    def __init__(self, errors: list[ConfigError]):
        self.errors = errors
        super().__init__("\n".join(str(error) for error in errors))


class PromptTooLong(BohdiError):
    """One request does not fit its model's window; only that request fails.

    A remote server says so in its own words, `said`, and gives no counts.
    """

    def __init__(self, model: str, num_tokens: int | None = None, max_model_len: int | None = None, said: str = ""):
        self.model, self.num_tokens, self.max_model_len = model, num_tokens, max_model_len
        if said:
            words = f"a prompt does not fit the window of {model} ({said}); shorten the answers"
            super().__init__(f"{words} (sampling.answer.max_tokens)")
            return
        super().__init__(
            f"a prompt of {num_tokens} tokens does not fit the window of {model} ({max_model_len} tokens); "
            "shorten the answers (sampling.answer.max_tokens) or raise engine.max_model_len"
        )


class RequestRefused(BohdiError):
    """An engine rejects one request's parameters or text; only that request fails."""


class EngineFailed(BohdiError):
    """An engine died, hangs, or serves the wrong weights. Its replica must be replaced."""


class EngineRetired(BohdiError):
    """An engine takes no further calls, because its pool shrinks; the caller uses another one."""


class RemoteFailed(BohdiError):
    """An OpenAI-compatible server refused or failed a request for good, after all retries."""


class RequestQuarantined(BohdiError):
    """A request was set aside because it kills engines; `part` in RUN/quarantine has what is needed to reproduce it."""

    def __init__(self, request_id: str, part: str):
        self.request_id, self.part = request_id, part
        super().__init__(f"request {request_id} was quarantined: engines die of it; see quarantine/{part} of the run")


class SourceLeftOut(BohdiError):
    """A source became unavailable; the caller starts again with the remaining sources."""

    def __init__(self, source: str):
        self.source = source
        super().__init__(f"source {source} is left out for the time being")


class TrainingFailed(BohdiError):
    """The training run ended before its last round."""


class RowsRejected(TrainingFailed):
    """The round was not trained, because too many of its training rows could not be used."""


class NothingLearned(BohdiError):
    """The run learns nothing, or ended without having learned anything, so it is no success."""


class WeightsMismatch(EngineFailed):
    """After a reload the engine's log-probabilities on the probe prompts differ from the trainer's."""


class DeadlineExceeded(BohdiError):
    """A deadline passed while waiting."""

    def __init__(self, waited_for: str, seconds: float, remedy: str):
        self.waited_for, self.seconds, self.remedy = waited_for, seconds, remedy
        super().__init__(f"waited {seconds:.0f} s for {waited_for}; {remedy}")


class NoRoom(DeadlineExceeded):
    """The cluster had no room for an engine in time."""


class RunDirError(BohdiError):
    """The run directory cannot be used as asked: not writable, owned by another run, or damaged."""


class StorageFailed(RunDirError):
    """The storage of a run failed: the disk is full, a permission is missing, it does not answer. Committed data is
    safe; the run continues once the cause is fixed."""


class LeaseLost(RunDirError):
    """Another driver owns the run now."""


class RunFinished(RunDirError):
    """A run that was to be resumed has ended, and the current stop rules do not let it continue."""


class JobError(BohdiError):
    """A cluster's job server did not do what was requested, or is gone."""


class StepNotReady(BohdiError):
    """A step's outcomes came too early, as after a restart of the tree manager: call `committable()` again."""


class Interrupted(BohdiError):
    """The user requested a stop (Ctrl-C, SIGTERM); committed data is safe."""
