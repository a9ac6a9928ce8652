// chiral for C++: a policy. See types.hpp.
#ifndef CHIRAL_CLIENT_HPP
#define CHIRAL_CLIENT_HPP

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <functional>
#include <type_traits>

#include "types.hpp"

namespace chiral {
#ifdef CHIRAL_NO_EIGEN
inline namespace plain {
#else
inline namespace eigen {
#endif

namespace detail {

/// So that rows in braces are rows, and never the members of an action.
template <class Rows>
using OnlyAction = std::enable_if_t<std::is_same_v<Rows, Action>>;

}  // namespace detail

/// Whom a client takes for its robot over TLS; the default is whoever has a certificate that the
/// operating system trusts. The files are PEM files.
struct ClientTls {
    /// The SHA-256 fingerprint of the robot's certificate, as `PolicyServer::fingerprint` gives it.
    std::string pin{};
    /// The authorities that are trusted, in the place of a pin.
    std::string authorities{};
    /// The client's own certificate and its key, for a robot that asks for them.
    std::string certificate{};
    std::string key{};

    /// Trusts the one certificate that has this fingerprint, for whatever name it is.
    static ClientTls pinned(std::string fingerprint) {
        ClientTls tls;
        tls.pin = std::move(fingerprint);
        return tls;
    }
    /// Trusts the authorities of a file; a robot's own certificate may be one. Its certificate must be
    /// for the host as it stands in the URI.
    static ClientTls trusting(std::string authorities) {
        ClientTls tls;
        tls.authorities = std::move(authorities);
        return tls;
    }
    /// Shows the robot a certificate of the client's.
    ClientTls& identity(std::string certificate_file, std::string key_file) {
        certificate = std::move(certificate_file);
        key = std::move(key_file);
        return *this;
    }
};

/// How a connection that was lost is made again.
struct Reconnect {
    /// The pause before the first try, in seconds; each is twice as long as the one before. 0: 0.1.
    double initial{0};
    /// How long the pause becomes, at most. 0: 5.
    double max{0};
    /// After how many seconds without a connection it is given up. 0: never.
    double give_up_after{0};
    /// Whether `get_metadata`, `get_obs` and `next_obs` wait for the connection, and chunks that were
    /// decided before it was lost are discarded; otherwise they throw `Interrupted`, as what moves the
    /// robot does in any case.
    bool hold_calls{false};
};

/// Something that has happened to a client's connection.
struct ConnectionEvent {
    enum class Kind {
        /// It was lost, and is being made again. What was queued and planned is dropped.
        Lost = CHIRAL_CONNECTION_LOST,
        /// It was made again.
        Restored = CHIRAL_CONNECTION_RESTORED,
        /// The robot that is there now declares another contract: it may be another robot.
        ContractChanged = CHIRAL_CONTRACT_CHANGED,
        /// It has ended, for good.
        Ended = CHIRAL_CONNECTION_ENDED,
    };

    Kind kind{Kind::Lost};
    /// One line for a person: what has happened, and why.
    std::string text{};
    /// How often it was tried to make it again, and for how many seconds there was none; of `Restored`.
    std::uint32_t attempts{0};
    double down_for{0};
};

/// Settings of a client; the defaults suit most.
struct ClientOptions {
    /// How long `connect` waits for a robot that is not up yet, or has another policy, in seconds. 0:
    /// for ever.
    double connect_timeout{0};
    /// How long each request waits for its answer, in seconds. 0: metadata and observations 10, resets
    /// and steps 120.
    double request_timeout{0};
    /// An action that has waited for longer than this is not sent any more, in seconds. 0: each is.
    double max_age{0};
    /// How many actions may wait in the queue. 0: 1024.
    std::size_t queue_capacity{0};
    /// How many requests of the observation stream may be under way. 0: 1.
    std::size_t stream_window{0};
    /// Header fields of the WebSocket's request.
    std::vector<std::pair<std::string, std::string>> headers{};
    /// The token that the robot asks for.
    std::optional<Token> token{};
    /// Whom to take for the robot, for a URI of `wss://`. With it a URI without TLS is an error.
    std::optional<ClientTls> tls{};
    /// Has a connection that was lost made again. The observation stream and the dispatch go on;
    /// requests in flight fail; nothing that was queued or planned before is ever sent.
    std::optional<Reconnect> reconnect{};
    /// Called when the connection is lost, made again, or has ended, by a thread of chiral's: it must not
    /// wait. What it throws is logged.
    std::function<void(const ConnectionEvent&)> on_connection{};
    /// Whether `connect` says on the standard error, once, that it waits, and for what.
    bool print_waiting{true};
};

/// Where a chunk came to lie in the plan.
struct Placement {
    std::uint64_t chunk{0};
    /// The step of row 0.
    std::uint64_t base{0};
    /// The rows, from row 0 on, whose steps had passed already.
    std::size_t skipped{0};
    std::size_t kept{0};
    std::size_t blended{0};
    std::size_t replaced{0};
    /// The first step at which a row of the chunk will be sent.
    std::optional<std::uint64_t> first{};
    /// How many steps were sent since the observation was taken: the least and the most.
    std::optional<std::pair<std::uint64_t, std::uint64_t>> delay{};
    bool late{false};
    bool discarded{false};
};

/// How a chunk is placed in the plan: anchored at the observation, and replacing the old plan, unless
/// said otherwise.
class FollowOptions {
public:
    FollowOptions() : options_(detail::sized<chiral_follow_options>()) {}

    /// Row 0 is the next to be sent, however long the policy took.
    FollowOptions& next() { return anchor(CHIRAL_ANCHOR_NEXT); }
    /// Row 0 is for this step.
    FollowOptions& at(std::uint64_t step) {
        options_.anchor_step = step;
        return anchor(CHIRAL_ANCHOR_AT);
    }
    /// Row 0 follows the last row of the plan.
    FollowOptions& end() { return anchor(CHIRAL_ANCHOR_END); }

    /// So many of the rows that would be sent next stay.
    FollowOptions& keep_first(std::size_t rows) { return merge(CHIRAL_MERGE_KEEP_FIRST, rows, 0); }
    /// All rows that are planned stay.
    FollowOptions& append() { return merge(CHIRAL_MERGE_APPEND, 0, 0); }
    /// The mean of old and new, the new with this weight, from 0 to 1.
    FollowOptions& blend(double weight) { return merge(CHIRAL_MERGE_BLEND, 0, weight); }
    /// From old to new over so many steps.
    FollowOptions& crossfade(std::size_t steps) { return merge(CHIRAL_MERGE_CROSSFADE, steps, 0); }
    /// The mean of all plans for a step with the weights exp(-m * i), i = 0 for the oldest.
    FollowOptions& ensemble(double m) { return merge(CHIRAL_MERGE_ENSEMBLE, 0, m); }
    /// Averages only these dimensions; the others take the new value.
    FollowOptions& average_only(std::vector<std::size_t> dimensions) {
        averaged_ = std::move(dimensions);
        return *this;
    }
    /// A chunk whose delay is longer than so many steps is said to be late, and left out if `discard`.
    FollowOptions& max_delay(std::uint64_t steps, bool discard) {
        options_.max_delay = steps;
        options_.when_late = discard ? CHIRAL_LATE_DISCARD : CHIRAL_LATE_PLAY;
        return *this;
    }

    /// As chiral.h has it; valid for as long as these options.
    chiral_follow_options get() const {
        static const std::size_t none = 0;
        chiral_follow_options options = options_;
        if (averaged_) {
            options.averaged = averaged_->empty() ? &none : averaged_->data();
            options.averaged_count = averaged_->size();
        }
        return options;
    }

private:
    FollowOptions& anchor(std::int32_t anchor) {
        options_.anchor = anchor;
        return *this;
    }
    FollowOptions& merge(std::int32_t merge, std::size_t rows, double weight) {
        options_.merge = merge;
        options_.merge_rows = rows;
        options_.merge_weight = weight;
        return *this;
    }

    chiral_follow_options options_;
    std::optional<std::vector<std::size_t>> averaged_;
};

/// Consecutive rows of one chunk.
struct Span {
    std::uint64_t chunk{0};
    std::size_t row{0};
    std::size_t count{0};
};

/// What a policy that goes on with its own plan needs to know before it infers.
struct PlanContext {
    /// The first step that the robot had not executed when the observation was taken.
    std::uint64_t base{0};
    /// What is planned from that step on.
    std::vector<Span> spans{};
    /// How many steps were sent since: the least and the most.
    std::pair<std::uint64_t, std::uint64_t> delay{0, 0};
    /// How many steps will be sent, most likely, until a chunk inferred from it is placed.
    std::optional<std::uint64_t> expected_delay{};
};

/// What a client has counted; see chiral.h.
using ClientStats = chiral_client_stats;

/// A policy's connection to a robot.
///
/// Its calls may be made from many threads at once, but for `connect`, `close` from the destructor and
/// moving. `get_metadata`, `reset`, `get_obs`, `step`, `next_obs`, `plan_low` and `close` wait; the
/// others do not. All throw `Error`; `ConnectionClosed` when the connection has ended, `Timeout` when
/// no answer came, `ContractError` when the robot's contract does not allow an action, and `Interrupted`
/// while a connection that was lost is made again.
class PolicyClient {
public:
    explicit PolicyClient(std::string uri = "ws://localhost:8765", ClientOptions options = {})
        : uri_(std::move(uri)), options_(std::move(options)) {}

    /// A client that lives through a restart of its robot: a connection that is lost is made again, for as
    /// long as it takes, and what only looks waits for it. To be connected, as any other.
    static PolicyClient supervised(std::string uri, ClientOptions options = {}) {
        if (!options.reconnect) {
            options.reconnect.emplace();
        }
        options.reconnect->hold_calls = true;
        return PolicyClient(std::move(uri), std::move(options));
    }

    PolicyClient(PolicyClient&&) noexcept = default;
    PolicyClient& operator=(PolicyClient&& other) noexcept {
        if (this != &other) {
            client_.reset();  // before its hooks
            uri_ = std::move(other.uri_);
            options_ = std::move(other.options_);
            hooks_ = std::move(other.hooks_);
            client_ = std::move(other.client_);
        }
        return *this;
    }

    /// Connects, and waits for a robot that is not up yet. Does nothing when it is connected, or being
    /// connected again; connects again when the connection has ended.
    PolicyClient& connect() {
        if (client_ && chiral_client_state(client_.get()) != CHIRAL_DISCONNECTED) {
            return *this;
        }
        client_.reset();
        hooks_ = std::make_unique<Hooks>(options_);
        auto config = detail::sized<chiral_client_config>();
        config.connect_timeout = options_.connect_timeout;
        config.request_timeout = options_.request_timeout;
        config.max_age = options_.max_age;
        config.queue_capacity = options_.queue_capacity;
        config.stream_window = options_.stream_window;
        std::vector<const char*> headers;
        for (const auto& [name, value] : options_.headers) {
            headers.push_back(name.c_str());
            headers.push_back(value.c_str());
        }
        config.headers = headers.data();
        config.header_texts = headers.size();
        const auto token = options_.token ? options_.token->get() : detail::sized<chiral_token>();
        config.token = options_.token ? &token : nullptr;
        auto tls = detail::sized<chiral_client_tls>();
        if (options_.tls) {
            tls.pin = detail::text_or_null(options_.tls->pin);
            tls.authorities = detail::text_or_null(options_.tls->authorities);
            tls.certificate = detail::text_or_null(options_.tls->certificate);
            tls.key = detail::text_or_null(options_.tls->key);
            config.tls = &tls;
        }
        auto reconnect = detail::sized<chiral_reconnect>();
        if (options_.reconnect) {
            reconnect.initial = options_.reconnect->initial;
            reconnect.max = options_.reconnect->max;
            reconnect.give_up_after = options_.reconnect->give_up_after;
            reconnect.hold_calls = options_.reconnect->hold_calls;
            config.reconnect = &reconnect;
        }
        config.on_waiting = [](void* hooks, const char* text, double) {
            if (!static_cast<Hooks*>(hooks)->has_told.exchange(true)) {
                std::fprintf(stderr, "chiral: %s\n", text);
            }
        };
        if (hooks_->on_connection) {
            config.on_connection = [](void* hooks, const chiral_connection_event* event) {
                return detail::run([&] { static_cast<Hooks*>(hooks)->on_connection(read(*event)); });
            };
        }
        config.user = hooks_.get();
        chiral_client* client = nullptr;
        detail::check(chiral_client_connect(uri_.c_str(), &config, &client));
        client_.reset(client);
        return *this;
    }

    /// Closes the connection and waits until the robot knows. Does nothing when there is none.
    void close() {
        if (client_) {
            detail::check(chiral_client_close(client_.get()));
        }
    }

    /// Whether the connection is open.
    bool is_connected() const noexcept {
        return client_ && chiral_client_state(client_.get()) == CHIRAL_OK;
    }

    /// The next event of the connection that this has not returned yet; waits for one, and returns none
    /// when none has come in time, or the connection has ended and that was returned. For who prefers it
    /// to `ClientOptions::on_connection`.
    std::optional<ConnectionEvent> next_connection_event(std::chrono::duration<double> timeout) {
        auto event = detail::sized<chiral_connection_event>();
        const double seconds = std::max(0.0, detail::to_seconds(timeout));
        if (detail::check(chiral_client_next_event(get(), seconds, &event)) == CHIRAL_NOTHING) {
            return std::nullopt;
        }
        return read(event);
    }

    /// Whether nothing has come from the robot for 2 s although something is waited for.
    bool is_silent() const noexcept { return client_ && chiral_client_is_silent(client_.get()); }

    const std::string& uri() const noexcept { return uri_; }

    // ---- asking -----------------------------------------------------------------------------------

    /// What the robot says of itself. What is not a text is given as JSON.
    InfoMap get_metadata() { return detail::read_map(metadata().get()); }

    /// The same, all of it as JSON.
    std::string get_metadata_json() {
        const auto map = metadata();
        const char* json = chiral_map_json(map.get());
        if (!json) {
            throw Error(CHIRAL_MISUSE, chiral_last_error());
        }
        return json;
    }

    /// Resets the robot, and waits until it is done.
    std::pair<Observation, InfoMap> reset() {
        chiral_observation* observation = nullptr;
        chiral_map* info = nullptr;
        detail::check(chiral_client_reset(get(), &observation, &info));
        const detail::Handle<chiral_map> owned(info);
        auto obs = detail::read_observation(observation);
        return {std::move(obs), detail::read_map(info)};
    }

    /// The legacy step: sends an action of `N` rows of `D` values and waits for what comes of it.
    StepResult step(const Action& action) {
        check_shape(action);
        return step(action.data.data(), action.N, action.D);
    }

    /// The same, of one row.
    StepResult step(const std::vector<float>& action) {
        return step(action.data(), 1, static_cast<int>(action.size()));
    }

    StepResult step(const float* values, int rows, int width) {
        auto step = detail::sized<chiral_step>();
        detail::check(chiral_client_step(get(), values, static_cast<std::size_t>(rows),
                                         static_cast<std::size_t>(width), &step));
        const detail::Handle<chiral_map> info(step.info);
        StepResult result;
        result.obs = detail::read_observation(step.observation);
        result.reward = static_cast<float>(step.reward);
        result.terminated = step.terminated;
        result.truncated = step.truncated;
        result.info = detail::read_map(step.info);
        return result;
    }

    /// An observation made for this call.
    Observation get_obs() {
        chiral_observation* observation = nullptr;
        detail::check(chiral_client_get(get(), &observation));
        return detail::read_observation(observation);
    }

    // ---- looking all the time ---------------------------------------------------------------------

    /// Asks for observations at a fixed rate from now on.
    void start_obs_stream(double hz = 30) { detail::check(chiral_client_stream(get(), rate(hz))); }
    void stop_obs_stream() { detail::check(chiral_client_stream(get(), 0)); }

    /// The newest observation that any answer brought; none before the first. Never waits.
    std::optional<Observation> latest_obs() {
        chiral_observation* observation = nullptr;
        return read(chiral_client_latest(get(), &observation), observation);
    }

    /// The newest observation that this has not returned yet; waits for one, and returns none when
    /// none has come in time.
    std::optional<Observation> next_obs(std::chrono::duration<double> timeout) {
        chiral_observation* observation = nullptr;
        const double seconds = std::max(0.0, detail::to_seconds(timeout));
        return read(chiral_client_next(get(), seconds, &observation), observation);
    }

    /// The same, waiting for as long as the connection lasts.
    Observation next_obs() {
        chiral_observation* observation = nullptr;
        detail::check(chiral_client_next(get(), -1, &observation));
        return detail::read_observation(observation);
    }

    // ---- acting -----------------------------------------------------------------------------------

    /// Sends an action at once.
    void send_action(const std::vector<float>& action) { send_action(action.data(), action.size()); }
    void send_action(const float* values, std::size_t width) {
        detail::check(chiral_client_send(get(), nullptr, values, width));
    }

    /// Appends an action to the queue, of which the dispatch sends one a tick.
    void put_action(const std::vector<float>& action) { put_action(action.data(), action.size()); }
    void put_action(const float* values, std::size_t width) {
        detail::check(chiral_client_put(get(), nullptr, values, 1, width));
    }

    /// Appends the rows of a plan, made on an observation.
    void put_chunk(const Observation& obs, const std::vector<std::vector<float>>& rows) {
        const auto [values, width] = flatten(rows);
        put_chunk(obs, values.data(), rows.size(), width);
    }
    template <class Rows, class = detail::OnlyAction<Rows>>
    void put_chunk(const Observation& obs, const Rows& rows) {
        check_shape(rows);
        put_chunk(obs, rows.data.data(), static_cast<std::size_t>(rows.N), static_cast<std::size_t>(rows.D));
    }
    void put_chunk(const Observation& obs, const float* values, std::size_t rows, std::size_t width) {
        detail::check(chiral_client_put(get(), handle(obs), values, rows, width));
    }

    /// Puts a plan in the place of what is left of the old one, its first row to be sent next; returns
    /// how many old rows were dropped.
    std::size_t replace_actions(const Observation& obs, const std::vector<std::vector<float>>& rows) {
        return follow(obs, rows, FollowOptions().next()).replaced;
    }
    std::size_t replace_actions(const Observation& obs, const float* values, std::size_t rows,
                                std::size_t width) {
        return follow(obs, values, rows, width, FollowOptions().next()).replaced;
    }

    /// Puts a chunk where it belongs: row `i` is for the `i`-th step after the observation was taken;
    /// rows whose step has passed are skipped, the others replace the old plan.
    Placement follow(const Observation& obs, const std::vector<std::vector<float>>& rows,
                     const FollowOptions& options = {}) {
        const auto [values, width] = flatten(rows);
        return follow(obs, values.data(), rows.size(), width, options);
    }
    template <class Rows, class = detail::OnlyAction<Rows>>
    Placement follow(const Observation& obs, const Rows& rows, const FollowOptions& options = {}) {
        check_shape(rows);
        return follow(obs, rows.data.data(), static_cast<std::size_t>(rows.N),
                      static_cast<std::size_t>(rows.D), options);
    }
    Placement follow(const Observation& obs, const float* values, std::size_t rows, std::size_t width,
                     const FollowOptions& options = {}) {
        const chiral_follow_options how = options.get();
        auto placed = detail::sized<chiral_placement>();
        detail::check(chiral_client_follow(get(), handle(obs), values, rows, width, &how, &placed));
        Placement placement;
        placement.chunk = placed.chunk;
        placement.base = placed.base;
        placement.skipped = placed.skipped;
        placement.kept = placed.kept;
        placement.blended = placed.blended;
        placement.replaced = placed.replaced;
        if (placed.has_first) {
            placement.first = placed.first;
        }
        if (placed.has_delay) {
            placement.delay = {placed.delay_min, placed.delay_max};
        }
        placement.late = placed.late;
        placement.discarded = placed.discarded;
        return placement;
    }

    /// What a policy needs to know before it infers from an observation.
    PlanContext plan_context(const Observation& obs) {
        auto found = detail::sized<chiral_plan_context>();
        std::vector<std::uint64_t> numbers(3 * 16);
        for (;;) {
            detail::check(chiral_client_plan_context(get(), handle(obs), &found, numbers.data(),
                                                     numbers.size() / 3));
            if (found.spans <= numbers.size() / 3) {
                break;
            }
            numbers.resize(3 * found.spans);
        }
        PlanContext context;
        context.base = found.base;
        context.delay = {found.delay_min, found.delay_max};
        if (found.has_expected_delay) {
            context.expected_delay = found.expected_delay;
        }
        for (std::size_t i = 0; i < found.spans; ++i) {
            const std::uint64_t* span = &numbers[3 * i];
            context.spans.push_back({span[0], static_cast<std::size_t>(span[1]),
                                     static_cast<std::size_t>(span[2])});
        }
        return context;
    }

    /// Sets at how many rows of the plan, or fewer, it is time for the next chunk.
    void refill_at(std::size_t rows) { detail::check(chiral_client_refill_at(get(), rows)); }

    /// Waits until that is so; false when more rows are left in time. Without a timeout it waits for as
    /// long as the connection lasts.
    bool plan_low(std::optional<std::chrono::duration<double>> timeout = std::nullopt) {
        const double seconds = timeout ? std::max(0.0, detail::to_seconds(*timeout)) : -1;
        return detail::check(chiral_client_plan_low(get(), seconds)) == CHIRAL_OK;
    }

    /// Drops the actions that have not left yet, and returns how many there were.
    std::size_t clear_actions() { return chiral_client_clear(get()); }
    std::size_t queued_actions() const { return chiral_client_queued(get()); }

    /// Sends one queued action a tick from now on.
    void start_action_dispatch(double hz = 10) {
        detail::check(chiral_client_dispatch(get(), rate(hz)));
    }
    /// Stops that; the actions stay in the queue.
    void stop_action_dispatch() { detail::check(chiral_client_dispatch(get(), 0)); }

    /// What is sent at a tick that finds no row: `CHIRAL_SEND_NOTHING`, `CHIRAL_REPEAT`,
    /// `CHIRAL_HOLD` with the action, or `CHIRAL_DECLARED`.
    void set_starved(chiral_starved starved, const std::vector<float>& hold = {}) {
        detail::check(chiral_client_set_starved(get(), starved, hold.data(), hold.size()));
    }

    /// Sends so many actions to a row, on the straight line between the rows.
    void interpolate(std::uint32_t points) { detail::check(chiral_client_interpolate(get(), points)); }

    /// Says what the robot's actions are, for a robot whose metadata does not.
    void declare_actions(ActionKind kind, const std::vector<float>& hold = {}) {
        detail::check(chiral_client_declare_actions(get(), static_cast<std::int32_t>(kind),
                                                    hold.empty() ? nullptr : hold.data(), hold.size()));
    }

    // ---- the robot's contract ---------------------------------------------------------------------

    /// The robot's contract, as its metadata said when they last came: call `get_metadata` first. Of a
    /// robot that declares none it allows everything. Each action that is put or sent is checked by it,
    /// or clamped.
    ActionSpec action_spec() const {
        auto spec = detail::sized<chiral_action_spec>();
        const auto known = contract();
        detail::check(chiral_contract_spec(known.get(), &spec));
        return ActionSpec::from(spec);
    }

    /// The same, in a few lines for a person.
    std::string action_spec_text() const { return chiral_contract_text(contract().get()); }

    /// How the robot says that this policy keeps to it: whether it is armed, and what came on time, was
    /// refused or clamped; in the latest observation that said it.
    std::optional<ContractStatus> contract_status() const {
        return detail::contract_status<chiral_client>(chiral_client_contract_status, get());
    }

    // ---- what was counted -------------------------------------------------------------------------

    ClientStats stats() const {
        auto stats = detail::sized<chiral_client_stats>();
        detail::check(chiral_client_get_stats(get(), &stats));
        return stats;
    }

    /// The same and more, as a table for a person.
    std::string stats_text() const { return chiral_client_stats_text(get()); }

private:
    chiral_client* get() const {
        if (!client_) {
            throw Error(CHIRAL_MISUSE, "the client is not connected: call connect() first");
        }
        return client_.get();
    }

    /// What chiral's threads call, at one place for as long as the client is there.
    struct Hooks {
        explicit Hooks(const ClientOptions& options)
            : has_told(!options.print_waiting), on_connection(options.on_connection) {}

        std::atomic<bool> has_told;
        std::function<void(const ConnectionEvent&)> on_connection;
    };

    static ConnectionEvent read(const chiral_connection_event& event) {
        return {static_cast<ConnectionEvent::Kind>(event.kind), event.text, event.attempts, event.down_for};
    }

    detail::Handle<chiral_contract> contract() const {
        chiral_contract* contract = nullptr;
        detail::check(chiral_client_contract(get(), &contract));
        return detail::Handle<chiral_contract>(contract);
    }

    detail::Handle<chiral_map> metadata() {
        chiral_map* map = nullptr;
        detail::check(chiral_client_metadata(get(), &map));
        return detail::Handle<chiral_map>(map);
    }

    // By reference: the order in which arguments are evaluated is anybody's.
    static std::optional<Observation> read(chiral_status status, chiral_observation*& observation) {
        if (detail::check(status) == CHIRAL_NOTHING) {
            return std::nullopt;
        }
        return detail::read_observation(observation);
    }

    static const chiral_observation* handle(const Observation& obs) {
        if (!obs.handle) {
            throw Error(CHIRAL_MISUSE, "the observation did not come from a robot: give one that did");
        }
        return obs.handle.get();
    }

    // In chiral.h zero stops.
    static double rate(double hz) {
        if (hz == 0) {
            throw Error(CHIRAL_MISUSE, "0 Hz is no rate: give one above, or stop");
        }
        return hz;
    }

    static void check_shape(const Action& action) {
        // Of two that are not negative the product fits.
        if (action.N < 0 || action.D < 0 ||
            static_cast<std::uint64_t>(action.N) * static_cast<std::uint64_t>(action.D) !=
                action.data.size()) {
            throw Error(CHIRAL_MISUSE, "the action has " + std::to_string(action.data.size()) +
                                           " values, expected N rows of D: N is " +
                                           std::to_string(action.N) + ", D is " +
                                           std::to_string(action.D));
        }
    }

    static std::pair<std::vector<float>, std::size_t> flatten(
        const std::vector<std::vector<float>>& rows) {
        const std::size_t width = rows.empty() ? 0 : rows.front().size();
        std::vector<float> values;
        values.reserve(rows.size() * width);
        for (const auto& row : rows) {
            if (row.size() != width) {
                throw Error(CHIRAL_MISUSE, "a row has " + std::to_string(row.size()) +
                                               " values, expected " + std::to_string(width) +
                                               " as the first one");
            }
            values.insert(values.end(), row.begin(), row.end());
        }
        return {std::move(values), width};
    }

    std::string uri_;
    ClientOptions options_;
    // Before the client, whose threads call them.
    std::unique_ptr<Hooks> hooks_;
    detail::Handle<chiral_client> client_;
};

}  // namespace plain or eigen
}  // namespace chiral

#endif  // CHIRAL_CLIENT_HPP
