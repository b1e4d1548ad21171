/* Eight threads append by one handle and by their own; one that is freed meanwhile is refused, no more. */
#include "check.h"

#include <pthread.h>

#define STREAM                                                                       \
    "{\"name\": \"telemetry\", \"sink\": {\"type\": \"none\"},"                       \
    "\"buffer\": {" SMALL ", \"onFull\": \"dropOldest\", \"fsyncIntervalMs\": 20}}"
#define THREADS 8
#define APPENDS 5000

static forebay_engine *engine;
static forebay_stream *shared;

static void *run(void *argument) {
    int number = *(int *)argument;
    forebay_stream *own = stream_of(engine, "telemetry");
    uint64_t last = 0;
    for (int n = 0; n < APPENDS; n++) {
        uint64_t offset = 0;
        forebay_result result;
        do {
            result = forebay_stream_append(n % 2 ? own : shared, &number, sizeof number, 1, "payload", 7,
                                           &offset);
        } while (result == FOREBAY_ERR_FULL);
        CHECK(result == FOREBAY_OK && (n == 0 || offset > last));
        last = offset;
        if (n % 1000 == 0) {
            stats_of(shared);
        }
    }
    /* The text is the thread's own. */
    char key = (char)('a' + number);
    char name[2] = {key, 0};
    forebay_stream *none = NULL;
    CHECK(forebay_stream_get(engine, name, &none) == FOREBAY_ERR_UNKNOWN_STREAM);
    char expected[8];
    snprintf(expected, sizeof expected, "\"%c\"", key);
    CHECK(says(expected));
    DONE(forebay_stream_free(own));
    return NULL;
}

static void *use_up(void *argument) {
    forebay_stream *stream = (forebay_stream *)argument;
    forebay_result result;
    do {
        result = forebay_stream_append(stream, NULL, 0, 0, "x", 1, NULL);
    } while (result == FOREBAY_OK || result == FOREBAY_ERR_FULL);
    CHECK(result == FOREBAY_ERR_INVALID_ARG);
    return NULL;
}

int main(int count, char **arguments) {
    engine = open_engine(directory(count, arguments), STREAM);
    shared = stream_of(engine, "telemetry");
    pthread_t threads[THREADS];
    int numbers[THREADS];
    for (int n = 0; n < THREADS; n++) {
        numbers[n] = n;
        CHECK(pthread_create(&threads[n], NULL, run, &numbers[n]) == 0);
    }
    for (int n = 0; n < THREADS; n++) {
        CHECK(pthread_join(threads[n], NULL) == 0);
    }
    DONE(forebay_stream_flush(shared, LIMIT_MS));
    forebay_stats stats = stats_of(shared);
    CHECK(stats.next_offset == THREADS * APPENDS && stats.durable_offset == stats.next_offset);

    forebay_stream *freed = stream_of(engine, "telemetry");
    for (int n = 0; n < 2; n++) {
        CHECK(pthread_create(&threads[n], NULL, use_up, freed) == 0);
    }
    wait_ms(20);
    DONE(forebay_stream_free(freed));
    for (int n = 0; n < 2; n++) {
        CHECK(pthread_join(threads[n], NULL) == 0);
    }
    DONE(forebay_close(engine, LIMIT_MS));
    DONE(forebay_stream_free(shared));
    return 0;
}
