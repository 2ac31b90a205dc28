/* The script of the fake library (grammar: fake_nvml.c): its statements, values over time, and what it
 * does to a call. Included by fake_nvml.c only. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { OK = 0, UNINIT = 1, INVALID = 2, UNSUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT = 7, TIMED_OUT = 10, VERSION = 25 };
enum { MAX_GPUS = 16, MAX_SERIES = 2048, MAX_RULES = 512, MAX_NAMED = 32, MAX_PROCESSES = 256, MAX_SLICES = 64 };

typedef struct { char key[32]; int gpu, n, room; double *t, *v; } Series;
typedef struct { char kind[16], name[64]; int gpu, id, scope; double value, from, until; int used; } Rule;
typedef struct { char key[32]; double value; } Named;
typedef struct { int index; char name[96], uuid[96]; Named named[MAX_NAMED]; int n_named; } Gpu;
typedef struct { int gpu, pid; char file[256]; } Process;
typedef struct { double at; int gpu; } Sample;

static Gpu gpus[MAX_GPUS];
static Series series[MAX_SERIES];
static Rule rules[MAX_RULES];
static Process processes[MAX_PROCESSES];
static Gpu slices[MAX_SLICES]; /* index: that of the GPU they are cut from */
static int n_gpus = 1, max_metric = 1 << 30, n_series, n_rules, n_processes, n_slices, inits, cuda_version = 13000, log_fd = -1, frozen_energy, long_rows;
static char driver[80] = "580.65.06";
static struct timespec origin;
static double manual_time = -1;

/* ---- time, script ---- */

static double now(void) {
    struct timespec t;
    if (manual_time >= 0) return manual_time;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)(t.tv_sec - origin.tv_sec) + 1e-9 * (double)(t.tv_nsec - origin.tv_nsec);
}

void fake_nvml_set_time(double seconds) { manual_time = seconds; }
void fake_nvml_reset(void) { inits = 0; }

static int gpu_number(const char *text) { return text && text[0] != '*' ? atoi(text) : -1; }

static void set_named(Gpu *gpu, const char *key, double value) {
    int i = 0;
    while (i < gpu->n_named && strcmp(gpu->named[i].key, key)) i++;
    if (i == MAX_NAMED) return;
    if (i == gpu->n_named) gpu->n_named++;
    snprintf(gpu->named[i].key, sizeof gpu->named[i].key, "%s", key);
    gpu->named[i].value = value;
}

static double named(const Gpu *gpu, const char *key, double fallback) {
    for (int i = 0; i < gpu->n_named; i++)
        if (!strcmp(gpu->named[i].key, key)) return gpu->named[i].value;
    return fallback;
}

static void parse_set(char *rest) {
    int gpu = gpu_number(strtok(rest, " \t"));
    char *key = strtok(NULL, " \t"), *value = strtok(NULL, "");
    if (!key || !value) return;
    for (int g = 0; g < MAX_GPUS; g++) {
        if (gpu >= 0 && gpu != g) continue;
        if (!strcmp(key, "name")) snprintf(gpus[g].name, sizeof gpus[g].name, "%s", value);
        else set_named(&gpus[g], key, strtod(value, NULL));
    }
}

static void parse_series(char *rest) {
    if (n_series == MAX_SERIES) return;
    Series *s = &series[n_series];
    char *gpu = strtok(rest, " \t"), *key = strtok(NULL, " \t"), *t, *v;
    if (!key) return;
    s->gpu = gpu_number(gpu);
    snprintf(s->key, sizeof s->key, "%s", key);
    while ((t = strtok(NULL, " \t")) && (v = strtok(NULL, " \t"))) {
        if (s->n == s->room) {
            s->room = s->room ? 2 * s->room : 8;
            s->t = realloc(s->t, sizeof(double) * (size_t)s->room);
            s->v = realloc(s->v, sizeof(double) * (size_t)s->room);
        }
        s->t[s->n] = strtod(t, NULL);
        s->v[s->n++] = strtod(v, NULL);
    }
    n_series++;
}

static void parse_rule(const char *kind, char *rest) {
    if (n_rules == MAX_RULES) return;
    Rule *r = &rules[n_rules++];
    memset(r, 0, sizeof *r);
    snprintf(r->kind, sizeof r->kind, "%s", kind);
    r->gpu = -1, r->until = INFINITY;
    char *word = strtok(rest, " \t");
    int place = 0;
    for (; word; word = strtok(NULL, " \t")) {
        if (!strcmp(word, "from")) r->from = strtod(strtok(NULL, " \t"), NULL);
        else if (!strcmp(word, "until")) r->until = strtod(strtok(NULL, " \t"), NULL);
        else if (!strcmp(word, "gpu")) r->gpu = gpu_number(strtok(NULL, " \t"));
        else if (place == 0) snprintf(r->name, sizeof r->name, "%s", word), r->id = atoi(word), r->value = r->id, place++;
        else if (place == 1) r->scope = atoi(word), r->value = strtod(word, NULL), place++;
        else r->value = strtod(word, NULL);
    }
}

static void parse_process(char *rest) {
    if (n_processes == MAX_PROCESSES) return;
    int gpu = gpu_number(strtok(rest, " \t"));
    char *pid = strtok(NULL, " \t"), *file = strtok(NULL, " \t");
    if (!pid) return;
    Process *p = &processes[n_processes++];
    *p = (Process){gpu, atoi(pid), ""};
    if (!strcmp(pid, "from") && file) snprintf(p->file, sizeof p->file, "%s", file);
}

static void parse_slice(char *rest) {
    if (n_slices == MAX_SLICES) return;
    Gpu *slice = &slices[n_slices++];
    slice->index = gpu_number(strtok(rest, " \t"));
    snprintf(slice->uuid, sizeof slice->uuid, "%s", strtok(NULL, " \t"));
}

static void parse_line(char *line) {
    line[strcspn(line, "#\r\n")] = 0;
    for (char *end = line + strlen(line); end > line && (end[-1] == ' ' || end[-1] == '\t');) *--end = 0;
    char *word = strtok(line, " \t"), *rest = strtok(NULL, "");
    if (!word || !rest) return;
    if (!strcmp(word, "driver")) snprintf(driver, sizeof driver, "%s", rest);
    else if (!strcmp(word, "cuda")) cuda_version = atoi(rest);
    else if (!strcmp(word, "gpus")) n_gpus = atoi(rest) < MAX_GPUS ? atoi(rest) : MAX_GPUS;
    else if (!strcmp(word, "set")) parse_set(rest);
    else if (!strcmp(word, "series")) parse_series(rest);
    else if (!strcmp(word, "process")) parse_process(rest);
    else if (!strcmp(word, "slice")) parse_slice(rest);
    else if (!strcmp(word, "rows")) long_rows = !strcmp(rest, "of 535.54");
    else if (!strcmp(word, "max_metric")) max_metric = atoi(rest);
    else if (!strcmp(word, "freeze")) frozen_energy = 1;
    else parse_rule(word, rest);
}

static void load_script(void) {
    const char *path = getenv("FAKE_NVML_SCRIPT"), *log = getenv("FAKE_NVML_LOG");
    FILE *file = path ? fopen(path, "r") : NULL;
    char *line = NULL;
    size_t room = 0;
    n_series = n_rules = n_processes = n_slices = frozen_energy = long_rows = 0, max_metric = 1 << 30;
    for (int g = 0; g < MAX_GPUS; g++) {
        memset(&gpus[g], 0, sizeof gpus[g]);
        gpus[g].index = g;
        snprintf(gpus[g].name, sizeof gpus[g].name, "NVIDIA Fake");
        snprintf(gpus[g].uuid, sizeof gpus[g].uuid, "GPU-00000000-0000-0000-0000-%012d", g);
    }
    while (file && getline(&line, &room, file) >= 0) parse_line(line);
    if (file) fclose(file);
    free(line);
    if (log && log_fd < 0) log_fd = open(log, O_CREAT | O_APPEND | O_WRONLY | O_CLOEXEC, 0600);
}

/* ---- values over time ---- */

static Series *find(int gpu, const char *key) {
    for (int i = n_series - 1; i >= 0; i--)
        if ((series[i].gpu < 0 || series[i].gpu == gpu) && !strcmp(series[i].key, key)) return &series[i];
    return NULL;
}

static double at(const Series *s, double t) {
    double v = NAN;
    for (int i = 0; i < s->n && s->t[i] <= t; i++) v = s->v[i];
    return v;
}

static double integral(const Series *s, double a, double b) {
    double sum = 0;
    for (int i = 0; i < s->n; i++) {
        double from = fmax(a, s->t[i]), to = fmin(b, i + 1 < s->n ? s->t[i + 1] : INFINITY);
        if (to > from) sum += (to - from) * s->v[i];
    }
    return sum;
}

static double value(int gpu, const char *key) {
    Series *s = find(gpu, key);
    return s ? at(s, now()) : NAN;
}

/* ---- what the script does to a call ---- */

static int matches(const Rule *r, const char *kind, int gpu) {
    double t = now();
    return !strcmp(r->kind, kind) && (r->gpu < 0 || gpu < 0 || r->gpu == gpu) && t >= r->from && t < r->until;
}

static void nap(double seconds) {
    struct timespec t = {(time_t)seconds, (long)(1e9 * (seconds - floor(seconds)))};
    nanosleep(&t, NULL);
}

static int enter(const char *function, int gpu) {
    if (log_fd >= 0) {
        char line[128], who[16] = "-";
        if (gpu >= 0) snprintf(who, sizeof who, "%d", gpu);
        int n = snprintf(line, sizeof line, "%.6f %s %s\n", now(), function, who);
        if (write(log_fd, line, (size_t)n) < 0) log_fd = -1;
    }
    for (int i = 0; i < n_rules; i++) {
        const Rule *r = &rules[i];
        if (gpu >= 0 && matches(r, "lost", gpu)) return (int)r->value;
        if (strcmp(r->name, function)) continue;
        if (matches(r, "slow", gpu)) nap(r->value / 1e3);
        if (matches(r, "hang", gpu)) for (;;) nap(3600);
        if (matches(r, "error", gpu)) return (int)r->value;
    }
    return OK;
}

static int entry_error(const char *kind, int gpu, int id, int scope) {
    for (int i = 0; i < n_rules; i++)
        if (matches(&rules[i], kind, gpu) && rules[i].id == id && (scope < 0 || rules[i].scope < 0 || rules[i].scope == scope))
            return (int)rules[i].value;
    return OK;
}

#define ENTER(gpu) do { int code_ = enter(__func__, gpu); if (code_) return code_; } while (0)

static int give(unsigned *out, double v) {
    if (isnan(v)) return UNSUPPORTED;
    *out = (unsigned)llround(v);
    return OK;
}

static int give_named(const Gpu *gpu, const char *key, unsigned *out) { return give(out, named(gpu, key, NAN)); }
