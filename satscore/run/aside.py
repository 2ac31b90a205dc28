"""What is known of a run beside its counters: what the command said, what the hosts did."""

from dataclasses import dataclass

from satscore.core.hosts import NOT_READ, Hosts
from satscore.record.marks_file import NOTHING_SAID, Said


@dataclass(frozen=True, slots=True, kw_only=True)
class Aside:
    """Evidence for a summary; no score depends on it."""

    said: Said = NOTHING_SAID
    hosts: Hosts = NOT_READ


NOTHING_ASIDE = Aside()
