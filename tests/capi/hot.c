/* Appends between two marks that a trace of system calls shows; see tests/capi.rs. */
#include "check.h"

#include <sys/stat.h>

#define STREAM "{\"name\": \"telemetry\", \"sink\": {\"type\": \"none\"}, \"buffer\": {" SMALL "}}"

int main(int count, char **arguments) {
    forebay_engine *engine = open_engine(directory(count, arguments), STREAM);
    forebay_stream *stream = stream_of(engine, "telemetry");
    static char payload[100];
    struct stat state;
    DONE(forebay_stream_append(stream, "0123456789abcdef", 16, 1, payload, sizeof payload, NULL));
    CHECK(stat("/forebay-mark-begin", &state) != 0);
    for (int n = 0; n < 200000; n++) {
        uint64_t offset;
        while (forebay_stream_append(stream, "0123456789abcdef", 16, 1, payload, sizeof payload, &offset) !=
               FOREBAY_OK) {
        }
    }
    CHECK(stat("/forebay-mark-end", &state) != 0);
    DONE(forebay_stream_free(stream));
    DONE(forebay_close(engine, LIMIT_MS));
    return 0;
}
