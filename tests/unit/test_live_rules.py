"""Hysteresis: when a finding enters and leaves the live view."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from satscore.core.live_rules import LiveRules
from satscore.core.rules import Firing

YES = Firing(fires=True, near=True)
NEAR = Firing(fires=False, near=True)
NO = Firing(fires=False, near=False)


def run(*parts: tuple[int, Firing], live: LiveRules | None = None) -> tuple[LiveRules, list[bool]]:
    """Return whether rule R held after each of (so many windows, judgement)."""
    live = live or LiveRules()
    return live, [live.add({"R": firing}) == {"R"} for count, firing in parts for _ in range(count)]


def test_enters_with_three_quarters_of_the_first_windows_but_not_before_the_eighth():
    _, held = run((20, YES))
    assert held == [False] * 7 + [True] * 13
    _, held = run((3, NO), (9, YES))
    assert held == [False] * 11 + [True]


@pytest.mark.parametrize(("fired", "enters"), [(29, False), (30, True)])
def test_enters_with_thirty_of_the_last_forty_windows(fired, enters):
    _, held = run((60, NO), (fired, YES))
    assert held[-1] == enters
    _, held = run((60, NO), (10, YES), (10, NEAR), (fired - 10, YES))
    assert held[-1] == enters, "windows between do not matter, their number does"


@pytest.mark.parametrize(("calm", "left"), [(39, False), (40, True), (41, True)])
def test_leaves_only_after_forty_windows_in_a_row_that_are_not_even_near(calm, left):
    live, _ = run((40, YES))
    assert run((calm, NO), live=live)[1][-1] != left


def test_one_window_that_is_near_begins_the_calm_again():
    live, _ = run((40, YES))
    _, held = run((39, NO), (1, NEAR), (39, NO), live=live)
    assert all(held)
    assert run((1, NO), live=live)[1] == [False]


def test_a_rule_near_its_threshold_stays_as_it_is():
    _, held = run((200, NEAR))
    assert not any(held)
    live, _ = run((40, YES))
    assert all(run((500, NEAR), live=live)[1])


def test_comes_back_like_the_first_time():
    live, _ = run((40, YES), (40, NO))
    _, held = run((30, YES), live=live)
    assert held == [False] * 29 + [True]


def test_windows_that_cannot_be_judged_neither_support_nor_clear():
    live, _ = run((40, YES))
    for _ in range(100):
        assert live.add({}) == {"R"}
    _, held = run((39, NO), live=live)
    assert all(held)
    assert live.add({}) == {"R"}
    assert live.add({"R": NO}) == set()


def test_rules_do_not_touch_each_other():
    live = LiveRules()
    for _ in range(8):
        live.add({"A": YES, "B": NO, "C": YES})
    assert live.add({}) == {"A", "C"}


@given(st.lists(st.sampled_from([YES, NEAR, NO]), max_size=300))
def test_by_the_definition(judgements):
    """Against the definition itself, on the whole history."""
    live, active = LiveRules(), False
    for n in range(1, len(judgements) + 1):
        last = judgements[max(0, n - 40) : n]
        if n >= 40 and not any(j.near for j in last):
            active = False
        elif n >= 8 and sum(j.fires for j in last) >= 0.75 * len(last):
            active = True
        assert (live.add({"R": judgements[n - 1]}) == {"R"}) == active
