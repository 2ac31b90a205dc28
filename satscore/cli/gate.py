"""What ``--fail-under`` makes of a score, for a run, a watch and a report alike."""

from satscore.core.gate import caveat, judge
from satscore.errors import EXIT_UNDECIDED
from satscore.launch.stderr import say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from satscore.core.summary import Summary


def pass_gate(summary: "Summary | None", lowest_pct: float | None) -> int:
    """Return 0 if a score passes, else 3 or 5; what there is to say is said, ``--quiet`` or not.

    Args:
        summary: The result; None: there is none, or it did not come in time.
        lowest_pct: The lowest score that passes, points of 100; None: there is no gate.
    """
    if lowest_pct is None:
        return 0
    refusal = judge(summary, lowest_pct)
    status = refusal.exit_code if refusal else 0
    # Without a score there is nothing that could be taken for a measured one.
    told = caveat(summary, lowest_pct) if summary is not None and status != EXIT_UNDECIDED else None
    for text in filter(None, (told, refusal.text if refusal else None)):
        say(f"satscore: {text}")
    return status
