"""Low stretches in the beat of the steps belong to the level; checkpoints among them are dips all the same."""

import numpy as np
import pytest

from satscore.core.labels import Label
from satscore.core.levels import without_rhythm
from satscore.core.online_phases import OnlinePhases
from satscore.core.phases import find_phases

STEP_S, LOW_S = 10, 4


def steps(n: int, low_s: int = LOW_S, step_s: int = STEP_S) -> np.ndarray:
    """Return n windows of steps that end low."""
    return np.where(np.arange(n) % step_s < step_s - low_s, 0.6, 0.05)


def online(sat: np.ndarray) -> list[Label]:
    phases = OnlinePhases()
    out = [label for i, u in enumerate(sat) for _, label in phases.add(i, float(u), 1.0)]
    return out + [label for _, label in phases.flush()]


@pytest.mark.parametrize("low_s", [2, 3, 4, 5])
def test_what_every_step_waits_for_is_no_dip(low_s):
    sat = steps(900, low_s)
    found = find_phases(sat, np.ones(900))
    assert found.dips == ()
    steady = sat[found.labels == Label.STEADY]
    assert len(steady) > 850
    assert steady.mean() == pytest.approx(sat.mean(), abs=0.01)


def test_a_checkpoint_between_such_steps_is_one():
    sat = steps(900)
    for at in (300, 500, 700):
        sat[at : at + 20] = 0.0
    dips = find_phases(sat, np.ones(900)).dips
    assert [dip.start // 100 for dip in dips] == [2, 4, 6] or [dip.start // 100 for dip in dips] == [3, 5, 7]


@pytest.mark.parametrize(("gap", "count"), [(59, 0), (60, 15)])
def test_it_is_a_matter_of_how_often(gap, count):
    low = np.array([[at, at + 5] for at in range(0, 15 * gap, gap)])
    assert len(without_rhythm(low)) == count


def test_two_low_stretches_are_no_rhythm():
    low = np.array([[100, 105], [120, 125]])
    assert (without_rhythm(low) == low).all()


def test_online_only_the_first_low_of_a_rhythm_is_a_dip():
    sat = np.concatenate([np.full(200, 0.6), steps(700, LOW_S, 20)])
    labels = online(sat)
    assert labels.count(Label.DIP) <= LOW_S + 2
    assert labels[300:880].count(Label.STEADY) == 580


def test_online_a_dip_every_two_minutes_stays_one():
    sat = np.concatenate([np.full(200, 0.6), steps(720, 10, 120)])
    assert 50 <= online(sat).count(Label.DIP) <= 60
