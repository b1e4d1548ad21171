/* Every code that a host can bring about: all but FOREBAY_ERR_PANIC, for which nothing here panics. */
#include "check.h"

#include <dirent.h>
#include <sys/stat.h>

#define MARK "a payload that is looked for"

/* Changes a byte of each record of ours in the files of a directory; how many there were. */
static int damage(const char *path) {
    int found = 0;
    DIR *dir = opendir(path);
    CHECK(dir != NULL);
    struct dirent *entry;
    while ((entry = readdir(dir)) != NULL) {
        char name[1024];
        struct stat state;
        CHECK(snprintf(name, sizeof name, "%s/%s", path, entry->d_name) < (int)sizeof name);
        CHECK(stat(name, &state) == 0);
        if (!S_ISREG(state.st_mode) || state.st_size == 0) {
            continue;
        }
        size_t size = (size_t)state.st_size;
        char *bytes = (char *)malloc(size);
        FILE *file = fopen(name, "r+b");
        CHECK(bytes != NULL && file != NULL && fread(bytes, 1, size, file) == size);
        for (size_t at = 0; at + sizeof MARK <= size; at++) {
            if (memcmp(bytes + at, MARK, sizeof MARK - 1) == 0) {
                CHECK(fseek(file, (long)at, SEEK_SET) == 0 && fputc('b', file) == 'b');
                found++;
            }
        }
        CHECK(fclose(file) == 0);
        free(bytes);
    }
    closedir(dir);
    return found;
}

static void config(void) {
    forebay_engine *engine = NULL;
    CHECK(forebay_open("{\"streams\": 5}", &engine) == FOREBAY_ERR_CONFIG);
    CHECK(says("1:13 streams") && engine == NULL);
    CHECK(forebay_open("no JSON", &engine) == FOREBAY_ERR_CONFIG);
    CHECK(forebay_open("\"\xff\"", &engine) == FOREBAY_ERR_CONFIG && says("UTF-8"));
}

static void io(void) {
    forebay_engine *engine = NULL;
    const char *text = "{\"dataDir\": \"/dev/null/data\", \"runDir\": \"/dev/null/run\", \"streams\": ["
                       "{\"name\": \"s\", \"sink\": {\"type\": \"none\"}, \"buffer\": {" SMALL "}}]}";
    CHECK(forebay_open(text, &engine) == FOREBAY_ERR_IO && engine == NULL);
}

static void corrupt(const char *dir) {
    const char *stream_text = "{\"name\": \"torn\", \"sink\": {\"type\": \"none\"}, \"buffer\": {" SMALL "}}";
    const char *strict = "{\"name\": \"torn\", \"sink\": {\"type\": \"none\"}, \"buffer\": {" SMALL
                         ", \"strict\": true}}";
    forebay_engine *engine = open_engine(dir, stream_text);
    forebay_stream *stream = stream_of(engine, "torn");
    for (int n = 0; n < 3; n++) {
        DONE(forebay_stream_append_durable(stream, NULL, 0, 0, MARK, strlen(MARK), LIMIT_MS, NULL));
    }
    DONE(forebay_stream_free(stream));
    DONE(forebay_close(engine, LIMIT_MS));
    char path[1024];
    CHECK(snprintf(path, sizeof path, "%s/data/torn", dir) < (int)sizeof path);
    /* A record may stand in more than one place. */
    CHECK(damage(path) >= 3);
    engine = NULL;
    CHECK(try_open(dir, strict, &engine) == FOREBAY_ERR_CORRUPT && engine == NULL);
}

static void full(const char *dir) {
    forebay_engine *engine = open_engine(
        dir, "{\"name\": \"full\", \"sink\": {\"type\": \"none\"}, \"buffer\": {\"type\": \"memory\","
             "\"maxDiskBytes\": 4194304, \"maxBufferedBytes\": 65536, \"onFull\": \"rejectNew\"}}");
    forebay_stream *stream = stream_of(engine, "full");
    static char payload[4096];
    forebay_result result = FOREBAY_OK;
    uint64_t offset = 0, refused = 77;
    for (int n = 0; n < 1000000 && result == FOREBAY_OK; n++) {
        result = forebay_stream_append(stream, NULL, 0, 0, payload, sizeof payload, &offset);
    }
    CHECK(result == FOREBAY_ERR_FULL && says("no room"));
    CHECK(stats_of(stream).rejected_total >= 1);
    while (forebay_stream_append(stream, NULL, 0, 0, payload, sizeof payload, &refused) == FOREBAY_OK) {
        refused = 77;
    }
    CHECK(refused == 77);
    DONE(forebay_stream_free(stream));
    DONE(forebay_close(engine, LIMIT_MS));
}

static void sink(const char *dir) {
    uint32_t features = 0;
    DONE(forebay_features(&features));
    if (!(features & FOREBAY_FEATURE_FILE)) {
        puts("no sink of this library can fail to be built: FOREBAY_ERR_SINK is not tried");
        return;
    }
    forebay_engine *engine = NULL;
    const char *text = "{\"name\": \"sink\", \"buffer\": {" SMALL "},"
                       "\"sink\": {\"type\": \"file\", \"path\": \"/dev/null/out\"}}";
    CHECK(try_open(dir, text, &engine) == FOREBAY_ERR_SINK && engine == NULL);
}

static void stream_timeout_closed(const char *dir) {
    forebay_engine *engine = open_engine(
        dir, "{\"name\": \"s\", \"sink\": {\"type\": \"none\"},"
             "\"buffer\": {" SMALL ", \"fsync\": \"interval\", \"fsyncIntervalMs\": 60000}}");
    forebay_stream *stream = NULL;
    CHECK(forebay_stream_get(engine, "other", &stream) == FOREBAY_ERR_UNKNOWN_STREAM);
    CHECK(stream == NULL && says("other"));
    stream = stream_of(engine, "s");
    uint64_t offset = 77;
    CHECK(forebay_stream_append_durable(stream, NULL, 0, 0, "x", 1, 0, &offset) == FOREBAY_ERR_TIMEOUT);
    CHECK(offset == 77 && says("may still"));

    forebay_record record = record_of("", "x");
    record.key_len = 65536;
    CHECK(forebay_stream_append_record(stream, &record, &offset) == FOREBAY_ERR_INVALID_ARG);
    CHECK(says("65535"));
    static char payload[2 << 20];
    CHECK(forebay_stream_append(stream, NULL, 0, 0, payload, sizeof payload, &offset) ==
          FOREBAY_ERR_INVALID_ARG);
    CHECK(says("maxRecordBytes"));

    DONE(forebay_close(engine, LIMIT_MS));
    CHECK(forebay_stream_append(stream, NULL, 0, 0, "x", 1, &offset) == FOREBAY_ERR_CLOSED);
    record = record_of("", "x");
    CHECK(forebay_stream_append_batch(stream, &record, 1, &offset) == FOREBAY_ERR_CLOSED);
    CHECK(offset == 77 && says("closed"));
    DONE(forebay_stream_free(stream));
}

int main(int count, char **arguments) {
    const char *dir = directory(count, arguments);
    config();
    io();
    corrupt(dir);
    full(dir);
    sink(dir);
    stream_timeout_closed(dir);
    return 0;
}
