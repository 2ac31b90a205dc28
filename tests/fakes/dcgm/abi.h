/* Structures and numbers of DCGM's client interface, as far as the fake answers them. Layouts are those of the
 * public headers; version words are size | number << 24, and a call with another word is refused. */
#include <stddef.h>
#include <stdint.h>

/* VERSION: 30309, 40203 or 40600: what this library and its engine pretend to be. */
#ifndef VERSION
#define VERSION 40600
#endif

enum {
    ST_OK = 0, ST_BAD_PARAMETER = -1, ST_GENERIC = -3, ST_NOT_CONFIGURED = -5, ST_NOT_SUPPORTED = -6, ST_UNINITIALIZED = -10,
    ST_TIMEOUT = -11, ST_VERSION = -12, ST_UNKNOWN_FIELD = -13, ST_NO_DATA = -14, ST_NOT_WATCHED = -16,
    ST_CONNECTION = -21, ST_GPU_NOT_SUPPORTED = -22, ST_MAX_LIMIT = -24, ST_DUPLICATE = -26, ST_MODULE = -33, ST_GROUP_EMPTY = -35,
};
enum { MAX_STRING = 256, MAX_BLOB = 4096, MAX_DEVICES = 32, MAX_GROUPS = 64, MAX_GROUP_FIELDS = 128, MAX_METRIC_GROUPS = 10,
       MAX_METRIC_FIELDS = 64, MAX_CLOCKS = 256, MAX_CPUS = 8, MAX_CORES = 1024, MAX_ENTITIES = VERSION < 40000 ? 64 : 1024 };
enum { TYPE_BINARY = 'b', TYPE_DOUBLE = 'd', TYPE_INTEGER = 'i', TYPE_STRING = 's' };
enum { ENTITY_NONE = 0, ENTITY_GPU = 1, ENTITY_CPU = 7 };
enum { LIVE_DATA = 1, MODE_AUTO = 1, MODE_MANUAL = 2 };

#define BLANK_INTEGER 0x7ffffffffffffff0LL
#define BLANK_DOUBLE 140737488355328.0
#define EMBEDDED ((Handle)0x7fffffff)
#define ALL_GPUS 0x7fffffff
#define VERSION_WORD(type, number) (unsigned)(sizeof(type) | (unsigned)(number) << 24)

typedef uintptr_t Handle, GroupId, FieldGroupId;

typedef union { int64_t integer; double real; char text[MAX_STRING]; char blob[MAX_BLOB]; } Content;
typedef struct { unsigned version; uint16_t field; int16_t type; int status; int64_t ts_us; Content value; } FieldValue1;
typedef struct {
    unsigned version, entity_group, entity; uint16_t field; int16_t type; int status; unsigned unused; int64_t ts_us; Content value;
} FieldValue2;

typedef struct { unsigned version, persist; } Connect2a;
typedef struct { unsigned version, persist, timeout_ms, is_unix; } Connect2b;
typedef struct { unsigned version, persist, timeout_ms; } Connect3;

typedef struct { unsigned entity_group, entity; } Entity;
typedef struct { unsigned version, count; char name[MAX_STRING]; Entity entities[MAX_ENTITIES]; } GroupInfo;
typedef struct { unsigned version, count; FieldGroupId id; char name[MAX_STRING]; uint16_t fields[MAX_GROUP_FIELDS]; } FieldGroupInfo;

typedef struct { uint16_t major, minor; unsigned count; uint16_t fields[MAX_METRIC_FIELDS]; } MetricGroup;
typedef struct { unsigned version, unused, gpu, count; MetricGroup groups[MAX_METRIC_GROUPS]; } MetricGroups;
typedef struct { unsigned version; char text[2 * MAX_STRING]; } VersionInfo;

typedef struct {
    unsigned version, count;
    struct { unsigned id; struct { unsigned version; uint64_t bitmask[MAX_CORES / 64]; } owned_cores; } cpus[MAX_CPUS];
} CpuHierarchy;

typedef struct {
    unsigned version;
    struct { unsigned version, count; struct { unsigned version, memory, sm; } sets[MAX_CLOCKS]; } clocks;
    struct { unsigned version, slowdown, shutdown; } thermal;
    struct { unsigned version, current, standard, enforced, min, max; } power;
    struct {
        unsigned version;
        char brand[MAX_STRING], name[MAX_STRING], pci_bus[MAX_STRING], serial[MAX_STRING], uuid[MAX_STRING], vbios[MAX_STRING],
            inforom[MAX_STRING];
        uint32_t pci_device, pci_subsystem;
        char driver[MAX_STRING];
        uint32_t virtualization;
    } identity;
    struct { unsigned version, bar1, total, used, free; } memory;
    struct { unsigned version, persistence, mig, confidential; } settings;
} Attributes;

typedef int (*Callback1)(unsigned gpu, FieldValue1 *values, int count, void *user);
typedef int (*Callback2)(unsigned entity_group, unsigned entity, FieldValue1 *values, int count, void *user);
