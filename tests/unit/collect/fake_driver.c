/* A library with the binary interface of libnvidia-ml.so.1 and one invented GPU.
 *
 * It shows that the bindings' calls and structures are used as the driver defines them. Only some functions are here:
 * the rest are missing as in an old driver, and their fields must be null. Structures after NVIDIA's nvml.h. */

#include <string.h>

enum { OK = 0, NOT_SUPPORTED = 3, INSUFFICIENT_SIZE = 7 };
typedef union { double d; unsigned u; unsigned long long ull; } value_t;
typedef struct { char legacy[16]; unsigned domain, bus, device, id, subsystem; char bus_id[32]; } pci_t;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory_t;
typedef struct { unsigned gpu, memory; } utilization_t;
typedef struct { unsigned field, scope; long long at, latency; unsigned type; int result; value_t value; } field_t;
typedef struct { unsigned long long at; value_t value; } sample_t;
typedef struct { unsigned id; int result; double value; const char *names[3]; } metric_t;
typedef struct { unsigned version, count; void *before, *after; metric_t metrics[]; } metrics_t;
typedef struct { unsigned version, supported; } support_t;

static int gpu, taken[2], allocated;

int nvmlInitWithFlags(unsigned flags) { return OK; }
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int code) { return "error"; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 1; return OK; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) { *handle = &gpu; return index ? NOT_SUPPORTED : OK; }
int nvmlDeviceGetUUID(void *h, char *text, unsigned size) { strncpy(text, "GPU-c0ffee", size); return OK; }
int nvmlDeviceGetName(void *h, char *text, unsigned size) { strncpy(text, "NVIDIA Invented", size); return OK; }

int nvmlDeviceGetPciInfo_v3(void *h, pci_t *pci) {
    memset(pci, 0, sizeof *pci);
    strcpy(pci->bus_id, "00000000:65:00.0");
    return OK;
}

int nvmlDeviceGetTemperature(void *h, unsigned sensor, unsigned *celsius) { *celsius = 55; return OK; }
int nvmlDeviceGetFanSpeed(void *h, unsigned *percent) { return NOT_SUPPORTED; }
int nvmlDeviceGetPowerUsage(void *h, unsigned *milliwatts) { *milliwatts = 1; return OK; }
int nvmlDeviceGetEnforcedPowerLimit(void *h, unsigned *milliwatts) { *milliwatts = 350000; return OK; }
int nvmlDeviceGetTotalEnergyConsumption(void *h, unsigned long long *mj) { *mj = 5000000000ULL; return OK; }
int nvmlDeviceGetClockInfo(void *h, unsigned type, unsigned *mhz) { *mhz = type == 1 ? 1410 : 1215; return OK; }
int nvmlDeviceGetDefaultApplicationsClock(void *h, unsigned type, unsigned *mhz) { *mhz = 1095; return OK; }
int nvmlDeviceGetUtilizationRates(void *h, utilization_t *u) { u->gpu = 90; u->memory = 30; return OK; }
int nvmlDeviceGetCurrentClocksThrottleReasons(void *h, unsigned long long *mask) { *mask = 4; return OK; }

int nvmlDeviceGetMemoryInfo_v2(void *h, memory_t *m) {
    if (m->version != (sizeof *m | 2 << 24)) return 25;
    m->total = 40ULL << 30, m->reserved = 1ULL << 30, m->free = 29ULL << 30, m->used = 10ULL << 30;
    return OK;
}

int nvmlDeviceGetTotalEccErrors(void *h, unsigned error, unsigned counter, unsigned long long *count) {
    *count = 10 * error + counter;
    return OK;
}

int nvmlDeviceGetRetiredPages(void *h, unsigned cause, unsigned *count, unsigned long long *pages) {
    if (!pages) return *count = 3, INSUFFICIENT_SIZE;
    memset(pages, 0, 3 * sizeof *pages);
    return *count = 3, OK;
}

int nvmlDeviceGetPcieThroughput(void *h, unsigned counter, unsigned *kilobytes) { *kilobytes = 7 + counter; return OK; }

int nvmlDeviceGetFieldValues(void *h, int count, field_t *values) {
    for (field_t *v = values; v < values + count; v++) {
        v->type = 1, v->result = v->field == 186 ? OK : NOT_SUPPORTED, v->value.u = 222500;
    }
    return OK;
}

int nvmlDeviceGetSamples(void *h, unsigned type, unsigned long long since, unsigned *kind, unsigned *count, sample_t *s) {
    *kind = 1;
    if (s)
        for (unsigned i = 0; i < 4; i++) s[i].at = 1795000000000000ULL + 20000 * i, s[i].value.u = 200000 + 1000 * i;
    *count = 4;
    return OK;
}

int nvmlGpmQueryDeviceSupport(void *h, support_t *support) { support->supported = support->version == 1; return OK; }
int nvmlGpmSampleAlloc(void **sample) { *sample = &taken[allocated++ & 1]; return OK; }
int nvmlGpmSampleFree(void *sample) { return OK; }
int nvmlGpmSampleGet(void *h, void *sample) { *(int *)sample += 1; return OK; }

int nvmlGpmMetricsGet(metrics_t *get) {
    if (get->version != 1 || !get->before || get->before == get->after) return 2;
    for (unsigned i = 0; i < get->count; i++) get->metrics[i].result = OK, get->metrics[i].value = get->metrics[i].id;
    return OK;
}
