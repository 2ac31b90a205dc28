/* The script of the fake engine (grammar: fake_dcgm.c): its statements, and when it was last changed. */
#define _GNU_SOURCE
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { MAX_GPUS = 16, CPU_CORES = 72, MAX_RULES = 4096, MAX_WORDS = 80 };
enum State { UP, HANG, DEAD };
enum Kind { NUMBER, TEXT, BLANK, NOT_FOUND, UNSUPPORTED, NO_PERMISSION, NONE };

/* One statement about values: which entity (-1: all GPUs, 100 + n: CPU n) and field. */
typedef struct { int entity; unsigned field; enum Kind kind; double value, per_s; char text[MAX_STRING]; } ValueRule;
/* One statement about calls, watches or names. */
typedef struct { char kind[16], name[MAX_STRING]; int entity; double value; } Rule;

typedef struct {
    int gpus, cpus, gpm, paused, generation;
    enum State state;
    char first[16];
    double clock_s, hang_s, older_s, older_period_s;
    int64_t skew_us, energy_step_us;
    ValueRule *values;
    Rule *rules;
    int n_values, n_rules, n_metric_groups;
    MetricGroup metric_groups[MAX_METRIC_GROUPS];
} Script;

static Script script;

static int64_t clock_us(clockid_t id) {
    struct timespec t;
    clock_gettime(id, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static int entity_number(const char *word) {
    if (!word || word[0] == '*') return -1;
    return strncmp(word, "cpu", 3) ? atoi(word) : 100 + atoi(word + 3);
}

static enum Kind kind_of(const char *word) {
    static const char *const names[] = {"", "", "blank", "not_found", "not_supported", "no_permission", "none"};
    for (int kind = BLANK; kind <= NONE; kind++)
        if (!strcmp(word, names[kind])) return (enum Kind)kind;
    return NUMBER;
}

/* A field number or A-B, for each of which a statement is added. */
static void add_values(Script *s, char *rest, bool grows) {
    char *entity = strtok(rest, " \t"), *fields = strtok(NULL, " \t"), *text = strtok(NULL, "");
    if (!fields || !text) return;
    unsigned first = (unsigned)atoi(fields), last = strchr(fields, '-') ? (unsigned)atoi(strchr(fields, '-') + 1) : first;
    for (unsigned field = first; field <= last && s->n_values < MAX_RULES; field++) {
        ValueRule *rule = &s->values[s->n_values++];
        char *rate;
        *rule = (ValueRule){.entity = entity_number(entity), .field = field, .kind = kind_of(text)};
        rule->value = strtod(text, &rate);
        if (grows) rule->per_s = strtod(rate, NULL);
        if (rule->kind == NUMBER && type_of(field) == TYPE_STRING) rule->kind = TEXT;
        snprintf(rule->text, sizeof rule->text, "%s", text);
    }
}

static void add_metric_group(Script *s, char *rest) {
    if (s->n_metric_groups == MAX_METRIC_GROUPS) return;
    MetricGroup *group = &s->metric_groups[s->n_metric_groups++];
    char *major = strtok(rest, " \t"), *minor = strtok(NULL, " \t"), *word;
    *group = (MetricGroup){.major = (uint16_t)atoi(major ? major : "0"), .minor = (uint16_t)atoi(minor ? minor : "0")};
    while ((word = strtok(NULL, " \t"))) {
        int first = atoi(word), last = strchr(word, '-') ? atoi(strchr(word, '-') + 1) : first;
        for (int id = first; id <= last && group->count < MAX_METRIC_FIELDS; id++) group->fields[group->count++] = (uint16_t)id;
    }
}

/* KIND NAME [VALUE | TEXT] [gpu N] */
static void add_rule(Script *s, const char *kind, char *rest) {
    if (s->n_rules == MAX_RULES) return;
    Rule *rule = &s->rules[s->n_rules++];
    *rule = (Rule){.entity = -1};
    snprintf(rule->kind, sizeof rule->kind, "%s", kind);
    char *gpu = strstr(rest, " gpu ");
    if (gpu) rule->entity = entity_number(gpu + 5), *gpu = 0;
    char *name = strtok(rest, " \t"), *value = strtok(NULL, "");
    snprintf(rule->name, sizeof rule->name, "%s", name ? name : "");
    if (value) rule->value = strtod(value, NULL);
}

static void parse_line(Script *s, char *line) {
    line[strcspn(line, "#\r\n")] = 0;
    for (char *end = line + strlen(line); end > line && (end[-1] == ' ' || end[-1] == '\t');) *--end = 0;
    char *word = strtok(line, " \t"), *rest = strtok(NULL, "");
    if (!word || !rest) return;
    if (!strcmp(word, "gpus")) s->gpus = atoi(rest) < MAX_GPUS ? atoi(rest) : MAX_GPUS;
    else if (!strcmp(word, "cpus")) s->cpus = atoi(rest) < MAX_CPUS ? atoi(rest) : MAX_CPUS;
    else if (!strcmp(word, "gpm")) s->gpm = atoi(rest);
    else if (!strcmp(word, "paused")) s->paused = atoi(rest);
    else if (!strcmp(word, "generation")) s->generation = atoi(rest);
    else if (!strcmp(word, "engine")) s->state = !strcmp(rest, "hang") ? HANG : !strcmp(rest, "dead") ? DEAD : UP;
    else if (!strcmp(word, "first")) snprintf(s->first, sizeof s->first, "%s", rest);
    else if (!strcmp(word, "clock")) s->clock_s = strtod(rest, NULL);
    else if (!strcmp(word, "hang_limit")) s->hang_s = strtod(rest, NULL);
    else if (!strcmp(word, "skew")) s->skew_us = atoll(rest);
    else if (!strcmp(word, "energy_step")) s->energy_step_us = atoll(rest);
    else if (!strcmp(word, "older")) sscanf(rest, "%lf %lf", &s->older_s, &s->older_period_s);
    else if (!strcmp(word, "value")) add_values(s, rest, false);
    else if (!strcmp(word, "grow")) add_values(s, rest, true);
    else if (!strcmp(word, "metric_group")) add_metric_group(s, rest);
    else add_rule(s, word, rest);
}

static void read_script(Script *s, FILE *file) {
    ValueRule *values = s->values ? s->values : calloc(MAX_RULES, sizeof *values);
    Rule *rules = s->rules ? s->rules : calloc(MAX_RULES, sizeof *rules);
    *s = (Script){.gpus = 1, .gpm = 1, .first = "blank", .hang_s = 60, .skew_us = 40, .energy_step_us = 20000,
                  .older_period_s = 1, .values = values, .rules = rules};
    char *line = NULL;
    size_t room = 0;
    while (file && getline(&line, &room, file) >= 0) parse_line(s, line);
    free(line);
}

/* The last rule of a kind with this name (or a prefix of it that ends in '*') for the entity. */
static const Rule *rule_for(const char *kind, const char *name, int entity) {
    for (int i = script.n_rules - 1; i >= 0; i--) {
        const Rule *rule = &script.rules[i];
        if (strcmp(rule->kind, kind) || (rule->entity >= 0 && rule->entity != entity)) continue;
        size_t stem = strcspn(rule->name, "*");
        if (rule->name[stem] ? !strncmp(rule->name, name, stem) : !strcmp(rule->name, name)) return rule;
    }
    return NULL;
}

static const Rule *field_rule(const char *kind, unsigned field, int entity) {
    char number[16];
    snprintf(number, sizeof number, "%u", field);
    const Rule *rule = rule_for(kind, number, entity);
    if (!rule) rule = rule_for(kind, is_pipe(field) ? "pipes" : "others", entity);
    return rule ? rule : rule_for(kind, "all", entity);
}

static const ValueRule *value_rule(int entity, unsigned field) {
    for (int i = script.n_values - 1; i >= 0; i--) {
        const ValueRule *rule = &script.values[i];
        if (rule->field == field && (rule->entity == entity || (rule->entity < 0 && entity < 100))) return rule;
    }
    return NULL;
}
