/* A sink of the host's that answers in every way. */
#include "check.h"

#include <pthread.h>

#define BATCHING "\"batch\": {\"maxLatencyMs\": 5}, \"delivery\": {\"backoffBaseMs\": 1, \"backoffMaxMs\": 20}"
#define BUFFER "\"buffer\": {" SMALL ", \"fsyncIntervalMs\": 5}"
#define STREAM(name) \
    "{\"name\": \"" name "\", " BATCHING ", " BUFFER ", \"sink\": {\"type\": \"callback\", \"id\": \"host\"}}"

/* What the sink has seen. */
struct seen {
    pthread_mutex_t lock;
    int accepted, later, silent, rejected, partial, other_stream, whole_rejected, down, views;
    size_t longest;
    forebay_engine *engine;
    forebay_answer *over;
};

static int is(const forebay_record_view *record, const char *payload) {
    return record->payload_len == strlen(payload) &&
           memcmp(record->payload, payload, record->payload_len) == 0;
}

static void look(const forebay_record_view *record) {
    CHECK(record->key_len == 6 && memcmp(record->key, "pump-7", 6) == 0);
    CHECK(record->time_ms == 1700000000000u && record->appended_ms > record->time_ms);
    CHECK(record->properties_len == 2);
    CHECK(record->properties[1].name_len == 4 && memcmp(record->properties[1].name, "unit", 4) == 0);
    CHECK(record->properties[1].value_len == 3 && memcmp(record->properties[1].value, "bar", 3) == 0);
    CHECK(record->source_len == 4 && memcmp(record->source, "tail", 4) == 0);
    CHECK(record->position_len == 2 && memcmp(record->position, "17", 2) == 0);
}

/* Accepts, sends again, says nothing, rejects: as the payload asks. */
static void deliver(void *context, const forebay_batch *batch, forebay_answer *answer) {
    struct seen *seen = (struct seen *)context;
    pthread_mutex_lock(&seen->lock);
    CHECK(batch->size == sizeof *batch && batch->record_size == sizeof *batch->records);
    CHECK(batch->records_len >= 1 && batch->timeout_ms == 5000);
    if (batch->records_len > seen->longest) {
        seen->longest = batch->records_len;
    }
    if (seen->over != NULL) {
        CHECK(forebay_answer_rest(seen->over, FOREBAY_ACCEPTED, 0, NULL) == FOREBAY_ERR_INVALID_ARG);
    }
    seen->over = answer;
    CHECK(forebay_close(seen->engine, 0) == FOREBAY_ERR_INVALID_ARG && says("callback"));
    CHECK(forebay_answer_set(answer, batch->records_len, FOREBAY_ACCEPTED, 0, NULL) ==
          FOREBAY_ERR_INVALID_ARG);
    CHECK(forebay_answer_set(answer, 0, 0, 0, NULL) == FOREBAY_ERR_INVALID_ARG);
    CHECK(forebay_answer_rest(answer, 4, 0, NULL) == FOREBAY_ERR_INVALID_ARG);
    CHECK(forebay_answer_link(answer, 5, NULL) == FOREBAY_ERR_INVALID_ARG);
    CHECK(forebay_answer_set(answer, 0, FOREBAY_REJECTED, 0, "\xff") == FOREBAY_ERR_INVALID_ARG);

    if (strcmp(batch->stream, "second") == 0) {
        seen->other_stream += (int)batch->records_len;
        if (seen->down++ == 0) {
            DONE(forebay_answer_link(answer, FOREBAY_LINK_DOWN, "no carrier"));
            DONE(forebay_answer_rest(answer, FOREBAY_RETRY, 3, NULL));
        } else {
            DONE(forebay_answer_link(answer, FOREBAY_LINK_OK, NULL));
            DONE(forebay_answer_rest(answer, FOREBAY_REJECTED, 0, "of no use"));
            seen->whole_rejected += (int)batch->records_len;
        }
        pthread_mutex_unlock(&seen->lock);
        return;
    }
    CHECK(strcmp(batch->stream, "first") == 0);
    for (size_t index = 0; index < batch->records_len; index++) {
        const forebay_record_view *record = &batch->records[index];
        if (is(record, "accept")) {
            seen->accepted++;
            DONE(forebay_answer_set(answer, index, FOREBAY_ACCEPTED, 0, NULL));
        } else if (is(record, "later")) {
            int outcome = seen->later++ == 0 ? FOREBAY_RETRY : FOREBAY_ACCEPTED;
            DONE(forebay_answer_set(answer, index, outcome, 2, NULL));
        } else if (is(record, "silent")) {
            if (seen->silent++ > 0) {
                DONE(forebay_answer_set(answer, index, FOREBAY_ACCEPTED, 0, NULL));
            }
        } else if (is(record, "reject")) {
            seen->rejected++;
            DONE(forebay_answer_set(answer, index, FOREBAY_REJECTED, 0, "too bitter"));
        } else if (is(record, "view")) {
            look(record);
            seen->views++;
            DONE(forebay_answer_set(answer, index, FOREBAY_ACCEPTED, 0, NULL));
        } else {
            seen->partial++;
        }
    }
    /* The first outcome of a record counts: these are for those that have none. */
    if (seen->partial > 0) {
        DONE(forebay_answer_rest(answer, FOREBAY_ACCEPTED, 0, NULL));
    }
    pthread_mutex_unlock(&seen->lock);
}

static void append(forebay_stream *stream, const char *payload) {
    DONE(forebay_stream_append(stream, "k", 1, 1, payload, strlen(payload), NULL));
}

/* What is given is borrowed for the call: it is written over right after. */
static void append_view(forebay_stream *stream) {
    forebay_property properties[2];
    char key[] = "pump-7", payload[] = "view", name[] = "unit", value[] = "bar", source[] = "tail";
    char position[] = "17";
    properties[0].name = "x";
    properties[0].name_len = 1;
    properties[0].value = "x";
    properties[0].value_len = 1;
    properties[1].name = name;
    properties[1].name_len = strlen(name);
    properties[1].value = value;
    properties[1].value_len = strlen(value);
    forebay_record record = record_of(key, payload);
    record.properties = properties;
    record.properties_len = 2;
    record.source = source;
    record.source_len = strlen(source);
    record.position = position;
    record.position_len = strlen(position);
    DONE(forebay_stream_append_record(stream, &record, NULL));
    memset(key, 'z', sizeof key);
    memset(payload, 'z', sizeof payload);
    memset(name, 'z', sizeof name);
    memset(value, 'z', sizeof value);
    memset(source, 'z', sizeof source);
    memset(position, 'z', sizeof position);
    memset(properties, 'z', sizeof properties);
    memset(&record, 'z', sizeof record);
}

static forebay_stats delivered(forebay_stream *stream) {
    forebay_stats stats = stats_of(stream);
    for (int n = 0; n < 4000 && (stats.backlog > 0 || stats.queued > 0); n++) {
        wait_ms(5);
        stats = stats_of(stream);
    }
    CHECK(stats.backlog == 0 && stats.queued == 0);
    return stats;
}

static pthread_mutex_t slow_lock = PTHREAD_MUTEX_INITIALIZER;
static int slow_calls;

static void deliver_slowly(void *context, const forebay_batch *batch, forebay_answer *answer) {
    (void)context;
    (void)batch;
    __atomic_add_fetch(&slow_calls, 1, __ATOMIC_SEQ_CST);
    pthread_mutex_lock(&slow_lock);
    pthread_mutex_unlock(&slow_lock);
    DONE(forebay_answer_rest(answer, FOREBAY_ACCEPTED, 0, NULL));
}

/* A close that is not done in time says so, and is done later. */
static void close_in_time(const char *dir) {
    DONE(forebay_set_sink_callback("slow", deliver_slowly, NULL, NULL));
    forebay_engine *engine = open_engine(dir, "{\"name\": \"third\", " BATCHING ", " BUFFER ","
                                              "\"sink\": {\"type\": \"callback\", \"id\": \"slow\"}}");
    forebay_stream *stream = stream_of(engine, "third");
    pthread_mutex_lock(&slow_lock);
    append(stream, "x");
    while (__atomic_load_n(&slow_calls, __ATOMIC_SEQ_CST) == 0) {
        wait_ms(1);
    }
    CHECK(forebay_close(engine, 20) == FOREBAY_ERR_TIMEOUT);
    CHECK(forebay_stream_append(stream, NULL, 0, 0, "y", 1, NULL) == FOREBAY_ERR_CLOSED);
    pthread_mutex_unlock(&slow_lock);
    DONE(forebay_close(engine, LIMIT_MS));
    DONE(forebay_stream_free(stream));
    DONE(forebay_set_sink_callback("slow", NULL, NULL, NULL));
}

int main(int count, char **arguments) {
    const char *dir = directory(count, arguments);
    static struct seen seen;
    pthread_mutex_init(&seen.lock, NULL);
    forebay_sink_options options;
    memset(&options, 0, sizeof options);
    options.size = sizeof options;
    options.records_max = 3;
    options.timeout_ms = 5000;
    char id[] = "host";
    DONE(forebay_set_sink_callback(id, deliver, &seen, &options));
    memset(id, 'z', sizeof id - 1);
    options.size = 1;
    CHECK(forebay_set_sink_callback("host", deliver, &seen, &options) == FOREBAY_ERR_INVALID_ARG);
    DONE(forebay_set_sink_callback("gone", deliver, &seen, NULL));
    DONE(forebay_set_sink_callback("gone", NULL, NULL, NULL));

    pthread_mutex_lock(&seen.lock);
    seen.engine = open_engine(dir, STREAM("first") "," STREAM("second"));
    pthread_mutex_unlock(&seen.lock);
    forebay_stream *first = stream_of(seen.engine, "first");
    forebay_stream *second = stream_of(seen.engine, "second");
    for (int n = 0; n < 10; n++) {
        append(first, "accept");
    }
    append(first, "later");
    append(first, "silent");
    append(first, "reject");
    append_view(first);
    forebay_stats stats = delivered(first);
    CHECK(stats.exported_total == 13 && stats.failed_total == 1 && stats.dead_letters_total == 1);
    CHECK(stats.retries_total >= 2 && stats.sinks_len == 1);
    append(first, "accept");
    append(first, "whatever");
    CHECK(delivered(first).exported_total == 15);

    append(second, "x");
    append(second, "y");
    stats = delivered(second);
    CHECK(stats.exported_total == 0 && stats.failed_total == 2);
    char text[200];
    size_t len = 0;
    DONE(forebay_stream_last_export_error(second, text, sizeof text, &len));
    CHECK(strcmp(text, "of no use") == 0 && len == strlen(text));
    forebay_sink_stats sink;
    memset(&sink, 0, sizeof sink);
    sink.size = sizeof sink;
    DONE(forebay_stream_sink_stats(second, 0, &sink));
    CHECK(sink.failed_total == 2 && strcmp(sink.last_export_error, "of no use") == 0);
    CHECK(strcmp(sink.name, "callback") == 0 && sink.state <= FOREBAY_SINK_OK);
    CHECK(forebay_stream_sink_stats(second, 1, &sink) == FOREBAY_ERR_INVALID_ARG);

    DONE(forebay_close(seen.engine, LIMIT_MS));
    CHECK(seen.accepted >= 11 && seen.later == 2 && seen.silent == 2 && seen.rejected >= 1);
    CHECK(seen.views >= 1 && seen.partial >= 1 && seen.whole_rejected >= 2 && seen.longest <= 3);
    CHECK(seen.other_stream >= 3);
    CHECK(forebay_answer_rest(seen.over, FOREBAY_ACCEPTED, 0, NULL) == FOREBAY_ERR_INVALID_ARG);
    DONE(forebay_stream_free(first));
    DONE(forebay_stream_free(second));
    close_in_time(dir);
    return 0;
}
