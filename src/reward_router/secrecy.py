"""Secrets come from the environment only.

Values that look like one are refused, and those in use never reach a message.

A configuration names the *variable* (``key_env: OPENAI_API_KEY``), never the value, because the
resolved configuration lies in every run directory. Left out: secrets without a known form under an
innocent key; nothing can tell them from any other text.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from reward_router.errors import InputError

VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
"""The name of an environment variable."""
_HOLDERS = re.compile(
    r"(?i)(.*[-_])?"
    r"(api[-_]?key|authorization|bearer|(access|auth|hf|hub|secret)[-_]?token"
    r"|password|passwd|secret|credential)s?"
)
"""Keys that hold secrets and nothing else."""
_PERHAPS = re.compile(r"(?i)(key|token|auth|x[-_]key)")
"""Keys that may hold one: they do where the value is long and has no space."""
_REFERENCE = re.compile(r"(env:|\$)?\{?[A-Z_][A-Z0-9_]*\}?")
"""A value that names a variable instead."""
_FORMS = re.compile(
    r"\b(sk-[\w-]{8,}|hf_\w{8,}|gh[pousr]_\w{8,}|AKIA[0-9A-Z]{12,}|AIza[\w-]{20,}"
    r"|xox[abp]-[\w-]{8,}|eyJ[\w-]{10,}\.[\w-]+)"
    r"|(?i:\bbearer\s+[\w.~+/-]{8,})"
)
"""How the secrets of common providers look."""
HIDDEN = "***"


def refuse_secrets(options: Mapping[str, Any], what: str) -> None:
    """Refuse options that hold a secret, in a key or a value at any depth.

    InputError, whose message does not repeat the secret.

    >>> refuse_secrets({"url": "http://localhost:8000", "key_env": "JUDGE_KEY"}, "arm 'judge'")
    """
    # The order matters: a key that holds secrets is named as such, whatever its value looks like.
    for path, value in _texts(options):
        key = path.rpartition(".")[2]
        if _holds(key, value):
            raise InputError(f"{what}: {path} holds a secret; {_ALLOWED}")
        if _FORMS.search(value) or _in_url(value):
            raise InputError(f"{what}: the value of {path} looks like a secret; {_ALLOWED}")
        if key == "key_env" and not VARIABLE.fullmatch(value):
            raise InputError(
                f"{what}: {path} is no name of an environment variable (its "
                f"value is not shown); {_ALLOWED}"
            )


_ALLOWED = "allowed is only key_env: NAME, the environment variable that holds it"


def from_environment(variable: str | None, what: str) -> str | None:
    """The secret that ``variable`` holds, None where no variable is named.

    InputError where it is not set or empty.
    """
    if variable is None:
        return None
    secret = os.environ.get(variable, "").strip()
    if not secret:
        raise InputError(
            f"{what}: key_env names {variable}, and this environment variable is not set"
        )
    return secret


def hidden(text: str, secrets: Iterable[str | None]) -> str:
    """``text`` without any of the secrets, and without whatever else looks like one.

    >>> hidden("Incorrect API key: s3cr3t-value", ["s3cr3t-value"])
    'Incorrect API key: ***'
    """
    for secret in secrets:
        # Replacing an empty text would put the mark between all letters.
        if secret:
            text = text.replace(secret, HIDDEN)
    return _FORMS.sub(HIDDEN, text)


def shown_url(url: str) -> str:
    """A URL as messages name it: without user, password, query and fragment.

    >>> shown_url("https://me:pass@host:8000/classify?key=abc")
    'https://host:8000/classify'
    """
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _in_url(value: str) -> bool:
    """Whether a text is a URL that carries a password, or a secret in its query."""
    if "://" not in value:
        return False
    try:
        parts = urlsplit(value)
    except ValueError:
        return False
    return "@" in parts.netloc or any(_holds(name, text) for name, text in parse_qsl(parts.query))


def _holds(key: str, value: str) -> bool:
    """Whether a key of this name with this value holds a secret."""
    # The name of a variable in capitals is what is wanted here, not a secret.
    if not value.strip() or _REFERENCE.fullmatch(value):
        return False
    if _HOLDERS.fullmatch(key):
        return True
    # A name that only perhaps holds one: the value has to look like it.
    has_blank = any(letter.isspace() for letter in value)
    long_word = len(value) >= 16 and not has_blank
    return bool(_PERHAPS.fullmatch(key)) and long_word


def _texts(tree: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every text of a configuration with the path to it."""
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from _texts(value, f"{path}.{key}" if path else str(key))
    elif isinstance(tree, list | tuple):
        for number, value in enumerate(tree):
            yield from _texts(value, f"{path}.{number}")
    elif isinstance(tree, str):
        yield path, tree
