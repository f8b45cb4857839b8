"""Several sets of records as one.

So a method can learn on some of their rows and be judged on others. Arms are those that every set
has. One prompt text is one prompt wherever it stands, and a prompt that is judged teaches nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from reward_router.errors import InputError
from reward_router.replay.records import Records, Tag
from reward_router.types import Float, Int


@dataclass(frozen=True)
class Parts:
    """Rows to learn from and rows to be judged on, of one set of records.

    Args:
        train_P: numbers of the rows to learn from.
        test_P: numbers of the rows to be judged on.
        judged: the latter alone.
        goes_on: online routers are paid for the judged rows as well, and go on learning there.
        shared: training rows that were left out because their prompt is judged.
    """

    train_P: Int
    test_P: Int
    judged: Records
    goes_on: bool = False
    shared: int = 0

    def in_turn(self, blocks: Sequence[Int]) -> list[Int]:
        """The rows to learn from, then those that are judged.

        Each block by block in the order given; other rows are left out.
        """
        n_rows = sum(map(len, blocks))
        ordered = []
        for chosen_P in (self.train_P, self.test_P):
            chosen = np.zeros(n_rows, dtype=bool)
            chosen[chosen_P] = True
            among = (rows[chosen[rows]] for rows in blocks)
            ordered += [rows for rows in among if len(rows)]
        return ordered

    def places(self, visit_P: Int) -> Int:
        """Where the judged rows stand in ``judged``, in the order in which a run visits them."""
        last_row = int(max(self.train_P.max(), self.test_P.max()))
        # -1 where a row is not judged.
        place_P = np.full(last_row + 1, -1)
        place_P[self.test_P] = np.arange(len(self.test_P))

        visited = place_P[visit_P]
        return np.asarray(visited[visited >= 0])


def parts_of(
    records: Records,
    tested_P: NDArray[np.bool_],
    name: str,
    goes_on: bool = False,
    keep_shared: bool = False,
) -> Parts:
    """Judge the rows where ``tested_P`` is true and learn from the others.

    Rows whose prompt is judged teach nothing, unless ``keep_shared``. ``InputError`` where nothing
    is left on one side.
    """
    # A prompt that is judged anywhere is judged as a whole: its other rows would give it away.
    judged_G = np.zeros(records.n_groups, dtype=bool)
    judged_G[records.group_P[tested_P]] = True
    of_judged_prompt_P = judged_G[records.group_P]
    shared_P = ~tested_P & of_judged_prompt_P
    if keep_shared:
        shared_P = np.zeros_like(shared_P)

    learned_P = ~tested_P & ~shared_P
    train_P = np.flatnonzero(learned_P)
    test_P = np.flatnonzero(tested_P)
    n_shared = int(shared_P.sum())
    if not len(train_P) or not len(test_P):
        side = "learn from" if not len(train_P) else "judge"
        raise InputError(f"{name}: no row is left to {side} ({n_shared} rows stand on both sides)")
    return Parts(train_P, test_P, records.take(test_P, name), goes_on, n_shared)


def joined(several: Sequence[Records]) -> tuple[Records, Int]:
    """All rows of several sets with the arms they share, and the number of each row's set.

    ``InputError`` where fewer than two arms stand in every set.
    """
    shared = set(several[0].arms).intersection(*(records.arms for records in several))
    arms = [arm for arm in several[0].arms if arm in shared]
    if len(arms) < 2:
        names = ", ".join(records.name for records in several)
        raise InputError(
            f"{names}: {len(arms)} arms stand in all of them "
            f"({', '.join(arms) or 'none'}), at least 2 needed"
        )
    same = [with_arms(records, arms) for records in several]
    codes, categories = _renumbered([(r.category_P, r.categories) for r in same])
    sources, source_names = _renumbered([_source(r) for r in same])
    keys = np.concatenate([_keys(r, i)[r.group_P] for i, r in enumerate(same)])
    _, first_G, group_P = np.unique(keys, return_index=True, return_inverse=True)
    # Texts are kept where every set has them: half of them would be no feature.
    prompts: list[str] = []
    if all(r.prompts for r in same):
        row_prompts: list[str] = []
        for records in same:
            row_prompts += [records.prompts[g] for g in records.group_P]
        prompts = [row_prompts[p] for p in first_G]
    responses: list[tuple[str, str]] = []
    if all(r.responses for r in same):
        responses = list(chain.from_iterable(r.responses for r in same))
    tags = {}
    for column in same[0].tags:
        tags[column] = _renumbered([r.tags[column] for r in same])
    together = replace(
        same[0],
        name=" + ".join(r.name for r in same),
        first_PK=np.concatenate([r.first_PK for r in same]),
        second_PK=np.concatenate([r.second_PK for r in same]),
        label_P=np.concatenate([r.label_P for r in same]),
        group_P=group_P.astype(np.int64),
        category_P=codes,
        categories=categories,
        cost_PK=_prices(same),
        prompts=tuple(prompts),
        responses=tuple(responses),
        problems=tuple(chain.from_iterable(r.problems for r in same)),
        n_broken=sum(r.n_broken for r in same),
        n_identical=sum(r.n_identical for r in same),
        n_ties=sum(r.n_ties for r in same),
        official={},
        source_P=sources,
        sources=source_names,
        key_G=keys[first_G],
        length_P2=np.concatenate([_lengths(r) for r in same]),
        tags=tags,
    )
    return together, np.repeat(np.arange(len(same)), [len(r) for r in same])


def with_arms(records: Records, arms: Sequence[str]) -> Records:
    """The same rows with these arms only, in this order."""
    columns = [records.arms.index(arm) for arm in arms]
    return replace(
        records,
        arms=tuple(arms),
        first_PK=records.first_PK[:, columns],
        second_PK=records.second_PK[:, columns],
        cost_PK=None if records.cost_PK is None else records.cost_PK[:, columns],
    )


def _source(records: Records) -> Tag:
    if records.source_P is None:
        return np.zeros(len(records), dtype=np.int64), (records.name,)
    return records.source_P, records.sources


def _keys(records: Records, number: int) -> NDArray[np.uint64]:
    """A number a prompt; prompts of sets that were made without keys are their own."""
    if records.key_G is not None:
        return records.key_G
    return np.arange(records.n_groups, dtype=np.uint64) + np.uint64((number + 1) << 40)


def _lengths(records: Records) -> Float:
    return np.full((len(records), 2), np.nan) if records.length_P2 is None else records.length_P2


def _prices(several: Sequence[Records]) -> Float | None:
    if all(records.cost_PK is None for records in several):
        return None
    return np.concatenate([np.array(records.price_PK) for records in several])


def _renumbered(tags: Sequence[Tag]) -> Tag:
    """Codes of several sets over one list of values."""
    every_name = chain.from_iterable(names for _, names in tags)
    values = tuple(dict.fromkeys(every_name))
    number = {value: n for n, value in enumerate(values)}

    codes = []
    for code_P, names in tags:
        # Each set has codes of its own; its names lead to the common ones.
        number_of_code = np.array([number[name] for name in names], dtype=np.int64)
        codes.append(number_of_code[code_P])
    return np.concatenate(codes), values
