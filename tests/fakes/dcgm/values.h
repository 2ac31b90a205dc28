/* Watches, values and profiling. Included by fake_dcgm.c only. */

/* ---- watches and values ---- */

static Entity listed[MAX_ENTITIES];

int dcgmWatchFields(Handle handle, GroupId id, FieldGroupId fields_id, long long period_us, double keep_s, int keep_samples) {
    (void)keep_samples;
    REQUEST(handle);
    if (!id) return ST_BAD_PARAMETER;
    int n = entities_of(id, listed);
    if (n < 0) return n;
    const FieldGroup *fields = field_group_of(fields_id);
    return fields ? watch_all(listed, n, fields, period_us, keep_s) : ST_NO_DATA;
}

int dcgmUnwatchFields(Handle handle, GroupId id, FieldGroupId fields_id) {
    REQUEST(handle);
    if (!id) return ST_BAD_PARAMETER;
    int n = entities_of(id, listed);
    if (n < 0) return n;
    const FieldGroup *fields = field_group_of(fields_id);
    if (!fields) return ST_NO_DATA;
    return unwatch_all(listed, n, fields);
}

int dcgmUpdateAllFields(Handle handle, int wait) {
    (void)wait;
    REQUEST(handle);
    update_all();
    return ST_OK;
}

typedef struct { Callback1 first; Callback2 second; void *user; } Receiver;

static bool hand_out(const Receiver *to, Entity entity, FieldValue1 *value) {
    if (to->first && to->first(entity.entity, value, 1, to->user)) return false;
    return !to->second || !to->second(entity.entity_group, entity.entity, value, 1, to->user);
}

/* The samples of one field, or one blank value that says why there is none. Returns false to end the call. */
static bool values_of(const Receiver *to, Entity entity, unsigned field, int64_t since_us, int64_t until_us, int *status) {
    Series *s = find_series(entity_of(entity), field, false);
    int given = 0;
    if (!s || (!s->period_us && !s->n)) {
        *status = ST_NOT_WATCHED;
        return false;
    }
    for (int i = 0; i < s->n; i++) {
        if (s->samples[i].ts_us < since_us || s->samples[i].ts_us > until_us) continue;
        given++;
        if (!hand_out(to, entity, value1(field, &s->samples[i], ST_OK))) return false;
    }
    if (given) return true;
    return hand_out(to, entity, value1(field, NULL, ST_NO_DATA));
}

static int values_since(GroupId id, FieldGroupId fields_id, long long since_us, long long *next_us, Receiver to) {
    int status = ST_OK;
    if ((!to.first && !to.second) || !next_us) return ST_BAD_PARAMETER;
    *next_us = since_us;
    const FieldGroup *fields = field_group_of(fields_id);
    if (!fields) return ST_NO_DATA;
    int n = entities_of(id, listed);
    if (n < 0) return n;
    int64_t until_us = wall_now_us();
    for (int i = 0; i < n; i++)
        for (int j = 0; j < fields->n; j++)
            if (!values_of(&to, listed[i], fields->fields[j], since_us, until_us, &status)) return status;
    *next_us = until_us + 1;
    return ST_OK;
}

int dcgmGetValuesSince(Handle handle, GroupId id, FieldGroupId fields, long long since_us, long long *next_us, Callback1 call, void *user) {
    REQUEST(handle);
    return values_since(id, fields, since_us, next_us, (Receiver){call, NULL, user});
}

int dcgmGetValuesSince_v2(Handle handle, GroupId id, FieldGroupId fields, long long since_us, long long *next_us, Callback2 call,
                          void *user) {
    REQUEST(handle);
    return values_since(id, fields, since_us, next_us, (Receiver){NULL, call, user});
}

static const Sample *latest(const Series *s) { return s && s->n ? &s->samples[s->n - 1] : NULL; }

static int latest_values(GroupId id, FieldGroupId fields_id, Receiver to) {
    if (!to.first && !to.second) return ST_BAD_PARAMETER;
    int n = entities_of(id, listed);
    if (n < 0) return n;
    if (!n) return ST_GROUP_EMPTY;
    const FieldGroup *fields = field_group_of(fields_id);
    if (!fields) return ST_NO_DATA;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < fields->n; j++) {
            const Series *s = find_series(entity_of(listed[i]), fields->fields[j], false);
            if (!hand_out(&to, listed[i], value1(fields->fields[j], latest(s), why_none(s)))) return ST_OK;
        }
    return ST_OK;
}

int dcgmGetLatestValues(Handle handle, GroupId id, FieldGroupId fields, Callback1 call, void *user) {
    REQUEST(handle);
    return latest_values(id, fields, (Receiver){call, NULL, user});
}

int dcgmGetLatestValues_v2(Handle handle, GroupId id, FieldGroupId fields, Callback2 call, void *user) {
    REQUEST(handle);
    return latest_values(id, fields, (Receiver){NULL, call, user});
}

static void put_value2(FieldValue2 *out, Entity entity, unsigned field, const Sample *sample, int status) {
    out->version = VERSION_WORD(FieldValue2, 2), out->unused = 0;
    out->entity_group = is_global(field) ? ENTITY_NONE : entity.entity_group, out->entity = entity.entity;
    out->field = (uint16_t)field, out->type = (int16_t)type_of(field);
    out->status = sample ? ST_OK : status, out->ts_us = sample ? sample->ts_us : 0;
    put_content(out->type, sample, &out->value);
}

/* Asked of the driver now. A field that does not exist is answered with a number, not a blank. */
static void put_live(FieldValue2 *out, Entity entity, unsigned field) {
    int status = !is_known(field) ? ST_UNKNOWN_FIELD : !is_entity(entity) ? ST_BAD_PARAMETER : ST_OK;
    Series s = {.entity = is_global(field) ? 0 : entity_of(entity), .field = field};
    Sample sample = value_at(&s, wall_now_us());
    put_value2(out, entity, field, &sample, ST_OK);
    free(sample.text);
    if (!status) return;
    out->status = status, out->type = TYPE_INTEGER, out->ts_us = 0;
    out->value.integer = 0;
}

int dcgmEntitiesGetLatestValues(Handle handle, Entity *entities, unsigned n_entities, uint16_t *fields, unsigned n_fields, unsigned flags,
                                FieldValue2 *out) {
    REQUEST(handle);
    if (!entities || !n_entities || !fields || !n_fields || !out || n_entities > MAX_ENTITIES || n_fields > MAX_GROUP_FIELDS)
        return ST_BAD_PARAMETER;
    if (!(flags & LIVE_DATA)) {
        for (unsigned i = 0; i < n_entities; i++)
            for (unsigned j = 0; j < n_fields; j++) {
                if (!is_known(fields[j])) return ST_GENERIC; /* fewer values than asked for */
                const Series *s = find_series(entity_of(entities[i]), fields[j], false);
                put_value2(out++, entities[i], fields[j], latest(s), why_none(s));
            }
        return ST_OK;
    }
    for (unsigned j = 0; j < n_fields; j++)
        if (is_pipe(fields[j])) return crash_engine();
    for (int from_driver = 0; from_driver < 2; from_driver++)
        for (unsigned i = 0; i < n_entities; i++)
            for (unsigned j = 0; j < n_fields; j++)
                if (is_driver_field(fields[j]) == from_driver) put_live(out++, entities[i], fields[j]);
    return ST_OK;
}

/* ---- profiling ---- */

static void add_metrics(MetricGroups *out, unsigned first, unsigned last) {
    MetricGroup *group = &out->groups[out->count];
    *group = (MetricGroup){.major = (uint16_t)out->count};
    for (unsigned id = first; id <= last; id++) group->fields[group->count++] = (uint16_t)id;
    out->count++;
}

int dcgmProfGetSupportedMetricGroups(Handle handle, MetricGroups *out) {
    REQUEST(handle);
    if (!out) return ST_BAD_PARAMETER;
    if (out->version != VERSION_WORD(MetricGroups, 3)) return ST_VERSION;
    if (!is_supported(out->gpu)) return script.gpm ? ST_MODULE : ST_BAD_PARAMETER; /* not of GPM: asks the module */
    out->count = 0;
    if (script.gpm) { /* the hardware counts all at once: one group per major id */
        add_metrics(out, 1001, VERSION < 40000 ? 1033 : 1034);
        add_metrics(out, 1040, VERSION < 40100 ? 1075 : VERSION < 40401 ? 1079 : 1083);
        if (VERSION < 40600) return ST_OK;
        for (unsigned id = 1532; id <= 1533; id++) out->groups[1].fields[out->groups[1].count++] = (uint16_t)id;
        add_metrics(out, 1084, 1096);
        return ST_OK;
    }
    memcpy(out->groups, script.metric_groups, sizeof script.metric_groups);
    out->count = (unsigned)script.n_metric_groups;
    return ST_OK;
}

int dcgmProfPause(Handle handle) { REQUEST(handle); return script.gpm ? ST_NOT_SUPPORTED : ST_OK; }
int dcgmProfResume(Handle handle) { REQUEST(handle); return script.gpm ? ST_NOT_SUPPORTED : ST_OK; }
