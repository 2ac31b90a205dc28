"""What satscore itself used in a job: a wrapper per rank, one number for all."""

from collections.abc import Sequence

from satscore.core.summary import Cost

NO_COST = Cost(cpu_s=None, cpu_pct_of_core=None, rss_max_bytes=None, read_mean_s=None, recording_bytes=None)


def job_cost(costs: Sequence[Cost]) -> Cost:
    """Return the cost of several ranks: CPU time and files add up, shares of a core are means, memory is the largest.

    Args:
        costs: Of the ranks whose end is known.
    """
    if len(costs) < 2:
        return costs[0] if costs else NO_COST
    shares = [cost.cpu_pct_of_core for cost in costs if cost.cpu_pct_of_core is not None]
    reads_s = [cost.read_mean_s for cost in costs if cost.read_mean_s is not None]
    recorded = [cost.recording_bytes for cost in costs if cost.recording_bytes is not None]
    return Cost(
        cpu_s=sum(cost.cpu_s for cost in costs if cost.cpu_s is not None),
        cpu_pct_of_core=sum(shares) / len(shares) if shares else None,
        rss_max_bytes=max((cost.rss_max_bytes for cost in costs if cost.rss_max_bytes is not None), default=None),
        read_mean_s=sum(reads_s) / len(reads_s) if reads_s else None,
        recording_bytes=sum(recorded) if recorded else None,
        helper_cpu_s=sum(cost.helper_cpu_s for cost in costs),
        helper_rss_max_bytes=max(cost.helper_rss_max_bytes for cost in costs),
        ranks_count=len(costs),
        cpu_max_pct_of_core=max(shares, default=None),
    )
