"""A module of CPU and GPU under one power limit: the CPU takes what it needs, the GPU gets the rest."""

from typing import NamedTuple

REST_W = 15.0
"""Module power that is neither GPU nor CPU, W."""
_FOREVER_S = 1e12


class CpuLoad(NamedTuple):
    """Power of the CPU: its levels in turn, each for the same time, again and again from time 0."""

    levels_w: tuple[float, ...]
    level_s: float = _FOREVER_S

    def energy_j(self, at_s: float) -> float:
        """Return the energy in J from time 0 to a time in s."""
        done = int(at_s // self.level_s)
        rounds, k = divmod(done, len(self.levels_w))
        whole_j = self.level_s * (rounds * sum(self.levels_w) + sum(self.levels_w[:k]))
        return whole_j + (at_s - done * self.level_s) * self.levels_w[k]


class Module(NamedTuple):
    """The CPU beside the GPU and the limit that both share."""

    limit_w: float
    cpu: CpuLoad

    def caps_w(self, gpu_cap_w: float) -> list[float]:
        """Return the cap on the GPU in W for each level of the CPU's load.

        Args:
            gpu_cap_w: Limit of the GPU's own scope, W.
        """
        return [min(gpu_cap_w, self.limit_w - level_w - REST_W) for level_w in self.cpu.levels_w]

    def beside_gpu_j(self, at_s: float) -> float:
        """Return the module's energy in J beside the GPU's, from time 0 to a time in s."""
        return self.cpu.energy_j(at_s) + REST_W * at_s
