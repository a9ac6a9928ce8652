// chiral for C: serve a robot to a policy, and drive a robot from a policy. For C++ there are
// chiral/client.hpp and chiral/server.hpp, which are made of this.
//
// Made by cbindgen from chiral-c/src: change that.
//
// What holds for all functions:
//
// - Structs begin with their size: set it to sizeof before a struct is handed over, and all else to
//   zero. So a program works with a library that is newer than its header.
// - Texts that go in end with a zero and are UTF-8. They and all other data are copied, where it is
//   not said otherwise. What comes out is UTF-8, too.
// - Handles (chiral_client, chiral_observation, ...) are what a function gave out and nobody has
//   freed. A null pointer is an error, but for the functions that free.
// - What fails returns a negative number, or null, and leaves its words to chiral_last_error.
// - Threads: each function says which may call it. A function that frees is for the last thread that
//   uses the handle.
// - No function throws, and no callback may.
// - After fork() a child must not use the handles of its parent.


#ifndef CHIRAL_H
#define CHIRAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Apply the action.
#define CHIRAL_COMMAND_ACTION 1

// Reset, and answer with `chiral_commands_reply_reset`. What the policy sent behind it waits.
#define CHIRAL_COMMAND_RESET 2

// Apply the action, and answer with `chiral_commands_reply_step`.
#define CHIRAL_COMMAND_STEP 3

// Make an observation, and answer with `chiral_commands_reply_observation`.
#define CHIRAL_COMMAND_OBSERVE 4

// Hold still; `hold` says why.
#define CHIRAL_COMMAND_HOLD 5

// No action has come for `silent_for` seconds. The next one moves the robot again.
#define CHIRAL_HOLD_SILENT 1

// The robot is stopped: no action comes until it is armed again.
#define CHIRAL_HOLD_STOPPED 2

// The policy has gone.
#define CHIRAL_HOLD_DISCONNECTED 3

// The connection was lost, and is being made again. What was queued and planned is dropped.
#define CHIRAL_CONNECTION_LOST 1

// The connection was made again.
#define CHIRAL_CONNECTION_RESTORED 2

// The robot that is there now declares another contract than the one before: it may be another robot.
#define CHIRAL_CONTRACT_CHANGED 3

// The connection has ended, for good. Nothing comes after this.
#define CHIRAL_CONNECTION_ENDED 4

// Floats where a width or a shape is declared, elements of any type otherwise.
#define CHIRAL_DTYPES_DEFAULT 0

// Elements of any type.
#define CHIRAL_DTYPES_ANY 1

// `float16`, `float32` and `float64`.
#define CHIRAL_DTYPES_FLOAT 2

// Signed and unsigned integers.
#define CHIRAL_DTYPES_INTEGER 3

// `bool`.
#define CHIRAL_DTYPES_BOOL 4

// An action that is out of bounds or too large a step is not executed.
#define CHIRAL_REFUSE 0

// It is brought within the bounds and the largest step, and marked.
#define CHIRAL_CLAMP 1

// A new connection arms the robot. After a stop the policy has to connect again.
#define CHIRAL_ARM_ON_CONNECT 0

// A reset arms it, once the robot has done it; also after a stop.
#define CHIRAL_ARM_ON_RESET 1

// Nothing that the policy does arms it, only the robot's own program.
#define CHIRAL_ARM_MANUALLY 2

// Actions are refused: the robot has not been armed since the policy connected.
#define CHIRAL_DISARMED 0

// The next action moves the robot. None has since it was armed or reset.
#define CHIRAL_ARMED 1

// Actions move the robot.
#define CHIRAL_MOVING 2

// No action has come in time, and the robot holds. The next one moves it again.
#define CHIRAL_HOLDING 3

// Actions are refused until the robot is armed again: too many periods were missed, or the robot's own
// program has stopped it.
#define CHIRAL_STOPPED 4

// What did not go as it should.
#define CHIRAL_LOG_ERROR 1

// What somebody ought to look at: who is waited for, actions that were dropped.
#define CHIRAL_LOG_WARN 2

// Who connects and who goes.
#define CHIRAL_LOG_INFO 3

// All of it.
#define CHIRAL_LOG_DEBUG 4

// Row 0 belongs to the first step that the robot had not executed when the observation was taken;
// rows whose step has passed are skipped.
#define CHIRAL_ANCHOR_OBSERVATION 0

// Row 0 is the next to be sent, however long the policy took.
#define CHIRAL_ANCHOR_NEXT 1

// Row 0 is for the step `anchor_step`.
#define CHIRAL_ANCHOR_AT 2

// Row 0 follows the last row of the plan.
#define CHIRAL_ANCHOR_END 3

// The new rows stand alone.
#define CHIRAL_MERGE_REPLACE 0

// `merge_rows` of the rows that would be sent next stay.
#define CHIRAL_MERGE_KEEP_FIRST 1

// All rows that are planned stay.
#define CHIRAL_MERGE_APPEND 2

// The mean of old and new, the new with the weight `merge_weight`, from 0 to 1.
#define CHIRAL_MERGE_BLEND 3

// From old to new over `merge_rows` steps.
#define CHIRAL_MERGE_CROSSFADE 4

// The mean of all plans for a step with the weights `exp(-m * i)`, where `m` is `merge_weight` and
// `i` is 0 for the oldest.
#define CHIRAL_MERGE_ENSEMBLE 5

// There is no longest delay.
#define CHIRAL_LATE_NEVER 0

// A chunk that is late is placed as any other, and said to be late.
#define CHIRAL_LATE_PLAY 1

// A chunk that is late is left out.
#define CHIRAL_LATE_DISCARD 2

// An old image is shown.
#define CHIRAL_STALE_HOLD 0

// An old image is shown, and named in the observation's `extra`.
#define CHIRAL_STALE_FLAG 1

// A camera whose image is old is left out.
#define CHIRAL_STALE_OMIT 2

// An old image ends the connection with an error.
#define CHIRAL_STALE_FAIL 3

// A newer action replaces one that the robot was not given yet.
#define CHIRAL_QUEUE_LATEST 0

// In order; what has waited for longer than `action_queue_limit` seconds is dropped.
#define CHIRAL_QUEUE_MAX_AGE 1

// Every action, in order; a policy that is too fast is held up when `action_queue_limit` wait.
#define CHIRAL_QUEUE_IN_ORDER 2

// A policy's connection to a robot. Any number of threads may call its functions at once, each of
// which gets its own answer; `chiral_client_free` is for the last one.
typedef struct chiral_client chiral_client;

// The commands of a robot's policies, for a robot that pulls them in a loop of its own. One thread at
// a time.
//
// No function here waits for the network: the only locks that they take are held by chiral's other
// threads for microseconds, never across a system call that can wait. `chiral_commands_action` and
// `chiral_commands_must_hold` allocate nothing.
typedef struct chiral_commands chiral_commands;

// A robot's contract as a client knows it. Any thread may read it.
typedef struct chiral_contract chiral_contract;

// A free-form map from names to values: metadata, `info` and `extra`.
//
// Its values are read and written as texts, or all of it as JSON. One thread at a time.
typedef struct chiral_map chiral_map;

// What a robot senses at one moment: cameras and proprioception.
//
// Its pixels are those that the socket received, or that the cameras' threads wrote: nothing is
// copied. Everything that is read from it is valid until it is freed, and does not change. Any
// number of threads may read it; only one may use it while it is being made or freed.
typedef struct chiral_observation chiral_observation;

// The latest of a robot's cameras and proprioception, which many threads write, each at its own
// rate. Any thread may call any function but `chiral_sensors_free` at any time; none waits for
// another camera, nor for the network.
typedef struct chiral_sensors chiral_sensors;

// Where policies connect to a robot, one at a time. Any thread may call any function but
// `chiral_server_free` at any time.
typedef struct chiral_server chiral_server;

// What most functions return: `CHIRAL_OK`, `CHIRAL_NOTHING`, or an error, which is negative and
// whose words `chiral_last_error` has.
typedef int32_t chiral_status;

// What is sent at a tick that finds no row.
typedef int32_t chiral_starved;

// What the numbers of an action mean: 0 where nobody says, or one of `CHIRAL_ABSOLUTE`,
// `CHIRAL_DELTA`, `CHIRAL_VELOCITY`.
typedef int32_t chiral_action_kind;

// The type of an array's elements: one of `CHIRAL_UINT8`, `CHIRAL_FLOAT32` and so on. Zero, where
// something is declared, is the usual one: `CHIRAL_UINT8` of images, else `CHIRAL_FLOAT32`.
typedef int32_t chiral_dtype;

// The secret by which a robot knows its policies: 16 to 1024 letters, digits and `-._~+/`, such as
// `openssl rand -hex 16` makes. One of the three says where it is, the others are null. It is copied,
// and stands in no error and no line of the log.
typedef struct chiral_token {
    // `sizeof(chiral_token)`.
    size_t size;
    // The token itself.
    const char *text;
    // A file that consists of it.
    const char *file;
    // The name of an environment variable that has it.
    const char *variable;
} chiral_token;

// Whom a client takes for its robot over TLS. All null: whoever has a certificate that the operating
// system trusts. The files are PEM files.
typedef struct chiral_client_tls {
    // `sizeof(chiral_client_tls)`.
    size_t size;
    // The SHA-256 fingerprint of the robot's certificate, as `chiral_server_fingerprint` gives it: 64
    // hexadecimal digits, with or without colons. The certificate may then be for whatever name.
    const char *pin;
    // The authorities that are trusted, in the place of a pin; a robot's own certificate may be one. Its
    // certificate must be for the host as it stands in the URI.
    const char *authorities;
    // The client's own certificate, for a robot that asks for one.
    const char *certificate;
    // Its key.
    const char *key;
} chiral_client_tls;

// How a connection that was lost is made again. What is zero is as if it were not there.
typedef struct chiral_reconnect {
    // `sizeof(chiral_reconnect)`.
    size_t size;
    // The pause before the first try, in seconds; each pause is twice as long as the one before. Zero:
    // 0.1.
    double initial;
    // How long the pause becomes, at most. Zero: 5.
    double max;
    // After how many seconds without a connection it is given up. Zero: never.
    double give_up_after;
    // Whether requests for metadata and observations wait for the connection, and chunks that were
    // decided before it was lost are discarded, for a policy that is to live through a restart of its
    // robot without knowing of it. Otherwise they fail with `CHIRAL_INTERRUPTED`, as what moves the
    // robot does in any case.
    bool hold_calls;
} chiral_reconnect;

// Something that has happened to a client's connection.
typedef struct chiral_connection_event {
    // `sizeof(chiral_connection_event)`.
    size_t size;
    // What: one of `CHIRAL_CONNECTION_…` and `CHIRAL_CONTRACT_CHANGED`.
    int32_t kind;
    // How often it was tried to make the connection again, if it was.
    uint32_t attempts;
    // For how many seconds there was none, if it was made again.
    double down_for;
    // One line for a person: what has happened, and why.
    const char *text;
} chiral_connection_event;

// Settings of a client. What is zero is as if it were not there.
typedef struct chiral_client_config {
    // `sizeof(chiral_client_config)`.
    size_t size;
    // How long connecting waits for a robot that is not up yet, or has another policy, in seconds.
    // Zero: for ever.
    double connect_timeout;
    // How long each request waits for its answer, in seconds. Zero: metadata and observations 10,
    // resets and steps 120.
    double request_timeout;
    // An action that has waited in the queue for longer than this is not sent any more, in seconds.
    // Zero: each is.
    double max_age;
    // How many actions may wait in the queue. Zero: 1024.
    size_t queue_capacity;
    // How many requests of the observation stream may be under way. Zero: 1.
    size_t stream_window;
    // Header fields of the WebSocket's request: a name, its value, the next name, …, as texts.
    const char *const *headers;
    // How many texts there are: twice as many as fields.
    size_t header_texts;
    // The token that the robot asks for; null for none.
    const struct chiral_token *token;
    // Whom to take for the robot, for a URI of `wss://`; null for whoever the operating system trusts.
    // With it a URI without TLS is an error.
    const struct chiral_client_tls *tls;
    // How a connection that was lost is made again; null: it is not, and the client ends with it.
    const struct chiral_reconnect *reconnect;
    // Called every second while connecting waits, by the thread that connects, with one line for a
    // person and the seconds so far; while the connection is made again, by chiral's own. The text is
    // valid during the call.
    void (*on_waiting)(void *user, const char *text, double waited);
    // Called when the connection is lost, made again, or has ended, by the connection's thread: it must
    // not wait, and may call any function of the client that does not. Returns 0, or a negative number
    // when it has failed, which the log is told. The event is valid during the call.
    int32_t (*on_connection)(void *user, const struct chiral_connection_event *event);
    // The first argument of both. Neither is called after `chiral_client_connect` has failed, or
    // `chiral_client_free` has returned.
    void *user;
} chiral_client_config;

// The answer to a legacy step, given by a client or by a robot.
typedef struct chiral_step {
    // `sizeof(chiral_step)`.
    size_t size;
    // The observation after the step.
    struct chiral_observation *observation;
    // The reward.
    double reward;
    // Whether the episode has ended by itself.
    bool terminated;
    // Whether the episode was cut short.
    bool truncated;
    // Whatever else the robot says.
    struct chiral_map *info;
} chiral_step;

// What a policy wants of a robot that pulls.
typedef struct chiral_command {
    // `sizeof(chiral_command)`.
    size_t size;
    // One of `CHIRAL_COMMAND_…`.
    int32_t kind;
    // Of an action or a step: how many values it has, whatever there was room for.
    size_t count;
    // How many rows they make: 1, but for a step.
    size_t rows;
    // Of a hold because no action came, or a stop for that: for how many seconds; else zero.
    double silent_for;
    // Of a hold: why, one of `CHIRAL_HOLD_…`.
    int32_t hold;
    // Of an action or a step: whether it was clamped to what the robot's contract allows.
    bool clamped;
} chiral_command;

// A robot's contract with its policies: what an action must be to reach it. All zero: any shape, with
// finite numbers. The server checks every action before the robot sees it, and tells the policies;
// their clients check too.
//
// Where there is a number for each dimension, `…_count` of them are given: one for all, or as many as
// the action has values. They count as `float`, which is what a robot reads.
//
// It is no safety function: keep the emergency stop, and the limits of the robot's own controller.
typedef struct chiral_action_spec {
    // `sizeof(chiral_action_spec)`.
    size_t size;
    // How many values an action has. Zero: any number, or as `shape` says.
    size_t width;
    // An action's exact shape, in the place of a width; else null.
    const size_t *shape;
    // How many dimensions `shape` has.
    size_t rank;
    // The types of its elements: one of `CHIRAL_DTYPES_…`.
    int32_t dtypes;
    // What the values mean.
    chiral_action_kind kind;
    // The values that make the robot stay where it is, or null.
    const float *hold;
    // How many these are: as many as an action has.
    size_t hold_count;
    // The smallest values that are allowed, or null.
    const float *low;
    // How many these are.
    size_t low_count;
    // The largest values that are allowed, or null.
    const float *high;
    // How many these are.
    size_t high_count;
    // The largest steps, or null: by how much an action may differ from the last one that the robot was
    // given; of a delta, how large it may be.
    const float *max_step;
    // How many these are.
    size_t max_step_count;
    // The name of the proprioception vector that says where the robot is, from where the first step of
    // absolute actions is measured; null if there is none. It is not told to the policy.
    const char *measured_by;
    // What becomes of an action that is out of bounds or too large a step: `CHIRAL_REFUSE` or
    // `CHIRAL_CLAMP`.
    int32_t on_violation;
    // What arms the robot: one of `CHIRAL_ARM_…`.
    int32_t arming;
    // How often an action is expected, in hertz. Zero: that is not said.
    double rate;
    // After how many missed periods the robot is told to hold. Zero: one, if there is a rate. Negative:
    // never.
    int64_t hold_after;
    // After how many missed periods it is stopped, and takes no action until it is armed. Zero: never.
    int64_t stop_after;
    // Whether an action without values reaches the robot.
    bool allow_empty;
    // Whether NaN and infinities reach the robot.
    bool allow_non_finite;
    // Where a client reads it: after how many seconds without an action the robot holds, if that is
    // said as a time. A server says it in its settings, and leaves it zero here.
    double watchdog;
    // Where a client reads it: how old, in seconds, the observation may be on which an action was
    // decided. A server says it in its settings, and leaves it zero here.
    double max_obs_age;
} chiral_action_spec;

// How a policy keeps to the robot's contract.
typedef struct chiral_contract_status {
    // `sizeof(chiral_contract_status)`.
    size_t size;
    // Whether actions move the robot: one of `CHIRAL_DISARMED` and the four that follow it.
    int32_t state;
    // Of the last `periods`, those in which an action came on time.
    uint32_t on_time;
    // The last periods while actions moved the robot, 100 at most; 0 if the robot declares no rate.
    uint32_t periods;
    // All periods that were missed.
    uint64_t missed;
    // Actions that were refused.
    uint64_t refused;
    // Actions that were clamped.
    uint64_t clamped;
    // Actions that came while the robot was disarmed or stopped.
    uint64_t not_armed;
    // How often the robot was stopped.
    uint64_t stops;
} chiral_contract_status;

// One camera of an observation.
typedef struct chiral_camera {
    // `sizeof(chiral_camera)`.
    size_t size;
    // Its name, in UTF-8, with no zero at the end.
    const char *name;
    // How many bytes the name has.
    size_t name_len;
    // When the image was captured, in monotonic seconds of the robot's clock; 0 before the first.
    double timestamp;
    // K, in pixels, row by row.
    double intrinsics[9];
    // T, camera to world, in metres, row by row.
    double extrinsics[16];
    // Whether it has a depth map.
    bool has_depth;
} chiral_camera;

// Elements of one type, row-major and in the byte order of the machine.
typedef struct chiral_array {
    // `sizeof(chiral_array)`.
    size_t size;
    // What its elements are.
    chiral_dtype dtype;
    // The elements, aligned to their size.
    const void *data;
    // How many bytes they take.
    size_t len;
    // Its dimensions, outermost first: height, width and channels of an image.
    const size_t *shape;
    // How many dimensions there are.
    size_t rank;
    // The observation to which the data belong, or null. Where an array is put into another
    // observation, data that belong to one are shared, and others copied.
    const struct chiral_observation *owner;
} chiral_array;

// One proprioception vector of an observation.
typedef struct chiral_proprio {
    // `sizeof(chiral_proprio)`.
    size_t size;
    // Its name, in UTF-8, with no zero at the end.
    const char *name;
    // How many bytes the name has.
    size_t name_len;
    // Its values, whatever the robot's dtype is.
    const float *values;
    // How many values there are.
    size_t count;
    // The robot's dtype.
    int32_t dtype;
} chiral_proprio;

// How a chunk is placed in the plan. All zero: anchored at the observation, replacing the old plan.
typedef struct chiral_follow_options {
    // `sizeof(chiral_follow_options)`.
    size_t size;
    // Where the rows belong: one of `CHIRAL_ANCHOR_…`.
    int32_t anchor;
    // The step of `CHIRAL_ANCHOR_AT`.
    uint64_t anchor_step;
    // What becomes of the rows that are planned already: one of `CHIRAL_MERGE_…`.
    int32_t merge;
    // How many rows, where `merge` needs it.
    size_t merge_rows;
    // The weight, where `merge` needs it.
    double merge_weight;
    // The dimensions that may be averaged; null for all.
    const size_t *averaged;
    // How many they are.
    size_t averaged_count;
    // What to do with a chunk whose delay is longer than `max_delay`: one of `CHIRAL_LATE_…`.
    int32_t when_late;
    // In steps.
    uint64_t max_delay;
} chiral_follow_options;

// Where a chunk came to lie.
typedef struct chiral_placement {
    // `sizeof(chiral_placement)`.
    size_t size;
    // The chunk's number, counted from 0.
    uint64_t chunk;
    // The step of row 0.
    uint64_t base;
    // The rows, from row 0 on, whose steps had passed already.
    size_t skipped;
    // Old rows that stayed where the chunk has rows too.
    size_t kept;
    // Old rows that were averaged with rows of the chunk.
    size_t blended;
    // Old rows that made way.
    size_t replaced;
    // The first step at which a row of the chunk will be sent, if there is one.
    uint64_t first;
    // How many steps were sent since the observation was taken: the least and the most.
    uint64_t delay_min;
    // The most; the same where it is known exactly.
    uint64_t delay_max;
    // Whether `first` says something.
    bool has_first;
    // Whether the delay is known.
    bool has_delay;
    // The delay is longer than the options allow.
    bool late;
    // The chunk was left out because it is late.
    bool discarded;
} chiral_placement;

// What a policy that goes on with its own plan needs to know before it infers.
typedef struct chiral_plan_context {
    // `sizeof(chiral_plan_context)`.
    size_t size;
    // The first step that the robot had not executed when the observation was taken.
    uint64_t base;
    // How many steps were sent since: the least.
    uint64_t delay_min;
    // The most; the same where it is known exactly.
    uint64_t delay_max;
    // How many steps will be sent, most likely, until a chunk inferred from it is placed.
    uint64_t expected_delay;
    // Whether `expected_delay` says something.
    bool has_expected_delay;
    // How many spans of rows are planned from `base` on.
    size_t spans;
} chiral_plan_context;

// A camera as it is declared. What is zero is as if it were not there.
typedef struct chiral_camera_config {
    // `sizeof(chiral_camera_config)`.
    size_t size;
    // Its name.
    const char *name;
    // The height of image and depth map, in pixels.
    size_t height;
    // The width of image and depth map, in pixels.
    size_t width;
    // The image's channels; 0 for one of `[height, width]`.
    size_t channels;
    // The image's elements. Zero: `CHIRAL_UINT8`.
    chiral_dtype image_dtype;
    // Whether it has a depth map.
    bool has_depth;
    // The depth map's elements. Zero: `CHIRAL_FLOAT32`, in metres.
    chiral_dtype depth_dtype;
    // The height of the depth map, where it is another one.
    size_t depth_height;
    // The width of the depth map, where it is another one.
    size_t depth_width;
    // K at first, row by row; null for the identity.
    const double *intrinsics;
    // T at first, camera to world, row by row; null for the identity.
    const double *extrinsics;
    // How old the image may become, in seconds. Zero: as old as it likes.
    double max_age;
    // What becomes of an older one: one of `CHIRAL_STALE_…`.
    int32_t when_stale;
} chiral_camera_config;

// A proprioception vector as it is declared.
typedef struct chiral_proprio_config {
    // `sizeof(chiral_proprio_config)`.
    size_t size;
    // Its name.
    const char *name;
    // How many values it has, which are `float`.
    size_t count;
} chiral_proprio_config;

// What a camera publishes together. A part that is null stays as it was; no observation shows some
// parts of a frame and not the others.
typedef struct chiral_frame {
    // `sizeof(chiral_frame)`.
    size_t size;
    // The image, row-major; copied.
    const void *image;
    // How many bytes it has.
    size_t image_len;
    // The depth map, row-major; copied.
    const void *depth;
    // How many bytes it has.
    size_t depth_len;
    // K, row by row.
    const double *intrinsics;
    // T, camera to world, row by row.
    const double *extrinsics;
    // When it was captured, in seconds as `chiral_now` gives them. Zero: when the function is called.
    double captured_at;
} chiral_frame;

// What a server needs to speak TLS. The files are PEM files.
typedef struct chiral_server_tls {
    // `sizeof(chiral_server_tls)`.
    size_t size;
    // The server's certificate.
    const char *certificate;
    // Its key.
    const char *key;
    // The authorities of which one has to have signed a policy's certificate; null lets in policies
    // without one.
    const char *client_authorities;
} chiral_server_tls;

// Settings of a server. What is zero is as if it were not there.
typedef struct chiral_server_config {
    // `sizeof(chiral_server_config)`.
    size_t size;
    // The contract: what an action must be; null for any.
    const struct chiral_action_spec *action;
    // After so many seconds without an action the robot is told to hold still. Zero: as the contract's
    // rate says; without one half a second for a robot that pulls, never for one that is called.
    // Negative: never.
    double watchdog;
    // How old, in seconds, the observation may be on which an action was decided. Zero: 5. Negative:
    // as old as it likes.
    double max_obs_age;
    // What becomes of actions that come faster than the robot takes them: one of `CHIRAL_QUEUE_…`.
    int32_t action_queue;
    // Seconds, or actions, where `action_queue` needs it.
    double action_queue_limit;
    // Whether the newest policy gets the robot, and the one before is sent away, instead of the
    // other way round.
    bool take_over;
    // Whether a robot that pulls is asked for observations too.
    bool pull_observations;
    // The token that a policy has to show; null for none. Only over WebSocket.
    const struct chiral_token *token;
    // Speaks TLS, and nothing else, on a TCP address; null for not.
    const struct chiral_server_tls *tls;
} chiral_server_config;

// An action, as a robot is given it. Valid during the call.
typedef struct chiral_action {
    // `sizeof(chiral_action)`.
    size_t size;
    // Its values, row-major, as `float` whatever the policy sent.
    const float *values;
    // How many values there are.
    size_t count;
    // How many rows they make: 1, but for a legacy step.
    size_t rows;
    // How many values a row has.
    size_t width;
    // The dtype that the policy sent.
    int32_t dtype;
    // Whether it was clamped to what the robot's contract allows.
    bool clamped;
} chiral_action;

// What a robot does when it is called. Null where it does what it says there.
//
// Those that return a number return 0, or a negative number when they have failed: then the
// connection ends, and the policy is told the words that were given to `chiral_fail`. None may leave
// by an exception or `longjmp`.
//
// What moves the robot (`apply_action`, `step`, `reset`, `on_watchdog`, `on_stop`, `on_actions_dropped`,
// `on_disconnect`) is called one at a time, in the order in which the policy sent what it is about,
// `on_disconnect` last. `metadata` and `observe` are called by another thread beside that. All
// threads are chiral's own.
typedef struct chiral_robot {
    // `sizeof(chiral_robot)`.
    size_t size;
    // The first argument of each function.
    void *user;
    // Describes the robot, into an empty map. Null: it stays empty.
    int32_t (*metadata)(void *user, struct chiral_map *metadata);
    // Resets the robot. `*observation` is the one after it, which then belongs to chiral, or stays
    // null for a snapshot of the sensors; `info` is an empty map. Null: nothing moves.
    int32_t (*reset)(void *user, struct chiral_observation **observation, struct chiral_map *info);
    // Makes an observation, which then belongs to chiral. Null, or an observation that stays null: a
    // snapshot of the sensors, taken when the answer leaves.
    int32_t (*observe)(void *user, struct chiral_observation **observation);
    // Applies an action. Null: it is not.
    int32_t (*apply_action)(void *user, const struct chiral_action *action);
    // The legacy step. `result` has an empty map, and a null observation as in `reset`. Null:
    // `apply_action`, and a snapshot of the sensors.
    int32_t (*step)(void *user, const struct chiral_action *action, struct chiral_step *result);
    // A policy has connected; nothing else is asked before this has returned.
    int32_t (*on_connect)(void *user);
    // No action has come for so many seconds: hold still.
    int32_t (*on_watchdog)(void *user, double silent_for);
    // The robot is stopped, and why: hold still. No action comes until it is armed again. Null:
    // `on_watchdog`. `silent_for` is for how many seconds no action has come, if it is for that.
    int32_t (*on_stop)(void *user, const char *reason, double silent_for);
    // The policy has gone, and why: hold still.
    int32_t (*on_disconnect)(void *user, const char *reason);
    // So many actions came that were not applied, and will not be, and why.
    int32_t (*on_actions_dropped)(void *user, uint64_t count, const char *reason);
} chiral_robot;

// What a client has counted so far. Times are in seconds, rates in hertz.
typedef struct chiral_client_stats {
    // `sizeof(chiral_client_stats)`.
    size_t size;
    // Bytes sent.
    uint64_t bytes_sent;
    // Bytes received.
    uint64_t bytes_received;
    // Observations received.
    uint64_t observations;
    // Their mean rate; 0 before the second.
    double observation_hz;
    // How long ago the latest observation arrived; negative before the first.
    double observation_age;
    // From asking to having: what half of all stay below.
    double round_trip_p50;
    // What 99 in 100 stay below.
    double round_trip_p99;
    // The longest.
    double round_trip_max;
    // Ticks of the observation stream that were skipped, as the request before was still open.
    uint64_t stream_ticks_missed;
    // Actions sent.
    uint64_t actions;
    // Their mean rate; 0 before the second.
    double action_hz;
    // Rows of plans sent.
    uint64_t steps;
    // Dispatch ticks that found no row.
    uint64_t starvations;
    // Of them, those at which an action was repeated or held.
    uint64_t held;
    // Dispatch ticks that came late.
    uint64_t dispatch_ticks_missed;
    // Actions that had waited for longer than `max_age`.
    uint64_t actions_expired;
    // Actions that were cleared, replaced, or left at the end.
    uint64_t actions_dropped;
    // Rows whose step had passed when their chunk came.
    uint64_t rows_skipped;
    // Rows that were blended with those of an older plan.
    uint64_t rows_blended;
    // Chunks that came too late.
    uint64_t chunks_late;
    // Of them, those of which nothing was taken.
    uint64_t chunks_discarded;
    // Actions that were clamped to what the robot's contract allows.
    uint64_t actions_clamped;
    // Requests without an answer in time.
    uint64_t requests_timed_out;
    // How often the robot was silent.
    uint64_t silences;
    // How often the connection was made again.
    uint64_t reconnects;
} chiral_client_stats;

// What a server has counted of the policy that is connected. Times are in seconds, rates in hertz.
typedef struct chiral_server_stats {
    // `sizeof(chiral_server_stats)`.
    size_t size;
    // Bytes sent.
    uint64_t bytes_sent;
    // Bytes received.
    uint64_t bytes_received;
    // Observations sent.
    uint64_t observations;
    // Their mean rate; 0 before the second.
    double observation_hz;
    // From a request's arrival to its answer: what half of all stay below.
    double response_time_p50;
    // What 99 in 100 stay below.
    double response_time_p99;
    // Actions received.
    uint64_t actions;
    // Their mean rate; 0 before the second.
    double action_hz;
    // Actions that the robot was not given, as a newer one came first.
    uint64_t dropped_superseded;
    // As they had waited too long.
    uint64_t dropped_too_old;
    // As they were decided on too old an observation.
    uint64_t dropped_stale_observation;
    // As what waited took too many bytes.
    uint64_t dropped_over_budget;
    // As they are not what the robot takes.
    uint64_t dropped_refused;
    // As the robot was not armed, or had been stopped since they were decided.
    uint64_t dropped_not_armed;
    // As the connection ended first.
    uint64_t dropped_disconnected;
    // How often the robot was told to hold still because no action had come.
    uint64_t watchdog_alarms;
} chiral_server_stats;

// Where to be, such as joint positions: the same action again means to stay.
#define CHIRAL_ABSOLUTE 1

// How far to go from here: the same action again means to go as far once more.
#define CHIRAL_DELTA 2

// How fast to move: the same action again means to go on.
#define CHIRAL_VELOCITY 3

// Nothing: the robot's watchdog notices.
#define CHIRAL_SEND_NOTHING 0

// The last row again. Only where actions are absolute.
#define CHIRAL_REPEAT 1

// The action that is given with it.
#define CHIRAL_HOLD 2

// What the robot has declared: its hold action; else the last row again if its actions are
// absolute; else nothing.
#define CHIRAL_DECLARED 3

// `bool`: one byte, 0 is false.
#define CHIRAL_BOOL 1

// `int8_t`.
#define CHIRAL_INT8 2

// `int16_t`.
#define CHIRAL_INT16 3

// `int32_t`.
#define CHIRAL_INT32 4

// `int64_t`.
#define CHIRAL_INT64 5

// `uint8_t`.
#define CHIRAL_UINT8 6

// `uint16_t`.
#define CHIRAL_UINT16 7

// `uint32_t`.
#define CHIRAL_UINT32 8

// `uint64_t`.
#define CHIRAL_UINT64 9

// Half precision.
#define CHIRAL_FLOAT16 10

// `float`.
#define CHIRAL_FLOAT32 11

// `double`.
#define CHIRAL_FLOAT64 12

// It is done.
#define CHIRAL_OK 0

// There is nothing yet: no observation, no action, no end of the wait in time. No error.
#define CHIRAL_NOTHING 1

// The call cannot be made so: a bad argument, a null pointer, a value out of its range.
#define CHIRAL_MISUSE -1

// The connection has ended.
#define CHIRAL_DISCONNECTED -2

// No answer came in time. The connection goes on.
#define CHIRAL_TIMED_OUT -3

// The robot cannot be reached, or does not take the policy; or an address cannot be listened on.
#define CHIRAL_UNREACHABLE -4

// Actions did not go into the queue; the queue is as it was.
#define CHIRAL_NOT_QUEUED -5

// A sensor's data are not as it was declared; what was there before stays.
#define CHIRAL_SENSOR -6

// A fault of chiral itself. Please report it.
#define CHIRAL_FAULT -7

// The connection was lost, and is being made again: try later.
#define CHIRAL_INTERRUPTED -8

// The robot's contract does not allow an action. None was sent or queued.
#define CHIRAL_REFUSED -9

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Sends an action of `width` values at once, without waiting for a tick. `observation` is the one
// on which it was decided, or null for the latest.
//
// Any thread; never waits.
chiral_status chiral_client_send(const struct chiral_client *client,
                                 const struct chiral_observation *observation,
                                 const float *values,
                                 size_t width);

// Appends `count` actions of `width` values each to the queue, of which the dispatch sends one a
// tick. `observation` is the one on which they were decided; null means the latest when each leaves.
//
// Any thread; never waits.
chiral_status chiral_client_put(const struct chiral_client *client,
                                const struct chiral_observation *observation,
                                const float *values,
                                size_t count,
                                size_t width);

// Drops the actions that have not left yet, and returns how many there were.
//
// Any thread; never waits.
size_t chiral_client_clear(const struct chiral_client *client);

// How many actions wait in the queue.
//
// Any thread; never waits.
size_t chiral_client_queued(const struct chiral_client *client);

// Sends one queued action a tick from now on, at a rate in hertz; stops at a rate of 0, and the
// actions stay in the queue.
//
// Any thread; never waits.
chiral_status chiral_client_dispatch(const struct chiral_client *client, double hz);

// Sets what is sent at a tick that finds no row. `values` are those of `CHIRAL_HOLD`, else null.
//
// Any thread; never waits.
chiral_status chiral_client_set_starved(const struct chiral_client *client,
                                        chiral_starved starved,
                                        const float *values,
                                        size_t width);

// Sends `points` actions to a row, on the straight line between the rows; 1 sends the rows alone.
//
// Any thread; never waits.
chiral_status chiral_client_interpolate(const struct chiral_client *client, uint32_t points);

// Says what the robot's actions are, for a robot whose metadata does not. `hold`, of `width` values,
// makes it stay where it is, and may be null.
//
// Any thread; never waits.
chiral_status chiral_client_declare_actions(const struct chiral_client *client,
                                            chiral_action_kind kind,
                                            const float *hold,
                                            size_t width);

// The name of a dtype, such as `uint8`; null where there is none. Valid for ever. Any thread.
const char *chiral_dtype_name(chiral_dtype dtype);

// The dtype of a name, such as `uint8`; 0 where there is none. Any thread.
chiral_dtype chiral_dtype_from_name(const char *name);

// Connects to the robot at `uri`, `ws://host:port`, `wss://host:port`, `host:port`, `unix:/path` or,
// built with Zenoh, `tcp/host:port` and `zenoh:…`, and waits for it. `config` may be null. To be freed.
//
// Any thread. Waits for the network.
chiral_status chiral_client_connect(const char *uri,
                                    const struct chiral_client_config *config,
                                    struct chiral_client **client);

// Closes the connection and waits until the robot knows, for 7 s at the most. Functions that wait in
// other threads fail. The handle stays, to be freed.
//
// Any thread. Waits for the network.
chiral_status chiral_client_close(const struct chiral_client *client);

// Closes the connection, if it is open, and frees the client. Does nothing to a null pointer.
//
// While no other thread uses the client. Waits for the network, as `chiral_client_close`.
void chiral_client_free(struct chiral_client *client);

// Why there is no connection, as the return value and, in words, as the last error:
// `CHIRAL_INTERRUPTED` while it is being made again, `CHIRAL_DISCONNECTED` when it has ended, and
// `CHIRAL_OK` while there is one.
//
// Any thread; never waits.
chiral_status chiral_client_state(const struct chiral_client *client);

// Whether nothing at all has come from the robot for 2 s although something is waited for: the
// network may be dead, and the policy blind.
//
// Any thread; never waits.
bool chiral_client_is_silent(const struct chiral_client *client);

// Asks the robot what it is. The map is to be freed.
//
// Any thread. Waits for the answer.
chiral_status chiral_client_metadata(const struct chiral_client *client,
                                     struct chiral_map **metadata);

// Resets the robot. Observation and map are to be freed; `info` may be null.
//
// Any thread. Waits for the answer.
chiral_status chiral_client_reset(const struct chiral_client *client,
                                  struct chiral_observation **observation,
                                  struct chiral_map **info);

// Asks for an observation that is made for this call. It is to be freed.
//
// Any thread. Waits for the answer.
chiral_status chiral_client_get(const struct chiral_client *client,
                                struct chiral_observation **observation);

// The legacy step of older policies: sends an action of `count` rows of `width` values each, and
// waits for what comes of it. Observation and map of `result` are to be freed.
//
// Any thread. Waits for the answer.
chiral_status chiral_client_step(const struct chiral_client *client,
                                 const float *values,
                                 size_t count,
                                 size_t width,
                                 struct chiral_step *result);

// Asks for observations at a fixed rate from now on, in hertz; stops at a rate of 0.
//
// Any thread; never waits.
chiral_status chiral_client_stream(const struct chiral_client *client, double hz);

// The newest observation that any answer brought, which may be the same as before, to be freed;
// `CHIRAL_NOTHING` before the first.
//
// Any thread; never waits.
chiral_status chiral_client_latest(const struct chiral_client *client,
                                   struct chiral_observation **observation);

// The newest observation that this function has not given yet, to be freed. Waits for one, for so
// many seconds; a negative number is for ever. `CHIRAL_NOTHING` when none has come by then.
//
// Any thread; of several, each observation goes to one.
chiral_status chiral_client_next(const struct chiral_client *client,
                                 double seconds,
                                 struct chiral_observation **observation);

// Waits until no more rows of the plan are left than `chiral_client_refill_at` says, for so many
// seconds; a negative number is for ever. `CHIRAL_NOTHING` when more are left then.
//
// Any thread.
chiral_status chiral_client_plan_low(const struct chiral_client *client, double seconds);

// Serves a robot that pulls its commands, in threads of chiral's and without waiting, until the server
// is shut down or the commands are freed. `metadata` describes the robot and may be null; it is
// copied. The commands are to be freed before the server.
//
// Any thread.
chiral_status chiral_server_pull(const struct chiral_server *server,
                                 const struct chiral_sensors *sensors,
                                 const struct chiral_map *metadata,
                                 struct chiral_commands **commands);

// Frees the commands: the policy is told that the control loop has ended. Does nothing to a null
// pointer.
void chiral_commands_free(struct chiral_commands *commands);

// The next action, if there is one: writes its `width` values to `values`. `CHIRAL_NOTHING` when
// there is none, which is the usual case. An action of another number of values is an error, and
// passed over; declare the action (`chiral_action_spec`), and none comes.
//
// Resets, and requests for observations, are answered with a snapshot of the sensors; so is a step,
// with the call after the one that gave its action.
//
// One thread at a time. Never waits, and allocates nothing.
chiral_status chiral_commands_action(struct chiral_commands *commands, float *values, size_t width);

// The next command, if there is one; `CHIRAL_NOTHING` when there is none, which is the usual case. Of
// an action or a step, as many values as there is room for are written to `values`.
//
// One thread at a time. Never waits.
chiral_status chiral_commands_next(struct chiral_commands *commands,
                                   struct chiral_command *command,
                                   float *values,
                                   size_t capacity);

// Answers the oldest reset that was not answered. `observation` belongs to chiral then, and may be
// null for a snapshot of the sensors; `info` is copied, and may be null.
chiral_status chiral_commands_reply_reset(struct chiral_commands *commands,
                                          struct chiral_observation *observation,
                                          const struct chiral_map *info);

// Answers the oldest step that was not answered. Its observation is as in
// `chiral_commands_reply_reset`; its map is copied, and may be null.
chiral_status chiral_commands_reply_step(struct chiral_commands *commands,
                                         const struct chiral_step *result);

// Answers the oldest request for an observation that was not answered. The observation belongs to
// chiral then, and may be null for a snapshot of the sensors.
chiral_status chiral_commands_reply_observation(struct chiral_commands *commands,
                                                struct chiral_observation *observation);

// Whether the robot is to hold still: it has never had an action, or was told to since.
bool chiral_commands_must_hold(const struct chiral_commands *commands);

// Whether a policy is connected, as far as the commands that were pulled tell.
bool chiral_commands_is_connected(const struct chiral_commands *commands);

// As `chiral_server_arm`, for the control loop's own use: `CHIRAL_NOTHING` when no policy is connected,
// as far as the commands that were pulled tell. One thread at a time. Never waits.
chiral_status chiral_commands_arm(const struct chiral_commands *commands);

// As `chiral_server_stop_motion`, for the control loop's own use. One thread at a time. Never waits.
chiral_status chiral_commands_stop_motion(const struct chiral_commands *commands);

// Has the robot describe itself so from now on. The map is copied.
chiral_status chiral_commands_set_metadata(const struct chiral_commands *commands,
                                           const struct chiral_map *metadata);

// The next event of the connection that this function has not given yet: that it was lost, made again,
// or has ended. Waits for one, for so many seconds; a negative number is for ever. `CHIRAL_NOTHING`
// when none has come by then, or it has ended and that was given. Of events that nobody asks for the
// last 64 are kept. The event's text is valid until the thread asks for another event or table.
//
// Any thread; of several, each event goes to one.
chiral_status chiral_client_next_event(const struct chiral_client *client,
                                       double seconds,
                                       struct chiral_connection_event *event);

// The robot's contract, as far as the client knows it, to be freed: what its metadata said when they
// last came. Of a robot that declares none, and before, it allows everything.
//
// Any thread; never waits.
chiral_status chiral_client_contract(const struct chiral_client *client,
                                     struct chiral_contract **contract);

// What a contract says. What the struct points to is valid until the contract is freed.
//
// Any thread.
chiral_status chiral_contract_spec(const struct chiral_contract *contract,
                                   struct chiral_action_spec *spec);

// What a contract says, in a few lines for a person. Valid until the contract is freed.
//
// Any thread.
const char *chiral_contract_text(const struct chiral_contract *contract);

// Frees a contract. Does nothing to a null pointer.
void chiral_contract_free(struct chiral_contract *contract);

// How the robot says that this policy keeps to its contract, with the latest observation that said it;
// `CHIRAL_NOTHING` for a robot that declares none, and before.
//
// Any thread; never waits.
chiral_status chiral_client_contract_status(const struct chiral_client *client,
                                            struct chiral_contract_status *status);

// How the policy that is connected keeps to the contract; `CHIRAL_NOTHING` when there is none.
//
// Any thread; never waits.
chiral_status chiral_server_contract_status(const struct chiral_server *server,
                                            struct chiral_contract_status *status);

// Arms the robot: lets the actions of the policy that is connected move it, after a stop too.
// `CHIRAL_NOTHING` when no policy is connected; the next one is not armed by it.
//
// Any thread, callbacks too; never waits.
chiral_status chiral_server_arm(const struct chiral_server *server);

// Stops the robot: what waits is dropped, `on_stop` is called, and no action reaches the robot until it
// is armed again. The policy stays connected. `CHIRAL_NOTHING` when there is none. It is no emergency
// stop: that one must work without this program.
//
// Any thread, callbacks too; never waits.
chiral_status chiral_server_stop_motion(const struct chiral_server *server);

// The words of the calling thread's last error: one sentence, in UTF-8. Empty before the first.
//
// Valid until the next function of this header that fails in the same thread; copy it if it is to
// stay. Any thread, for its own errors.
const char *chiral_last_error(void);

// Says why a callback of the calling thread is about to fail, in UTF-8. The text is copied.
//
// Within a callback, which then returns a negative number.
void chiral_fail(const char *text);

// The version of the library, such as `0.1.0`. Valid for ever. Any thread.
const char *chiral_version(void);

// The time of the monotonic clock by which images are stamped, in seconds: on Linux that of
// `CLOCK_MONOTONIC`, `std::chrono::steady_clock` and Python's `time.monotonic`. Any thread; never
// waits.
double chiral_now(void);

// Has `call` called for each line of the log up to `level`, one of `CHIRAL_LOG_…`, with its level and
// its text, which is valid during the call. Null prints the lines to the standard error. Without this
// nothing is seen of who connects, who is refused, and what is dropped.
//
// Once in a program, before its other calls; a second call fails. `call` is called by any thread, of
// chiral's and of the program's, and must not call this library.
chiral_status chiral_set_log(int32_t level,
                             void (*call)(void *user, int32_t level, const char *text),
                             void *user);

// A new, empty map.
struct chiral_map *chiral_map_new(void);

// Frees a map, and all texts that were read from it. Does nothing to a null pointer.
void chiral_map_free(struct chiral_map *map);

// Sets the value of a key to a text.
chiral_status chiral_map_set(struct chiral_map *map, const char *key, const char *value);

// Sets the value of a key to what a JSON text says: `50`, `true`, `[1, 7]`, `{"force": 12.5}`.
chiral_status chiral_map_set_json(struct chiral_map *map, const char *key, const char *json);

// Removes a key and its value; does nothing where there is no such key.
chiral_status chiral_map_remove(struct chiral_map *map, const char *key);

// An entry of a map, counted from 0, in their order: its key and its value as a text. What is not
// a text is given as JSON. `CHIRAL_NOTHING` when there are not so many. The texts are valid until
// the map is changed or freed.
chiral_status chiral_map_entry(const struct chiral_map *map,
                               size_t index,
                               const char **key,
                               size_t *key_len,
                               const char **value,
                               size_t *value_len);

// All of a map as JSON; null when JSON cannot say it. Valid until the map is changed or freed.
const char *chiral_map_json(const struct chiral_map *map);

// A new observation without anything in it, for a robot that makes its own. `timestamp` is a time
// of the robot's choice, in seconds.
struct chiral_observation *chiral_observation_new(double timestamp);

// Another handle to the same observation, which may be changed and freed by itself. Copies no
// pixel.
struct chiral_observation *chiral_observation_share(const struct chiral_observation *observation);

// Frees an observation. Does nothing to a null pointer.
void chiral_observation_free(struct chiral_observation *observation);

// How many cameras there are; 0 of a null pointer.
size_t chiral_observation_cameras(const struct chiral_observation *observation);

// How many proprioception vectors there are; 0 of a null pointer.
size_t chiral_observation_proprios(const struct chiral_observation *observation);

// Its time, of the robot's choice, in seconds; 0 of a null pointer.
double chiral_observation_timestamp(const struct chiral_observation *observation);

// Camera `index`, counted from 0, in the order in which the robot declared them.
chiral_status chiral_observation_camera(const struct chiral_observation *observation,
                                        size_t index,
                                        struct chiral_camera *camera);

// The image of camera `index`: `[height, width, channels]`, or `[height, width]`.
chiral_status chiral_observation_image(const struct chiral_observation *observation,
                                       size_t index,
                                       struct chiral_array *image);

// The depth map of camera `index`, `[height, width]`; `CHIRAL_NOTHING` when it has none.
chiral_status chiral_observation_depth(const struct chiral_observation *observation,
                                       size_t index,
                                       struct chiral_array *depth);

// Proprioception vector `index`, counted from 0, in the order in which the robot declared them.
chiral_status chiral_observation_proprio(const struct chiral_observation *observation,
                                         size_t index,
                                         struct chiral_proprio *proprio);

// What else the robot says in an observation, as a map that is to be freed.
struct chiral_map *chiral_observation_extra(const struct chiral_observation *observation);

// Adds a camera to an observation, behind those that there are. `depth` is null where it has none,
// whatever `camera` says of it. Pixels that belong to another observation are shared, others
// copied. What was read from the observation before is not valid any more.
chiral_status chiral_observation_add_camera(struct chiral_observation *observation,
                                            const struct chiral_camera *camera,
                                            const struct chiral_array *image,
                                            const struct chiral_array *depth);

// Adds a proprioception vector to an observation, behind those that there are. The values are
// copied. What was read from the observation before is not valid any more.
chiral_status chiral_observation_add_proprio(struct chiral_observation *observation,
                                             const struct chiral_proprio *proprio);

// Has an observation say this as its `extra`. The map is copied.
chiral_status chiral_observation_set_extra(struct chiral_observation *observation,
                                           const struct chiral_map *extra);

// Puts a chunk of `count` rows of `width` values each where it belongs: row `i` is for the `i`-th
// step after `observation` was taken, rows whose step has passed are skipped, and the others replace
// the old plan. `options` say otherwise, and may be null. `placement` may be null.
//
// With `CHIRAL_ANCHOR_NEXT` it is what `replace_actions` is elsewhere; `observation` is then only
// what the rows say they were decided on.
//
// Any thread; never waits.
chiral_status chiral_client_follow(const struct chiral_client *client,
                                   const struct chiral_observation *observation,
                                   const float *values,
                                   size_t count,
                                   size_t width,
                                   const struct chiral_follow_options *options,
                                   struct chiral_placement *placement);

// What a policy needs to know before it infers from an observation: which rows of its own chunks the
// robot executes from there on, and how many steps the inference will take.
//
// `spans` gets three numbers for each span of consecutive rows: the chunk's number, the first row,
// and how many rows; `capacity` says for how many spans there is room. `context->spans` says how
// many there are.
//
// Any thread; never waits.
chiral_status chiral_client_plan_context(const struct chiral_client *client,
                                         const struct chiral_observation *observation,
                                         struct chiral_plan_context *context,
                                         uint64_t *spans,
                                         size_t capacity);

// Sets at how many rows of the plan, or fewer, it is time for the next chunk, for
// `chiral_client_plan_low`. At first: none.
//
// Any thread; never waits.
chiral_status chiral_client_refill_at(const struct chiral_client *client, size_t rows);

// Declares a robot's sensors. Their buffers exist from then on, filled with zeros. To be freed.
chiral_status chiral_sensors_new(const struct chiral_camera_config *cameras,
                                 size_t camera_count,
                                 const struct chiral_proprio_config *proprios,
                                 size_t proprio_count,
                                 struct chiral_sensors **sensors);

// Frees sensors. A server that uses them goes on with what was written last. Does nothing to a null
// pointer.
void chiral_sensors_free(struct chiral_sensors *sensors);

// Publishes several parts of camera `index`, counted from 0, together. When a length does not fit,
// nothing of the frame is published.
//
// Any thread; never waits for the network.
chiral_status chiral_sensors_publish(const struct chiral_sensors *sensors,
                                     size_t index,
                                     const struct chiral_frame *frame);

// Publishes the values of proprioception vector `index`, counted from 0.
//
// Any thread; never waits for the network.
chiral_status chiral_sensors_update_proprio(const struct chiral_sensors *sensors,
                                            size_t index,
                                            const float *values,
                                            size_t count);

// The latest of all sensors as an observation, to be freed. Copies no pixel. `timestamp` is a time
// of the robot's choice, in seconds.
//
// Any thread; never waits for the network.
chiral_status chiral_sensors_snapshot(const struct chiral_sensors *sensors,
                                      double timestamp,
                                      struct chiral_observation **observation);

// Has every snapshot from now on say this as its `extra`. The map is copied.
//
// Any thread; never waits for the network.
chiral_status chiral_sensors_set_extra(const struct chiral_sensors *sensors,
                                       const struct chiral_map *extra);

// Waits until every camera has published an image and every proprioception vector its values; fails
// when some have not in so many seconds, and names them.
//
// Any thread.
chiral_status chiral_sensors_wait_ready(const struct chiral_sensors *sensors, double seconds);

// Waits, for so many seconds, until camera `index` has published an image after the one that
// `*number` numbers, and sets `*number` to the newest one's; 0 waits for the first.
// `CHIRAL_NOTHING` when none has come by then.
//
// Any thread.
chiral_status chiral_sensors_wait_image(const struct chiral_sensors *sensors,
                                        size_t index,
                                        double seconds,
                                        uint64_t *number);

// A server that listens on `address`, `host:port`, where port 0 lets the system choose one, or
// `unix:/path` or, built with Zenoh, `tcp/host:port` and `zenoh:…`. `config` may be null. To be
// freed.
//
// Without a token, or TLS with `client_authorities`, whoever reaches the address can drive the robot:
// listen on `127.0.0.1` then.
//
// Any thread.
chiral_status chiral_server_bind(const char *address,
                                 const struct chiral_server_config *config,
                                 struct chiral_server **server);

// The URI with which a policy on the same computer connects. Valid until the server is freed.
//
// Any thread; never waits.
const char *chiral_server_uri(const struct chiral_server *server);

// The SHA-256 fingerprint of the server's certificate, for `chiral_client_tls.pin`; null without TLS.
// Valid until the server is freed.
//
// Any thread; never waits.
const char *chiral_server_fingerprint(const struct chiral_server *server);

// Serves a robot that is called to one policy after the other, until `chiral_server_shutdown` or
// `chiral_server_stop`, which are to be called from elsewhere. The callbacks may be called until it
// has returned.
//
// Any thread. Waits.
chiral_status chiral_server_serve(const struct chiral_server *server,
                                  const struct chiral_sensors *sensors,
                                  const struct chiral_robot *robot);

// As `chiral_server_serve`, but in threads of its own, and without waiting. The callbacks may be
// called until `chiral_server_shutdown` has returned.
//
// Any thread; never waits.
chiral_status chiral_server_start(const struct chiral_server *server,
                                  const struct chiral_sensors *sensors,
                                  const struct chiral_robot *robot);

// Stops listening, lets the requests that are being answered finish, closes the connection and
// returns when the robot is at rest. No callback is called afterwards.
//
// Any thread but those of the callbacks, for whose end it waits.
chiral_status chiral_server_shutdown(const struct chiral_server *server);

// Stops listening and closes the connection that there is, without waiting for anything: callbacks
// may still be called afterwards.
//
// Any thread, callbacks too; never waits.
chiral_status chiral_server_stop(const struct chiral_server *server);

// Shuts a server down, if it is not yet, and frees it. Does nothing to a null pointer.
//
// Any thread but those of the callbacks, while no other thread uses the server.
void chiral_server_free(struct chiral_server *server);

// What a client has counted so far.
//
// Any thread; never waits.
chiral_status chiral_client_get_stats(const struct chiral_client *client,
                                      struct chiral_client_stats *stats);

// What a server has counted of the policy that is connected; `CHIRAL_NOTHING` when there is none.
//
// Any thread; never waits.
chiral_status chiral_server_get_stats(const struct chiral_server *server,
                                      struct chiral_server_stats *stats);

// What a client has counted so far, as a table for a person. Valid until the thread asks for another
// table or event.
//
// Any thread; never waits.
const char *chiral_client_stats_text(const struct chiral_client *client);

// What a server has counted, as a table for a person; empty when no policy is connected. Valid until
// the thread asks for another table or event.
//
// Any thread; never waits.
const char *chiral_server_stats_text(const struct chiral_server *server);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* CHIRAL_H */
