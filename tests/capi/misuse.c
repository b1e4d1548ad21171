/* Arguments that are wrong: each is refused with a code, and nothing is written. */
#include "check.h"

#define REFUSED(call) CHECK((call) == FOREBAY_ERR_INVALID_ARG)

static forebay_stream *no_stream(uintptr_t number) { return (forebay_stream *)number; }
static forebay_engine *no_engine(uintptr_t number) { return (forebay_engine *)number; }

int main(int count, char **arguments) {
    const char *dir = directory(count, arguments);
    forebay_engine *engine = open_engine(
        dir, "{\"name\": \"s\", \"sink\": {\"type\": \"none\"}, \"buffer\": {" SMALL "}}");
    forebay_stream *stream = stream_of(engine, "s");
    uint64_t offset = 77;
    size_t len = 77;

    /* Null where something is needed. */
    forebay_stream *other = NULL;
    REFUSED(forebay_open(NULL, &engine));
    REFUSED(forebay_open("{}", NULL));
    REFUSED(forebay_stream_get(NULL, "s", &other));
    REFUSED(forebay_stream_get(engine, NULL, &other));
    REFUSED(forebay_stream_get(engine, "\xff", &other));
    REFUSED(forebay_stream_get(engine, "s", NULL));
    REFUSED(forebay_stream_append(NULL, NULL, 0, 0, NULL, 0, &offset));
    REFUSED(forebay_stream_append(stream, NULL, 1, 0, NULL, 0, &offset));
    REFUSED(forebay_stream_append(stream, NULL, 0, 0, NULL, 1, &offset));
    REFUSED(forebay_stream_append(stream, "x", SIZE_MAX, 0, NULL, 0, &offset));
    REFUSED(forebay_stream_append_durable(stream, NULL, 1, 0, NULL, 0, 1, &offset));
    REFUSED(forebay_stream_append_record(stream, NULL, &offset));
    REFUSED(forebay_stream_append_batch(stream, NULL, 1, &offset));
    REFUSED(forebay_stream_stats(stream, NULL));
    REFUSED(forebay_stream_sink_stats(stream, 0, NULL));
    REFUSED(forebay_stream_last_export_error(stream, NULL, 1, &len));
    REFUSED(forebay_stream_source_position(stream, NULL, NULL, 0, &len));
    REFUSED(forebay_stream_source_position(stream, "x", NULL, 0, NULL));
    REFUSED(forebay_last_error(NULL, 1, &len));
    REFUSED(forebay_version(NULL, 1, &len));
    REFUSED(forebay_features(NULL));
    REFUSED(forebay_set_sink_callback(NULL, NULL, NULL, NULL));
    REFUSED(forebay_set_log_callback(6, NULL, NULL));
    REFUSED(forebay_set_log_callback(-1, NULL, NULL));
    REFUSED(forebay_answer_set(NULL, 0, FOREBAY_ACCEPTED, 0, NULL));
    REFUSED(forebay_answer_rest(NULL, FOREBAY_ACCEPTED, 0, NULL));
    REFUSED(forebay_answer_link(NULL, FOREBAY_LINK_OK, NULL));

    /* What is not aligned, or has not its size. */
    static uint64_t room[512];
    char *odd = (char *)room + 1;
    REFUSED(forebay_stream_append(stream, NULL, 0, 0, NULL, 0, (uint64_t *)(void *)odd));
    REFUSED(forebay_stream_stats(stream, (forebay_stats *)(void *)odd));
    REFUSED(forebay_stream_append_record(stream, (forebay_record *)(void *)odd, &offset));
    REFUSED(forebay_stream_stats(stream, (forebay_stats *)(void *)room));
    CHECK(says("sizeof(forebay_stats)"));
    forebay_record records[2];
    records[0] = record_of("", "x");
    records[1] = record_of("", "x");
    records[1].size--;
    REFUSED(forebay_stream_append_batch(stream, records, 2, &offset));
    CHECK(says("record 1") && says("sizeof(forebay_record)"));
    REFUSED(forebay_stream_append_batch(stream, records, SIZE_MAX, &offset));
    REFUSED(forebay_stream_append_batch(stream, records, SIZE_MAX / sizeof records[0] / 2, &offset));

    /* Records that point to nothing, or not to text. */
    forebay_property property;
    memset(&property, 0, sizeof property);
    forebay_record record = record_of("", "x");
    record.properties_len = 1;
    REFUSED(forebay_stream_append_record(stream, &record, &offset));
    record.properties = &property;
    REFUSED(forebay_stream_append_record(stream, &record, &offset));
    CHECK(says("1 to 255"));
    property.name = "\xff";
    property.name_len = 1;
    REFUSED(forebay_stream_append_record(stream, &record, &offset));
    CHECK(says("UTF-8"));
    property.name = "n";
    property.value_len = 1;
    REFUSED(forebay_stream_append_batch(stream, &record, 1, &offset));
    CHECK(says("record 0") && says("value"));
    record.properties_len = 65;
    REFUSED(forebay_stream_append_record(stream, &record, &offset));
    record = record_of("", "x");
    record.source_len = 1;
    REFUSED(forebay_stream_append_record(stream, &record, &offset));
    record.source = "s";
    record.position_len = 1;
    REFUSED(forebay_stream_append_record(stream, &record, &offset));

    /* Handles that are none. */
    for (uintptr_t number = 1; number < 100; number++) {
        if (no_engine(number) != engine) {
            REFUSED(forebay_close(no_engine(number), 0));
        }
        if (no_stream(number) != stream) {
            REFUSED(forebay_stream_free(no_stream(number)));
        }
    }
    REFUSED(forebay_stream_flush(no_stream((uintptr_t)&offset), 0));
    REFUSED(forebay_stream_flush(no_stream(UINTPTR_MAX), 0));
    REFUSED(forebay_stream_flush((forebay_stream *)(void *)engine, 0));
    REFUSED(forebay_close((forebay_engine *)(void *)stream, 0));

    /* Handles that were freed, also when their place has another. */
    DONE(forebay_stream_get(engine, "s", &other));
    DONE(forebay_stream_free(other));
    REFUSED(forebay_stream_free(other));
    REFUSED(forebay_stream_append(other, NULL, 0, 0, "x", 1, &offset));
    forebay_stream *again = stream_of(engine, "s");
    CHECK(again != other);
    REFUSED(forebay_stream_flush(other, 0));
    DONE(forebay_stream_free(again));

    /* As many handles as there are. */
    static forebay_stream *all[4096];
    size_t held = 0;
    while (forebay_stream_get(engine, "s", &all[held]) == FOREBAY_OK) {
        held++;
    }
    CHECK(held == 2047 && says("2048"));
    while (held > 0) {
        DONE(forebay_stream_free(all[--held]));
    }

    CHECK(offset == 77 && len == 77);
    CHECK(stats_of(stream).next_offset == 0);
    DONE(forebay_stream_free(stream));
    DONE(forebay_close(engine, LIMIT_MS));
    REFUSED(forebay_close(engine, LIMIT_MS));
    REFUSED(forebay_stream_get(engine, "s", &other));
    return 0;
}
