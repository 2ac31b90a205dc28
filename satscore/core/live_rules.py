"""Hysteresis of the live view: a finding enters on a quorum of windows and leaves after a long calm.

Without it a finding near its threshold would come and go with every window.
"""

from collections import deque
from collections.abc import Mapping

from satscore.core.rules import Firing

FACTS_SPAN_S = 10
"""Each window is judged by the facts of so many seconds up to it: a window of 1 s is shorter than most training
steps, and what alternates within a step (a stall, a collective) would never fire in three quarters of them."""
WINDOWS = 40
QUORUM_FRAC = 0.75
"""30 of the last 40 windows; the same share where there are fewer so far."""
FEWEST_WINDOWS = 8
"""Nothing enters before a rule was judged so often."""


class _State:
    """One rule: whether it fired in its last windows, and for how many it was not even near."""

    def __init__(self) -> None:
        self.fired = deque[bool](maxlen=WINDOWS)
        self.calm = 0
        self.active = False

    def add(self, firing: Firing) -> None:
        self.fired.append(firing.fires)
        self.calm = 0 if firing.near else self.calm + 1
        if self.calm >= WINDOWS:
            self.active = False
        elif len(self.fired) >= FEWEST_WINDOWS and sum(self.fired) >= QUORUM_FRAC * len(self.fired):
            self.active = True


class LiveRules:
    """Which rules on counters hold now. Rules of the whole run hold by themselves and do not come here.

    State is 40 bits per rule, however long the run is.
    """

    def __init__(self) -> None:
        self._states: dict[str, _State] = {}

    def add(self, judged: Mapping[str, Firing]) -> frozenset[str]:
        """Take the judgements of one window (``rules.firings`` of FACTS_SPAN_S up to it); return what holds.

        Args:
            judged: By rule. A rule that could not be judged is left out: the window neither supports nor
                clears it, for what is unknown is no calm.

        Returns:
            Ids of the rules that hold.
        """
        for rule, firing in judged.items():
            self._states.setdefault(rule, _State()).add(firing)
        return frozenset(rule for rule, state in self._states.items() if state.active)
