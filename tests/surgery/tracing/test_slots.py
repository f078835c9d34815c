from __future__ import annotations

import numpy as np

from edgecr.surgery.tracing.slots import Ledger


def test_roots_agree_with_a_plain_union_find() -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        ledger = Ledger()
        ledger.fresh(40)
        parent = list(range(40))

        def find(one: int, parent: list[int] = parent) -> int:
            while parent[one] != one:
                one = parent[one]
            return one

        for _ in range(random.integers(1, 12)):
            left, right = random.integers(0, 40, (2, 3))
            ledger.tie(left, right, "test")
            for one, other in zip(left, right):
                low, high = sorted((find(int(one)), find(int(other))))
                parent[high] = low
        assert ledger.roots().tolist() == [find(one) for one in range(40)]


def test_freezing_one_slot_freezes_all_that_are_tied_to_it() -> None:
    ledger = Ledger()
    ids = ledger.fresh(4)
    ledger.tie(ids[:2], ids[2:], "test")
    ledger.freeze(ids[3:], "test")
    roots = ledger.roots()
    assert ledger.frozen(roots)[roots].tolist() == [False, True, False, True]


def test_all_slots_of_a_freeze_are_frozen() -> None:
    ledger = Ledger()
    ids = ledger.fresh(5)
    ledger.freeze(ids[1:4], "test")
    assert ledger.frozen(ledger.roots()).tolist() == [False, True, True, True, False]
