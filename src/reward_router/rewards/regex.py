"""Patterns searched where a search can be ended: in a process of its own.

A pattern such as ``(a+)+$`` takes 2^n steps on some texts, and Python's ``re`` never lets go of the
interpreter's lock meanwhile: no time limit in this process could end it. So each search goes down a
pipe to a process that the system kills once a search has used `SECONDS` of processor time (a loaded
machine changes nothing); the next search starts another. A linear-time engine would refuse
look-around and back-references, and a check of the pattern is either too strict or misses cases; a
process is neither.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

SECONDS = 5.0
"""Processor time of one search, where the system knows such timers; elsewhere time by the clock."""


class TooSlow(TimeoutError):
    """A search used up its time."""


class Searcher:
    """The process behind the searches, one search at a time.

    It is started at the first search, and again after one that was its last.
    """

    def __init__(self, seconds: float = SECONDS) -> None:
        """Nothing is started yet."""
        self.seconds = seconds
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._owner = 0

    def search(self, pattern: str, text: str) -> bool:
        """Whether the pattern is found in the text.

        `TooSlow` where that takes longer than ``seconds``.
        """
        question = json.dumps({"pattern": pattern, "text": text, "seconds": self.seconds})
        with self._lock:
            mine = self._owner == os.getpid()  # a forked child must not share its parent's pipe
            if self._process is None or not mine or self._process.poll() is not None:
                self._start()
            answer = self._exchange(question)
            if not answer:
                self._end()
                raise TooSlow(
                    f"pattern {pattern!r} took longer than {self.seconds:g} s "
                    f"on a response of {len(text)} characters"
                )
        return bool(json.loads(answer))

    def _start(self) -> None:
        script = Path(__file__).with_name("regex_child.py")
        command = [sys.executable, "-I", "-S", str(script)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True
        )
        self._owner = os.getpid()

    def _exchange(self, line: str) -> str:
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            return ""
        clock = (
            None if hasattr(signal, "setitimer") else threading.Timer(self.seconds, process.kill)
        )
        try:
            if clock is not None:
                clock.start()
            process.stdin.write(line + "\n")
            process.stdin.flush()
            return process.stdout.readline()
        except BrokenPipeError:
            return ""
        except BaseException:
            # Interrupted between question and answer: the answer must not meet the next question.
            self._end()
            raise
        finally:
            if clock is not None:
                clock.cancel()

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    with suppress(BrokenPipeError):
                        stream.close()
            process.wait()


_searcher = Searcher()


def search(pattern: str, text: str) -> bool:
    """Whether ``pattern`` is found in ``text``. 0.1 ms.

    `TooSlow` where that takes over `SECONDS` of processor time.

    >>> search(r"\\?$", "Why?")
    True
    """
    return _searcher.search(pattern, text)
