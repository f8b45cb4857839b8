"""One arm a unit: the one that was drawn for it judges; another answers where that arm cannot.

One call a response, and one only where several units of an arm hold the same response. An arm
cannot answer when its request fails (it raises, returns NaN of the wrong shape, is too slow), or
when it abstains on a prompt: fewer than two of its scores are numbers, so it orders nothing. The
stand-in's scores are trained on; what the drawn arm itself said is kept beside them, because the
router learns of that arm. What no arm scored stays NaN. An audit asks the other arms as well, for
agreement figures only, and ``compare`` for a payoff that needs all labels.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from reward_router.keyed import rng
from reward_router.ledger.rows import Call
from reward_router.types import By
from reward_router.verdicts.asking import ArmReply, Asker, cells_of, note_rows, silent, zscores
from reward_router.verdicts.batch import Batch, Place, ResponseAt, Unit, Verdicts

RowOfUnit = tuple[int, int]
"""(number of a unit in its batch, row of the batch)."""


class SingleArm:
    """Every unit is judged by the arm that was drawn for it. One request an arm."""

    by = By.ROUTER

    def __init__(self, asker: Asker) -> None:
        """``asker``.

        How arms are asked, and which one is asked first where another cannot answer.
        """
        self.asker = asker

    def judge(self, batch: Batch) -> Verdicts:
        """Scores for every cell of every unit, in the drawn arm's own units or its stand-in's."""
        verdicts = batch.verdicts = Verdicts.silent(batch.units)
        drawn: dict[str, list[Place]] = {}
        for i, decision in enumerate(batch.decisions):
            places_of_arm = drawn.setdefault(decision.name, [])
            for c in range(len(batch.units[i].cells)):
                places_of_arm.append((i, c))
        # The pool's order: an arm that is in memory before one that has to be loaded.
        for arm in self.asker.pool.order(drawn):
            self._ask(batch, arm, drawn[arm], "ok")
        # A copy: stand-ins are about to write into the scores themselves.
        for cells in verdicts.scores:
            verdicts.own.append([score_N.copy() for score_N in cells])
        self._stand_in(batch)
        self._audit(batch)
        verdicts.sort_calls(batch.decisions)
        return verdicts

    def compare(self, batch: Batch, chosen: Sequence[int]) -> None:
        """Ask every other arm about the first cell of the ``chosen`` units.

        Calls of status ``compared``.
        """
        verdicts = batch.verdicts
        pool = self.asker.pool
        calls: list[Call] = []
        for arm in pool.order(set(pool.names) - _broken(batch)):
            # The drawn arm has judged its own units already.
            others = {}
            for i in chosen:
                if batch.decisions[i].name != arm:
                    others[i] = _first_cell(batch.units[i])

            known = verdicts.known.setdefault(arm, {})
            reply = self.asker.ask_the_rest(batch, arm, others.values())
            known.update(reply.score)  # NaN where it failed: it is not asked again
            if not reply.ok:
                first = batch.decisions[min(others)]
                verdicts.failures.append((first.id, arm, reply.reason))

            for i, unit in others.items():
                calls += reply.calls(batch.decisions[i], unit, "compared")
                note_rows(batch, batch.decisions[i], arm, unit)
                [(row, columns)] = unit.cells
                said_N = np.array([known[row, n] for n in columns])
                verdicts.others.setdefault(i, {})[arm] = said_N

        # In the pool's order, whatever was in memory when they were made.
        calls.sort(key=lambda call: pool.names.index(str(call.arm)))
        verdicts.calls += calls
        verdicts.sort_calls(batch.decisions)

    def _ask(self, batch: Batch, arm: str, places: Iterable[Place], status: str) -> None:
        """One request to one arm about these (unit, cell).

        A failure is recorded with every decision it concerns.
        """
        verdicts = batch.verdicts
        cells_by_unit: dict[int, list[int]] = {}
        for i, c in places:
            cells_by_unit.setdefault(i, []).append(c)
        asked = {i: _some_cells(batch.units[i], cells) for i, cells in cells_by_unit.items()}
        reply = self.asker.ask(batch, arm, cells_of(asked.values()))

        # Noise before anything is kept: all who read the scores later see the same numbers.
        if reply.ok:
            reply.score = self._noisy(batch.step, reply, status)
            known = verdicts.known.setdefault(arm, {})
            known.update(reply.score)

        for i, unit in asked.items():
            decision = batch.decisions[i]
            verdicts.calls += reply.calls(decision, unit, status)
            if not reply.ok:
                verdicts.failures.append((decision.id, arm, reply.reason))
                # A stand-in's failure is no news about the arm that was drawn.
                if decision.name == arm:
                    verdicts.failed.add(i)
                continue
            note_rows(batch, decision, arm, unit)
            for c in cells_by_unit[i]:
                self._take(batch, reply, (i, c), status)

    def _take(self, batch: Batch, reply: ArmReply, place: Place, status: str) -> None:
        """Write what the arm said of one (unit, cell) into the verdicts."""
        i, c = place
        verdicts = batch.verdicts
        row, columns = batch.units[i].cells[c]
        if row in reply.failed:
            if batch.decisions[i].name == reply.arm:
                verdicts.failed_cells.add(place)
            return
        verdicts.scores[i][c][:] = [reply.score[row, n] for n in columns]
        if status == "fallback":
            verdicts.stand_in[place] = reply.arm

    def _noisy(self, step: int, reply: ArmReply, status: str) -> dict[ResponseAt, float]:
        """The scores at unit variance over the batch with Gaussian noise (LASER section 5)."""
        score = dict(reply.score)
        noise_sd = self.asker.noise
        if noise_sd <= 0:
            return score
        # what an arm is asked about in another's stead has noise of its own
        name = reply.arm if status == "ok" else f"{reply.arm}\x1f{status}"
        scaled = zscores(score)
        draw = rng(self.asker.seed, "noise", step, name)
        noise = draw.normal(0.0, noise_sd, len(score))

        # Sorted, so that the noise of a place does not depend on the order of the request.
        for place, epsilon in zip(sorted(score), noise, strict=True):
            score[place] = scaled[place] + float(epsilon)
        return score

    def _stand_in(self, batch: Batch) -> None:
        """Other arms judge where the drawn one failed or abstained.

        The fallback first, then the others in turn.
        """
        verdicts = batch.verdicts
        unjudged: list[Place] = []
        for i, cells in enumerate(verdicts.scores):
            unjudged += [(i, c) for c, score_N in enumerate(cells) if silent(score_N)]

        # a decision none of whose rows its arm could answer teaches as little as a failed request
        for i, unit in enumerate(batch.units):
            if _all_failed(i, unit, verdicts):
                verdicts.failed.add(i)
        # An abstention is an answer, and its decision is paid; a failure is not.
        spoke_too_little = {(i, c) for i, c in unjudged if i not in verdicts.failed}
        verdicts.abstained = spoke_too_little - verdicts.failed_cells

        broken = _broken(batch)
        first = [self.asker.fallback] if self.asker.fallback else []
        for arm in dict.fromkeys([*first, *self.asker.pool.names]):
            places = [(i, c) for i, c in unjudged if batch.decisions[i].name != arm]
            if places and arm not in broken:
                self._ask(batch, arm, places, "fallback")
                unjudged = [(i, c) for i, c in unjudged if silent(verdicts.scores[i][c])]

    def _audit(self, batch: Batch) -> None:
        """All other arms on the audited rows; the calls are counted as audits."""
        own: list[RowOfUnit] = []
        for i, unit in enumerate(batch.units):
            own += [(i, row) for row, _ in unit.cells if row in batch.audited]
        # A row that several cells of a unit share is audited once.
        own = sorted(set(own))
        for arm in self.asker.pool.names:
            if arm in batch.resting:
                continue
            places = [(i, row) for i, row in own if batch.decisions[i].name != arm]
            if places:
                self._audit_by(batch, arm, places)

    def _audit_by(self, batch: Batch, arm: str, places: Sequence[RowOfUnit]) -> None:
        """One arm on these rows of these units."""
        verdicts = batch.verdicts
        units = [_cells_of_row(batch.units[i], row) for i, row in places]
        reply = self.asker.ask(batch, arm, cells_of(units))
        reply.failed = ()  # an audit of a row that failed stays an audit
        for (i, _), unit in zip(places, units, strict=True):
            decision = batch.decisions[i]
            verdicts.calls += reply.calls(decision, unit, "audit")
            if reply.ok:
                note_rows(batch, decision, arm, unit)

        # A request that failed as a whole is a failure of every decision it was made for, once.
        if not reply.ok:
            for i in dict.fromkeys(i for i, _ in places):
                decision = batch.decisions[i]
                verdicts.failures.append((decision.id, arm, reply.reason))


def _broken(batch: Batch) -> set[str]:
    """Arms that failed in this batch, or rest."""
    return {arm for _, arm, _ in batch.verdicts.failures} | batch.resting


def _all_failed(i: int, unit: Unit, verdicts: Verdicts) -> bool:
    return bool(unit.cells) and all((i, c) in verdicts.failed_cells for c in range(len(unit.cells)))


def _first_cell(unit: Unit) -> Unit:
    return Unit(unit.id, unit.cells[:1])


def _some_cells(unit: Unit, cells: Sequence[int]) -> Unit:
    return Unit(unit.id, tuple(unit.cells[c] for c in cells))


def _cells_of_row(unit: Unit, row: int) -> Unit:
    return Unit(unit.id, tuple(cell for cell in unit.cells if cell[0] == row))
