// chiral for C++: a robot. See types.hpp.
#ifndef CHIRAL_SERVER_HPP
#define CHIRAL_SERVER_HPP

#include <atomic>
#include <mutex>

#include "types.hpp"

namespace chiral {
#ifdef CHIRAL_NO_EIGEN
inline namespace plain {
#else
inline namespace eigen {
#endif

/// What becomes of actions that come faster than the robot takes them.
struct ActionQueue {
    std::int32_t kind{CHIRAL_QUEUE_LATEST};
    double limit{0};

    /// A newer action replaces one that the robot was not given yet. The default.
    static ActionQueue latest() { return {}; }
    /// In order; what has waited for longer is dropped.
    static ActionQueue max_age(std::chrono::duration<double> age) {
        return {CHIRAL_QUEUE_MAX_AGE, detail::to_seconds(age)};
    }
    /// Every action, in order; a policy that is too fast is held up when so many wait.
    static ActionQueue in_order(std::size_t capacity) {
        return {CHIRAL_QUEUE_IN_ORDER, static_cast<double>(capacity)};
    }
};

/// What a server needs to speak TLS. The files are PEM files.
struct ServerTls {
    std::string certificate{};
    std::string key{};
    /// The authorities of which one has to have signed a policy's certificate; empty lets in policies
    /// without one.
    std::string client_authorities{};
};

/// Settings of a server; the defaults are those of the existing one.
struct ServerOptions {
    /// The contract: what an action must be.
    ActionSpec action{};
    /// After so many seconds without an action `on_watchdog` is called. 0: as the contract's rate says;
    /// without one half a second for a robot that pulls, never for one that is called. Negative: never.
    double watchdog{0};
    /// How old, in seconds, the observation may be on which an action was decided. 0: 5. Negative: as
    /// old as it likes.
    double max_obs_age{0};
    ActionQueue action_queue{};
    /// Whether the newest policy gets the robot, and the one before is sent away.
    bool take_over{false};
    /// Whether a robot that pulls is asked for observations too.
    bool pull_observations{false};
    /// The token that a policy has to show. Only over WebSocket.
    std::optional<Token> token{};
    /// Speaks TLS, and nothing else: policies connect with `wss://`.
    std::optional<ServerTls> tls{};
};

/// What a camera publishes together: any of image, depth map, K and T, and the time of capture. What is
/// not set stays as it was. Image and depth map are copied by `publish`.
class CameraFrame {
public:
    CameraFrame() : frame_(detail::sized<chiral_frame>()) {}

    CameraFrame& image(const void* data, std::size_t bytes) {
        frame_.image = data;
        frame_.image_len = bytes;
        return *this;
    }
    CameraFrame& image(const std::vector<std::uint8_t>& bytes) { return image(bytes.data(), bytes.size()); }
    CameraFrame& depth(const void* data, std::size_t bytes) {
        frame_.depth = data;
        frame_.depth_len = bytes;
        return *this;
    }
    CameraFrame& depth(const std::vector<float>& metres) {
        return depth(metres.data(), metres.size() * sizeof(float));
    }
    CameraFrame& intrinsics(const Matrix3d& K) {
        detail::to_rows<3>(K, intrinsics_.data());
        has_intrinsics_ = true;
        return *this;
    }
    CameraFrame& extrinsics(const Matrix4d& T) {
        detail::to_rows<4>(T, extrinsics_.data());
        has_extrinsics_ = true;
        return *this;
    }
    /// In seconds, as `chiral::now()` gives them; otherwise it is the time of `publish`.
    CameraFrame& captured_at(double seconds) {
        frame_.captured_at = seconds;
        return *this;
    }

    /// As chiral.h has it; valid for as long as this frame and what it was given.
    chiral_frame get() const {
        chiral_frame frame = frame_;
        frame.intrinsics = has_intrinsics_ ? intrinsics_.data() : nullptr;
        frame.extrinsics = has_extrinsics_ ? extrinsics_.data() : nullptr;
        return frame;
    }

private:
    chiral_frame frame_;
    std::array<double, 9> intrinsics_{};
    std::array<double, 16> extrinsics_{};
    bool has_intrinsics_{false};
    bool has_extrinsics_{false};
};

/// What a server has counted of the policy that is connected; see chiral.h.
using ServerStats = chiral_server_stats;

/// What a policy wants of a robot that pulls.
struct Command {
    enum class Kind {
        /// Apply `values` now.
        Action = CHIRAL_COMMAND_ACTION,
        /// Reset, and answer with `Commands::reply_reset`.
        Reset = CHIRAL_COMMAND_RESET,
        /// Apply `values`, and answer with `Commands::reply_step`.
        Step = CHIRAL_COMMAND_STEP,
        /// Make an observation, and answer with `Commands::reply_observation`.
        Observe = CHIRAL_COMMAND_OBSERVE,
        /// Hold still.
        Hold = CHIRAL_COMMAND_HOLD,
    };

    /// Why to hold.
    enum class Reason {
        /// It is another command.
        None = 0,
        /// No action has come for `silent_for` seconds. The next one moves the robot again.
        Silent = CHIRAL_HOLD_SILENT,
        /// The robot is stopped: no action comes until it is armed again.
        Stopped = CHIRAL_HOLD_STOPPED,
        /// The policy has gone.
        Disconnected = CHIRAL_HOLD_DISCONNECTED,
    };

    Kind kind{Kind::Hold};
    /// As many as the action has; as many rows as `rows` says.
    std::vector<float> values{};
    std::size_t rows{1};
    /// Of a hold because no action came, or a stop for that: for how many seconds.
    double silent_for{0};
    Reason reason{Reason::None};
    /// Whether `values` were clamped to what the robot's contract allows.
    bool clamped{false};
};

/// The commands of a robot's policies, for a robot that pulls them in a loop of its own; made by
/// `PolicyServer::pull`. One thread at a time.
///
/// No call waits for the network, nor for a lock that one of chiral's threads would hold across a
/// system call that can wait. `try_next_action`, `must_hold` and `connected` allocate nothing. They
/// throw only what the program does wrong, or the policy where the action is not declared.
class Commands {
public:
    /// The next action, if there is one: writes it to `out` and returns true. Resets, steps, and
    /// requests for observations are answered with a snapshot of the sensors. An action of another
    /// width than this throws; declare `ServerOptions::action`, and none comes.
    bool try_next_action(float* out, std::size_t width) {
        return detail::check(chiral_commands_action(commands_.get(), out, width)) == CHIRAL_OK;
    }

    /// The same, into anything that has `data()` and `size()`: `std::array<float, 7>`,
    /// `std::vector<float>`, a vector of Eigen.
    template <class Floats>
    auto try_next_action(Floats& out) -> decltype(static_cast<float*>(out.data()), bool()) {
        return try_next_action(out.data(), static_cast<std::size_t>(out.size()));
    }

    /// The next command of any kind, if there is one; for a loop that has something to do on a reset.
    bool try_next(Command& command) {
        auto next = detail::sized<chiral_command>();
        if (detail::check(chiral_commands_next(commands_.get(), &next, buffer_.data(),
                                               buffer_.size())) == CHIRAL_NOTHING) {
            return false;
        }
        if (next.count > buffer_.size()) {
            throw Error(CHIRAL_MISUSE, "an action of " + std::to_string(next.count) +
                                           " values came, expected at most " +
                                           std::to_string(buffer_.size()) +
                                           ": declare the robot's action");
        }
        command.kind = static_cast<Command::Kind>(next.kind);
        command.values.assign(buffer_.begin(),
                              buffer_.begin() + static_cast<std::ptrdiff_t>(next.count));
        command.rows = next.rows;
        command.silent_for = next.silent_for;
        command.reason = static_cast<Command::Reason>(next.hold);
        command.clamped = next.clamped;
        return true;
    }

    /// Answers the oldest reset with a snapshot of the sensors.
    void reply_reset(const InfoMap& info = {}) { answer_reset(nullptr, info); }
    /// Answers it with an observation of one's own.
    void reply_reset_with(const Observation& obs, const InfoMap& info = {}) { answer_reset(&obs, info); }

    /// Answers the oldest step with a snapshot of the sensors, in the place of `result.obs` if that has
    /// no cameras and no proprioception.
    void reply_step(const StepResult& result = {}) {
        auto step = detail::sized<chiral_step>();
        const detail::Handle<chiral_map> info(chiral_map_new());
        detail::write_map(result.info, info.get());
        step.info = info.get();
        step.reward = static_cast<double>(result.reward);
        step.terminated = result.terminated;
        step.truncated = result.truncated;
        if (!result.obs.cameras.empty() || !result.obs.proprios.empty()) {
            step.observation = detail::write_observation(result.obs).release();
        }
        detail::check(chiral_commands_reply_step(commands_.get(), &step));
    }

    /// Answers the oldest request for an observation with a snapshot of the sensors.
    void reply_observation() { detail::check(chiral_commands_reply_observation(commands_.get(), nullptr)); }
    /// Answers it with an observation of one's own.
    void reply_observation(const Observation& obs) {
        detail::check(chiral_commands_reply_observation(commands_.get(),
                                                        detail::write_observation(obs).release()));
    }

    /// Whether the robot is to hold still: it has never had an action, or was told to since.
    bool must_hold() const noexcept { return chiral_commands_must_hold(commands_.get()); }

    /// Whether a policy is connected, as far as the commands that were pulled tell.
    bool connected() const noexcept { return chiral_commands_is_connected(commands_.get()); }

    /// As those of `PolicyServer`, for the loop's own use: false when no policy is connected, as far as
    /// the commands that were pulled tell.
    bool arm() { return detail::check(chiral_commands_arm(commands_.get())) == CHIRAL_OK; }
    bool stop_motion() { return detail::check(chiral_commands_stop_motion(commands_.get())) == CHIRAL_OK; }

    /// Has the robot describe itself so from now on.
    void set_metadata(const InfoMap& metadata) {
        const detail::Handle<chiral_map> map(chiral_map_new());
        detail::write_map(metadata, map.get());
        detail::check(chiral_commands_set_metadata(commands_.get(), map.get()));
    }

private:
    friend class PolicyServer;

    Commands(std::shared_ptr<chiral_server> server, chiral_commands* commands)
        : server_(std::move(server)), commands_(commands), buffer_(4096) {}

    void answer_reset(const Observation* obs, const InfoMap& info) {
        const detail::Handle<chiral_map> map(chiral_map_new());
        detail::write_map(info, map.get());
        auto written = obs ? detail::write_observation(*obs) : nullptr;
        detail::check(chiral_commands_reply_reset(commands_.get(), written.release(), map.get()));
    }

    // Behind the commands in time: they are freed first.
    std::shared_ptr<chiral_server> server_;
    detail::Handle<chiral_commands> commands_;
    std::vector<float> buffer_;
};

/// A robot: derive from it, write to its sensors from any thread, and `run` it; or leave it as it is,
/// and `pull` its commands in a loop of your own.
///
/// What moves the robot (`apply_action`, `step`, `reset`, `on_watchdog`, `on_stop`, `on_disconnect`) is
/// called one at a time, by threads of chiral's; `get_metadata` and `get_obs` beside that. What they throw ends
/// the connection, and the policy is told the text; the server takes the next policy.
///
/// A derived class that was started calls `stop()` in its own destructor: until then chiral's threads
/// call its functions.
class PolicyServer {
public:
    /// `host` may also be `unix:/path` or, built with Zenoh, `tcp/host:port` or `zenoh:…`; `port` is
    /// then not looked at. Port 0 lets the system choose; `uri` says which.
    ///
    /// Without `ServerOptions::token`, or TLS that asks for certificates, whoever reaches the address can
    /// drive the robot: `127.0.0.1` is for this computer alone.
    explicit PolicyServer(std::vector<CameraConfig> configs, std::vector<ProprioConfig> proprios = {},
                          std::string host = "0.0.0.0", int port = 8765, ServerOptions options = {})
        : configs_(std::move(configs)),
          proprio_configs_(std::move(proprios)),
          host_(std::move(host)),
          port_(port),
          options_(std::move(options)) {
        declare();
    }

    PolicyServer(const PolicyServer&) = delete;
    PolicyServer& operator=(const PolicyServer&) = delete;

    virtual ~PolicyServer() {
        if (const auto server = current()) {
            chiral_server_shutdown(server.get());
        }
    }

    // ---- what a robot does ------------------------------------------------------------------------

    /// Describes the robot. A value that is not a text is given by `chiral::json`.
    virtual InfoMap get_metadata() { return {}; }

    /// Resets the robot. Default: nothing moves.
    virtual std::pair<Observation, InfoMap> reset() { return {make_obs(now()), {}}; }

    /// The legacy step. Default: applies each row, and returns an observation.
    virtual StepResult step(const Action& action) {
        const Default guard(in_default_);
        for (int row = 0; row < action.N; ++row) {
            const auto begin = action.data.begin() + static_cast<std::ptrdiff_t>(row) * action.D;
            apply_action({{begin, begin + action.D}, 1, action.D});
        }
        StepResult result;
        result.obs = make_obs(now());
        return result;
    }

    /// Applies an action of a policy that streams. Default: a robot that has only `step` steps.
    virtual void apply_action(const Action& action) {
        if (in_default_) {
            throw Error(CHIRAL_MISUSE, "the robot does nothing with an action: override apply_action");
        }
        step(action);
    }

    /// Makes an observation. Default: a snapshot of the sensors. Override it, for example, to wait for
    /// a fresh image with `wait_image`.
    virtual Observation get_obs() { return make_obs(now()); }

    /// A policy has connected; nothing else is asked before this has returned.
    virtual void on_connect() {}

    /// No action has come for so many seconds: hold still.
    virtual void on_watchdog(double silent_for) { (void)silent_for; }

    /// The robot is stopped, and why: hold still. No action comes until it is armed again, by what its
    /// contract says or by `arm`. Default: `on_watchdog`.
    virtual void on_stop(const std::string& reason, double silent_for) {
        (void)reason;
        on_watchdog(silent_for);
    }

    /// The policy has gone, and why: hold still.
    virtual void on_disconnect(const std::string& reason) { (void)reason; }

    /// So many actions came that were not applied, and will not be, and why.
    virtual void on_actions_dropped(std::uint64_t count, const std::string& reason) {
        (void)count;
        (void)reason;
    }

    // ---- serving ----------------------------------------------------------------------------------

    /// Serves one policy after the other, until `stop`, which is to be called from another thread.
    void run() {
        const auto server = bind();
        const chiral_robot robot = callbacks();
        detail::check(chiral_server_serve(server.get(), sensors_.get(), &robot));
        (void)calls_.load(std::memory_order_acquire);
    }

    /// As `run`, but in threads of chiral's, and without waiting.
    void start() {
        const auto server = bind();
        const chiral_robot robot = callbacks();
        detail::check(chiral_server_start(server.get(), sensors_.get(), &robot));
    }

    /// Serves a robot whose own loop pulls its commands, without waiting; none of the functions above
    /// is called.
    Commands pull(const InfoMap& metadata = {}) {
        const auto server = bind();
        const detail::Handle<chiral_map> map(chiral_map_new());
        detail::write_map(metadata, map.get());
        chiral_commands* commands = nullptr;
        detail::check(chiral_server_pull(server.get(), sensors_.get(), map.get(), &commands));
        return {server, commands};
    }

    /// Stops serving, and returns when the robot is at rest: none of its functions is called any more.
    /// Not from within one of them.
    void stop() {
        if (const auto server = current()) {
            detail::check(chiral_server_shutdown(server.get()));
            (void)calls_.load(std::memory_order_acquire);
        }
    }

    /// Has `run` return soon, without waiting for it; also from within a function of the robot.
    void request_stop() {
        if (const auto server = current()) {
            detail::check(chiral_server_stop(server.get()));
        }
    }

    /// Lets the actions of the policy that is connected move the robot, after a stop too. False when there
    /// is none; the next one is not armed by it.
    bool arm() {
        const auto server = current();
        return server && detail::check(chiral_server_arm(server.get())) == CHIRAL_OK;
    }

    /// Stops the robot: what waits is dropped, `on_stop` is called, and no action comes until it is armed
    /// again. The policy stays connected; false when there is none. It is no emergency stop: that one must
    /// work without this program.
    bool stop_motion() {
        const auto server = current();
        return server && detail::check(chiral_server_stop_motion(server.get())) == CHIRAL_OK;
    }

    /// How the policy that is connected keeps to the contract; none when there is none.
    std::optional<ContractStatus> contract_status() const {
        const auto server = current();
        return server ? detail::contract_status<chiral_server>(chiral_server_contract_status, server.get())
                      : std::nullopt;
    }

    /// The SHA-256 fingerprint of the server's certificate, for `ClientTls::pinned`; empty without TLS, and
    /// before the server is started.
    std::string fingerprint() const {
        const auto server = current();
        const char* found = server ? chiral_server_fingerprint(server.get()) : nullptr;
        return found ? found : "";
    }

    /// With which URI a policy on the same computer connects; empty before the server is started.
    std::string uri() const {
        const auto server = current();
        return server ? chiral_server_uri(server.get()) : "";
    }

    /// What was counted of the policy that is connected; none when there is none.
    std::optional<ServerStats> stats() const {
        const auto server = current();
        auto stats = detail::sized<chiral_server_stats>();
        if (!server || detail::check(chiral_server_get_stats(server.get(), &stats)) == CHIRAL_NOTHING) {
            return std::nullopt;
        }
        return stats;
    }

    /// The same and more, as a table for a person; empty when no policy is connected.
    std::string stats_text() const {
        const auto server = current();
        return server ? chiral_server_stats_text(server.get()) : "";
    }

    // ---- sensors: any thread ----------------------------------------------------------------------

    /// Publishes camera `i`'s image, row-major: so many bytes. It counts as captured now.
    void update_image(std::size_t i, const std::uint8_t* data, std::size_t bytes) {
        publish(i, CameraFrame().image(data, bytes));
    }

    /// Publishes camera `i`'s depth map, row-major, in so many bytes.
    void update_depth(std::size_t i, const std::uint8_t* data, std::size_t bytes) {
        publish(i, CameraFrame().depth(data, bytes));
    }

    /// The same, of so many values; their number of bytes is understood as well.
    void update_depth(std::size_t i, const float* metres, std::size_t count) {
        const CameraConfig& config = configs_.at(i);
        const std::size_t pixels =
            static_cast<std::size_t>(config.height) * static_cast<std::size_t>(config.width);
        const std::size_t bytes = count == pixels * sizeof(float) ? count : count * sizeof(float);
        publish(i, CameraFrame().depth(metres, bytes));
    }

    void update_intrinsics(std::size_t i, const Matrix3d& K) { publish(i, CameraFrame().intrinsics(K)); }
    void update_extrinsics(std::size_t i, const Matrix4d& T) { publish(i, CameraFrame().extrinsics(T)); }

    /// Publishes proprioception vector `i`.
    void update_proprio(std::size_t i, const float* values, std::size_t count) {
        detail::check(chiral_sensors_update_proprio(sensors_.get(), i, values, count));
    }

    /// Publishes the parts of camera `i` together: no observation shows some and not the others.
    void publish(std::size_t i, const CameraFrame& frame) {
        const chiral_frame parts = frame.get();
        detail::check(chiral_sensors_publish(sensors_.get(), i, &parts));
    }

    /// The same, by the camera's name.
    void publish(const std::string& camera, const CameraFrame& frame) {
        publish(camera_index(camera), frame);
    }

    /// The index of a camera; throws `std::out_of_range` when there is none of the name.
    std::size_t camera_index(const std::string& name) const {
        for (std::size_t i = 0; i < configs_.size(); ++i) {
            if (configs_[i].name == name) {
                return i;
            }
        }
        throw std::out_of_range("no camera is called \"" + name + "\"");
    }

    /// The latest of all sensors. Copies no pixel.
    Observation make_obs(double timestamp = 0.0) const {
        chiral_observation* observation = nullptr;
        detail::check(chiral_sensors_snapshot(sensors_.get(), timestamp, &observation));
        return detail::read_observation(observation);
    }

    /// Has every observation from now on say this as its `extra`.
    void set_extra(const InfoMap& extra) {
        const detail::Handle<chiral_map> map(chiral_map_new());
        detail::write_map(extra, map.get());
        detail::check(chiral_sensors_set_extra(sensors_.get(), map.get()));
    }

    /// Waits until every sensor has delivered; throws `Timeout`, which names those that have not.
    void wait_ready(std::chrono::duration<double> timeout) const {
        detail::check(chiral_sensors_wait_ready(sensors_.get(), detail::to_seconds(timeout)));
    }

    /// Waits until camera `i` has published an image after the one with this number, which then is the
    /// newest one's; 0 waits for the first. False when none has come in time.
    bool wait_image(std::size_t i, std::uint64_t& number, std::chrono::duration<double> timeout) const {
        return detail::check(chiral_sensors_wait_image(sensors_.get(), i, detail::to_seconds(timeout),
                                                       &number)) == CHIRAL_OK;
    }

protected:
    const std::vector<CameraConfig> configs_;
    const std::vector<ProprioConfig> proprio_configs_;

private:
    /// While the default of `step` runs, that of `apply_action` is not to call it.
    struct Default {
        explicit Default(bool& flag) : flag_(flag), before_(std::exchange(flag, true)) {}
        ~Default() { flag_ = before_; }
        Default(const Default&) = delete;
        Default& operator=(const Default&) = delete;

        bool& flag_;
        bool before_;
    };

    void declare() {
        std::vector<chiral_camera_config> cameras;
        std::vector<std::array<double, 25>> matrices(configs_.size());
        for (std::size_t i = 0; i < configs_.size(); ++i) {
            const CameraConfig& config = configs_[i];
            auto camera = detail::sized<chiral_camera_config>();
            camera.name = config.name.c_str();
            camera.height = side(config.height, config.name);
            camera.width = side(config.width, config.name);
            camera.channels = side(config.channels, config.name);
            camera.image_dtype = dtype(config.image_dtype);
            camera.has_depth = config.has_depth;
            camera.depth_dtype = dtype(config.depth_dtype);
            detail::to_rows<3>(config.intrinsics, matrices[i].data());
            detail::to_rows<4>(config.extrinsics, matrices[i].data() + 9);
            camera.intrinsics = matrices[i].data();
            camera.extrinsics = matrices[i].data() + 9;
            camera.max_age = config.max_age;
            camera.when_stale = static_cast<std::int32_t>(config.when_stale);
            cameras.push_back(camera);
        }
        std::vector<chiral_proprio_config> proprios;
        for (const ProprioConfig& config : proprio_configs_) {
            auto proprio = detail::sized<chiral_proprio_config>();
            proprio.name = config.name.c_str();
            proprio.count = side(config.size, config.name);
            proprios.push_back(proprio);
        }
        chiral_sensors* sensors = nullptr;
        detail::check(chiral_sensors_new(cameras.data(), cameras.size(), proprios.data(),
                                         proprios.size(), &sensors));
        sensors_.reset(sensors);
    }

    static std::size_t side(int side, const std::string& name) {
        if (side < 0) {
            throw Error(CHIRAL_MISUSE, "\"" + name + "\" is declared with " + std::to_string(side) +
                                           ", expected zero or more");
        }
        return static_cast<std::size_t>(side);
    }

    static chiral_dtype dtype(const std::string& name) {
        const chiral_dtype dtype = chiral_dtype_from_name(name.c_str());
        if (dtype == 0) {
            throw Error(CHIRAL_MISUSE, "there is no dtype \"" + name + "\"");
        }
        return dtype;
    }

    std::string address() const {
        for (const char* scheme : {"unix:", "zenoh:", "tcp/", "ws://"}) {
            if (host_.rfind(scheme, 0) == 0) {
                return host_;
            }
        }
        const bool is_ipv6 = host_.find(':') != std::string::npos && host_.front() != '[';
        return (is_ipv6 ? '[' + host_ + ']' : host_) + ':' + std::to_string(port_);
    }

    std::shared_ptr<chiral_server> bind() {
        const chiral_action_spec spec = options_.action.get();
        auto config = detail::sized<chiral_server_config>();
        config.action = &spec;
        config.watchdog = options_.watchdog;
        config.max_obs_age = options_.max_obs_age;
        config.action_queue = options_.action_queue.kind;
        config.action_queue_limit = options_.action_queue.limit;
        config.take_over = options_.take_over;
        config.pull_observations = options_.pull_observations;
        const auto token = options_.token ? options_.token->get() : detail::sized<chiral_token>();
        config.token = options_.token ? &token : nullptr;
        auto tls = detail::sized<chiral_server_tls>();
        if (options_.tls) {
            tls.certificate = options_.tls->certificate.c_str();
            tls.key = options_.tls->key.c_str();
            tls.client_authorities = detail::text_or_null(options_.tls->client_authorities);
            config.tls = &tls;
        }
        chiral_server* server = nullptr;
        detail::check(chiral_server_bind(address().c_str(), &config, &server));
        std::shared_ptr<chiral_server> bound(server, detail::Free{});
        const std::lock_guard<std::mutex> lock(mutex_);
        server_ = bound;
        return bound;
    }

    std::shared_ptr<chiral_server> current() const {
        const std::lock_guard<std::mutex> lock(mutex_);
        return server_;
    }

    /// Calls the robot from one of chiral's threads. The library sees to it that what has to be is one
    /// after the other; the counter says so to tools that do not see into the library.
    template <class Code>
    static std::int32_t call(void* user, Code code) noexcept {
        PolicyServer& self = *static_cast<PolicyServer*>(user);
        (void)self.calls_.load(std::memory_order_acquire);
        const std::int32_t status = detail::run([&] { code(self); });
        self.calls_.fetch_add(1, std::memory_order_release);
        return status;
    }

    static Action read_action(const chiral_action* action) {
        return {{action->values, action->values + action->count}, static_cast<int>(action->rows),
                static_cast<int>(action->width), action->clamped};
    }

    chiral_robot callbacks() {
        auto robot = detail::sized<chiral_robot>();
        robot.user = this;
        robot.metadata = [](void* user, chiral_map* metadata) {
            return call(user, [&](auto& self) { detail::write_map(self.get_metadata(), metadata); });
        };
        robot.reset = [](void* user, chiral_observation** observation, chiral_map* info) {
            return call(user, [&](auto& self) {
                const auto [obs, said] = self.reset();
                detail::write_map(said, info);
                *observation = detail::write_observation(obs).release();
            });
        };
        robot.observe = [](void* user, chiral_observation** observation) {
            return call(user, [&](auto& self) {
                *observation = detail::write_observation(self.get_obs()).release();
            });
        };
        robot.apply_action = [](void* user, const chiral_action* action) {
            return call(user, [&](auto& self) { self.apply_action(read_action(action)); });
        };
        robot.step = [](void* user, const chiral_action* action, chiral_step* step) {
            return call(user, [&](auto& self) {
                const StepResult result = self.step(read_action(action));
                detail::write_map(result.info, step->info);
                step->reward = static_cast<double>(result.reward);
                step->terminated = result.terminated;
                step->truncated = result.truncated;
                step->observation = detail::write_observation(result.obs).release();
            });
        };
        robot.on_connect = [](void* user) {
            return call(user, [](auto& self) { self.on_connect(); });
        };
        robot.on_watchdog = [](void* user, double silent_for) {
            return call(user, [&](auto& self) { self.on_watchdog(silent_for); });
        };
        robot.on_stop = [](void* user, const char* reason, double silent_for) {
            return call(user, [&](auto& self) { self.on_stop(reason, silent_for); });
        };
        robot.on_disconnect = [](void* user, const char* reason) {
            return call(user, [&](auto& self) { self.on_disconnect(reason); });
        };
        robot.on_actions_dropped = [](void* user, std::uint64_t count, const char* reason) {
            return call(user, [&](auto& self) { self.on_actions_dropped(count, reason); });
        };
        return robot;
    }

    const std::string host_;
    const int port_;
    const ServerOptions options_;
    /// Of what moves the robot, which is called one at a time.
    bool in_default_{false};
    std::atomic<std::uint64_t> calls_{0};
    detail::Handle<chiral_sensors> sensors_;
    mutable std::mutex mutex_;
    std::shared_ptr<chiral_server> server_;
};

}  // namespace plain or eigen
}  // namespace chiral

#endif  // CHIRAL_SERVER_HPP
