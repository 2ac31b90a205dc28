"""What could not be read, said once: gathered per GPU and reason, merged into few lines."""

from satscore.counters import nvml_ids as ids


class NoteBook:
    """Collects refusals and tells each once."""

    def __init__(self) -> None:
        self._seen: set[tuple[int, str, int]] = set()
        self._pending: dict[tuple[int, str], list[int]] = {}
        self._lines: list[str] = []
        self._said: set[str] = set()
        self._absent: set[tuple[int, str]] = set()

    def expect_absent(self, gpu: int, fields: tuple[str, ...]) -> None:
        """Declare fields that this GPU cannot have, or of which somebody else tells: that they lack is no news."""
        self._absent.update((gpu, field) for field in fields)

    def miss(self, gpu: int, what: str, code: int) -> None:
        """Note that something could not be read.

        Args:
            gpu: Index of the GPU in the run.
            what: The field or call.
            code: NVML's return code, or one of our own from nvml_ids.
        """
        key = (gpu, what, code)
        if code in (ids.NOT_SUPPORTED, ids.NO_VALUE) and (gpu, what) in self._absent:
            return
        if key not in self._seen:
            self._seen.add(key)
            self._pending.setdefault((code, what), []).append(gpu)

    def say(self, line: str) -> None:
        """Note a sentence, once."""
        if line not in self._said:
            self._said.add(line)
            self._lines.append(line)

    def drain(self) -> list[str]:
        """Return what was noted since the last call: sentences first, then one line per reason and GPUs."""
        lines, self._lines = self._lines, []
        merged: dict[tuple[int, tuple[int, ...]], list[str]] = {}
        for (code, what), gpus in self._pending.items():
            merged.setdefault((code, tuple(sorted(gpus))), []).append(what)
        self._pending = {}
        for (code, gpus_), names in sorted(merged.items(), key=lambda item: ids.code_of(item[0][0]).quality):
            meaning = ids.code_of(code)
            remedy = f" ({meaning.remedy})" if meaning.remedy else ""
            lines.append(f"{gpu_list(gpus_)}: {', '.join(sorted(names))}: {meaning.text}{remedy}")
        return lines


def gpu_list(gpus: tuple[int, ...]) -> str:
    """Return ``GPU 0``, ``GPU 0-3`` or ``GPU 0,2``."""
    if len(gpus) > 1 and gpus == tuple(range(gpus[0], gpus[-1] + 1)):
        return f"GPU {gpus[0]}-{gpus[-1]}"
    return "GPU " + ",".join(map(str, gpus))
