"""Power of the CPU and of the module beside each GPU, by the CPUs that an engine knows. Pure.

An engine that runs as root reads meters that a user may not. Which of its CPUs is a GPU's is known by their cores;
it is never guessed from their order.
"""

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from satscore.core.fields import Reading, put, put_missing
from satscore.counters import nvml_ids
from satscore.counters.dcgm import ids
from satscore.counters.dcgm.gauges import Sample
from satscore.counters.dcgm.misses import Misses
from satscore.counters.dcgm.samples import cores_of
from satscore.counters.dcgm.wire import EngineCpu, StaticValue
from satscore.counters.nvml_api import Answer
from satscore.counters.nvml_values import scaled

MOST_AGE_PERIODS = 3
"""A sample of a CPU that is older at an interval's end says nothing about it."""
_KEPT_SAMPLES = 16
"""Several seconds, also where another client has them taken more often: readings come later than samples."""


def cores_near(facts: Mapping[int, StaticValue]) -> frozenset[int]:
    """Return the cores near a GPU as the engine tells them; none if it does not tell all of them."""
    words = [word for word in map(facts.get, ids.CPU_AFFINITY) if isinstance(word, int)]
    return frozenset(cores_of(words)) if len(words) == len(ids.CPU_AFFINITY) else frozenset()


def cpu_of(cores: frozenset[int], cpus: Sequence[EngineCpu]) -> int | None:
    """Return the engine's id of the only CPU that has cores near a GPU; None if there is none, or several."""
    owners = [cpu.entity for cpu in cpus if not cores.isdisjoint(cpu.cores)]
    return owners[0] if len(owners) == 1 else None


class Modules:
    """Fills the power of CPU and module into the readings of GPUs that share a module with a CPU.

    Args:
        misses: Where refusals are told, by the GPU's index in the run; other GPUs have no such module.
        refused: Codes of fields that the engine would not watch; may change with the engine.
        period_ns: Nominal time between samples of CPUs.
    """

    def __init__(self, misses: Mapping[int, Misses], refused: Mapping[int, int], period_ns: int) -> None:
        self.cpus: dict[int, int] = {}
        """The engine's id of each GPU's CPU; a restarted engine may change it."""
        self._misses = misses
        self._refused = refused
        self._most_age_ns = MOST_AGE_PERIODS * period_ns
        self._samples: dict[tuple[int, int], deque[Sample]] = {}
        self._begun_ns: int | None = None
        """Start of the first interval since the CPUs were found."""
        self._read_w: Callable[[int], float | None] | None = None

    def use_cpu_power(self, read_w: Callable[[int], float | None]) -> None:
        """Have the CPU's power read elsewhere where the engine has none; see ``DcgmSource.use_cpu_power``."""
        self._read_w = read_w

    def match(self, cores: Mapping[int, frozenset[int]], cpus: Sequence[EngineCpu]) -> list[int]:
        """Find each GPU's CPU.

        Args:
            cores: The cores near each GPU, by its index in the run.
            cpus: What the engine reads; none, if it has no CPUs.

        Returns:
            The GPUs whose CPU is among those and not known.
        """
        found = {gpu: cpu_of(cores.get(gpu, frozenset()), cpus) for gpu in self._misses}
        self.cpus = {gpu: cpu for gpu, cpu in found.items() if cpu is not None}
        self._samples.clear()
        self._begun_ns = None
        return [gpu for gpu, cpu in found.items() if cpu is None] if cpus else []

    def take(self, cpu: int, sample: Sample) -> None:
        """Take a sample of one of the engine's CPUs; those of a field must come in the order of time."""
        self._samples.setdefault((cpu, sample.field), deque(maxlen=_KEPT_SAMPLES)).append(sample)

    def fill(self, reading: Reading) -> None:
        """Write power of CPU and module into a reading."""
        misses = self._misses.get(reading.gpu)
        if misses is None:
            return
        if self._begun_ns is None:
            self._begun_ns = reading.start_ns
        for gauge in ids.CPU_GAUGES:
            answer = self._answer(gauge, reading)
            if gauge.ids[0] == ids.CPU_POWER:
                answer = self._or_told(answer, reading)
            if answer is None:
                continue
            code, power_w = answer
            if code == ids.OK:
                put(reading, gauge.field, power_w)
            else:
                put_missing(reading, gauge.field, ids.quality_of(code))
            misses.see(reading, gauge.field, code)

    def _answer(self, gauge: ids.Gauge, reading: Reading) -> Answer | None:
        """Return what the engine tells of the end of an interval; None if it knows no CPU of this GPU."""
        field_id, cpu = gauge.ids[0], self.cpus.get(reading.gpu)
        if cpu is None:
            return None
        if field_id in self._refused:
            return self._refused[field_id], math.nan
        samples = self._samples.get((cpu, field_id), ())
        sample = next((each for each in reversed(samples) if each.at_ns <= reading.end_ns), None)
        if sample is None:
            return nvml_ids.NO_VALUE, math.nan
        if reading.end_ns - sample.at_ns > self._most_age_ns:
            return nvml_ids.UNMOVED, math.nan
        if sample.answer == (ids.OK, 0.0):  # the engine's answer for a meter that is not there
            return nvml_ids.NOT_SUPPORTED, math.nan
        return scaled(sample.answer, gauge.scale, gauge.low, gauge.high)

    def _or_told(self, answer: Answer | None, reading: Reading) -> Answer | None:
        """Return the engine's answer about a CPU's power, or what is told elsewhere where the engine has none."""
        if self._read_w is None or (answer is not None and answer[0] == ids.OK):
            return answer
        if answer is not None and answer[0] == nvml_ids.NO_VALUE and self._may_come(reading):
            return answer  # asking elsewhere in vain would be told as a want
        power_w = self._read_w(reading.gpu)
        if power_w is None:
            return answer or (nvml_ids.NO_VALUE, math.nan)
        return scaled((ids.OK, power_w), 1.0, 0.0, nvml_ids.MAX_POWER_W)

    def _may_come(self, reading: Reading) -> bool:
        """Return whether the engine's first sample of a CPU may still come."""
        return self._begun_ns is not None and reading.end_ns - self._begun_ns <= self._most_age_ns
