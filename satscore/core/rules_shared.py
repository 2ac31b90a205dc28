"""The rule about company on a GPU: judged by looks at processes, hence also where there is no score."""

from satscore.core.facts import Facts
from satscore.core.placement import SHARED_FRAC, is_shared
from satscore.core.rules import Judgement, Rule
from satscore.core.summary import EvidenceItem


def _gpu_shared(facts: Facts) -> Judgement | None:
    if facts.shared_frac is None or not is_shared(facts.shared_frac):
        return None
    return Judgement(
        claims=(),
        evidence=(
            EvidenceItem(
                key="foreign_processes",
                name="processes of others, up to",
                value=float(facts.foreign_processes),
                unit="count",
                threshold=None,
            ),
            EvidenceItem(
                key="shared_frac",
                name="there for this share of the time judged:",
                value=facts.shared_frac,
                unit="frac",
                threshold=SHARED_FRAC,
            ),
        ),
        informational=True,
    )


GPU_SHARED = Rule(
    id="GPU_SHARED",
    title="processes of others compute on the same GPU",
    needs={"process ids on the GPU": lambda facts: facts.shared_frac},
    judge=_gpu_shared,
    action="give the run a GPU of its own",
    hint="Counters are of the whole GPU, so the work of the others is in this score: ask for the GPU exclusively, "
    "or end what is left over from an earlier run.",
    next_command="nvidia-smi --query-compute-apps=gpu_uuid,pid,name --format=csv",
    false_positives="Ranks of one job that share a GPU on purpose, each under a satscore of its own.",
)
