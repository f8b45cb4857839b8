"""Errors a user can act on: each says what was wrong, where, and what is allowed."""


class RewardRouterError(Exception):
    """Base of every error that this package raises on purpose.

    The command line prints it as one line.
    """

    exit_code = 1


class InputError(RewardRouterError, ValueError):
    """Bad input, in a configuration, data or arguments: exit code 2.

    The message says what, where and what is allowed.
    """

    exit_code = 2


class LedgerError(RewardRouterError):
    """The ledger refuses an event or cannot be read; nothing was changed."""


class RunError(RewardRouterError):
    """A run had to stop; its state is saved and `--resume` goes on."""


class AllArmsResting(RunError):
    """Every arm failed and rests, so there is nobody to route to.

    The ledger knows, and the next call asks one of them again.
    """


class DataWarning(UserWarning):
    """Rows of a data set were left out: how many, and why.

    The command line prints it as one line.
    """
