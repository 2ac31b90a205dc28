"""All rules; docs/findings.md is made from them."""

from satscore.core.rules_comm import COMM_RULES
from satscore.core.rules_compute import COMPUTE_RULES
from satscore.core.rules_host import HOST_RULES
from satscore.core.rules_model import Rule
from satscore.core.rules_phases import PHASE_RULES
from satscore.core.rules_power import POWER_RULES
from satscore.core.rules_ranks import RANK_RULES
from satscore.core.rules_trust import TRUST_RULES

RULES: tuple[Rule, ...] = (
    *HOST_RULES,
    *COMPUTE_RULES,
    *COMM_RULES,
    *RANK_RULES,
    *POWER_RULES,
    *PHASE_RULES,
    *TRUST_RULES,
)
