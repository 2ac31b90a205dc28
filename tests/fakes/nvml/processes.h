/* Slices of GPUs and the processes that compute on GPUs (statements: fake_nvml.c). Included by fake_nvml.c only. */

int nvmlDeviceGetMaxMigDeviceCount(Gpu *g, unsigned *out) { ENTER(g->index); *out = 7; return OK; }

int nvmlDeviceGetMigDeviceHandleByIndex(Gpu *g, unsigned i, Gpu **out) {
    ENTER(g->index);
    for (int k = 0; k < n_slices; k++)
        if (slices[k].index == g->index && !i--) return *out = &slices[k], OK;
    return NOT_FOUND;
}

typedef struct { unsigned pid; unsigned long long memory; unsigned gi, ci; } Running;
typedef struct { unsigned pid; unsigned long long memory; } Running1;

static int pids_on(const Gpu *g, unsigned *pids, int room) {
    int n = 0;
    for (int k = 0; k < n_processes && n < room; k++) {
        const Process *p = &processes[k];
        if (p->gpu >= 0 && p->gpu != g->index) continue;
        if (!p->file[0]) pids[n++] = (unsigned)p->pid;
        FILE *file = p->file[0] ? fopen(p->file, "r") : NULL;
        while (file && n < room && fscanf(file, "%u", &pids[n]) == 1) n++;
        if (file) fclose(file);
    }
    return n;
}

/* Driver 535.54 appended a field to the rows of _v3, and clients of older headers read every other row wrong. */
static size_t newest_row(void) { return sizeof(Running) + (long_rows ? sizeof(unsigned long long) : 0); }

static int running(const Gpu *g, unsigned *count, char *out, size_t row) {
    unsigned pids[MAX_PROCESSES];
    int n = pids_on(g, pids, MAX_PROCESSES), room = (int)*count;
    *count = (unsigned)n;
    if (n > room) return INSUFFICIENT;
    for (int i = 0; i < n; i++) {
        memset(out + i * row, 0xff, row); /* no memory known, no instance */
        memcpy(out + i * row, &pids[i], sizeof pids[i]);
    }
    return OK;
}

int nvmlDeviceGetComputeRunningProcesses(Gpu *g, unsigned *n, char *out) { ENTER(g->index); return running(g, n, out, sizeof(Running1)); }
int nvmlDeviceGetComputeRunningProcesses_v2(Gpu *g, unsigned *n, char *out) { ENTER(g->index); return running(g, n, out, sizeof(Running)); }
int nvmlDeviceGetComputeRunningProcesses_v3(Gpu *g, unsigned *n, char *out) { ENTER(g->index); return running(g, n, out, newest_row()); }
