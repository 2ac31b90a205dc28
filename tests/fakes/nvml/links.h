/* PCIe, NVLink and what else the fake library tells of a GPU's health. Included by fake_nvml.c only. */

int nvmlDeviceGetMaxPcieLinkGeneration(Gpu *g, unsigned *out) { ENTER(g->index); return give_named(g, "pcie_generation_max", out); }
int nvmlDeviceGetMaxPcieLinkWidth(Gpu *g, unsigned *out) { ENTER(g->index); return give_named(g, "pcie_lanes_max", out); }
int nvmlDeviceGetCurrPcieLinkGeneration(Gpu *g, unsigned *out) { ENTER(g->index); return give(out, value(g->index, "pcie.generation")); }
int nvmlDeviceGetCurrPcieLinkWidth(Gpu *g, unsigned *out) { ENTER(g->index); return give(out, value(g->index, "pcie.lanes")); }
int nvmlDeviceGetPcieReplayCounter(Gpu *g, unsigned *out) { ENTER(g->index); return give(out, value(g->index, "field.94.0")); }
int nvmlDeviceGetNumaNodeId(Gpu *g, unsigned *out) { ENTER(g->index); return give_named(g, "numa_node", out); }

int nvmlDeviceGetTemperatureThreshold(Gpu *g, unsigned threshold, unsigned *out) {
    ENTER(g->index);
    return threshold == 1 ? give_named(g, "slowdown", out) : UNSUPPORTED;
}

int nvmlDeviceGetMarginTemperature(Gpu *g, int *out) {
    ENTER(g->index);
    if (out[0] != 0x1000008) return VERSION;
    double margin = value(g->index, "margin");
    if (isnan(margin)) return UNSUPPORTED;
    out[1] = (int)margin;
    return OK;
}

static double nvlink_state(int gpu, unsigned link) {
    char key[32];
    snprintf(key, sizeof key, "nvlink.%u", link);
    Series *s = find(gpu, key);
    if (link >= (unsigned)named(&gpus[gpu], "nvlinks", 0)) return NAN;
    return s ? at(s, now()) : 1;
}

int nvmlDeviceGetNvLinkState(Gpu *g, unsigned link, unsigned *out) { ENTER(g->index); return give(out, nvlink_state(g->index, link)); }

/* Fields 91 (how many connections there are) and 165 (the state of one): NAN for others. */
static double nvlink_field(int gpu, unsigned id, unsigned scope) {
    if (id == 91) return named(&gpus[gpu], "nvlinks", NAN);
    return id == 165 ? nvlink_state(gpu, scope) : NAN;
}
