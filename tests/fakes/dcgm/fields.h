/* Which field ids the library knows, what kind of value each has, and since when. */
#include <stdbool.h>

typedef struct { uint16_t first, last; int since; } Span; /* since: VERSION from which on the ids are known */

static const Span known_fields[] = {
    {1, 5, 0}, {6, 6, 40600}, {50, 63, 0}, {64, 64, 40600}, {65, 77, 0}, {80, 93, 0}, {94, 94, 40000}, {100, 102, 0},
    {110, 115, 0}, {120, 120, 0}, {130, 130, 0}, {140, 140, 0}, {150, 152, 0}, {153, 153, 40000}, {155, 164, 0},
    {165, 167, 40000}, {170, 173, 40000}, {174, 175, 40600}, {190, 191, 0}, {200, 207, 0}, {230, 230, 0},
    {235, 238, 0}, {240, 247, 0}, {250, 254, 0}, {285, 287, 0}, {300, 301, 0}, {310, 333, 0}, {334, 346, 40000},
    {385, 396, 0}, {400, 449, 0}, {450, 450, 40600}, {451, 489, 0}, {491, 513, 0}, {520, 534, 0}, {571, 577, 40000},
    {1001, 1033, 0}, {1034, 1034, 40000}, {1040, 1075, 0}, {1076, 1079, 40100}, {1080, 1083, 40401},
    {1084, 1096, 40600}, {1100, 1104, 0}, {1110, 1112, 0}, {1120, 1120, 0}, {1130, 1133, 0}, {1140, 1141, 0},
    {1200, 1219, 40000}, {1300, 1310, 40000}, {1400, 1424, 40000}, {1425, 1442, 40600}, {1501, 1503, 40600},
    {1507, 1509, 40600}, {1523, 1533, 40600},
};
static const Span real_fields[] = {{155, 155, 0}, {157, 157, 0}, {160, 164, 0}, {254, 254, 0}, {1001, 1008, 0}, {1013, 1034, 0},
                                   {1100, 1104, 0}, {1110, 1112, 0}, {1130, 1133, 0}, {1428, 1432, 0}};
static const Span text_fields[] = {{1, 3, 0}, {50, 51, 0}, {53, 54, 0}, {56, 57, 0}, {68, 68, 0}, {80, 82, 0}, {85, 85, 0},
                                   {1140, 1141, 0}};
static const Span global_fields[] = {{1, 6, 0}, {60, 62, 0}, {91, 91, 0}};
/* Read by one call of the driver for all of them, therefore answered after the others in a live call. */
static const Span driver_fields[] = {{156, 156, 0}, {310, 346, 0}, {385, 396, 0}, {400, 449, 0}};

#define IN(spans, id) in_spans(spans, sizeof(spans) / sizeof *(spans), id)

static bool in_spans(const Span *spans, size_t n, unsigned id) {
    for (size_t i = 0; i < n; i++)
        if (id >= spans[i].first && id <= spans[i].last && VERSION >= spans[i].since) return true;
    return false;
}

static bool is_known(unsigned field) { return IN(known_fields, field); }
static bool is_pipe(unsigned field) { return field >= 1001 && field <= 1096; }
static bool is_global(unsigned field) { return IN(global_fields, field); }
static bool is_driver_field(unsigned field) { return IN(driver_fields, field); }

static int type_of(unsigned field) {
    return IN(text_fields, field) ? TYPE_STRING : IN(real_fields, field) ? TYPE_DOUBLE : TYPE_INTEGER;
}
