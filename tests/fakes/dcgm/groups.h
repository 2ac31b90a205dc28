/* Devices, groups and field groups. Included by fake_dcgm.c only. */

/* ---- devices ---- */

static int list_devices(unsigned *ids, int *count, bool all) {
    if (!ids || !count) return ST_BAD_PARAMETER;
    *count = 0;
    for (unsigned gpu = 0; gpu < (unsigned)script.gpus; gpu++)
        if (all || is_supported(gpu)) ids[(*count)++] = gpu;
    return ST_OK;
}

int dcgmGetAllDevices(Handle handle, unsigned *ids, int *count) { REQUEST(handle); return list_devices(ids, count, true); }
int dcgmGetAllSupportedDevices(Handle handle, unsigned *ids, int *count) { REQUEST(handle); return list_devices(ids, count, false); }

int dcgmGetEntityGroupEntities(Handle handle, int entity_group, unsigned *ids, int *count, unsigned flags) {
    (void)flags;
    REQUEST(handle);
    if (!ids || !count) return ST_BAD_PARAMETER;
    int n = entity_group == ENTITY_GPU ? script.gpus : entity_group == ENTITY_CPU ? script.cpus : 0;
    if (entity_group == ENTITY_CPU && !n) return ST_MODULE;
    if (n > *count) return ST_GENERIC;
    for (int i = 0; i < n; i++) ids[i] = (unsigned)i;
    *count = n;
    return ST_OK;
}

/* CPU n has the cores from n * CPU_CORES on. */
int dcgmGetCpuHierarchy(Handle handle, CpuHierarchy *out) {
    REQUEST(handle);
    if (!out) return ST_BAD_PARAMETER;
    if (out->version != VERSION_WORD(CpuHierarchy, 1)) return ST_VERSION;
    if (!script.cpus) return ST_MODULE;
    *out = (CpuHierarchy){.version = out->version, .count = (unsigned)script.cpus};
    for (unsigned cpu = 0; cpu < out->count; cpu++) {
        out->cpus[cpu].id = cpu;
        for (unsigned core = cpu * CPU_CORES; core < (cpu + 1) * CPU_CORES; core++)
            out->cpus[cpu].owned_cores.bitmask[core / 64] |= 1ULL << core % 64;
    }
    return ST_OK;
}

static unsigned attribute(int gpu, unsigned field) {
    const ValueRule *rule = value_rule(gpu, field);
    if (rule && rule->kind == NUMBER) return (unsigned)rule->value;
    return 0x7ffffff0u + (rule ? (unsigned)rule->kind - BLANK : 2u);
}

static void attribute_text(int gpu, unsigned field, char *out) {
    const ValueRule *rule = value_rule(gpu, field);
    snprintf(out, MAX_STRING, "%s", rule && rule->kind == TEXT ? rule->text : "<<<NOT_SUPPORTED>>>");
}

int dcgmGetDeviceAttributes(Handle handle, unsigned id, Attributes *out) {
    REQUEST(handle);
    int gpu = (int)id;
    if (!out) return ST_BAD_PARAMETER;
    if (out->version != VERSION_WORD(Attributes, 3)) return ST_VERSION;
    if (!is_gpu(id)) { /* what the engine does not know comes back as nothing, with status 0 */
        *out = (Attributes){.version = out->version};
        return ST_OK;
    }
    out->thermal.slowdown = attribute(gpu, 158), out->thermal.shutdown = attribute(gpu, 159);
    out->power.current = attribute(gpu, 160), out->power.min = attribute(gpu, 161), out->power.max = attribute(gpu, 162);
    out->power.standard = attribute(gpu, 163), out->power.enforced = attribute(gpu, 164);
    attribute_text(gpu, 50, out->identity.name), attribute_text(gpu, 51, out->identity.brand);
    attribute_text(gpu, 53, out->identity.serial), attribute_text(gpu, 54, out->identity.uuid);
    attribute_text(gpu, 57, out->identity.pci_bus), attribute_text(gpu, 82, out->identity.inforom);
    attribute_text(gpu, 85, out->identity.vbios), attribute_text(gpu, 1, out->identity.driver);
    out->identity.pci_device = attribute(gpu, 58), out->identity.pci_subsystem = attribute(gpu, 59);
    out->memory.bar1 = attribute(gpu, 90), out->memory.total = attribute(gpu, 250);
    out->memory.free = attribute(gpu, 251), out->memory.used = attribute(gpu, 252);
    out->settings.persistence = attribute(gpu, 66), out->settings.mig = attribute(gpu, 67);
    return ST_OK;
}

/* ---- groups ---- */

int dcgmGroupCreate(Handle handle, int type, const char *name, GroupId *out) {
    REQUEST(handle);
    if (!name || !out) return ST_BAD_PARAMETER;
    int used = FIRST_GROUP;
    for (int i = 0; i < n_groups; i++) used += groups[i].used;
    if (used >= MAX_GROUPS || n_groups == 4096) return ST_MAX_LIMIT;
    Group *group = &groups[n_groups];
    *group = (Group){.used = true};
    snprintf(group->name, sizeof group->name, "%s", name);
    if (type == 0 || type == 5) group->n = entities_of(ALL_GPUS, group->entities);
    *out = (GroupId)(FIRST_GROUP + n_groups++);
    return ST_OK;
}

int dcgmGroupDestroy(Handle handle, GroupId id) {
    REQUEST(handle);
    Group *group = group_of(id);
    if (!group) return ST_NOT_CONFIGURED;
    group->used = false;
    return ST_OK;
}

static int add_entity(GroupId id, Entity entity) {
    Group *group = group_of(id);
    if (!group) return ST_NOT_CONFIGURED;
    if (!is_entity(entity)) return entity.entity_group == ENTITY_GPU && is_gpu(entity.entity) ? ST_GPU_NOT_SUPPORTED : ST_BAD_PARAMETER;
    for (int i = 0; i < group->n; i++)
        if (!memcmp(&group->entities[i], &entity, sizeof entity)) return ST_BAD_PARAMETER;
    if (group->n == MAX_ENTITIES) return ST_MAX_LIMIT;
    group->entities[group->n++] = entity;
    return ST_OK;
}

int dcgmGroupAddDevice(Handle handle, GroupId id, unsigned gpu) { REQUEST(handle); return add_entity(id, (Entity){ENTITY_GPU, gpu}); }

int dcgmGroupAddEntity(Handle handle, GroupId id, unsigned entity_group, unsigned entity) {
    REQUEST(handle);
    return add_entity(id, (Entity){entity_group, entity});
}

int dcgmGroupGetInfo(Handle handle, GroupId id, GroupInfo *out) {
    REQUEST(handle);
    if (!out) return ST_BAD_PARAMETER;
    if (out->version != VERSION_WORD(GroupInfo, VERSION < 40000 ? 2 : 3)) return ST_VERSION;
    int n = entities_of(id, out->entities);
    if (n < 0) return n;
    out->count = (unsigned)n;
    snprintf(out->name, sizeof out->name, "%s", group_of(id) ? group_of(id)->name : "DCGM_ALL_SUPPORTED_GPUS");
    return ST_OK;
}

int dcgmFieldGroupCreate(Handle handle, int n, const uint16_t *fields, const char *name, FieldGroupId *out) {
    REQUEST(handle);
    if (n < 1 || n >= MAX_GROUP_FIELDS || !fields || !name || !*name || strlen(name) >= MAX_STRING || !out) return ST_BAD_PARAMETER;
    for (int i = 0; i < n; i++)
        if (!is_known(fields[i])) return ST_BAD_PARAMETER;
    int used = FIRST_FIELD_GROUP - 1;
    for (int i = 0; i < n_field_groups; i++) {
        used += field_groups[i].used;
        if (field_groups[i].used && !strcmp(field_groups[i].name, name)) return ST_DUPLICATE;
    }
    if (rule_for("taken", name, -1)) return ST_DUPLICATE;
    if (used >= MAX_GROUPS || n_field_groups == 4096) return ST_MAX_LIMIT;
    FieldGroup *group = &field_groups[n_field_groups];
    *group = (FieldGroup){.used = true, .n = n};
    snprintf(group->name, sizeof group->name, "%s", name);
    memcpy(group->fields, fields, sizeof *fields * (size_t)n);
    *out = (FieldGroupId)(FIRST_FIELD_GROUP + n_field_groups++);
    return ST_OK;
}

int dcgmFieldGroupDestroy(Handle handle, FieldGroupId id) {
    REQUEST(handle);
    FieldGroup *group = field_group_of(id);
    if (!group) return ST_NO_DATA;
    group->used = false;
    return ST_OK;
}

int dcgmFieldGroupGetInfo(Handle handle, FieldGroupInfo *out) {
    REQUEST(handle);
    if (!out) return ST_BAD_PARAMETER;
    if (out->version != VERSION_WORD(FieldGroupInfo, 1)) return ST_VERSION;
    const FieldGroup *group = field_group_of(out->id);
    if (!group) return ST_NO_DATA;
    out->count = (unsigned)group->n;
    memcpy(out->name, group->name, sizeof out->name);
    memcpy(out->fields, group->fields, sizeof out->fields);
    return ST_OK;
}
