/* Open, append in every way, look, close, open again. */
#include "check.h"

#define STREAM "{\"name\": \"telemetry\", \"sink\": {\"type\": \"none\"}, \"buffer\": {" SMALL "}}"

int main(int count, char **arguments) {
    const char *dir = directory(count, arguments);
    char text[64];
    size_t len = 0;
    DONE(forebay_version(text, sizeof text, &len));
    CHECK(strlen(text) == len && strchr(text, '.') != NULL);
    DONE(forebay_version(NULL, 0, &len));
    DONE(forebay_version(text, 3, &len));
    CHECK(strlen(text) == 2 && len > 2);
    uint32_t features = 77;
    DONE(forebay_features(&features));
    CHECK(features < 8);

    forebay_engine *engine = open_engine(dir, STREAM);
    forebay_stream *stream = stream_of(engine, "telemetry");
    uint64_t offset = 99;
    DONE(forebay_stream_append(stream, "pump-7", 6, 1, "\x01\x00\x02", 3, &offset));
    CHECK(offset == 0);
    DONE(forebay_stream_append(stream, NULL, 0, 1, NULL, 0, NULL));
    DONE(forebay_stream_append_durable(stream, "pump-7", 6, 2, "x", 1, LIMIT_MS, &offset));
    CHECK(offset == 2);

    forebay_property property;
    property.name = "unit";
    property.name_len = 4;
    property.value = "bar";
    property.value_len = 3;
    forebay_record record = record_of("pump-7", "4.2");
    record.properties = &property;
    record.properties_len = 1;
    record.source = "tail";
    record.source_len = 4;
    record.position = "line 17";
    record.position_len = 7;
    DONE(forebay_stream_append_record(stream, &record, &offset));
    CHECK(offset == 3);
    DONE(forebay_stream_flush(stream, LIMIT_MS));

    char position[64];
    DONE(forebay_stream_source_position(stream, "tail", position, sizeof position, &len));
    CHECK(len == 7 && memcmp(position, "line 17", 7) == 0);
    DONE(forebay_stream_source_position(stream, "other", position, sizeof position, &len));
    CHECK(len == 0);
    CHECK(forebay_stream_source_position(stream, "tail", position, 3, &len) == FOREBAY_ERR_INVALID_ARG);

    forebay_stats stats = stats_of(stream);
    CHECK(stats.appended_total == 4 && stats.next_offset == 4 && stats.durable_offset == 4);
    CHECK(stats.health == FOREBAY_HEALTH_OK && stats.sinks_len == 0);
    DONE(forebay_stream_last_export_error(stream, text, sizeof text, &len));
    CHECK(len == 0 && text[0] == 0);

    DONE(forebay_close(engine, LIMIT_MS));
    DONE(forebay_stream_free(stream));

    engine = open_engine(dir, STREAM);
    stream = stream_of(engine, "telemetry");
    CHECK(stats_of(stream).next_offset == 4);
    DONE(forebay_stream_free(stream));
    DONE(forebay_close(engine, LIMIT_MS));
    DONE(forebay_close(NULL, 0));
    DONE(forebay_stream_free(NULL));
    return 0;
}
