"""Why a request was not done: a status, one clear line, and the field that it is about."""

from collections.abc import Iterator
from contextlib import contextmanager

from reward_router.errors import AllArmsResting, InputError, LedgerError, RunError


class Refused(Exception):
    """A request that was not done; nothing of it was written.

    Args:
        status: of HTTP. 4xx: the request must change; 503: the same request may come again.
        message: what is wrong and what is allowed, in one line.
        field: where in the body, '' where it is not the body's.
    """

    def __init__(self, status: int, message: str, field: str = "") -> None:
        """What is told to the caller."""
        super().__init__(message)
        self.status = status
        self.message = " ".join(message.split())
        self.field = field


@contextmanager
def told(field: str = "", conflict: bool = False) -> Iterator[None]:
    """Errors of the library inside the block become refusals.

    ``field``: what bad input would be about. ``conflict``: whether an error of the ledger means
    that the request contradicts what is recorded, and not that the ledger cannot be written.
    """
    try:
        yield
    except InputError as error:
        raise Refused(422, str(error), field) from error
    except AllArmsResting as error:
        raise Refused(503, f"{error}; send the same request again") from error
    except LedgerError as error:
        if conflict:
            raise Refused(409, str(error), field) from error
        raise Refused(503, str(error)) from error
    except RunError as error:
        raise Refused(503, str(error)) from error
