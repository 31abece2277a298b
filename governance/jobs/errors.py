"""Errors of jobs. The first four end a run from outside; a job lets them pass."""

from governance.errors import GovernanceError


class JobError(GovernanceError):
    """Base of the errors about jobs and their runs."""

    code = "JOB_ERROR"


class RunInterruptedError(JobError):
    """The run must not go on here."""

    code = "RUN_INTERRUPTED"


class LeaseLostError(RunInterruptedError):
    """Another node has taken the run over, as this one seemed dead."""

    code = "RUN_LEASE_LOST"


class RunPausedError(RunInterruptedError):
    """An operator paused the run."""

    code = "RUN_PAUSED"


class RunCancelledError(RunInterruptedError):
    """An operator cancelled the run."""

    code = "RUN_CANCELLED"


class RunnerStoppedError(RunInterruptedError):
    """The process is shutting down; another one will resume the run."""

    code = "RUNNER_STOPPED"


class InvalidJobError(JobError):
    """A job or its schedule cannot be as described; the message says why."""

    code = "JOB_INVALID"


class UnknownRunError(JobError):
    """No run has this id, or no job this name."""

    code = "RUN_UNKNOWN"


class RunStateError(JobError):
    """The run is in no state in which this can be done to it."""

    code = "RUN_STATE"
