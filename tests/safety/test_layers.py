"""Each layer of stops alone, in part (the whole: python -m tests.safety.layers), its controls, and that nothing is left out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.safety.layers import BUSES, CELLS, FAULTS, LAYERS, NOT_ASKED, cases

ROOT = Path(__file__).resolve().parents[2]
STRIDE = 3 * 3  # each test run plays every ninth cell, and every ninth control, of each bus; other ones on each


def test_every_layer_meets_every_fault_or_says_why_it_is_not_asked():
    played = {(cell.layer, cell.fault) for cell in CELLS}
    assert played | set(NOT_ASKED) == {(layer, fault) for layer in LAYERS for fault in FAULTS}
    assert not played & set(NOT_ASKED)
    assert len({(cell.layer, cell.name) for cell in CELLS}) == len(CELLS)


def test_the_tests_named_in_the_place_of_a_cell_are_there():
    for why in NOT_ASKED.values():
        for path, name in re.findall(r"(tests/\S+\.py)::(\w+)", why):
            assert f"def {name}(" in (ROOT / path).read_text(), why


@pytest.mark.parametrize("bus", BUSES)
def test_a_layer_alone_ends_its_faults_in_time_and_without_it_nobody_does(bus):
    first = 3 * list(BUSES).index(bus)
    asked = [(cell, control) for control in (False, True) for cell in CELLS[(first + 4 * control) % STRIDE :: STRIDE]]
    found = list(cases(asked, bus))
    assert [(cell.layer, cell.name, said) for cell, control, said in found if control != bool(said)] == []
    assert len(found) == 6
