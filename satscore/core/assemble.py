"""Put the summary together from the results of all ranks. Live and final views use the same function.

Ranks are taken one at a time and only their rows are kept, so that a job of 10,000 ranks fits where one does.
"""

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from satscore.core.attendance import with_attendance
from satscore.core.bounds import PROFILES
from satscore.core.groups import group_of
from satscore.core.headline import headline_of
from satscore.core.health import health_lines, health_of, is_well
from satscore.core.job_findings import GpuFacts, JobFindings, ScopeSums, find, find_unscored, gpu_facts
from satscore.core.job_items import by_score, mark_items, phases_item, quantiles, steady_item, suspect_item
from satscore.core.job_phases import JobPhases, label_job
from satscore.core.job_rows import WORK_LABELS, light, name_of, row_of, sums_over, without_state
from satscore.core.job_series import JobSeries, merge_series
from satscore.core.job_tree import JobTree, JobTreeBuilder
from satscore.core.job_tree_item import job_tree_item
from satscore.core.labels import ALL_LABELS, STEADY_LABELS, Label
from satscore.core.own_notes import gpu_number, is_idle, own_notes, start_note, startup_note
from satscore.core.progress import Progress, progress_of
from satscore.core.progress_numbers import job_numbers
from satscore.core.rank_blocks import RankBlocks
from satscore.core.rank_row import RankName, RankRow
from satscore.core.rank_summary import context_of, rank_summary
from satscore.core.rates import rates_of
from satscore.core.run_facts import RankResult, RunFacts
from satscore.core.stragglers import Comparison, compare
from satscore.core.summarise import GpuResult, loss_of, score_of
from satscore.core.summary import SCHEMA_VERSION, JobSummary, MethodInfo, Summary
from satscore.core.summary_gpu import GpuHealth, Rates, Score, UnusedGpu
from satscore.core.summary_job import SteadyItem
from satscore.core.sums import Sums
from satscore.core.top import TopK
from satscore.core.units import NS_PER_S, PPM, US_PER_MS, US_PER_S
from satscore.core.windows import WINDOW_NS

MOST_RANKS = 1024
"""So many ranks stand in the summary each; of more, the worst."""
WORST_RANKS = 64
STEADY_SHARE = 0.5
"""The phases told apart live are used for ranks if they found so much of the steady time that hindsight finds."""
ALL_STEADY_FRAC = 0.97
"""With so much of the run steady by hindsight ranks are judged over all of it: then they agree with the headline."""
LATE_FRAC, LATE_S = 0.01, 2.0
"""A GPU may be read for so much less of the job than the others without a word."""
MOST_NAMED = 8


def assemble(facts: RunFacts, ranks: Sequence[RankResult]) -> Summary:
    """Return the summary of a run (or of its part so far)."""
    gpus = [gpu for rank in ranks for gpu in rank.gpus]
    series = merge_series(gpu.series for gpu in gpus)
    steady_us = sum(gpu.phase_sums[Label.STEADY].total("time_us") for gpu in gpus if Label.STEADY in gpu.phase_sums)
    outline = Outline(
        series=series,
        block_s=max((gpu.blocks.length_s for gpu in gpus), default=RankBlocks().length_s),
        ranks_count=len(ranks),
        gpus_count=len(gpus),
        rank_gpus_max=max((len(rank.gpus) for rank in ranks), default=0),
        steady_us=steady_us,
    )
    return assemble_stream(facts, ranks, outline)


class Outline(msgspec.Struct, frozen=True, kw_only=True):
    """What must be known of all ranks before the first of them is taken."""

    series: JobSeries
    block_s: int
    """Longest block of any rank."""
    ranks_count: int
    gpus_count: int
    rank_gpus_max: int
    """Most GPUs that count of any rank."""
    steady_us: int
    """Time that was labelled steady while it came, over all GPUs."""


def assemble_stream(facts: RunFacts, ranks: Iterable[RankResult], outline: Outline) -> Summary:
    """Return the summary of a run whose ranks come one by one."""
    phases = label_job(outline.series, facts.marks)
    job = _Job(facts, phases, outline)
    for rank in ranks:
        job.add(rank)
    return job.summary()


class _Job:
    """What is kept of the ranks while they come.

    Args:
        facts: Of the run.
        phases: Of the job.
        outline: Of all ranks.
    """

    def __init__(self, facts: RunFacts, phases: JobPhases, outline: Outline) -> None:
        self._facts = facts
        self._phases = phases
        self._outline = outline
        self._is_steady = phases.is_steady and _tells_steady(phases, outline.steady_us)
        self._labels = STEADY_LABELS if self._is_steady else ALL_LABELS
        self._compared = STEADY_LABELS if self._is_steady else WORK_LABELS
        known_us = phases.series.total("levels_ms") * US_PER_MS // max(1, outline.gpus_count)
        self._tree = JobTreeBuilder(outline.block_s, self._labels, least_known_us=known_us // 2)
        self._span_us = round(phases.time_s(ALL_LABELS) * US_PER_S)
        self._unread_us, self._partly_read = 0, list[str]()
        self._ended_early_us = 0
        self._sums, self._whole, self._working = Sums(), Sums(), Sums()
        self._rows: list[RankRow] = []
        self._working_gpus: list[GpuFacts] = []
        self._gpus: list[GpuResult] = []
        self._unwell: list[tuple[str, GpuHealth]] = []
        self._unused: list[UnusedGpu] = []
        self._shown: dict[tuple[int, str], RankResult] = {}
        self._worst, self._reading_less = TopK(WORST_RANKS), list[tuple[int, str]]()
        self._hosts: set[str] = set()

    def add(self, rank: RankResult) -> None:
        """Take one rank."""
        self._hosts.add(rank.hostname)
        self._unused += rank.unused
        for position, gpu in enumerate(rank.gpus):
            self._add_gpu(rank, gpu, self._group(rank, position))
        self._shown[rank.rank, rank.hostname] = msgspec.structs.replace(
            rank, gpus=tuple(without_state(gpu) for gpu in rank.gpus)
        )
        if self._outline.ranks_count > MOST_RANKS:
            self._keep_worst(rank)

    def _group(self, rank: RankResult, position: int) -> str:
        """Return which GPUs one is compared with. One wrapper around a launcher has a rank per GPU."""
        many, local_rank = self._outline.rank_gpus_max, rank.local_rank
        return group_of(
            self._facts.group_by,
            rank=rank.rank * many + position,
            local_rank=(local_rank or 0) * many + position if many > 1 else local_rank,
            hostname=rank.hostname,
            world=(self._facts.attendance.expected_count or self._outline.ranks_count) * many,
        )

    def _add_gpu(self, rank: RankResult, gpu: GpuResult, group: str) -> None:
        facts, sums = self._facts, sums_over(gpu, self._labels)
        name = name_of(rank, gpu)
        self._rows.append(row_of(rank, gpu, self._compared, scored=sums, profile=facts.profile, group=group))
        self._note_extent(name, gpu.sums.total("time_us"), rank.over_us)
        self._note_health(name, gpu)
        self._tree.add(name, gpu.blocks)
        self._sums = self._sums.merge(gpu.sums)
        self._whole = self._whole.merge(sums)
        if not is_idle(gpu):
            self._working = self._working.merge(sums)
            self._working_gpus.append(gpu_facts(name, gpu, sums, facts.profile))
        self._gpus.append(light(gpu))

    def _note_extent(self, name: RankName, time_us: int, over_us: int) -> None:
        """Count the time of the job in which one of its GPUs was not read: it came late, or was lost.

        Time after the end of its command is none of these.
        """
        missing_us, least_us = self._span_us - time_us - over_us, max(LATE_FRAC * self._span_us, LATE_S * US_PER_S)
        self._ended_early_us = max(self._ended_early_us, over_us if over_us > least_us else 0)
        if missing_us > least_us:
            self._unread_us += missing_us
            if len(self._partly_read) < MOST_NAMED:
                which = f"rank {name.rank}, GPU {gpu_number(name.nvml_index, name.gpu_index)}"
                self._partly_read.append(f"{which} ({time_us / US_PER_S:.0f} s)")

    def _note_health(self, name: RankName, gpu: GpuResult) -> None:
        health = health_of(gpu.info, gpu.sums, gpu.foreign_count)
        if not is_well(health):
            number = gpu_number(name.nvml_index, name.gpu_index)
            self._unwell.append((f"{number} of rank {name.rank}" if self._outline.ranks_count > 1 else number, health))

    def _keep_worst(self, rank: RankResult) -> None:
        rows = self._rows[len(self._rows) - len(rank.gpus) :]
        for row in rows:
            self._worst.add(-1.0 if row.score_points is None else row.score_points, row.name)
        if rank.unread and len(self._reading_less) < MOST_NAMED:
            self._reading_less.append((rank.rank, rank.hostname))
        kept = {(entry.rank, entry.name.hostname) for entry in self._worst.entries} | {*self._reading_less}
        self._shown = {key: one for key, one in self._shown.items() if key in kept}

    def summary(self) -> Summary:
        """Return the summary of all that was added."""
        facts, phases = self._facts, self._phases
        context = context_of(facts, self._gpus, self._unused)
        score, rates = score_of(self._all_time(), context), rates_of(self._sums, context, self._gpus)
        has_score = score.score_pct is not None
        ranks = compare(self._rows if has_score else ())
        tree = self._tree.tree() if has_score and len(self._gpus) > 1 else None
        steady = steady_item(phases) if has_score else None
        found = self._findings(score, tree, ranks)
        progress = self._progress(rates)
        ills = health_lines(self._unwell, told={finding.id for finding in found.findings})
        notes = [*ills, *self._own_notes(score), *facts.notes, *(progress.notes if progress else [])]
        return Summary(
            schema_version=SCHEMA_VERSION,
            satscore_version=facts.satscore_version,
            data_kind=facts.data_kind,
            headline=headline_of(phases, steady, score, self._gpus, facts.dtype),
            run=facts.run,
            source=facts.source,
            method=self._method(),
            job=with_attendance(self._job(score, rates, steady, tree, ranks), facts.attendance),
            ranks=[rank_summary(rank, facts) for _, rank in sorted(self._shown.items())],
            marks=mark_items(facts.marks, phases.series.first_index) if len(phases.series) else [],
            progress=progress,
            findings=found.findings,
            not_judged=found.not_judged,
            notes=notes,
            cost=facts.cost,
        )

    def _all_time(self) -> Sums:
        """Return the sums of the job with the time in which a GPU was not read as not known."""
        profile, missing_us = self._facts.profile, self._unread_us
        totals = {"time_us": missing_us, f"hi:{profile}": missing_us * PPM} if missing_us else {}
        return self._sums.merge(Sums(totals=totals))

    def _method(self) -> MethodInfo:
        return MethodInfo(
            profile=self._facts.profile,
            resources=list(PROFILES[self._facts.profile]),
            window_s=WINDOW_NS / NS_PER_S,
            dtype=self._facts.dtype,
            group_by=self._facts.group_by,
        )

    def _job(
        self, score: Score, rates: Rates, steady: SteadyItem | None, tree: JobTree | None, ranks: Comparison
    ) -> JobSummary:
        """Return the block of the job; without a score ``ranks`` has no rows."""
        scored = by_score(ranks.rows)
        scope: Literal["steady", "total"] = "steady" if self._is_steady else "total"
        return JobSummary(
            ranks_count=self._outline.ranks_count,
            nodes_count=len(self._hosts),
            gpus_count=len(self._gpus),
            gpus_scored_count=len(scored),
            score=score,
            loss=loss_of(self._sums, self._facts.profile, score),
            rates=rates,
            host=self._facts.hosts.item(),
            worst=scored[0] if scored else None,
            best=scored[-1] if scored else None,
            over_gpus=quantiles(self._rows),
            phases=phases_item(self._phases) if score.score_pct is not None else None,
            steady=steady,
            tree=job_tree_item(tree, scope, self._whole, ranks.idle_frac) if tree else None,
            suspects=[suspect_item(suspect) for suspect in ranks.suspects[:WORST_RANKS]],
            suspects_count=len(ranks.suspects),
        )

    def _findings(self, score: Score, tree: JobTree | None, ranks: Comparison) -> JobFindings:
        known = [gpu.shared_frac for gpu in self._gpus if gpu.shared_frac is not None]
        shared = 0.0 if self._facts.data_kind == "simulated" else max(known, default=None)
        company = shared, max((gpu.foreign_count for gpu in self._gpus), default=0)
        sums = ScopeSums(whole=self._whole, working=self._working)
        if score.score_pct is None:  # without a score nothing has points, and nobody is compared
            return find_unscored(self._facts, sums, self._working_gpus, company)
        return find(self._facts, self._phases, tree, sums, ranks, self._working_gpus, company)

    def _progress(self, rates: Rates) -> Progress | None:
        state, series = self._facts.progress, self._phases.series
        return progress_of(state, job_numbers(series, state.range_ns, rates, self._gpus, self._facts.dtype))

    def _own_notes(self, score: Score) -> list[str]:
        facts = self._facts
        missed = start_note(facts.run) if facts.data_kind == "measured" else None
        notes = own_notes(self._gpus, score, dtype=facts.dtype, interval_mean_s=facts.source.interval_mean_s)
        groups = {row.group for row in self._rows}
        if 1 < len(self._rows) == len(groups):
            notes.append(f"--group-by {facts.group_by}: every GPU is alone in its group, so none can be named as slow")
        if self._ended_early_us:
            notes.append(
                f"commands of ranks ended up to {self._ended_early_us / US_PER_S:.0f} s before the last one: "
                "what their GPUs did afterwards is in no number"
            )
        if self._partly_read:
            notes.append(
                f"of {self._span_us / US_PER_S:.0f} s only a part was read of {', '.join(self._partly_read)}: "
                "the rest counts as not known, and these are not compared with the others"
            )
        phases = self._phases
        start_s = 0.0 if phases.is_steady else phases.time_s((Label.STARTUP,))
        begun = startup_note(start_s, phases.time_s(ALL_LABELS))
        return [note for note in (missed, begun) if note] + notes


def _tells_steady(phases: JobPhases, steady_us: int) -> bool:
    """Return whether the windows labelled steady while they came stand for the steady phase better than all do."""
    time_us = phases.series.total("time_ms", phases.chosen(STEADY_LABELS)) * US_PER_MS
    whole_us = phases.series.total("time_ms") * US_PER_MS
    return not phases.is_marked and STEADY_SHARE * time_us <= steady_us and time_us < ALL_STEADY_FRAC * whole_us
