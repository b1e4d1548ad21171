/* What the programs share: checks that say where they failed, and an engine in a directory of its own. */
#ifndef CHECK_H
#define CHECK_H

#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif
#ifndef __LP64__
/* Without it, 32 bits cannot read every directory. */
#define _FILE_OFFSET_BITS 64
#endif

#include <forebay.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LIMIT_MS 20000u
#define TEXT_MAX 512

static inline void fail(const char *file, int line, const char *what) {
    char text[TEXT_MAX] = "";
    forebay_last_error(text, sizeof text, NULL);
    fprintf(stderr, "%s:%d: %s; the last error's text: %s\n", file, line, what, text);
    exit(1);
}

#define CHECK(condition) ((condition) ? (void)0 : fail(__FILE__, __LINE__, #condition))
#define DONE(call) CHECK((call) == FOREBAY_OK)

/* The text of this thread's last error has `part` in it. */
static inline int says(const char *part) {
    char text[TEXT_MAX] = "";
    forebay_last_error(text, sizeof text, NULL);
    return strstr(text, part) != NULL;
}

static inline void wait_ms(long ms) {
    struct timespec time;
    time.tv_sec = ms / 1000;
    time.tv_nsec = ms % 1000 * 1000000;
    nanosleep(&time, NULL);
}

/* Small stores, so that they are made at once. */
#define SMALL "\"maxDiskBytes\": 16777216, \"segmentBytes\": 1048576"

static inline forebay_result try_open(const char *dir, const char *streams, forebay_engine **engine) {
    char text[4096];
    int len = snprintf(text, sizeof text,
                       "{\"dataDir\": \"%s/data\", \"runDir\": \"%s/run\", \"streams\": [%s]}", dir, dir,
                       streams);
    CHECK(len > 0 && (size_t)len < sizeof text);
    return forebay_open(text, engine);
}

static inline forebay_engine *open_engine(const char *dir, const char *streams) {
    forebay_engine *engine = NULL;
    DONE(try_open(dir, streams, &engine));
    CHECK(engine != NULL);
    return engine;
}

static inline forebay_stream *stream_of(forebay_engine *engine, const char *name) {
    forebay_stream *stream = NULL;
    DONE(forebay_stream_get(engine, name, &stream));
    CHECK(stream != NULL);
    return stream;
}

static inline forebay_stats stats_of(const forebay_stream *stream) {
    forebay_stats stats;
    memset(&stats, 0, sizeof stats);
    stats.size = sizeof stats;
    DONE(forebay_stream_stats(stream, &stats));
    return stats;
}

static inline forebay_record record_of(const char *key, const char *payload) {
    forebay_record record;
    memset(&record, 0, sizeof record);
    record.size = sizeof record;
    record.time_ms = 1700000000000u;
    record.key = key;
    record.key_len = strlen(key);
    record.payload = payload;
    record.payload_len = strlen(payload);
    return record;
}

static inline const char *directory(int count, char **arguments) {
    if (count < 2) {
        fprintf(stderr, "usage: %s DIRECTORY\n", arguments[0]);
        exit(2);
    }
    return arguments[1];
}

#endif
