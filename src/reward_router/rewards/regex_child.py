"""The process in which patterns of the metric ``regex`` are searched: a question a line in, an answer a line out.

Run as a script by `reward_router.rewards.regex`; the standard library only, so that it starts in milliseconds.
"""

import contextlib
import json
import re
import signal
import sys


def serve() -> None:
    """Answer until there are no more questions. A search over its seconds of processor time ends the process (SIGPROF)."""
    for line in sys.stdin:
        question = json.loads(line)
        _limit(question["seconds"])
        found = re.search(question["pattern"], question["text"]) is not None
        _limit(0.0)
        print(json.dumps(found), flush=True)


def _limit(seconds: float) -> None:
    with contextlib.suppress(
        AttributeError
    ):  # Windows has no such timer; the asking process has a clock of its own there
        signal.setitimer(signal.ITIMER_PROF, seconds)


if __name__ == "__main__":
    serve()
