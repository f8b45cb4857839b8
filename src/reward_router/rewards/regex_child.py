"""The process in which patterns of the metric ``regex`` are searched.

A question a line comes in, an answer a line goes out. `reward_router.rewards.regex` runs it as a
script. It uses the standard library only, so that it starts in milliseconds.
"""

import contextlib
import json
import re
import signal
import sys


def serve() -> None:
    """Answer until there are no more questions.

    A search that takes over its seconds of processor time ends the process (SIGPROF).
    """
    for line in sys.stdin:
        question = json.loads(line)
        _limit(question["seconds"])
        found = re.search(question["pattern"], question["text"]) is not None
        _limit(0.0)
        print(json.dumps(found), flush=True)


def _limit(seconds: float) -> None:
    # Windows has no such timer; the asking process has a clock of its own there.
    with contextlib.suppress(AttributeError):
        signal.setitimer(signal.ITIMER_PROF, seconds)


if __name__ == "__main__":
    serve()
