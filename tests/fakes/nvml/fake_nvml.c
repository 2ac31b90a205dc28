/* A fake of NVIDIA's management library at its ABI, driven by a script. For tests only.
 *
 * Built as libnvidia-ml.so.1 (tests/fakes/build.py) and found through LD_LIBRARY_PATH, it runs the stock
 * Python binding: nothing inside the program under test is replaced.
 *
 * Environment
 *   FAKE_NVML_SCRIPT  the script; without one: one bare GPU
 *   FAKE_NVML_LOG     file to which every call is appended: "<seconds> <function> <gpu or ->"
 * For tests in the same process: fake_nvml_set_time(s) stops the clock and sets it; fake_nvml_reset()
 * makes the next nvmlInit read the script anew.
 *
 * Script: one statement per line, '#' starts a comment; time T is in seconds since nvmlInit; GPU is a
 * number or '*'; CODE is an NVML return code.
 *   driver VERSION | cuda NUMBER | gpus COUNT
 *   set GPU name TEXT...
 *   set GPU KEY VALUE      cores bus_width cc_major cc_minor arch max_sm_clock max_mem_clock memory_total
 *                          memory_reserved mig gpm pci_device_id total_energy_scope pcie_generation_max
 *                          pcie_lanes_max slowdown (C) numa_node, and nvlinks: how many connections there are
 *   series GPU KEY T V [T V]...    piecewise constant from each T on; V may be nan. Keys:
 *       gpm.ID             as NVML states it: percent or MiB/s; a pair answers the mean between its samples
 *       clock.TYPE         MHz, type 1 SM, 2 memory
 *       power.SCOPE        W, scope 0 GPU, 1 module; answers field 186 and feeds energy
 *       average.SCOPE      W, answers field 185; without it 185 is not supported
 *       energy.SCOPE       W: how fast field 191 grows; defaults to power.SCOPE
 *       limit.SCOPE        W, field 190
 *       rate.ID            field ID is a counter of ns that grows by this share of time (throttle ids)
 *       field.ID.SCOPE     field ID as an unsigned 64 bit number, a signed one where it is negative
 *       temp | util | memory_used | margin (C to the highest operating temperature)
 *       pcie.generation | pcie.lanes
 *       nvlink.LINK        state of a connection, 1 where nothing is said
 *   error FUNCTION CODE [from T] [until T] [gpu N]
 *   field_error ID SCOPE CODE [from T] [until T] [gpu N]      the entry's own return code; SCOPE -1: any
 *   metric_error ID CODE [from T] [until T] [gpu N]           the metric's own return code
 *   slow FUNCTION MS [from T] [until T] [gpu N]
 *   hang FUNCTION [from T] [until T] [gpu N]
 *   lost CODE from T [until T] [gpu N]                        every call on the GPU answers CODE
 *   xid NUMBER from T [gpu N]
 *   process GPU PID        this process computes on the GPU
 *   process GPU from FILE  so do those whose ids stand in the file, which is read at each call
 *   rows of 535.54         the newest list of processes has rows of 32 bytes, as that driver filled them
 *   slice GPU UUID         MIG has cut this slice from the GPU
 *   max_metric ID          a pair with a higher metric id is refused whole (INVALID_ARGUMENT)
 *   freeze energy          the energy counters stand still
 */
#include "script.h"
#include "processes.h"
#include "links.h"

/* ---- system ---- */

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    if (!inits) {
        clock_gettime(CLOCK_MONOTONIC, &origin);
        load_script();
    }
    ENTER(-1);
    inits++;
    return OK;
}

int nvmlShutdown(void) {
    ENTER(-1);
    if (!inits) return UNINIT;
    inits--;
    return OK;
}

const char *nvmlErrorString(int code) { (void)code; return "fake error"; }

int nvmlSystemGetDriverVersion(char *out, unsigned n) { ENTER(-1); snprintf(out, n, "%s", driver); return OK; }
int nvmlSystemGetCudaDriverVersion_v2(int *out) { ENTER(-1); *out = cuda_version; return OK; }
int nvmlSystemGetCudaDriverVersion(int *out) { ENTER(-1); *out = cuda_version; return OK; }
int nvmlDeviceGetCount_v2(unsigned *out) { ENTER(-1); *out = (unsigned)n_gpus; return OK; }

int nvmlDeviceGetHandleByIndex_v2(unsigned i, Gpu **out) {
    ENTER((int)i);
    if (i >= (unsigned)n_gpus) return INVALID;
    *out = &gpus[i];
    return OK;
}

/* ---- one GPU, once ---- */

int nvmlDeviceGetName(Gpu *g, char *out, unsigned n) { ENTER(g->index); snprintf(out, n, "%s", g->name); return OK; }

int nvmlDeviceGetUUID(Gpu *g, char *out, unsigned n) {
    ENTER(g->index);
    snprintf(out, n, "%s", g->uuid);
    return OK;
}

typedef struct { char legacy[16]; unsigned domain, bus, device, id, subsystem; char bus_id[32]; } Pci;

int nvmlDeviceGetPciInfo_v3(Gpu *g, Pci *out) {
    ENTER(g->index);
    memset(out, 0, sizeof *out);
    out->bus = 1 + (unsigned)g->index;
    out->id = (unsigned)named(g, "pci_device_id", 0);
    snprintf(out->bus_id, sizeof out->bus_id, "00000000:%02X:00.0", out->bus);
    return OK;
}

int nvmlDeviceGetNumGpuCores(Gpu *g, unsigned *out) { ENTER(g->index); return give_named(g, "cores", out); }
int nvmlDeviceGetMemoryBusWidth(Gpu *g, unsigned *out) { ENTER(g->index); return give_named(g, "bus_width", out); }
int nvmlDeviceGetArchitecture(Gpu *g, unsigned *out) { ENTER(g->index); return give_named(g, "arch", out); }

int nvmlDeviceGetMaxClockInfo(Gpu *g, unsigned type, unsigned *out) {
    ENTER(g->index);
    return give_named(g, type == 2 ? "max_mem_clock" : "max_sm_clock", out);
}

int nvmlDeviceGetCudaComputeCapability(Gpu *g, int *major, int *minor) {
    ENTER(g->index);
    *major = (int)named(g, "cc_major", 9);
    *minor = (int)named(g, "cc_minor", 0);
    return OK;
}

int nvmlDeviceGetMigMode(Gpu *g, unsigned *current, unsigned *pending) {
    ENTER(g->index);
    double mode = named(g, "mig", NAN);
    if (isnan(mode)) return UNSUPPORTED;
    *current = *pending = (unsigned)mode;
    return OK;
}

/* ---- one GPU, again and again ---- */

int nvmlDeviceGetClockInfo(Gpu *g, unsigned type, unsigned *out) {
    char key[32];
    ENTER(g->index);
    snprintf(key, sizeof key, "clock.%u", type);
    return give(out, value(g->index, key));
}

int nvmlDeviceGetPowerUsage(Gpu *g, unsigned *out) { ENTER(g->index); return give(out, 1e3 * value(g->index, "power.0")); }
int nvmlDeviceGetTemperature(Gpu *g, unsigned sensor, unsigned *out) { (void)sensor; ENTER(g->index); return give(out, value(g->index, "temp")); }

int nvmlDeviceGetTemperatureV(Gpu *g, unsigned *out) {
    ENTER(g->index);
    return out[0] == 0x100000C ? give(&out[2], value(g->index, "temp")) : VERSION;
}

int nvmlDeviceGetUtilizationRates(Gpu *g, unsigned *out) {
    ENTER(g->index);
    out[1] = 0;
    return give(&out[0], value(g->index, "util"));
}

int nvmlDeviceGetEnforcedPowerLimit(Gpu *g, unsigned *out) { ENTER(g->index); return give(out, 1e3 * value(g->index, "limit.0")); }

int nvmlDeviceGetMemoryInfo(Gpu *g, unsigned long long *out) {
    ENTER(g->index);
    double used = value(g->index, "memory_used"), total = named(g, "memory_total", NAN);
    if (isnan(used) || isnan(total)) return UNSUPPORTED;
    out[0] = (unsigned long long)total;
    out[2] = (unsigned long long)(used + named(g, "memory_reserved", 0)); /* version 1 counts the reserve as used */
    out[1] = out[0] - out[2];
    return OK;
}

typedef struct { unsigned version; unsigned long long total, reserved, free, used; } Memory2;

int nvmlDeviceGetMemoryInfo_v2(Gpu *g, Memory2 *out) {
    ENTER(g->index);
    if (out->version != 0x02000028) return VERSION;
    double used = value(g->index, "memory_used"), total = named(g, "memory_total", NAN);
    if (isnan(used) || isnan(total)) return UNSUPPORTED;
    out->total = (unsigned long long)total;
    out->reserved = (unsigned long long)named(g, "memory_reserved", 0);
    out->used = (unsigned long long)used;
    out->free = out->total - out->reserved - out->used;
    return OK;
}

static double energy_mj(int gpu, int scope) {
    char key[32];
    snprintf(key, sizeof key, "energy.%d", scope);
    Series *s = find(gpu, key);
    snprintf(key, sizeof key, "power.%d", scope);
    if (!s) s = find(gpu, key);
    return s ? 1e9 * (1 + scope) + (frozen_energy ? 0 : floor(1e3 * integral(s, 0, now()))) : NAN;
}

int nvmlDeviceGetTotalEnergyConsumption(Gpu *g, unsigned long long *out) {
    ENTER(g->index);
    double v = energy_mj(g->index, (int)named(g, "total_energy_scope", 0));
    if (isnan(v)) return UNSUPPORTED;
    *out = (unsigned long long)v;
    return OK;
}

typedef union { double d; unsigned ui; unsigned long long ull; long long sll; } Value;
typedef struct { unsigned id, scope; long long timestamp, latency; unsigned type; int code; Value value; } FieldValue;

static void answer_field(int gpu, FieldValue *f) {
    char key[48];
    Series *s;
    double v = NAN;
    const char *kinds[] = {"average", "power", NULL, NULL, NULL, "limit"}; /* 185, 186, .., 190 */
    f->type = 3;
    snprintf(key, sizeof key, "field.%u.%u", f->id, f->scope);
    if ((s = find(gpu, key))) v = at(s, now());
    else if (f->id >= 185 && f->id <= 190 && kinds[f->id - 185]) {
        snprintf(key, sizeof key, "%s.%u", kinds[f->id - 185], f->scope);
        v = 1e3 * value(gpu, key);
        f->type = 1;
    } else if (f->id == 191) v = energy_mj(gpu, (int)f->scope);
    else {
        snprintf(key, sizeof key, "rate.%u", f->id);
        if (!isnan(v = nvlink_field(gpu, f->id, f->scope))) f->type = 1;
        else if ((s = find(gpu, key))) v = 1e9 + 1e9 * integral(s, 0, now());
    }
    f->code = entry_error("field_error", gpu, (int)f->id, (int)f->scope);
    if (!f->code && isnan(v)) f->code = UNSUPPORTED;
    if (f->code) return;
    f->value.ull = 0;
    if (v < 0) f->type = 4, f->value.sll = llround(v);
    else if (f->type == 1) f->value.ui = (unsigned)llround(v);
    else f->value.ull = v >= 18446744073709551615.0 ? ~0ULL : (unsigned long long)v;
}

int nvmlDeviceGetFieldValues(Gpu *g, int n, FieldValue *values) {
    ENTER(g->index);
    for (int i = 0; i < n; i++) answer_field(g->index, &values[i]);
    return OK;
}

/* ---- events ---- */

int nvmlEventSetCreate(void **set) { ENTER(-1); *set = malloc(1); return OK; }
int nvmlEventSetFree(void *set) { ENTER(-1); free(set); return OK; }
int nvmlDeviceRegisterEvents(Gpu *g, unsigned long long types, void *set) { (void)types; (void)set; ENTER(g->index); return OK; }

typedef struct { Gpu *gpu; unsigned long long type, data; unsigned gi, ci; } Event;

int nvmlEventSetWait_v2(void *set, Event *out, unsigned timeout_ms) {
    (void)set;
    ENTER(-1);
    for (int i = 0; i < n_rules; i++) {
        if (rules[i].used || !matches(&rules[i], "xid", -1)) continue;
        rules[i].used = 1;
        *out = (Event){&gpus[rules[i].gpu < 0 ? 0 : rules[i].gpu], 8, (unsigned long long)rules[i].value, 0, 0};
        return OK;
    }
    nap(timeout_ms / 1e3);
    return TIMED_OUT;
}

/* ---- GPM ---- */

typedef struct { const char *short_name, *long_name, *unit; } Info;
typedef struct { unsigned id; int code; double value; Info info; } Metric;
typedef struct { unsigned version, n; Sample *older, *newer; Metric metrics[]; } MetricsGet;

int nvmlGpmQueryDeviceSupport(Gpu *g, unsigned *out) {
    ENTER(g->index);
    if (out[0] != 1) return VERSION; /* plain 1, not the usual size-and-version word */
    out[1] = (unsigned)named(g, "gpm", 1);
    return OK;
}

int nvmlGpmSampleAlloc(Sample **out) { ENTER(-1); *out = calloc(1, sizeof **out); return OK; }
int nvmlGpmSampleFree(Sample *sample) { ENTER(-1); free(sample); return OK; }

int nvmlGpmSampleGet(Gpu *g, Sample *sample) {
    ENTER(g->index);
    *sample = (Sample){now(), g->index};
    return OK;
}

int nvmlGpmMetricsGet(MetricsGet *get) {
    if (get->version != 1) return VERSION;
    if (!get->older || !get->newer || get->older->gpu != get->newer->gpu) return INVALID;
    int gpu = get->older->gpu;
    double a = get->older->at, b = get->newer->at;
    ENTER(gpu);
    for (unsigned i = 0; i < get->n; i++)
        if ((int)get->metrics[i].id > max_metric) return INVALID;
    for (unsigned i = 0; i < get->n; i++) {
        char key[32];
        Metric *m = &get->metrics[i];
        snprintf(key, sizeof key, "gpm.%u", m->id);
        Series *s = find(gpu, key);
        m->code = entry_error("metric_error", gpu, (int)m->id, -1);
        if (!m->code && !s) m->code = UNSUPPORTED;
        if (m->code) continue;
        /* the driver's own samples are 100 ms apart: a closer pair holds nothing */
        m->value = b - a > 0.1 ? integral(s, a, b) / (b - a) : NAN;
    }
    return OK;
}
