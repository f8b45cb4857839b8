"""Rows of a data set on the Hugging Face Hub; only reading one imports ``datasets``."""

from collections.abc import Iterator, Mapping
from typing import Any

from reward_router.errors import InputError
from reward_router.reading.broken import Broken


def hub_rows(
    name: str, split: str, config_name: str | None
) -> Iterator[tuple[str, Mapping[str, Any] | Broken]]:
    """Rows of one split as (place, row); InputError where the data set cannot be loaded."""
    try:
        import datasets
    except ModuleNotFoundError:
        raise InputError(
            f"data {name}: no such file; and Hub data sets need datasets: "
            "pip install 'reward-router[train]'"
        ) from None
    try:
        table = datasets.load_dataset(name, config_name, split=split)
    except (
        OSError,
        ValueError,
        KeyError,
        RuntimeError,
        datasets.exceptions.DatasetsError,
    ) as error:
        what = f"{name} ({config_name})" if config_name else name
        reason = " ".join(str(error).split())
        raise InputError(
            f"data {what}, split {split!r}: no such file here, "
            f"and it cannot be loaded from the Hub: {reason}"
        ) from None
    for number, row in enumerate(table):
        yield f"{name} {split} row {number}", row
