/* Batches: all or none, one behind the other, durable on return. */
#include "check.h"

#define STREAM "{\"name\": \"telemetry\", \"sink\": {\"type\": \"none\"}, \"buffer\": {" SMALL "}}"
#define COUNT 200

int main(int count, char **arguments) {
    const char *dir = directory(count, arguments);
    forebay_engine *engine = open_engine(dir, STREAM);
    forebay_stream *stream = stream_of(engine, "telemetry");
    static forebay_record records[COUNT];
    static forebay_property properties[COUNT];
    static forebay_record many[20000];
    static char payloads[COUNT][16];
    for (int n = 0; n < COUNT; n++) {
        snprintf(payloads[n], sizeof payloads[n], "record %d", n);
        records[n] = record_of("pump-7", payloads[n]);
        properties[n].name = "n";
        properties[n].name_len = 1;
        properties[n].value = payloads[n];
        properties[n].value_len = strlen(payloads[n]);
        records[n].properties = &properties[n];
        records[n].properties_len = n % 2;
    }
    uint64_t first = 99;
    DONE(forebay_stream_append_batch(stream, records, COUNT, &first));
    CHECK(first == 0);
    forebay_stats stats = stats_of(stream);
    CHECK(stats.durable_offset == COUNT && stats.next_offset == COUNT);
    uint64_t syncs = stats.syncs_total;
    DONE(forebay_stream_append_batch(stream, records, COUNT, &first));
    stats = stats_of(stream);
    CHECK(first == COUNT && stats.durable_offset == 2 * COUNT);
    CHECK(stats.syncs_total <= syncs + 2);

    /* One that is wrong: none is taken. */
    records[COUNT - 1].key_len = 65536;
    first = 77;
    CHECK(forebay_stream_append_batch(stream, records, COUNT, &first) == FOREBAY_ERR_INVALID_ARG);
    CHECK(says("record 199") && first == 77);
    CHECK(stats_of(stream).next_offset == 2 * COUNT);
    CHECK(forebay_stream_append_batch(stream, many, 20000, &first) == FOREBAY_ERR_INVALID_ARG);
    CHECK(says("maxBufferedRecords"));
    DONE(forebay_stream_append_batch(stream, NULL, 0, &first));
    CHECK(first == 2 * COUNT);

    DONE(forebay_stream_free(stream));
    DONE(forebay_close(engine, LIMIT_MS));
    return 0;
}
