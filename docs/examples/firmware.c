/* A control loop at 1 kHz that stores what it measures. It never waits for the store, the network or the disk:
 * appending copies a record into memory, and threads of the engine do the rest. At the end it says how long the
 * longest append took.
 *
 *     cc -O2 firmware.c $(pkg-config --cflags --libs forebay) -o firmware
 *     ./firmware DIRECTORY SECONDS
 */
#define _POSIX_C_SOURCE 200809L

#include <forebay.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PERIOD_NS 1000000
#define CLOSE_MS 5000

static volatile sig_atomic_t is_ending;

static void end(int signal) {
    (void)signal;
    is_ending = 1;
}

static int failed(const char *what) {
    char text[512];
    forebay_last_error(text, sizeof text, NULL);
    fprintf(stderr, "%s: %s\n", what, text);
    return 1;
}

/* Hands records on. This one counts them; yours sends them, and says what became of each. */
static void deliver(void *context, const forebay_batch *batch, forebay_answer *answer) {
    uint64_t *delivered = (uint64_t *)context;
    *delivered += batch->records_len;
    forebay_answer_rest(answer, FOREBAY_ACCEPTED, 0, NULL);
}

static void log_line(void *context, int32_t level, const char *target, const char *text) {
    (void)context;
    fprintf(stderr, "%" PRId32 " %s: %s\n", level, target, text);
}

static int64_t now_ns(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* What a sensor would say. */
static size_t measure(char *payload, size_t capacity, unsigned long cycle) {
    int len = snprintf(payload, capacity, "{\"cycle\":%lu,\"bar\":%lu.%02lu,\"rpm\":%lu}", cycle,
                       4 + cycle % 3, cycle % 100, 1480 + cycle % 40);
    return len < 0 ? 0 : (size_t)len;
}

int main(int count, char **arguments) {
    if (count != 3) {
        fprintf(stderr, "usage: %s DIRECTORY SECONDS\n", arguments[0]);
        return 2;
    }
    unsigned long cycles = strtoul(arguments[2], NULL, 10) * 1000;
    char config[1024];
    int len = snprintf(config, sizeof config,
                       "{\"dataDir\": \"%s/data\", \"runDir\": \"%s/run\", \"streams\": [{"
                       "\"name\": \"telemetry\", \"sink\": {\"type\": \"callback\", \"id\": \"uplink\"},"
                       "\"buffer\": {\"maxDiskBytes\": 67108864, \"segmentBytes\": 4194304}}]}",
                       arguments[1], arguments[1]);
    if (len < 0 || (size_t)len >= sizeof config) {
        fprintf(stderr, "the directory's name is too long\n");
        return 2;
    }

    static uint64_t delivered;
    forebay_engine *engine = NULL;
    forebay_stream *stream = NULL;
    if (forebay_set_log_callback(FOREBAY_LOG_WARN, log_line, NULL) != FOREBAY_OK ||
        forebay_set_sink_callback("uplink", deliver, &delivered, NULL) != FOREBAY_OK ||
        forebay_open(config, &engine) != FOREBAY_OK ||
        forebay_stream_get(engine, "telemetry", &stream) != FOREBAY_OK) {
        return failed("open");
    }
    signal(SIGINT, end);
    signal(SIGTERM, end);

    uint64_t refused = 0;
    int64_t worst_ns = 0, sum_ns = 0;
    unsigned long cycle = 0;
    struct timespec next;
    clock_gettime(CLOCK_MONOTONIC, &next);
    for (; cycle < cycles && !is_ending; cycle++) {
        char payload[128];
        size_t payload_len = measure(payload, sizeof payload, cycle);
        uint64_t time_ms = (uint64_t)(now_ns(CLOCK_REALTIME) / 1000000);

        int64_t began = now_ns(CLOCK_MONOTONIC);
        forebay_result result =
            forebay_stream_append(stream, "pump-7", 6, time_ms, payload, payload_len, NULL);
        int64_t took = now_ns(CLOCK_MONOTONIC) - began;

        /* A full ring is no reason to stop controlling: the record is gone, and counted. */
        refused += result != FOREBAY_OK;
        worst_ns = took > worst_ns ? took : worst_ns;
        sum_ns += took;

        next.tv_nsec += PERIOD_NS;
        if (next.tv_nsec >= 1000000000) {
            next.tv_nsec -= 1000000000;
            next.tv_sec++;
        }
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
    }

    forebay_result closed = forebay_close(engine, CLOSE_MS);
    forebay_stream_free(stream);
    if (closed != FOREBAY_OK) {
        return failed("close");
    }
    printf("%lu appends, %" PRIu64 " refused, %" PRIu64 " delivered; an append took %" PRId64
           " ns on average, %" PRId64 " ns at most\n",
           cycle, refused, delivered, cycle > 0 ? sum_ns / (int64_t)cycle : 0, worst_ns);
    return refused == 0 ? 0 : 1;
}
