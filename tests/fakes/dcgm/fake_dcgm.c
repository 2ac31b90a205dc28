/* A fake of NVIDIA's DCGM client library at its ABI, with an engine inside, driven by a script. For tests only.
 *
 * Built as libdcgm.so.4 or .3 (tests/fakes/build.py), it runs the vendor's Python bindings or the stand-in for
 * them (bindings/): nothing inside the program under test is replaced. What it refuses and answers follows the
 * sources of versions 3.3.9, 4.2.3 and 4.6.0. Nothing is sent anywhere: of an address only the form counts, and that
 * a unix socket is there.
 *
 * Environment
 *   FAKE_DCGM_SCRIPT  the script; read again when it changes (replace the file by a rename)
 *   FAKE_DCGM_LOG     file to which every call is appended: "<seconds since 1970> <function>"
 *
 * Script: one statement per line, '#' starts a comment; GPU is a number, '*', or cpuN; FIELD is an id or A-B;
 * later lines win.
 *   gpus COUNT | cpus COUNT | unsupported GPU       a CPU has 72 cores; without any, calls for CPUs are refused
 *   value GPU FIELD VALUE   a number, nan, text, or blank, not_found, not_supported, no_permission (blank values
 *                           with status 0), none (no sample is ever taken). A field without a statement is
 *                           not_supported; a profiling field is blank
 *   grow GPU FIELD START PER_SECOND     a counter (by the machine's monotonic clock, so it survives a restart)
 *   watch FIELD|pipes|others|all CODE [gpu N]    a watch with such a field is refused and taken back whole
 *   frozen FIELD|pipes|others|all [gpu N]        no new samples: the last ones stay
 *   first blank|missing|value           the first sample of a profiling field (GPM needs two); default blank
 *   skew US                 time between the readings of one field and the next; default 40
 *   energy_step US          field 156 has the driver's own time, in steps; default 20000
 *   older S PERIOD_S        another client watched the same fields for S seconds before
 *   taken NAME              a field group of that name exists already
 *   gpm 0|1                 1 (default): Hopper and newer, metric groups as such an engine states them;
 *                           0: the profiling module, metric groups as follows
 *   metric_group MAJOR MINOR FIELD...
 *   paused 0|1              profiling fields are blank
 *   engine up|hang|dead     hang: calls block until it ends (-11 after hang_limit S, default 60; connecting takes
 *                           two of these and then hands out a connection that is none, with status 0).
 *                           dead: calls fail at once (-21), connecting after its time-out; the engine that
 *                           comes up afterwards is another one
 *   generation NUMBER       another number: the engine was restarted; old connections stay dead
 *   clock S                 the engine's wall clock, ahead of this machine's; a change is a step of it
 *   call FUNCTION CODE      that function answers CODE; a name may end in '*'
 *   slow FUNCTION MS | print FUNCTION | crash FUNCTION
 * A live request for a profiling field ends the engine, as it does the real one (4.6.0).
 */
#include "abi.h"
#include "fields.h"
#include "script.h"
#include "cache.h"
#include "engine.h"

/* Every call: one at a time, and what the script says about it. */
#define ENTER()                                                \
    int held __attribute__((cleanup(leave))) = 1;              \
    int forced = begin(__func__);                              \
    if (forced) return forced
#define REQUEST(handle)                                        \
    ENTER();                                                   \
    int reached = reach(handle);                               \
    if (reached) return reached

/* ---- library ---- */

int dcgmInit(void) {
    ENTER();
    is_initialized = true;
    return ST_OK;
}

int dcgmShutdown(void) {
    ENTER();
    for (int i = 0; i < n_handles; i++) connections[i] = 0;
    if (is_embedded) forget_engine();
    is_initialized = is_embedded = is_manual = false;
    return ST_OK;
}

const char *dcgmErrorString(int status) {
    static char text[64];
    snprintf(text, sizeof text, "fake error %d", status);
    return text;
}

int dcgmVersionInfo(VersionInfo *out) {
    ENTER();
    if (!out) return ST_BAD_PARAMETER;
    if (out->version != VERSION_WORD(VersionInfo, 2)) return ST_VERSION;
    int major = VERSION / 10000, minor = VERSION / 100 % 100, patch = VERSION % 100;
    snprintf(out->text, sizeof out->text, "version:%d.%d.%d;arch:fake;buildtype:Release", major, minor, patch);
    return ST_OK;
}

/* ---- connections ---- */

/* Whether an address has the form of one: unix://PATH, tcp://HOST[:PORT] or HOST[:PORT]. */
static bool is_address(const char *address) {
    const char *host = !strncmp(address, "tcp://", 6) ? address + 6 : address;
    if (!strncmp(address, "unix://", 7)) return address[7];
    const char *end = *host == '[' ? strchr(host, ']') : strchr(host, ':');
    if (end && *end == ']') end++;
    if (!*host || end == host) return false;
    return !end || !*end || (*end == ':' && end[1] && !end[1 + strspn(end + 1, "0123456789")]);
}

/* Nobody listens: no engine, or no socket of that name. */
static bool is_refused(const char *address) {
    struct stat status;
    if (!strncmp(address, "unix://", 7) && (stat(address + 7, &status) || !S_ISSOCK(status.st_mode))) return true;
    return script.state == DEAD || has_crashed;
}

static int connect_engine(const char *address, unsigned timeout_ms, Handle *out) {
    if (!is_address(address)) return ST_BAD_PARAMETER;
    int64_t until_us = clock_us(CLOCK_MONOTONIC) + 1000LL * (timeout_ms ? timeout_ms : 5000);
    while (is_refused(address)) {
        if (clock_us(CLOCK_MONOTONIC) >= until_us) return ST_CONNECTION;
        pthread_mutex_unlock(&lock);
        usleep(5000);
        pthread_mutex_lock(&lock);
        look();
    }
    if (n_handles == MAX_HANDLES) return ST_GENERIC;
    connections[n_handles++] = life;
    *out = (Handle)n_handles;
    int waited = wait_for_engine(2 * script.hang_s);
    if (waited) connections[n_handles - 1] = 0; /* the log-in failed, and its failure is forgotten on the way */
    return ST_OK;
}

int dcgmConnect_v2(const char *address, Connect2b *parameters, Handle *out) {
    ENTER();
    if (!address || !*address || !parameters || !out) return ST_BAD_PARAMETER;
    if (!is_initialized) return ST_UNINITIALIZED;
    bool is_old = parameters->version == VERSION_WORD(Connect2a, 1);
    if (!is_old && parameters->version != VERSION_WORD(Connect2b, 2)) return ST_VERSION;
    char text[2 * MAX_STRING];
    snprintf(text, sizeof text, "%s://%s", !is_old && parameters->is_unix ? "unix" : "tcp", address);
    return connect_engine(text, is_old ? 0 : parameters->timeout_ms, out);
}

int dcgmConnect(const char *address, Handle *out) {
    Connect2a parameters = {VERSION_WORD(Connect2a, 1), 0};
    return dcgmConnect_v2(address, (Connect2b *)&parameters, out);
}

#if VERSION >= 40500
int dcgmConnect_v3(const char *address, Connect3 *parameters, Handle *out) {
    ENTER();
    if (!address || !*address || !parameters || !out) return ST_BAD_PARAMETER;
    if (!is_initialized) return ST_UNINITIALIZED;
    if (parameters->version != VERSION_WORD(Connect3, 1)) return ST_VERSION;
    return connect_engine(address, parameters->timeout_ms, out);
}
#endif

int dcgmDisconnect(Handle handle) {
    ENTER();
    if (handle && handle <= (Handle)n_handles && connections[handle - 1]) {
        connections[handle - 1] = 0;
        forget_engine(); /* what a client made goes with it; its other connections do not matter here */
    }
    return ST_OK;
}

int dcgmStartEmbedded(int mode, Handle *out) {
    ENTER();
    if (!out || (mode != MODE_AUTO && mode != MODE_MANUAL)) return ST_BAD_PARAMETER;
    if (!is_initialized) return ST_UNINITIALIZED;
    *out = is_embedded ? 0 : EMBEDDED; /* a second start hands out nothing, with status 0 */
    is_embedded = true, is_manual = mode == MODE_MANUAL;
    return ST_OK;
}

int dcgmStopEmbedded(Handle handle) {
    ENTER();
    if (!is_initialized) return ST_UNINITIALIZED;
    if (handle != EMBEDDED) return ST_BAD_PARAMETER;
    forget_engine();
    is_embedded = is_manual = false;
    return ST_OK;
}

#include "groups.h"
#include "values.h"
