"""Every NVML error code at every NVML call, at open and in mid-run: nothing raises, readings stay well formed."""

import pytest

from tests.fakes.build import ROOT, FakeNvml, fake_nvml

__all__ = ["fake_nvml"]

CODES = (*range(1, 31), 999, 4242)
OPENING = (
    "nvmlInitWithFlags", "nvmlShutdown", "nvmlSystemGetDriverVersion", "nvmlSystemGetCudaDriverVersion_v2",
    "nvmlSystemGetCudaDriverVersion", "nvmlDeviceGetCount_v2", "nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetName",
    "nvmlDeviceGetUUID", "nvmlDeviceGetPciInfo_v3", "nvmlDeviceGetNumGpuCores", "nvmlDeviceGetMemoryBusWidth",
    "nvmlDeviceGetMaxClockInfo", "nvmlDeviceGetCudaComputeCapability", "nvmlDeviceGetMigMode",
    "nvmlDeviceGetMemoryInfo", "nvmlEventSetCreate", "nvmlDeviceRegisterEvents", "nvmlGpmQueryDeviceSupport",
    "nvmlGpmSampleAlloc", "nvmlDeviceGetMaxMigDeviceCount", "nvmlDeviceGetMigDeviceHandleByIndex",
    "nvmlDeviceGetMaxPcieLinkGeneration", "nvmlDeviceGetMaxPcieLinkWidth", "nvmlDeviceGetNumaNodeId",
    "nvmlDeviceGetTemperatureThreshold", "nvmlDeviceGetMarginTemperature",
)  # fmt: skip
RUNNING = (
    "nvmlDeviceGetClockInfo", "nvmlDeviceGetPowerUsage", "nvmlDeviceGetTotalEnergyConsumption",
    "nvmlDeviceGetFieldValues", "nvmlDeviceGetTemperature", "nvmlDeviceGetTemperatureV", "nvmlDeviceGetMemoryInfo_v2",
    "nvmlDeviceGetUtilizationRates", "nvmlDeviceGetEnforcedPowerLimit", "nvmlEventSetWait_v2", "nvmlEventSetFree",
    "nvmlGpmSampleGet", "nvmlGpmSampleFree", "nvmlGpmMetricsGet", "nvmlDeviceGetComputeRunningProcesses_v3",
    "nvmlDeviceGetComputeRunningProcesses_v2", "nvmlDeviceGetComputeRunningProcesses",
    "nvmlDeviceGetCurrPcieLinkGeneration", "nvmlDeviceGetCurrPcieLinkWidth", "nvmlDeviceGetPcieReplayCounter",
    "nvmlDeviceGetNvLinkState",
)  # fmt: skip

SWEEP = """
with open(os.environ["FAKE_NVML_SCRIPT"]) as file:
    base = file.read()

def attempt(opener, line):
    with open(os.environ["FAKE_NVML_SCRIPT"], "w") as file:
        file.write(base + line)
    ctypes.CDLL("libnvidia-ml.so.1").fake_nvml_reset()
    clock = FakeClock()
    try:
        source = opener(clock)
    except CounterError as error:
        return "refused" if error.message and error.hint else "refused without a remedy"
    try:
        run(source, clock, 8)
        source.processes()
        notes = source.notes()
        source.close()
        return "ok" if len(notes) == len(set(notes)) else "a note twice"
    except Exception as error:
        return repr(error)

bad, refused = [], 0
for line in LINES:
    for opener in (open_gpm, open_nvml):
        for start in (0, 0.5):
            for code in CODES:
                verdict = attempt(opener, line.format(code=code, start=start))
                refused += verdict == "refused"
                if verdict != "ok" and not (verdict == "refused" and start == 0):
                    bad.append([line, opener.__name__, start, code, verdict])
emit([bad, refused])
"""


CALLS = [f"error {function} {{code}} from {{start}}" for function in (*OPENING, *RUNNING)]
FIELDS = [
    f"field_error {e} {{code}} from {{start}}"
    for e in ("74 0", "186 0", "190 0", "191 0", "252 0", "3 0", "82 0", "91 0", "94 0", "142 0", "165 7", "194 0")
]
METRICS = [f"metric_error {metric} {{code}} from {{start}}" for metric in (5, 60)]
GPU = "lost {code} from {start}"


def sweep(fake: FakeNvml, lines: list[str], codes: tuple[int, ...] = CODES) -> int:
    bad, refused = fake.run(f"CODES = {codes}\nLINES = {lines!r}\n{SWEEP}")
    assert bad == []
    return int(refused)


def test_the_usual_codes_at_every_call(fake_nvml):
    sweep(fake_nvml, [*CALLS, GPU], (3, 4, 15, 999))


def test_the_usual_codes_at_fields_and_metrics(fake_nvml):
    assert sweep(fake_nvml, [*FIELDS, *METRICS], (2, 3, 4, 999)) == 0


@pytest.mark.slow
@pytest.mark.parametrize("line", CALLS)
def test_every_code_at_every_call(fake_nvml, line):
    refused = sweep(fake_nvml, [line])
    if line.split()[1] not in ("nvmlInitWithFlags", "nvmlDeviceGetCount_v2", "nvmlDeviceGetHandleByIndex_v2"):
        assert refused <= len(CODES)  # gauges can be read whatever else is refused


@pytest.mark.slow
@pytest.mark.parametrize("line", [*FIELDS, *METRICS])
def test_every_code_at_a_field_value_or_metric(fake_nvml, line):
    lost = 3  # a field that says 'the GPU is lost' at open leaves no GPU for GPM
    assert sweep(fake_nvml, [line]) <= lost


@pytest.mark.slow
def test_every_code_as_the_answer_of_a_whole_gpu(fake_nvml):
    sweep(fake_nvml, [GPU])


def test_the_sweep_knows_every_function_that_is_called():
    import re

    text = "".join(path.read_text() for path in (ROOT / "satscore/counters").glob("*.py"))
    called = set(re.findall(r'"(nvml[A-Z]\w+)"', text))
    called -= {"nvmlInit", "nvmlDeviceGetCount", "nvmlDeviceGetHandleByIndex"}  # the binding's own names
    assert called <= set(OPENING) | set(RUNNING)
