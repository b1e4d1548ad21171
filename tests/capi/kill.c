/* A process that is killed while it appends has lost nothing that it was told to be durable. A process that is
 * forked from an engine's is refused, and leaves the engine alone. */
#include "check.h"

#include <signal.h>
#include <sys/wait.h>

#define STREAM "{\"name\": \"telemetry\", \"sink\": {\"type\": \"none\"}, \"buffer\": {" SMALL "}}"

static void append_for_ever(const char *dir, int told) {
    forebay_engine *engine = open_engine(dir, STREAM);
    forebay_stream *stream = stream_of(engine, "telemetry");
    for (;;) {
        uint64_t offset = 0;
        DONE(forebay_stream_append(stream, NULL, 0, 0, "not waited for", 14, NULL));
        DONE(forebay_stream_append_durable(stream, NULL, 0, 0, "x", 1, LIMIT_MS, &offset));
        CHECK(write(told, &offset, sizeof offset) == sizeof offset);
    }
}

int main(int count, char **arguments) {
    const char *dir = directory(count, arguments);
    uint64_t offset = 0;
    for (int round = 0; round < 3; round++) {
        int ends[2];
        CHECK(pipe(ends) == 0);
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            close(ends[0]);
            append_for_ever(dir, ends[1]);
        }
        close(ends[1]);
        for (int n = 0; n < 20; n++) {
            CHECK(read(ends[0], &offset, sizeof offset) == sizeof offset);
        }
        CHECK(kill(child, SIGKILL) == 0);
        /* What it had still told. */
        while (read(ends[0], &offset, sizeof offset) == sizeof offset) {
        }
        close(ends[0]);
        int status = 0;
        CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status));
        forebay_engine *engine = open_engine(dir, STREAM);
        forebay_stream *stream = stream_of(engine, "telemetry");
        forebay_stats stats = stats_of(stream);
        CHECK(stats.next_offset > offset && stats.durable_offset > offset);
        CHECK(stats.corrupt_total == 0);
        DONE(forebay_stream_free(stream));
        DONE(forebay_close(engine, LIMIT_MS));
    }

    if (getenv("FOREBAY_EMULATED") != NULL) {
        puts("the emulator does not clear at a fork what the kernel would: not tried");
        return 0;
    }
    forebay_engine *engine = open_engine(dir, STREAM);
    forebay_stream *stream = stream_of(engine, "telemetry");
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        forebay_record record = record_of("", "x");
        CHECK(forebay_stream_append(stream, NULL, 0, 0, "x", 1, NULL) == FOREBAY_ERR_CLOSED);
        CHECK(forebay_stream_append_batch(stream, &record, 1, NULL) == FOREBAY_ERR_CLOSED);
        CHECK(forebay_stream_flush(stream, LIMIT_MS) == FOREBAY_ERR_CLOSED);
        CHECK(forebay_close(engine, LIMIT_MS) == FOREBAY_ERR_CLOSED);
        CHECK(forebay_close(engine, LIMIT_MS) == FOREBAY_ERR_INVALID_ARG);
        DONE(forebay_stream_free(stream));
        /* Without a last look at memory: what belongs to the parent's threads is lost here. */
        kill(getpid(), SIGKILL);
    }
    int status = 1;
    CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    DONE(forebay_stream_append_durable(stream, NULL, 0, 0, "x", 1, LIMIT_MS, NULL));
    DONE(forebay_stream_free(stream));
    DONE(forebay_close(engine, LIMIT_MS));
    return 0;
}
