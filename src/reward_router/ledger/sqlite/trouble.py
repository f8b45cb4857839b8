"""What SQLite's errors mean for a ledger, and what to do."""

import sqlite3


def advice(path: str) -> str:
    """What to do with a damaged ledger."""
    return (
        f"see `reward-router ledger check {path}`; "
        f"`reward-router ledger export {path} OUT.jsonl` saves what is readable"
    )


def explain(path: str, error: sqlite3.Error) -> str:
    """What an SQLite error means for a ledger, and what to do."""
    text = str(error)
    if "is full" in text:
        return (
            f"{path}: no room ({text}); nothing of this event was written, "
            "free some space and try again"
        )
    if "malformed" in text or "not a database" in text or "disk image" in text:
        return f"{path}: damaged or cut short ({text}); {advice(path)}"

    return f"{path}: {text}"
