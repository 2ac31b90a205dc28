/* The engine as its clients see it: connections, groups, field groups, and what becomes of them when it hangs,
 * dies and is started again. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>

enum { MAX_HANDLES = 256, FIRST_GROUP = 2, FIRST_FIELD_GROUP = 4 }; /* the engine has groups of its own */

typedef struct { bool used; char name[MAX_STRING]; int n; Entity entities[MAX_ENTITIES]; } Group;
typedef struct { bool used; char name[MAX_STRING]; int n; uint16_t fields[MAX_GROUP_FIELDS]; } FieldGroup;

static Group *groups;
static FieldGroup *field_groups;
static int n_groups, n_field_groups; /* ids ever given: none is given twice */
static int life = 1; /* of the engine: a connection is good for one */
static int connections[MAX_HANDLES], n_handles; /* the life for which it was made; 0: closed */
static bool is_initialized, is_embedded, has_crashed;
static struct timespec changed;
static ino_t inode;
static int64_t seen_us; /* the engine's wall clock at the last look */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int log_fd = -1;

static void forget_engine(void) {
    forget_cache();
    if (!groups) groups = calloc(4096, sizeof *groups), field_groups = calloc(4096, sizeof *field_groups);
    for (int i = 0; i < n_groups; i++) groups[i].used = false;
    for (int i = 0; i < n_field_groups; i++) field_groups[i].used = false;
    n_groups = n_field_groups = 0;
}

static void end_life(void) {
    life++;
    has_crashed = false;
    forget_engine();
}

/* Reads the script anew if it was changed: the engine did as the old one says until the moment of the change. */
static void look(void) {
    const char *path = getenv("FAKE_DCGM_SCRIPT");
    struct stat status;
    bool is_first = !script.values;
    if (path && !stat(path, &status)
        && (is_first || status.st_ino != inode || memcmp(&status.st_mtim, &changed, sizeof changed))) {
        FILE *file = fopen(path, "r");
        if (file) {
            int64_t at_us = (int64_t)status.st_mtim.tv_sec * 1000000 + status.st_mtim.tv_nsec / 1000;
            int generation = script.generation;
            enum State state = script.state;
            if (!is_first) run_engine(seen_us, at_us + (int64_t)(script.clock_s * 1e6));
            read_script(&script, file);
            fclose(file);
            changed = status.st_mtim, inode = status.st_ino;
            seen_us = at_us + (int64_t)(script.clock_s * 1e6);
            if (!is_first && (generation != script.generation || (script.state == DEAD && state != DEAD)) && !is_embedded) end_life();
        }
    } else if (is_first) read_script(&script, NULL);
    if (is_first) forget_engine(), seen_us = wall_now_us();
    int64_t now_us = wall_now_us();
    run_engine(seen_us, now_us);
    seen_us = now_us;
}

static void leave(int *held) {
    if (*held) pthread_mutex_unlock(&lock);
}

static void write_log(const char *function) {
    char line[128];
    int n = snprintf(line, sizeof line, "%.6f %s\n", (double)clock_us(CLOCK_REALTIME) * 1e-6, function);
    const char *path = getenv("FAKE_DCGM_LOG");
    if (path && log_fd < 0) log_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (log_fd >= 0 && write(log_fd, line, (size_t)n) < 0) abort();
}

/* What the script says about a call of this name: it is slow, prints, crashes, answers a status. */
static int begin(const char *function) {
    pthread_mutex_lock(&lock);
    look();
    write_log(function);
    const Rule *slow = rule_for("slow", function, -1), *call = rule_for("call", function, -1);
    if (rule_for("print", function, -1)) {
        printf("libdcgm: %s\n", function), fflush(stdout);
        fprintf(stderr, "libdcgm: %s\n", function);
    }
    if (rule_for("crash", function, -1)) abort();
    double slow_ms = slow ? slow->value : 0;
    int status = call ? (int)call->value : ST_OK;
    if (slow_ms > 0) {
        pthread_mutex_unlock(&lock);
        usleep((useconds_t)(slow_ms * 1000));
        pthread_mutex_lock(&lock);
        look();
    }
    return status;
}

/* Waits for a stopped engine; the call ends with a time-out after the limit. */
static int wait_for_engine(double limit_s) {
    int64_t until_us = clock_us(CLOCK_MONOTONIC) + (int64_t)(limit_s * 1e6);
    while (script.state == HANG) {
        if (clock_us(CLOCK_MONOTONIC) >= until_us) return ST_TIMEOUT;
        pthread_mutex_unlock(&lock);
        usleep(5000);
        pthread_mutex_lock(&lock);
        look();
    }
    return ST_OK;
}

static bool is_down(void) { return (script.state == DEAD || has_crashed) && !is_embedded; }

/* Whether a request on this connection reaches the engine. */
static int reach(Handle handle) {
    if (!handle) return ST_BAD_PARAMETER;
    if (handle == EMBEDDED && !is_embedded) return ST_UNINITIALIZED;
    if (handle != EMBEDDED && (handle > (Handle)n_handles || connections[handle - 1] != life || is_down()))
        return ST_CONNECTION;
    int status = wait_for_engine(script.hang_s);
    if (status) return status;
    if (handle != EMBEDDED && (connections[handle - 1] != life || is_down())) return ST_CONNECTION;
    return ST_OK;
}

/* A request that no engine survives: the embedded one takes the process along. */
static int crash_engine(void) {
    if (is_embedded) abort();
    end_life();
    has_crashed = true;
    return ST_CONNECTION;
}

static Group *group_of(GroupId id) {
    return id >= FIRST_GROUP && id < FIRST_GROUP + (GroupId)n_groups && groups[id - FIRST_GROUP].used ? &groups[id - FIRST_GROUP] : NULL;
}

static FieldGroup *field_group_of(FieldGroupId id) {
    FieldGroupId i = id - FIRST_FIELD_GROUP;
    return id >= FIRST_FIELD_GROUP && i < (FieldGroupId)n_field_groups && field_groups[i].used ? &field_groups[i] : NULL;
}

static bool is_gpu(unsigned id) { return (int)id < script.gpus; }

static bool is_supported(unsigned id) {
    char number[16];
    snprintf(number, sizeof number, "%u", id);
    return is_gpu(id) && !rule_for("unsupported", number, -1);
}

static int entity_of(Entity entity) { return (int)entity.entity + (entity.entity_group == ENTITY_CPU ? 100 : 0); }

static bool is_entity(Entity entity) {
    if (entity.entity_group == ENTITY_NONE) return true;
    return entity.entity_group == ENTITY_CPU ? (int)entity.entity < script.cpus
                                             : entity.entity_group == ENTITY_GPU && is_supported(entity.entity);
}

/* The entities of a group; that of all GPUs is the engine's own. */
static int entities_of(GroupId id, Entity *out) {
    int n = 0;
    if (id == ALL_GPUS || id == 0) {
        for (unsigned gpu = 0; gpu < (unsigned)script.gpus; gpu++)
            if (is_supported(gpu)) out[n++] = (Entity){ENTITY_GPU, gpu};
        return n;
    }
    const Group *group = group_of(id);
    if (!group) return ST_NOT_CONFIGURED;
    memcpy(out, group->entities, sizeof(Entity) * (size_t)group->n);
    return group->n;
}

static int unwatch_all(const Entity *entities, int n, const FieldGroup *fields) {
    int status = ST_OK;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < fields->n; j++) {
            int failed = unwatch_field(entity_of(entities[i]), fields->fields[j]);
            if (failed) status = failed;
        }
    return status;
}

/* A refusal takes the whole watch back. Profiling fields are refused last, when the others have already been
 * read once: those keep that one value. */
static int watch_all(const Entity *entities, int n, const FieldGroup *fields, int64_t period_us, double keep_s) {
    int refused = ST_OK;
    for (int i = 0; i < n && !refused; i++)
        for (int j = 0; j < fields->n && !refused; j++) {
            unsigned field = fields->fields[j];
            int entity = entity_of(entities[i]);
            const Rule *rule = field_rule("watch", field, entity);
            if (rule && !is_pipe(field)) refused = (int)rule->value;
            else watch_field(entity, field, period_us, keep_s);
        }
    for (int i = 0; i < n && !refused; i++)
        for (int j = 0; j < fields->n && !refused; j++) {
            const Rule *rule = is_pipe(fields->fields[j]) ? field_rule("watch", fields->fields[j], entity_of(entities[i])) : NULL;
            if (!rule) continue;
            refused = (int)rule->value;
        }
    if (refused) /* the profiling module has them, not the cache */
        for (int i = 0; i < n; i++)
            for (int j = 0; j < fields->n; j++)
                if (is_pipe(fields->fields[j])) unwatch_field(entity_of(entities[i]), fields->fields[j]);
    update_all();
    if (refused) unwatch_all(entities, n, fields);
    return refused;
}
