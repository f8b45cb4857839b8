"""A time limit on a call into foreign code: a payoff function, a package that starts.

Arms have their own limit (``pool.timeout``).

The call runs in a thread of its own. Python cannot end a thread: one that overran goes on in the
background and its result is dropped, so the caller can say what happened instead of standing still
for ever. Left out: code that never lets go of the interpreter's lock, which needs a process of its
own (see `math_equal`).
"""

import threading
from collections.abc import Callable
from typing import TypeVar

from reward_router.errors import RunError

T = TypeVar("T")
SECONDS = 300.0
"""How long one call may take where nobody says otherwise."""


def within(work: Callable[[], T], what: str, seconds: float | None = None) -> T:
    """What ``work`` returns or raises, within a time limit.

    Args:
        work: what is called.
        what: its name in messages.
        seconds: how long it may take; None: `SECONDS`.

    RunError where it takes longer.

    >>> within(lambda: 2 + 2, "adding")
    4
    """
    limit = SECONDS if seconds is None else seconds
    done: list[T] = []
    raised: list[BaseException] = []

    def body() -> None:
        try:
            done.append(work())
        except BaseException as error:  # whatever it is, it is raised again where the caller waits
            raised.append(error)

    # A daemon: a call that never returns does not keep the program from ending.
    thread = threading.Thread(target=body, name=what, daemon=True)
    thread.start()
    thread.join(limit)
    if raised:
        raise raised[0]
    if not done:
        raise RunError(
            f"{what} took longer than {limit:g} s and was given up; what was "
            "recorded before it is kept"
        )
    return done[0]
