/* The C API of forebay: an embedded store-and-forward telemetry engine.
 *
 * Written by cross/header; docs/c.md tells how to build and link, and shows an example.
 *
 * Every function returns a code of forebay_result; the text of the last error stays with its thread, see
 * forebay_last_error. Inputs come first, then outputs, which are written on FOREBAY_OK only. What a pointer
 * points to is borrowed for the call. Handles are no pointers to anything: one that was never given, or was
 * freed, is refused. No function aborts or unwinds. Pointers must point to as much as their lengths say.
 */

#ifndef FOREBAY_H
#define FOREBAY_H

#include <stddef.h>
#include <stdint.h>

/**
 * What every function returns. The numbers are never reused.
 */
enum forebay_result
#ifdef __cplusplus
  : int32_t
#endif // __cplusplus
 {
    /**
     * Done.
     */
    FOREBAY_OK = 0,
    /**
     * The configuration is invalid. Correct what the text names and open again.
     */
    FOREBAY_ERR_CONFIG = 1,
    /**
     * The durable store failed. For a call that waits: the record may still become durable.
     */
    FOREBAY_ERR_IO = 2,
    /**
     * Damage where strict checking was asked for, or a store of a newer format (untouched).
     */
    FOREBAY_ERR_CORRUPT = 3,
    /**
     * No room. Try later, or drop the record.
     */
    FOREBAY_ERR_FULL = 4,
    /**
     * There is no stream of that name.
     */
    FOREBAY_ERR_UNKNOWN_STREAM = 5,
    /**
     * A sink could not be built, or failed for good.
     */
    FOREBAY_ERR_SINK = 6,
    /**
     * A panic was caught; the engine is poisoned and promises nothing until it is opened again.
     */
    FOREBAY_ERR_PANIC = 7,
    /**
     * An argument is null, no handle, or out of its bounds. The text names it and the bound.
     */
    FOREBAY_ERR_INVALID_ARG = 8,
    /**
     * A bounded wait ran out. A record that was waited for may still become durable.
     */
    FOREBAY_ERR_TIMEOUT = 9,
    /**
     * The engine was closed, or belongs to the process that this one was forked from.
     */
    FOREBAY_ERR_CLOSED = 10,
};
#ifndef __cplusplus
typedef int32_t forebay_result;
#endif // __cplusplus

/**
 * What the library was built with: bits of `forebay_features`.
 */
enum forebay_feature
#ifdef __cplusplus
  : uint32_t
#endif // __cplusplus
 {
    /**
     * Sinks of type `file`.
     */
    FOREBAY_FEATURE_FILE = 1,
    /**
     * Sinks of type `stdout`.
     */
    FOREBAY_FEATURE_STDOUT = 2,
    /**
     * Sinks of type `kinesis`.
     */
    FOREBAY_FEATURE_KINESIS = 4,
};
#ifndef __cplusplus
typedef uint32_t forebay_feature;
#endif // __cplusplus

/**
 * What became of a record. Nothing said is the same as FOREBAY_RETRY, at once.
 */
enum forebay_outcome
#ifdef __cplusplus
  : int32_t
#endif // __cplusplus
 {
    /**
     * The far side has it for good: the engine forgets it.
     */
    FOREBAY_ACCEPTED = 1,
    /**
     * It was not taken this time: it is sent again.
     */
    FOREBAY_RETRY = 2,
    /**
     * It can never be accepted: it becomes a dead letter.
     */
    FOREBAY_REJECTED = 3,
};
#ifndef __cplusplus
typedef int32_t forebay_outcome;
#endif // __cplusplus

/**
 * How the way to the far side is.
 */
enum forebay_link
#ifdef __cplusplus
  : int32_t
#endif // __cplusplus
 {
    /**
     * It works.
     */
    FOREBAY_LINK_OK = 0,
    /**
     * The far side is not reached, or does not answer.
     */
    FOREBAY_LINK_DOWN = 1,
    /**
     * The far side asks to slow down.
     */
    FOREBAY_LINK_THROTTLED = 2,
    /**
     * The far side refuses the credentials.
     */
    FOREBAY_LINK_AUTH = 3,
    /**
     * The far side refuses what the configuration asks for.
     */
    FOREBAY_LINK_CONFIG = 4,
};
#ifndef __cplusplus
typedef int32_t forebay_link;
#endif // __cplusplus

/**
 * How much is said.
 */
enum forebay_log_level
#ifdef __cplusplus
  : int32_t
#endif // __cplusplus
 {
    /**
     * Nothing.
     */
    FOREBAY_LOG_OFF = 0,
    /**
     * What does not work.
     */
    FOREBAY_LOG_ERROR = 1,
    /**
     * What may not work.
     */
    FOREBAY_LOG_WARN = 2,
    /**
     * Changes of state: opened, recovered, link down.
     */
    FOREBAY_LOG_INFO = 3,
    /**
     * More of it.
     */
    FOREBAY_LOG_DEBUG = 4,
    /**
     * All of it.
     */
    FOREBAY_LOG_TRACE = 5,
};
#ifndef __cplusplus
typedef int32_t forebay_log_level;
#endif // __cplusplus

/**
 * What happened.
 */
enum forebay_event_kind
#ifdef __cplusplus
  : int32_t
#endif // __cplusplus
 {
    /**
     * Records that nobody had acknowledged were dropped to make room.
     */
    FOREBAY_EVENT_DROPPING_BEGAN = 1,
    /**
     * The backlog is below half of the budget again, after records were dropped.
     */
    FOREBAY_EVENT_DROPPING_ENDED = 2,
    /**
     * The backlog has come to `value` percent of the budget: 50, 80 or 95.
     */
    FOREBAY_EVENT_BACKLOG_OVER = 3,
    /**
     * The backlog is well below `value` percent again.
     */
    FOREBAY_EVENT_BACKLOG_UNDER = 4,
    /**
     * The sink of that name stopped working, works again, or fails in another way: `value` is its
     * `forebay_sink_state`.
     */
    FOREBAY_EVENT_SINK = 5,
    /**
     * `value` damaged records were found at open, or passed over by a sink.
     */
    FOREBAY_EVENT_DAMAGE = 6,
    /**
     * The time of day was set: `value` milliseconds later than the passing of time explains, or earlier.
     */
    FOREBAY_EVENT_CLOCK_STEPPED = 7,
    /**
     * A thread panicked: the stream takes nothing until the engine is opened again.
     */
    FOREBAY_EVENT_POISONED = 8,
    /**
     * Records became dead letters because the process died of each of them; `value` is how many.
     */
    FOREBAY_EVENT_CRASH_LOOP = 9,
};
#ifndef __cplusplus
typedef int32_t forebay_event_kind;
#endif // __cplusplus

/**
 * What a sink is doing.
 */
enum forebay_sink_state
#ifdef __cplusplus
  : int32_t
#endif // __cplusplus
 {
    /**
     * Nothing to deliver.
     */
    FOREBAY_SINK_IDLE = 0,
    /**
     * Delivering.
     */
    FOREBAY_SINK_OK = 1,
    /**
     * The link or the far side is down.
     */
    FOREBAY_SINK_LINK = 2,
    /**
     * The far side asked to slow down.
     */
    FOREBAY_SINK_THROTTLED = 3,
    /**
     * The far side refuses the credentials.
     */
    FOREBAY_SINK_AUTH = 4,
    /**
     * The far side refuses the configuration.
     */
    FOREBAY_SINK_CONFIG = 5,
    /**
     * Waiting before the next try.
     */
    FOREBAY_SINK_BACKOFF = 6,
};
#ifndef __cplusplus
typedef int32_t forebay_sink_state;
#endif // __cplusplus

/**
 * Whether a stream's records get away.
 */
enum forebay_health
#ifdef __cplusplus
  : int32_t
#endif // __cplusplus
 {
    /**
     * They do, or there are none.
     */
    FOREBAY_HEALTH_OK = 0,
    /**
     * A sink fails and says so: its state tells how.
     */
    FOREBAY_HEALTH_FAILING = 1,
    /**
     * Records wait for a sink that is said to work and has accepted none for a minute.
     */
    FOREBAY_HEALTH_STALLED = 2,
};
#ifndef __cplusplus
typedef int32_t forebay_health;
#endif // __cplusplus

/**
 * The answer to a delivery. Not a pointer to anything: good in the callback it was given to, in its thread.
 */
typedef struct forebay_answer forebay_answer;

/**
 * An engine. Not a pointer to anything: a number that is checked by each call.
 */
typedef struct forebay_engine forebay_engine;

/**
 * A handle of a stream. Not a pointer to anything: a number that is checked by each call.
 */
typedef struct forebay_stream forebay_stream;

/**
 * Is told a line: its `forebay_log_level`, which part says it, and the text. Both end with a NUL and are
 * good as long as the callback runs.
 *
 * It runs in any thread that calls the library and in those of engines, in several at once. It returns:
 * neither an exception nor `longjmp` leaves it. It may call everything but `forebay_close`.
 */
typedef void (*forebay_log_callback)(void *context,
                                     int32_t level,
                                     const char *target,
                                     const char *text);

/**
 * Something that happened to a stream. Good as long as the callback runs.
 */
typedef struct {
    /**
     * `sizeof(forebay_event)` of the library.
     */
    uint32_t size;
    /**
     * A `forebay_event_kind`.
     */
    int32_t kind;
    /**
     * What `kind` says of it; else 0.
     */
    int64_t value;
    /**
     * The stream's name, with a NUL.
     */
    const char *stream;
    /**
     * The sink's name, with a NUL, where `kind` is FOREBAY_EVENT_SINK or
     * FOREBAY_EVENT_CRASH_LOOP; else null.
     */
    const char *sink;
} forebay_event;

/**
 * Is told of an event.
 *
 * It runs in a thread of the engine, one event at a time. It may block: what comes when 256 events wait is
 * lost, and counted in `events_lost_total`. It returns: neither an exception nor `longjmp` leaves it. It may
 * call everything but `forebay_close`.
 */
typedef void (*forebay_event_callback)(void *context, const forebay_event *event);

/**
 * A name and a value that go along with a record.
 */
typedef struct {
    /**
     * UTF-8, 1 to 255 bytes. No NUL is needed.
     */
    const char *name;
    /**
     * The bytes of `name`.
     */
    size_t name_len;
    /**
     * Any bytes.
     */
    const void *value;
    /**
     * The bytes of `value`.
     */
    size_t value_len;
} forebay_property;

/**
 * A record as it comes out of the store. Good as long as the callback runs.
 */
typedef struct {
    /**
     * Its number in the stream; rising, never used twice, with gaps.
     */
    uint64_t offset;
    /**
     * When it happened, in milliseconds since 1970, as the producer saw it.
     */
    uint64_t time_ms;
    /**
     * When the engine took it, in milliseconds since 1970; 0: the time of day was not known.
     */
    uint64_t appended_ms;
    /**
     * The key.
     */
    const void *key;
    /**
     * The bytes of `key`.
     */
    size_t key_len;
    /**
     * The payload.
     */
    const void *payload;
    /**
     * The bytes of `payload`.
     */
    size_t payload_len;
    /**
     * Names and values, in the producer's order. Names have no NUL.
     */
    const forebay_property *properties;
    /**
     * How many properties.
     */
    size_t properties_len;
    /**
     * Which source it is from; no NUL.
     */
    const char *source;
    /**
     * The bytes of `source`; 0: none.
     */
    size_t source_len;
    /**
     * Where the producer stood in it.
     */
    const void *position;
    /**
     * The bytes of `position`.
     */
    size_t position_len;
} forebay_record_view;

/**
 * Records of one stream, in order. Good as long as the callback runs.
 */
typedef struct {
    /**
     * `sizeof(forebay_batch)` of the library.
     */
    uint32_t size;
    /**
     * How long the callback may take.
     */
    uint32_t timeout_ms;
    /**
     * The stream's name, with a NUL.
     */
    const char *stream;
    /**
     * Names the store: with `epoch` and its offset a record is named for ever.
     */
    uint8_t store[16];
    /**
     * Another one than before: offsets started anew.
     */
    uint64_t epoch;
    /**
     * The records.
     */
    const forebay_record_view *records;
    /**
     * How many; at least 1.
     */
    size_t records_len;
    /**
     * The bytes of one of them: `sizeof(forebay_record_view)` of the library.
     */
    uint32_t record_size;
} forebay_batch;

/**
 * Delivers a batch and answers for its records by `forebay_answer_set` and `forebay_answer_rest`.
 *
 * It runs in a thread of the engine, one batch at a time for each sink, and may block for
 * `batch->timeout_ms`. It returns: neither an exception nor `longjmp` leaves it. It may call everything
 * but `forebay_close`.
 */
typedef void (*forebay_sink_callback)(void *context,
                                      const forebay_batch *batch,
                                      forebay_answer *answer);

/**
 * What a sink can take. 0: no limit but the stream's own; of time, a minute.
 */
typedef struct {
    /**
     * `sizeof(forebay_sink_options)`.
     */
    uint32_t size;
    /**
     * The most records in a batch.
     */
    uint32_t records_max;
    /**
     * The most bytes of keys, payloads and properties in a batch.
     */
    uint32_t bytes_max;
    /**
     * The longest record: key, payload and properties.
     */
    uint32_t record_bytes_max;
    /**
     * How long a batch may take.
     */
    uint32_t timeout_ms;
} forebay_sink_options;

/**
 * A record as it is appended. Set it to zeros, then `size`, then what is needed.
 */
typedef struct {
    /**
     * `sizeof(forebay_record)`.
     */
    uint32_t size;
    /**
     * The bytes of `source`: UTF-8, at most 128; 0: no source.
     */
    uint32_t source_len;
    /**
     * When it happened, in milliseconds since 1970.
     */
    uint64_t time_ms;
    /**
     * Records of one key keep their order downstream. Any bytes, at most 65535; null for none.
     */
    const void *key;
    /**
     * The bytes of `key`.
     */
    size_t key_len;
    /**
     * Any bytes; null for none.
     */
    const void *payload;
    /**
     * The bytes of `payload`.
     */
    size_t payload_len;
    /**
     * Names and values; null for none.
     */
    const forebay_property *properties;
    /**
     * How many properties; at most 64.
     */
    size_t properties_len;
    /**
     * Which source of the producer's own the record is from. No NUL is needed.
     */
    const char *source;
    /**
     * Where the producer stands in it with this record: at most 64 bytes that only he understands.
     */
    const void *position;
    /**
     * The bytes of `position`.
     */
    size_t position_len;
} forebay_record;

/**
 * The numbers of a stream. Totals count since the store was opened; offsets outlive that.
 */
typedef struct {
    /**
     * `sizeof(forebay_stats)`: to be set before the call.
     */
    uint32_t size;
    /**
     * A `forebay_health`: the worst of its sinks'.
     */
    int32_t health;
    /**
     * How many sinks it has: `forebay_stream_sink_stats` tells their numbers.
     */
    uint64_t sinks_len;
    /**
     * Records accepted by append.
     */
    uint64_t appended_total;
    /**
     * Records accepted by the sinks.
     */
    uint64_t exported_total;
    /**
     * Records that a sink never got: all reasons together.
     */
    uint64_t dropped_total;
    /**
     * Records sent again.
     */
    uint64_t retries_total;
    /**
     * Records given up.
     */
    uint64_t failed_total;
    /**
     * Records that the slowest sink still has before it.
     */
    uint64_t backlog;
    /**
     * Bytes of pages in use.
     */
    uint64_t disk_bytes;
    /**
     * The next offset that the slowest sink has to acknowledge.
     */
    uint64_t acked_offset;
    /**
     * The next offset to hand out.
     */
    uint64_t next_offset;
    /**
     * How long the oldest record that is not acknowledged has been stored, in milliseconds.
     */
    uint64_t oldest_unacked_age_ms;
    /**
     * Records in the ring.
     */
    uint64_t queued;
    /**
     * The first offset that is not durable.
     */
    uint64_t durable_offset;
    /**
     * The first offset that is still kept.
     */
    uint64_t head_offset;
    /**
     * Records that were damaged.
     */
    uint64_t corrupt_total;
    /**
     * Syncs of the log.
     */
    uint64_t syncs_total;
    /**
     * Syncs of the checkpoint.
     */
    uint64_t checkpoints_total;
    /**
     * Bytes handed to the device: pages, headers, checkpoints, and what prepares new segments.
     */
    uint64_t written_bytes;
    /**
     * Bytes of that which only prepare new segments, once for each.
     */
    uint64_t prepared_bytes;
    /**
     * Bytes of disk that the store takes.
     */
    uint64_t allocated_bytes;
    /**
     * Bytes of the budget that are to be reserved (`buffer.reserve: all`) and are not yet.
     */
    uint64_t unreserved_bytes;
    /**
     * How long a record has been claimed and not committed, in milliseconds.
     */
    uint64_t oldest_uncommitted_ms;
    /**
     * Records that the quota dropped.
     */
    uint64_t dropped_quota;
    /**
     * Records that were too old.
     */
    uint64_t dropped_age;
    /**
     * Records that were damaged before they were delivered.
     */
    uint64_t dropped_damage;
    /**
     * Offsets whose records never became durable.
     */
    uint64_t dropped_never_durable;
    /**
     * Records refused at append; they never had an offset.
     */
    uint64_t rejected_total;
    /**
     * Syncs that failed, with the segments that were given up for it.
     */
    uint64_t poisoned_total;
    /**
     * How often the syncer's thread woke up.
     */
    uint64_t wakeups_total;
    /**
     * Events for which the channel had no room.
     */
    uint64_t events_lost_total;
    /**
     * Records that became dead letters.
     */
    uint64_t dead_letters_total;
    /**
     * Dead letters that had to go because their log was full.
     */
    uint64_t dead_letters_dropped_total;
    /**
     * Records that the open found in the ring of a process that died, and that are not lost.
     */
    uint64_t ring_recovered_total;
    /**
     * Offsets that such a process had claimed and never committed: no append returned them.
     */
    uint64_t ring_void_total;
    /**
     * Rings that the open refused: of another boot, version or store, or not the last run's.
     */
    uint64_t ring_refused_total;
} forebay_stats;

/**
 * The numbers of one sink.
 */
typedef struct {
    /**
     * `sizeof(forebay_sink_stats)`: to be set before the call.
     */
    uint32_t size;
    /**
     * A `forebay_health`.
     */
    int32_t health;
    /**
     * A `forebay_sink_state`: what it is doing.
     */
    int32_t state;
    /**
     * 0.
     */
    uint32_t reserved;
    /**
     * Records that it accepted.
     */
    uint64_t exported_total;
    /**
     * Records that it never got.
     */
    uint64_t dropped_total;
    /**
     * Records sent again.
     */
    uint64_t retries_total;
    /**
     * Records given up.
     */
    uint64_t failed_total;
    /**
     * Records before it.
     */
    uint64_t backlog;
    /**
     * The next offset that it has to acknowledge.
     */
    uint64_t acked_offset;
    /**
     * How long the oldest record before it has been stored, in milliseconds.
     */
    uint64_t oldest_unacked_age_ms;
    /**
     * Records that the quota dropped.
     */
    uint64_t dropped_quota;
    /**
     * Records that were too old.
     */
    uint64_t dropped_age;
    /**
     * Records that were damaged.
     */
    uint64_t dropped_damage;
    /**
     * Offsets whose records never became durable.
     */
    uint64_t dropped_never_durable;
    /**
     * Panics inside the sink.
     */
    uint64_t panics_total;
    /**
     * Records that were sent under another key, because the far side does not take theirs.
     */
    uint64_t keys_mapped;
    /**
     * Records given up because the process died of each of them.
     */
    uint64_t crash_loops_total;
    /**
     * Records sent with the time of their append, because theirs lay before the clock was set.
     */
    uint64_t times_corrected;
    /**
     * Records from before the clock was set whose time could not be found out.
     */
    uint64_t times_unknown;
    /**
     * Its name, with a NUL.
     */
    char name[65];
    /**
     * Its last error, with a NUL; empty when there was none.
     */
    char last_export_error[161];
} forebay_sink_stats;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Opens an engine: recovers the stores of its streams and starts its threads.
 *
 * `config` is the text of the configuration, JSON, UTF-8, up to its first NUL. It is read, and not
 * kept. Callbacks have to be set before.
 *
 * Blocks for the recovery of the stores. On success `*engine` is to be given to `forebay_close`. Fails
 * with FOREBAY_ERR_CONFIG, whose text names line, column, key, value and rule; FOREBAY_ERR_IO,
 * FOREBAY_ERR_CORRUPT, FOREBAY_ERR_SINK; FOREBAY_ERR_FULL with 64 engines open. Any thread.
 */
forebay_result forebay_open(const char *config,
                            forebay_engine **engine);

/**
 * Takes no more records, makes durable what was taken, waits for batches under way, and ends the threads.
 *
 * Blocks for at most `timeout_ms`. After FOREBAY_OK the handle is gone, and no callback of this engine
 * runs any more. FOREBAY_ERR_FULL is the same, but a stream without room could not store its last records.
 * After FOREBAY_ERR_TIMEOUT, when a sink or the medium did not answer in time, the
 * engine takes nothing more and the handle is still good: close it again, or leave it. What is stored and
 * not delivered stays stored. Handles of its streams outlive it: they refuse, and are still to be freed.
 *
 * In a process that was forked from the one that opened the engine: FOREBAY_ERR_CLOSED, the handle is gone
 * there, and the engine goes on in the parent. Null is FOREBAY_OK. From a callback it is refused with
 * FOREBAY_ERR_INVALID_ARG. Any thread.
 */
forebay_result forebay_close(forebay_engine *engine,
                             uint32_t timeout_ms);

/**
 * Copies the text of this thread's last error into `buffer`, cut to `capacity` bytes with its NUL.
 *
 * `*len` is its whole length without the NUL, so that null with 0 asks for it. The text is that of the
 * last function that failed in this thread; success does not change it. At most 511 bytes are kept. `len`
 * may be null. Neither blocks nor allocates. Any thread.
 */
forebay_result forebay_last_error(char *buffer,
                                  size_t capacity,
                                  size_t *len);

/**
 * Copies the library's version, such as `0.1.0`, into `buffer`, as `forebay_last_error` does.
 *
 * Neither blocks nor allocates. Any thread.
 */
forebay_result forebay_version(char *buffer, size_t capacity, size_t *len);

/**
 * What the library was built with: `*features` becomes the sum of bits of `forebay_feature`.
 *
 * Neither blocks nor allocates. Any thread.
 */
forebay_result forebay_features(uint32_t *features);

/**
 * Sets who is told log lines up to `level`, a `forebay_log_level`; null: nobody. At any time.
 *
 * `context` goes to the callback as it is. Both must stay good while any engine is open: a call in another
 * thread may still be running when this returns. Does not block. Any thread.
 */
forebay_result forebay_set_log_callback(int32_t level,
                                        forebay_log_callback callback,
                                        void *context);

/**
 * Sets who is told the events of engines that are opened later; null: nobody.
 *
 * `context` goes to the callback as it is. Both must stay good until all engines that were opened meanwhile
 * are closed. Each engine has a thread more then. Does not block. Any thread.
 */
forebay_result forebay_set_event_callback(forebay_event_callback callback,
                                          void *context);

/**
 * Makes a function the sink of type `callback` and this `id`, for engines that are opened later.
 *
 * `context` goes to the callback as it is. Both must stay good until all engines that were opened meanwhile
 * are closed. Any number of streams may have a sink of the same id: the batch names its stream. Null for
 * `callback` takes the id away again. `options` may be null, and are copied. Any thread.
 */
forebay_result forebay_set_sink_callback(const char *id,
                                         forebay_sink_callback callback,
                                         void *context,
                                         const forebay_sink_options *options);

/**
 * What became of the record at `index` of the batch. The first outcome of a record counts.
 *
 * `outcome` is a `forebay_outcome`; `retry_after_ms` is what the far side asks to wait before a retry, or 0;
 * `reason` says why a record is rejected (null: not said), is copied, and cut to 160 bytes. Another thread's
 * answer, or one that is over, is FOREBAY_ERR_INVALID_ARG. Only in the callback.
 */
forebay_result forebay_answer_set(forebay_answer *answer,
                                  size_t index,
                                  int32_t outcome,
                                  uint32_t retry_after_ms,
                                  const char *reason);

/**
 * The same outcome for all records of the batch that have none yet: all accepted, the rest of them,
 * all to be sent again, or all rejected for good.
 *
 * Arguments as with `forebay_answer_set`. Only in the callback.
 */
forebay_result forebay_answer_rest(forebay_answer *answer,
                                   int32_t outcome,
                                   uint32_t retry_after_ms,
                                   const char *reason);

/**
 * How the link is: a `forebay_link`; and, if it does not work, what the far side said (null: nothing).
 *
 * `error` is copied, and cut to 160 bytes. Only in the callback.
 */
forebay_result forebay_answer_link(forebay_answer *answer,
                                   int32_t link,
                                   const char *error);

/**
 * Gives a handle of the stream of that name.
 *
 * `name` is UTF-8, up to its first NUL. `*stream` is to be given to `forebay_stream_free`; it may outlive
 * the engine, and may be used by any number of threads at once. Each call gives another handle; at most
 * 2048 are there at once (FOREBAY_ERR_FULL). Does not block. Any thread.
 */
forebay_result forebay_stream_get(const forebay_engine *engine,
                                  const char *name,
                                  forebay_stream **stream);

/**
 * Ends a handle. Calls of other threads that use it go on to their end; later ones are refused.
 *
 * Null is FOREBAY_OK. Does not wait for anything. Any thread.
 */
forebay_result forebay_stream_free(forebay_stream *stream);

/**
 * Appends a record and returns at once, with its number in `*offset` (null: not wanted).
 *
 * `key` and `payload` are any bytes, null for none; they are copied. With `fsync` `perBatch` and `interval`
 * the record is durable at most `fsyncIntervalMs` later; then this never allocates, takes no lock, never
 * blocks (but for room under `onFull` `block`) and calls the kernel only to wake a sleeping
 * thread of the engine, at most once per sleep. With `always` it waits until the record is durable, at most
 * `syncTimeoutMs`.
 *
 * FOREBAY_ERR_FULL: no room, nothing was taken. FOREBAY_ERR_TIMEOUT: no room in time, or, with `always`,
 * not durable in time; the text tells which. FOREBAY_ERR_INVALID_ARG, FOREBAY_ERR_CLOSED,
 * FOREBAY_ERR_PANIC; FOREBAY_ERR_IO with `always`. Any thread, any number at once; from a sink's callback
 * only where it does not wait for room.
 */
forebay_result forebay_stream_append(const forebay_stream *stream,
                                     const void *key,
                                     size_t key_len,
                                     uint64_t time_ms,
                                     const void *payload,
                                     size_t payload_len,
                                     uint64_t *offset);

/**
 * Like `forebay_stream_append`, with properties and the place in the producer's own source.
 *
 * What the record points to is copied. Allocates nothing. Any thread.
 */
forebay_result forebay_stream_append_record(const forebay_stream *stream,
                                            const forebay_record *record,
                                            uint64_t *offset);

/**
 * Appends `count` records one behind the other, or none of them; the first one's number is `*first_offset`
 * (null: not wanted), the others follow without a gap.
 *
 * Under `fsync` `perBatch` and `always` all are durable on return, by one sync that calls share: it blocks
 * for that, at most `syncTimeoutMs`. At most `maxBufferedRecords`, in a quarter of `maxBufferedBytes`. What
 * the records point to is copied. Allocates a table of the records. No records: FOREBAY_OK at once, and
 * `*first_offset` is where one would be. Errors as with `forebay_stream_append`; the text names the
 * first record that is wrong. Any thread.
 */
forebay_result forebay_stream_append_batch(const forebay_stream *stream,
                                           const forebay_record *records,
                                           size_t count,
                                           uint64_t *first_offset);

/**
 * Like `forebay_stream_append`, and returns when the record is durable: synced to the medium.
 *
 * Blocks for one sync, which it shares with all who wait at the same time, and under `onFull` `block` for
 * room; at most `timeout_ms`. After FOREBAY_ERR_IO, and after FOREBAY_ERR_TIMEOUT if the text says so, the
 * record may still become durable. Any thread.
 */
forebay_result forebay_stream_append_durable(const forebay_stream *stream,
                                             const void *key,
                                             size_t key_len,
                                             uint64_t time_ms,
                                             const void *payload,
                                             size_t payload_len,
                                             uint32_t timeout_ms,
                                             uint64_t *offset);

/**
 * Returns when everything that was appended before is durable. Does not wait for delivery.
 *
 * Blocks for a sync, at most `timeout_ms`. After FOREBAY_ERR_TIMEOUT and FOREBAY_ERR_IO it may still become
 * durable. Any thread.
 */
forebay_result forebay_stream_flush(const forebay_stream *stream,
                                    uint32_t timeout_ms);

/**
 * A snapshot of the stream's numbers. `stats->size` has to be set: `sizeof(forebay_stats)`.
 *
 * Neither blocks nor allocates, and never holds up a producer. Needs 8 KiB of stack. Any thread.
 */
forebay_result forebay_stream_stats(const forebay_stream *stream, forebay_stats *stats);

/**
 * A snapshot of the numbers of the sink at `index`, of `sinks_len`. `stats->size` has to be set:
 * `sizeof(forebay_sink_stats)`.
 *
 * No sink there: FOREBAY_ERR_INVALID_ARG. Neither blocks nor allocates. Needs 8 KiB of stack. Any thread.
 */
forebay_result forebay_stream_sink_stats(const forebay_stream *stream,
                                         size_t index,
                                         forebay_sink_stats *stats);

/**
 * Copies what the sink said last that is farthest behind, of those that failed; empty when none did.
 *
 * The text is cut to `capacity` bytes with its NUL; `*len` (null: not wanted) is its whole length, at most
 * 160. Neither blocks nor allocates. Needs 8 KiB of stack. Any thread.
 */
forebay_result forebay_stream_last_export_error(const forebay_stream *stream,
                                                char *buffer,
                                                size_t capacity,
                                                size_t *len);

/**
 * Copies the newest durable position in a source, as `forebay_stream_append_record` was given it: where a
 * producer goes on after a restart, with nothing twice and nothing missing.
 *
 * `*len` is its length, 0 when none is known. Room for 64 bytes is always enough; a longer one than
 * `capacity` is FOREBAY_ERR_INVALID_ARG. `source` ends with a NUL. Does not wait for the medium. Any thread.
 */
forebay_result forebay_stream_source_position(const forebay_stream *stream,
                                              const char *source,
                                              void *buffer,
                                              size_t capacity,
                                              size_t *len);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* FOREBAY_H */
