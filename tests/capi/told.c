/* Log lines and events are told, and no more after that is taken back. */
#include "check.h"

#include <pthread.h>

#define STREAM                                                                                       \
    "{\"name\": \"telemetry\", \"batch\": {\"maxLatencyMs\": 5},"                                     \
    "\"buffer\": {" SMALL ", \"fsyncIntervalMs\": 5}, \"delivery\": {\"backoffBaseMs\": 1},"          \
    "\"sink\": {\"type\": \"callback\", \"id\": \"host\"}}"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int lines, opened, calls;
static int64_t states[8];
static int state_count;

static void line(void *context, int32_t level, const char *target, const char *text) {
    CHECK(context == &lines);
    CHECK(level >= FOREBAY_LOG_ERROR && level <= FOREBAY_LOG_INFO);
    CHECK(strncmp(target, "forebay", 7) == 0);
    /* It may call the library. */
    DONE(forebay_version(NULL, 0, NULL));
    pthread_mutex_lock(&lock);
    lines++;
    opened += strstr(text, "telemetry") != NULL;
    pthread_mutex_unlock(&lock);
}

static void event(void *context, const forebay_event *told) {
    CHECK(context == states && told->size == sizeof *told);
    if (told->kind == FOREBAY_EVENT_SINK) {
        CHECK(strcmp(told->stream, "telemetry") == 0 && strcmp(told->sink, "callback") == 0);
        CHECK(forebay_close(NULL, 0) == FOREBAY_OK);
        pthread_mutex_lock(&lock);
        if (state_count < 8) {
            states[state_count++] = told->value;
        }
        pthread_mutex_unlock(&lock);
    } else {
        CHECK(told->sink == NULL);
    }
}

/* The first try finds the link down. */
static void deliver(void *context, const forebay_batch *batch, forebay_answer *answer) {
    (void)context;
    (void)batch;
    if (calls++ == 0) {
        DONE(forebay_answer_link(answer, FOREBAY_LINK_DOWN, "no carrier"));
        return;
    }
    DONE(forebay_answer_link(answer, FOREBAY_LINK_OK, NULL));
    DONE(forebay_answer_rest(answer, FOREBAY_ACCEPTED, 0, NULL));
}

int main(int count, char **arguments) {
    const char *dir = directory(count, arguments);
    DONE(forebay_set_log_callback(FOREBAY_LOG_INFO, line, &lines));
    DONE(forebay_set_event_callback(event, states));
    DONE(forebay_set_sink_callback("host", deliver, NULL, NULL));
    forebay_engine *engine = open_engine(dir, STREAM);
    CHECK(lines > 0 && opened > 0);
    forebay_stream *stream = stream_of(engine, "telemetry");
    DONE(forebay_stream_append(stream, NULL, 0, 0, "x", 1, NULL));
    int known = 0;
    for (int n = 0; n < 4000 && known < 2; n++) {
        wait_ms(5);
        pthread_mutex_lock(&lock);
        known = state_count;
        pthread_mutex_unlock(&lock);
    }
    DONE(forebay_close(engine, LIMIT_MS));
    DONE(forebay_stream_free(stream));
    CHECK(state_count >= 2 && states[0] == FOREBAY_SINK_LINK);
    CHECK(states[state_count - 1] == FOREBAY_SINK_OK);

    DONE(forebay_set_log_callback(FOREBAY_LOG_INFO, NULL, NULL));
    DONE(forebay_set_event_callback(NULL, NULL));
    int before = lines;
    engine = open_engine(dir, STREAM);
    DONE(forebay_close(engine, LIMIT_MS));
    CHECK(lines == before);
    return 0;
}
