"""The expected ways to fail, each with its documented exit code. Anything else is a bug and ends with code 1."""

EXIT_DONE, EXIT_FAILED, EXIT_USAGE, EXIT_DATA, EXIT_DIVERGED, EXIT_STOPPED, EXIT_INTERRUPTED = 0, 1, 2, 3, 4, 75, 130


class Failure(Exception):
    """An expected failure: one line that says what and where, and a hint that says what to do."""

    code = EXIT_FAILED

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class UsageProblem(Failure):
    """A wrong command, recipe or override."""

    code = EXIT_USAGE


class DataProblem(Failure):
    """Data that are missing or damaged."""

    code = EXIT_DATA


class Unreadable(DataProblem):
    """A file that may not be read, or not now. It may be whole: nothing but the access to it has to change."""


class Diverged(Failure):
    """A term of the bound became non-finite."""

    code = EXIT_DIVERGED


class Stopped(Failure):
    """A signal asked us to leave; what is needed to go on has been written."""

    code = EXIT_STOPPED


class Abandoned(Stopped):
    """A signal asked us to leave while another process of the job was already gone: each one that is left says so."""
