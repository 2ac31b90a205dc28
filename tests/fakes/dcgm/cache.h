/* The engine's cache: which fields are watched, their samples, and the passing of time.
 *
 * Samples are made when a call looks for them: those that a running engine would have taken since the last
 * look, by its own wall clock. Each field has its own time of reading, a little after the one before it. */
enum { MAX_SERIES = 4096, MAX_SAMPLES = 1 << 14 };

typedef struct { int64_t ts_us; enum Kind kind; double value; char *text; } Sample;

typedef struct {
    int entity; /* 100 + n: CPU n */
    unsigned field;
    int64_t period_us, keep_us, last_us; /* last_us: when the engine last read the field; period 0: not watched */
    int order, n, room, reads;
    double sum, sum_at; /* of a growing value, by the monotonic clock */
    bool summing;
    Sample *samples;
} Series;

static Series *series;
static int n_series, n_watched;
static bool is_manual;

static Series *find_series(int entity, unsigned field, bool create) {
    if (is_global(field)) entity = 0;
    for (int i = 0; i < n_series; i++)
        if (series[i].entity == entity && series[i].field == field) return &series[i];
    if (!create || n_series == MAX_SERIES) return NULL;
    if (!series) series = calloc(MAX_SERIES, sizeof *series);
    series[n_series] = (Series){.entity = entity, .field = field};
    return &series[n_series++];
}

static void forget_cache(void) {
    for (int i = 0; i < n_series; i++) {
        for (int k = 0; k < series[i].n; k++) free(series[i].samples[k].text);
        free(series[i].samples);
    }
    n_series = n_watched = 0;
}

/* What the field is at an instant of the engine's wall clock. */
static Sample value_at(Series *s, int64_t wall_us) {
    const ValueRule *rule = value_rule(s->entity, s->field);
    Sample sample = {.ts_us = wall_us, .kind = BLANK};
    if (!rule) { /* failures of profiling fields are plain blanks */
        sample.kind = is_pipe(s->field) ? BLANK : UNSUPPORTED;
        return sample;
    }
    sample.kind = rule->kind;
    sample.value = rule->value;
    if (rule->kind == TEXT) sample.text = strdup(rule->text);
    if (rule->kind == NUMBER && rule->per_s != 0) {
        double now_s = (double)clock_us(CLOCK_MONOTONIC) * 1e-6 - (double)(clock_us(CLOCK_REALTIME) - wall_us) * 1e-6 - script.clock_s;
        if (!s->summing) s->sum = rule->value + rule->per_s * now_s, s->summing = true;
        else s->sum += rule->per_s * (now_s - s->sum_at);
        s->sum_at = now_s;
        sample.value = s->sum;
    } else if (rule->kind == NUMBER) s->summing = false;
    if (is_pipe(s->field) && script.paused) sample.kind = BLANK;
    return sample;
}

/* The cache is in order of time, whatever the wall clock does; one sample per time. */
static void insert(Series *s, Sample sample) {
    int at = s->n;
    while (at > 0 && s->samples[at - 1].ts_us > sample.ts_us) at--;
    if (at > 0 && s->samples[at - 1].ts_us == sample.ts_us) {
        free(sample.text);
        return;
    }
    int old = 0;
    while (old < at && s->samples[old].ts_us < sample.ts_us - s->keep_us) free(s->samples[old++].text);
    if (!old && s->n == MAX_SAMPLES) free(s->samples[old++].text);
    memmove(s->samples, s->samples + old, sizeof(Sample) * (size_t)(s->n - old));
    s->n -= old, at = at > old ? at - old : 0;
    if (s->n == s->room) s->samples = realloc(s->samples, sizeof(Sample) * (size_t)(s->room = s->room ? 2 * s->room : 16));
    memmove(s->samples + at + 1, s->samples + at, sizeof(Sample) * (size_t)(s->n - at));
    s->samples[at] = sample;
    s->n++;
}

/* The engine reads the field. */
static void take_sample(Series *s, int64_t wall_us) {
    s->last_us = wall_us;
    if (field_rule("frozen", s->field, s->entity)) return;
    Sample sample = value_at(s, wall_us);
    bool is_first = s->reads++ == 0 && is_pipe(s->field); /* a share needs two reads of the hardware */
    if (sample.kind == NONE || (is_first && !strcmp(script.first, "missing"))) {
        free(sample.text);
        return;
    }
    if (is_first && !strcmp(script.first, "blank")) sample.kind = BLANK;
    if (s->field == 156) sample.ts_us = wall_us / script.energy_step_us * script.energy_step_us;
    insert(s, sample);
}

static int64_t wall_now_us(void) { return clock_us(CLOCK_REALTIME) + (int64_t)(script.clock_s * 1e6); }

/* Lets the engine work from one instant of its wall clock to another. */
static void run_engine(int64_t from_us, int64_t to_us) {
    if (script.state != UP || is_manual) return;
    for (int i = 0; i < n_series; i++) {
        Series *s = &series[i];
        if (!s->period_us) continue;
        for (;;) {
            int64_t due_us = s->last_us + s->period_us;
            if (due_us < from_us) due_us = from_us + s->order * script.skew_us;
            if (due_us > to_us) break;
            take_sample(s, due_us);
        }
    }
}

/* Reads every watched field now, if its last reading is old enough. */
static void update_all(void) {
    int64_t now_us = wall_now_us();
    for (int i = 0; i < n_series; i++)
        if (series[i].period_us && now_us - series[i].last_us >= series[i].period_us)
            take_sample(&series[i], now_us - (int64_t)(n_watched - series[i].order) * script.skew_us);
}

static void watch_field(int entity, unsigned field, int64_t period_us, double keep_s) {
    Series *s = find_series(entity, field, true);
    if (!s) return;
    bool is_new = !s->period_us;
    s->period_us = period_us > 0 ? period_us : 1;
    s->keep_us = keep_s > 0 ? (int64_t)(keep_s * 1e6) : 3600000000LL;
    if (!is_new) return;
    s->last_us = 0, s->reads = 0, s->order = ++n_watched;
    int64_t now_us = wall_now_us(), step_us = (int64_t)(script.older_period_s * 1e6);
    if (script.older_s > 0) /* another client watched it before */
        for (int64_t t = now_us - (int64_t)(script.older_s * 1e6); t < now_us - step_us; t += step_us) take_sample(s, t);
}

static int unwatch_field(int entity, unsigned field) {
    Series *s = find_series(entity, field, false);
    if (s) s->period_us = 0;
    return s ? ST_OK : ST_NOT_WATCHED;
}

/* ---- values as a call hands them out ---- */

static void put_blank(int type, enum Kind kind, Content *out) {
    static const char *const texts[] = {"<<<NULL>>>", "<<<NOT_FOUND>>>", "<<<NOT_SUPPORTED>>>", "<<<NOT_PERM>>>"};
    if (type == TYPE_STRING) strcpy(out->text, texts[kind - BLANK]);
    else if (type == TYPE_DOUBLE) out->real = BLANK_DOUBLE + (kind - BLANK);
    else out->integer = BLANK_INTEGER + (kind - BLANK);
}

static void put_content(int type, const Sample *sample, Content *out) {
    if (!sample || sample->kind >= BLANK) put_blank(type, !sample || sample->kind == NONE ? BLANK : sample->kind, out);
    else if (type == TYPE_STRING) snprintf(out->text, sizeof out->text, "%s", sample->text ? sample->text : "");
    else if (type == TYPE_DOUBLE) out->real = sample->value;
    else out->integer = isnan(sample->value) ? BLANK_INTEGER : (int64_t)sample->value;
}

/* A sample, or a blank value with the status that says why there is none. */
static FieldValue1 *value1(unsigned field, const Sample *sample, int status) {
    static FieldValue1 out; /* of one call at a time: it holds the library's lock */
    out.version = VERSION_WORD(FieldValue1, 1), out.field = (uint16_t)field, out.type = (int16_t)type_of(field);
    out.status = sample ? ST_OK : status, out.ts_us = sample ? sample->ts_us : 0;
    put_content(out.type, sample, &out.value);
    return &out;
}

/* The status of a field that has no sample to give. */
static int why_none(const Series *s) { return s && s->period_us ? ST_NO_DATA : ST_NOT_WATCHED; }
