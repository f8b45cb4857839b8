"""Whether two pieces of mathematics are equal.

math-verify runs in a process of its own that has seconds and memory to lose. A response may hold
``9^{9^{9}}``. SymPy then multiplies inside one operation that never lets go of the interpreter's
lock: no time limit in this process could end it, in no thread, and a run would stand still for
ever. So the question goes down a pipe to a process that the system kills when its time is up
(SIGALRM) and that may hold no more than some memory; the next question starts another. Left out:
limits on Windows, which has neither; what equality means, which is math-verify's.
"""

import json
import math
import os
import subprocess
import sys
import threading
from contextlib import suppress
from importlib.util import find_spec
from typing import Any

from reward_router.errors import InputError

SECONDS, GIB = 5, 3
START_SECONDS = 300.0  # importing the package, on a machine that is busy with other things


class _Asked:
    """The process behind `equal`.

    It is started at the first question, and again after one that was its last.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._owner = 0

    def __call__(self, question: dict[str, Any]) -> Any:
        """Its answer, None where it died over the question. One question at a time."""
        with self._lock:
            mine = self._owner == os.getpid()  # a forked child must not share its parent's pipe
            if self._process is None or not mine or self._process.poll() is not None:
                self._start()
            answer = self._exchange(json.dumps(question))
            if not answer:
                self._end()
            return json.loads(answer)["equal"] if answer else None

    def _start(self) -> None:
        check_package("comparing mathematics")
        command = [sys.executable, "-c", f"from {__name__} import serve; serve()"]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True
        )
        self._owner = os.getpid()
        if not self._read():
            self._end()
            raise InputError('math-verify does not start: python -c "import math_verify" says why')

    def _read(self, seconds: float = START_SECONDS) -> str:
        """The next line; empty where there is none in time, and the process is ended then."""
        if self._process is None or self._process.stdout is None:
            return ""
        watch = threading.Timer(seconds, self._process.kill)
        watch.start()
        try:
            return self._process.stdout.readline()
        finally:
            watch.cancel()

    def _exchange(self, line: str) -> str:
        try:
            if self._process and self._process.stdin:
                self._process.stdin.write(line + "\n")
                self._process.stdin.flush()
            return self._read()
        except BrokenPipeError:
            return ""
        except BaseException:
            # Interrupted between question and answer: the answer must not meet the next question.
            self._end()
            raise

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with suppress(BrokenPipeError):
                        pipe.close()
            process.wait()


_ask = _Asked()


def equal(gold: str, given: str, *, number: bool = False) -> float:
    """1 where math-verify reads ``given`` as equal to ``gold``, 0 where it does not.

    NaN where ``gold`` cannot be read. Both are texts with LaTeX between dollar signs. ``number``: a
    gold that is no number counts as unreadable. A question that takes more than `SECONDS` or `GIB`
    of memory is answered 0. InputError without the package. The first question takes about 2 s, the
    others milliseconds.

    >>> equal(r"$\\frac{1}{2}$", "$0.5$"), equal("$3$", "$4$")
    (1.0, 0.0)
    """
    answer = _ask({"gold": gold, "given": given, "number": number, "seconds": SECONDS})
    return 0.0 if answer is None else math.nan if answer == "unreadable" else float(answer)


def check_package(what: str) -> None:
    """InputError that says ``what`` needs math-verify, where it is not installed.

    Nothing is imported.
    """
    if find_spec("math_verify") is None:
        raise InputError(f"{what} needs math-verify: pip install math-verify")


def serve() -> None:
    """Answer questions, a JSON line each, until there are no more.

    This runs in the process that `equal` starts.
    """
    from math_verify import parse, verify

    answers, sys.stdout = sys.stdout, sys.stderr  # what a library prints is no answer
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        question = json.loads(line)
        _limit(question["seconds"])
        found = _compared(question, parse, verify)
        _limit(0)  # before the answer: whoever has it may ask again
        print(json.dumps({"equal": found}), file=answers, flush=True)


def _compared(question: dict[str, Any], parse: Any, verify: Any) -> bool | str:
    try:
        gold = parse(question["gold"], parsing_timeout=None)
        if not gold or (question["number"] and not getattr(gold[0], "is_number", False)):
            return "unreadable"
        return bool(
            verify(gold, parse(question["given"], parsing_timeout=None), timeout_seconds=None)
        )
    except MemoryError:
        return False


def _limit(seconds: int) -> None:
    """Be killed after so many seconds (0: no more), and refused more memory than `GIB`.

    Where the system knows no such limits, nothing happens.
    """
    with suppress(ImportError, AttributeError):
        import resource
        import signal

        signal.alarm(seconds)
        resource.setrlimit(
            resource.RLIMIT_AS, (GIB << 30, resource.getrlimit(resource.RLIMIT_AS)[1])
        )
