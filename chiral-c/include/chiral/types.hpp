// chiral for C++: what travels between a robot and a policy. C++17, header only, over chiral.h.
//
// With Eigen, unless CHIRAL_NO_EIGEN is defined before the first include; matrices are then
// chiral::Matrix3d and chiral::Matrix4d of chiral's own. Both kinds can be linked into one program.
#ifndef CHIRAL_TYPES_HPP
#define CHIRAL_TYPES_HPP

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "../chiral.h"

#ifndef CHIRAL_NO_EIGEN
#include <Eigen/Core>
#endif

namespace chiral {
#ifdef CHIRAL_NO_EIGEN
inline namespace plain {
#else
inline namespace eigen {
#endif

// ---- errors ---------------------------------------------------------------------------------------

/// What a call throws that fails. `what()` is one sentence: what was found, what was expected, and
/// what to do.
class Error : public std::runtime_error {
public:
    Error(chiral_status status, const std::string& text) : std::runtime_error(text), status_(status) {}

    /// Which kind of error, as in chiral.h.
    chiral_status status() const noexcept { return status_; }

private:
    chiral_status status_;
};

/// The connection has ended; the text says why. Connect again.
class ConnectionClosed : public Error {
public:
    using Error::Error;
};

/// No answer came in time. The connection goes on.
class Timeout : public Error {
public:
    using Error::Error;
};

/// The connection was lost, and is being made again (`ClientOptions::reconnect`): try later.
class Interrupted : public Error {
public:
    using Error::Error;
};

/// The robot's contract does not allow an action; the text names it. None was sent or queued.
class ContractError : public Error {
public:
    using Error::Error;
};

namespace detail {

/// Passes a status on, or throws what it stands for.
inline chiral_status check(chiral_status status) {
    if (status >= 0) {
        return status;
    }
    const std::string text = chiral_last_error();
    switch (status) {
        case CHIRAL_DISCONNECTED: throw ConnectionClosed(status, text);
        case CHIRAL_TIMED_OUT: throw Timeout(status, text);
        case CHIRAL_INTERRUPTED: throw Interrupted(status, text);
        case CHIRAL_REFUSED: throw ContractError(status, text);
        default: throw Error(status, text);
    }
}

/// A struct of chiral.h with its size set, and all else zero.
template <class T>
T sized() {
    T value{};
    value.size = sizeof(T);
    return value;
}

/// Runs code of the application for a callback of chiral.h, which no exception may leave.
template <class Code>
std::int32_t run(Code&& code) noexcept {
    try {
        code();
        return 0;
    } catch (const std::exception& error) {
        chiral_fail(error.what());
    } catch (...) {
        chiral_fail("an exception that is no std::exception");
    }
    return -1;
}

struct Free {
    void operator()(chiral_map* map) const noexcept { chiral_map_free(map); }
    void operator()(chiral_observation* observation) const noexcept {
        chiral_observation_free(observation);
    }
    void operator()(chiral_client* client) const noexcept { chiral_client_free(client); }
    void operator()(chiral_sensors* sensors) const noexcept { chiral_sensors_free(sensors); }
    void operator()(chiral_server* server) const noexcept { chiral_server_free(server); }
    void operator()(chiral_commands* commands) const noexcept { chiral_commands_free(commands); }
    void operator()(chiral_contract* contract) const noexcept { chiral_contract_free(contract); }
};

template <class T>
using Handle = std::unique_ptr<T, Free>;

/// An observation that several views share.
using Shared = std::shared_ptr<const chiral_observation>;

}  // namespace detail

// ---- matrices -------------------------------------------------------------------------------------

#ifdef CHIRAL_NO_EIGEN
namespace detail {

/// A square matrix, row-major; as much of Eigen's interface as cameras need.
template <int N>
class Square {
public:
    double& operator()(int row, int column) { return elements_[at(row, column)]; }
    double operator()(int row, int column) const { return elements_[at(row, column)]; }
    double* data() { return elements_.data(); }
    const double* data() const { return elements_.data(); }
    void setIdentity() { *this = Identity(); }
    friend bool operator==(const Square& a, const Square& b) { return a.elements_ == b.elements_; }
    friend bool operator!=(const Square& a, const Square& b) { return !(a == b); }

    static Square Identity() {
        Square identity;
        for (int i = 0; i < N; ++i) {
            identity(i, i) = 1.0;
        }
        return identity;
    }

    static Square Zero() { return {}; }

private:
    static std::size_t at(int row, int column) { return static_cast<std::size_t>(row * N + column); }

    std::array<double, N * N> elements_{};
};

}  // namespace detail

using Matrix3d = detail::Square<3>;
using Matrix4d = detail::Square<4>;
#else
using Matrix3d = Eigen::Matrix3d;
using Matrix4d = Eigen::Matrix4d;
#endif

namespace detail {

template <int N, class Matrix>
void to_rows(const Matrix& matrix, double* rows) {
    for (int row = 0; row < N; ++row) {
        for (int column = 0; column < N; ++column) {
            *rows++ = matrix(row, column);
        }
    }
}

template <int N, class Matrix>
Matrix from_rows(const double* rows) {
    Matrix matrix;
    for (int row = 0; row < N; ++row) {
        for (int column = 0; column < N; ++column) {
            matrix(row, column) = *rows++;
        }
    }
    return matrix;
}

}  // namespace detail

// ---- free-form maps -------------------------------------------------------------------------------

/// Metadata, `info` and `extra`. A peer's value that is not a text arrives as JSON. To send one that
/// is not a text, give it to `json`.
using InfoMap = std::unordered_map<std::string, std::string>;

namespace detail {

/// What marks a value as JSON. It begins with a control character, with which no text begins.
constexpr char json_mark = '\x01';

inline void write_value(chiral_map* to, const std::string& key, const std::string& value) {
    if (!value.empty() && value.front() == json_mark) {
        check(chiral_map_set_json(to, key.c_str(), value.c_str() + 1));
    } else {
        check(chiral_map_set(to, key.c_str(), value.c_str()));
    }
}

inline void write_map(const InfoMap& from, chiral_map* to) {
    for (const auto& [key, value] : from) {
        write_value(to, key, value);
    }
}

inline InfoMap read_map(const chiral_map* map) {
    InfoMap read;
    const char *key = nullptr, *value = nullptr;
    std::size_t key_len = 0, value_len = 0;
    for (std::size_t index = 0;
         check(chiral_map_entry(map, index, &key, &key_len, &value, &value_len)) == CHIRAL_OK;
         ++index) {
        read.emplace(std::string(key, key_len), std::string(value, value_len));
    }
    return read;
}

}  // namespace detail

/// A value of an `InfoMap` that is sent as what the JSON says, and not as a text:
/// `{"control_hz", chiral::json("50")}`.
inline std::string json(const std::string& text) { return detail::json_mark + text; }

// ---- pixels ---------------------------------------------------------------------------------------

/// The bytes of an image or depth map: a vector of bytes that need not be one.
///
/// In an observation it is a view of the memory into which the socket received, or the camera's driver
/// wrote; it stays valid for as long as it, or a copy of it, is there. Reading through `const` access
/// copies nothing. Whatever could write copies first, so that nobody else sees it: the non-const
/// `data()`, `[]`, `begin()`, and `vec()`. Read through `const auto&`, or `cdata()`.
class Pixels {
public:
    using value_type = std::uint8_t;
    using size_type = std::size_t;
    using difference_type = std::ptrdiff_t;
    using reference = std::uint8_t&;
    using const_reference = const std::uint8_t&;
    using iterator = std::uint8_t*;
    using const_iterator = const std::uint8_t*;

    Pixels() = default;
    Pixels(std::vector<std::uint8_t> bytes) : own_(std::move(bytes)) {}
    Pixels(std::size_t count, std::uint8_t value = 0) : own_(count, value) {}
    Pixels(std::initializer_list<std::uint8_t> bytes) : own_(bytes) {}
    template <class Iterator, class = typename std::iterator_traits<Iterator>::iterator_category>
    Pixels(Iterator first, Iterator last) : own_(first, last) {}

    /// A view of bytes that belong to an observation.
    Pixels(detail::Shared owner, const std::uint8_t* data, std::size_t size)
        : owner_(std::move(owner)), data_(data), size_(size) {}

    Pixels& operator=(std::vector<std::uint8_t> bytes) {
        *this = Pixels(std::move(bytes));
        return *this;
    }

    // Reading.
    const std::uint8_t* data() const noexcept { return owner_ ? data_ : own_.data(); }
    const std::uint8_t* cdata() const noexcept { return data(); }
    std::size_t size() const noexcept { return owner_ ? size_ : own_.size(); }
    bool empty() const noexcept { return size() == 0; }
    const std::uint8_t& operator[](std::size_t index) const { return data()[index]; }
    const std::uint8_t& at(std::size_t index) const {
        check(index);
        return data()[index];
    }
    const std::uint8_t& front() const { return data()[0]; }
    const std::uint8_t& back() const { return data()[size() - 1]; }
    const_iterator begin() const noexcept { return data(); }
    const_iterator end() const noexcept { return data() + size(); }
    const_iterator cbegin() const noexcept { return begin(); }
    const_iterator cend() const noexcept { return end(); }

    // Writing: what is not one's own yet is copied first.
    std::uint8_t* data() { return vec().data(); }
    std::uint8_t& operator[](std::size_t index) { return vec()[index]; }
    std::uint8_t& at(std::size_t index) {
        check(index);
        return vec()[index];
    }
    std::uint8_t& front() { return vec().front(); }
    std::uint8_t& back() { return vec().back(); }
    iterator begin() { return data(); }
    iterator end() { return data() + size(); }
    void resize(std::size_t size, std::uint8_t value = 0) { vec().resize(size, value); }
    void reserve(std::size_t size) { vec().reserve(size); }
    void assign(std::size_t count, std::uint8_t value) {
        clear();
        own_.assign(count, value);
    }
    template <class Iterator, class = typename std::iterator_traits<Iterator>::iterator_category>
    void assign(Iterator first, Iterator last) {
        std::vector<std::uint8_t> bytes(first, last);
        *this = std::move(bytes);
    }
    void push_back(std::uint8_t byte) { vec().push_back(byte); }
    void clear() noexcept {
        owner_.reset();
        own_.clear();
    }
    void swap(Pixels& other) noexcept { std::swap(*this, other); }

    /// The bytes as a vector of one's own; copied, if they are not that yet.
    std::vector<std::uint8_t>& vec() {
        if (owner_) {
            own_.assign(data_, data_ + size_);
            owner_.reset();
        }
        return own_;
    }

    /// A copy as a vector.
    operator std::vector<std::uint8_t>() const { return {begin(), end()}; }

    /// Whether this is a view of memory that is not its own.
    bool is_view() const noexcept { return owner_ != nullptr; }

    /// The observation to which the memory belongs, if it is a view.
    const chiral_observation* owner() const noexcept { return owner_.get(); }

    friend bool operator==(const Pixels& a, const Pixels& b) {
        return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size()) == 0);
    }
    friend bool operator!=(const Pixels& a, const Pixels& b) { return !(a == b); }

private:
    void check(std::size_t index) const {
        if (index >= size()) {
            throw std::out_of_range("byte " + std::to_string(index) + " of " +
                                    std::to_string(size()));
        }
    }

    detail::Shared owner_;
    const std::uint8_t* data_ = nullptr;
    std::size_t size_ = 0;
    std::vector<std::uint8_t> own_;
};

// ---- what a robot declares ------------------------------------------------------------------------

/// What becomes of a camera whose image is older than `CameraConfig::max_age`.
enum class WhenStale { Hold, Flag, Omit, Fail };

/// A camera as a robot declares it.
struct CameraConfig {
    std::string name;
    int height{0};
    int width{0};
    int channels{3};
    bool has_depth{false};
    Matrix3d intrinsics = Matrix3d::Identity();
    Matrix4d extrinsics = Matrix4d::Identity();
    /// The image's elements, by numpy's name.
    std::string image_dtype = "uint8";
    /// The depth map's elements.
    std::string depth_dtype = "float32";
    /// How old the image may become, in seconds; 0 for as old as it likes.
    double max_age{0};
    /// What becomes of an older one.
    WhenStale when_stale = WhenStale::Flag;
};

/// A proprioception vector as a robot declares it: `float` values.
struct ProprioConfig {
    std::string name;
    int size{0};
};

/// What the numbers of an action mean.
enum class ActionKind { Unknown = 0, Absolute = CHIRAL_ABSOLUTE, Delta = CHIRAL_DELTA, Velocity = CHIRAL_VELOCITY };

/// What becomes of an action that is out of bounds or too large a step: it is not executed, or is
/// brought within them and marked (`Action::clamped`).
enum class OnViolation { Refuse = CHIRAL_REFUSE, Clamp = CHIRAL_CLAMP };

/// What arms the robot, so that actions move it: a new connection, a reset that it has done, or only its
/// own program (`PolicyServer::arm`), which can in any case.
enum class Arming {
    OnConnect = CHIRAL_ARM_ON_CONNECT,
    OnReset = CHIRAL_ARM_ON_RESET,
    Manual = CHIRAL_ARM_MANUALLY,
};

/// The types of an action's elements.
enum class Dtypes {
    /// Floats where a width or a shape is declared, any type otherwise.
    Default = CHIRAL_DTYPES_DEFAULT,
    Any = CHIRAL_DTYPES_ANY,
    Float = CHIRAL_DTYPES_FLOAT,
    Integer = CHIRAL_DTYPES_INTEGER,
    Bool = CHIRAL_DTYPES_BOOL,
};

/// A number for each dimension of an action, or one for all, as `float`: what a robot reads. Made of a
/// number, of numbers in braces, or of anything that has `data()` and `size()`.
class PerDimension {
public:
    PerDimension() = default;
    PerDimension(double number) : values_{static_cast<float>(number)} {}
    PerDimension(std::initializer_list<double> numbers) : PerDimension(numbers.begin(), numbers.size()) {}
    template <class Numbers, class = decltype(static_cast<double>(*std::declval<const Numbers&>().data()))>
    PerDimension(const Numbers& numbers)
        : PerDimension(numbers.data(), static_cast<std::size_t>(numbers.size())) {}

    /// As they were given.
    const std::vector<float>& values() const noexcept { return values_; }
    bool empty() const noexcept { return values_.empty(); }
    /// The number for a dimension.
    float operator[](std::size_t dimension) const {
        return values_.size() == 1 ? values_[0] : values_.at(dimension);
    }

private:
    template <class Number>
    PerDimension(const Number* numbers, std::size_t count) {
        for (std::size_t i = 0; i < count; ++i) {
            values_.push_back(static_cast<float>(numbers[i]));
        }
    }

    std::vector<float> values_{};
};

/// A robot's contract with its policies: what an action must be to reach it; the default is any finite
/// numbers. The server checks every action before the robot sees it and tells the policies, whose
/// clients check too. What breaks it is not applied, or is clamped; it is counted and told.
///
///     ActionSpec::vector(7, ActionKind::Absolute)
///         .bounds(low, high).max_step(0.05).measured_by("joint_pos").on_violation(OnViolation::Clamp)
///         .rate(50).stop_after(20).arming(Arming::OnReset)
///
/// It is no safety function: keep the emergency stop, and the limits of the robot's own controller.
class ActionSpec {
public:
    /// A vector of so many values.
    static ActionSpec vector(std::size_t width, ActionKind kind = ActionKind::Unknown) {
        ActionSpec spec;
        spec.shape_ = {width};
        spec.kind_ = kind;
        return spec;
    }

    /// Exactly this shape.
    static ActionSpec shape(std::vector<std::size_t> shape) {
        ActionSpec spec;
        spec.shape_ = std::move(shape);
        spec.is_vector_ = false;
        return spec;
    }

    /// What the values mean; told to the policy.
    ActionSpec& kind(ActionKind kind) { return set(kind_, kind); }
    ActionSpec& dtypes(Dtypes dtypes) { return set(dtypes_, dtypes); }
    /// The values that make the robot stay where it is.
    ActionSpec& hold(std::vector<float> values) { return set(hold_, std::move(values)); }
    /// The smallest and the largest values, both allowed.
    ActionSpec& bounds(PerDimension low, PerDimension high) {
        low_ = std::move(low);
        return set(high_, std::move(high));
    }
    /// By how much an action may differ from the last one that the robot was given, whatever time lies
    /// between; of a delta, how large it may be. After arming, a reset or a hold a velocity begins at 0,
    /// and an absolute action where `measured_by` says; without that the first one after arming or a
    /// reset may be anything within the bounds.
    ActionSpec& max_step(PerDimension step) { return set(max_step_, std::move(step)); }
    /// The proprioception vector that says where the robot is, in the unit of an absolute action.
    ActionSpec& measured_by(std::string proprio) { return set(measured_by_, std::move(proprio)); }
    ActionSpec& on_violation(OnViolation what) { return set(on_violation_, what); }
    /// How often an action is expected. The robot is told to hold (`on_watchdog`) at the first period
    /// that is missed, which is one and a half periods after the last action.
    ActionSpec& rate(double hz) { return set(rate_, hz); }
    /// After how many missed periods it is told to hold, in the place of 1; 0 for never.
    ActionSpec& hold_after(std::uint32_t periods) { return set(hold_after_, periods); }
    /// After how many missed periods it is stopped (`on_stop`), and takes no action until it is armed
    /// again; 0, the default, for never.
    ActionSpec& stop_after(std::uint32_t periods) { return set(stop_after_, periods); }
    ActionSpec& arming(Arming what) { return set(arming_, what); }
    /// Lets an action without values through.
    ActionSpec& allow_empty(bool allow = true) { return set(allow_empty_, allow); }
    /// Lets NaN and infinities through.
    ActionSpec& allow_non_finite(bool allow = true) { return set(allow_non_finite_, allow); }

    /// How many values an action has, if it is declared as a vector; else 0.
    std::size_t width() const noexcept { return is_vector_ && !shape_.empty() ? shape_[0] : 0; }
    /// Empty for any.
    const std::vector<std::size_t>& shape() const noexcept { return shape_; }
    Dtypes dtypes() const noexcept { return dtypes_; }
    ActionKind kind() const noexcept { return kind_; }
    /// Empty where nothing is declared, as are those below.
    const std::vector<float>& hold() const noexcept { return hold_; }
    const PerDimension& low() const noexcept { return low_; }
    const PerDimension& high() const noexcept { return high_; }
    const PerDimension& max_step() const noexcept { return max_step_; }
    /// Of a robot's own; it is not told to the policy.
    const std::string& measured_by() const noexcept { return measured_by_; }
    OnViolation on_violation() const noexcept { return on_violation_; }
    /// In hertz; 0 where none is declared.
    double rate() const noexcept { return rate_; }
    /// 0 for never.
    std::uint32_t hold_after() const noexcept { return hold_after_.value_or(rate_ > 0 ? 1 : 0); }
    std::uint32_t stop_after() const noexcept { return stop_after_; }
    Arming arming() const noexcept { return arming_; }
    bool allows_empty() const noexcept { return allow_empty_; }
    bool allows_non_finite() const noexcept { return allow_non_finite_; }
    /// Of a client's: after how many seconds without an action the robot holds, where that is set as a
    /// time (`ServerOptions::watchdog`); else 0.
    double watchdog() const noexcept { return watchdog_; }
    /// Of a client's: how old, in seconds, the observation may be on which an action was decided; 0 where
    /// it is not said.
    double max_obs_age() const noexcept { return max_obs_age_; }

    /// As chiral.h has it; valid for as long as this.
    chiral_action_spec get() const {
        auto spec = detail::sized<chiral_action_spec>();
        spec.width = width();
        if (!is_vector_) {
            spec.shape = shape_.data();
            spec.rank = shape_.size();
        }
        spec.dtypes = static_cast<std::int32_t>(dtypes_);
        spec.kind = static_cast<std::int32_t>(kind_);
        spec.hold = hold_.data();
        spec.hold_count = hold_.size();
        spec.low = low_.values().data();
        spec.low_count = low_.values().size();
        spec.high = high_.values().data();
        spec.high_count = high_.values().size();
        spec.max_step = max_step_.values().data();
        spec.max_step_count = max_step_.values().size();
        spec.measured_by = measured_by_.empty() ? nullptr : measured_by_.c_str();
        spec.on_violation = static_cast<std::int32_t>(on_violation_);
        spec.arming = static_cast<std::int32_t>(arming_);
        spec.rate = rate_;
        spec.hold_after = !hold_after_ ? 0 : *hold_after_ == 0 ? -1 : std::int64_t{*hold_after_};
        spec.stop_after = stop_after_;
        spec.allow_empty = allow_empty_;
        spec.allow_non_finite = allow_non_finite_;
        return spec;
    }

    /// What chiral.h says, copied.
    static ActionSpec from(const chiral_action_spec& spec) {
        ActionSpec read;
        read.is_vector_ = spec.rank == 0;
        if (spec.rank > 0) {
            read.shape_.assign(spec.shape, spec.shape + spec.rank);
        } else if (spec.width > 0) {
            read.shape_ = {spec.width};
        }
        read.dtypes_ = static_cast<Dtypes>(spec.dtypes);
        read.kind_ = static_cast<ActionKind>(spec.kind);
        read.hold_ = floats(spec.hold, spec.hold_count);
        read.low_ = floats(spec.low, spec.low_count);
        read.high_ = floats(spec.high, spec.high_count);
        read.max_step_ = floats(spec.max_step, spec.max_step_count);
        read.on_violation_ = static_cast<OnViolation>(spec.on_violation);
        read.arming_ = static_cast<Arming>(spec.arming);
        read.rate_ = spec.rate;
        if (spec.hold_after != 0) {
            read.hold_after_ = static_cast<std::uint32_t>(spec.hold_after < 0 ? 0 : spec.hold_after);
        }
        read.stop_after_ = static_cast<std::uint32_t>(spec.stop_after);
        read.allow_empty_ = spec.allow_empty;
        read.allow_non_finite_ = spec.allow_non_finite;
        read.watchdog_ = spec.watchdog;
        read.max_obs_age_ = spec.max_obs_age;
        return read;
    }

private:
    template <class Member, class Value>
    ActionSpec& set(Member& member, Value&& value) {
        member = std::forward<Value>(value);
        return *this;
    }

    static std::vector<float> floats(const float* values, std::size_t count) {
        return count == 0 ? std::vector<float>() : std::vector<float>(values, values + count);
    }

    std::vector<std::size_t> shape_{};
    bool is_vector_{true};
    Dtypes dtypes_{Dtypes::Default};
    ActionKind kind_{ActionKind::Unknown};
    std::vector<float> hold_{};
    PerDimension low_{}, high_{}, max_step_{};
    std::string measured_by_{};
    OnViolation on_violation_{OnViolation::Refuse};
    Arming arming_{Arming::OnConnect};
    double rate_{0};
    std::optional<std::uint32_t> hold_after_{};
    std::uint32_t stop_after_{0};
    bool allow_empty_{false}, allow_non_finite_{false};
    double watchdog_{0}, max_obs_age_{0};
};

/// Whether actions move the robot.
enum class ArmingState {
    /// Not since the policy connected: they are refused.
    Disarmed = CHIRAL_DISARMED,
    /// The next one does; none has since it was armed or reset.
    Armed = CHIRAL_ARMED,
    Moving = CHIRAL_MOVING,
    /// None has come in time, and the robot holds. The next one moves it again.
    Holding = CHIRAL_HOLDING,
    /// They are refused until the robot is armed again.
    Stopped = CHIRAL_STOPPED,
};

/// How a policy keeps to the robot's contract.
struct ContractStatus {
    ArmingState state{ArmingState::Disarmed};
    /// Of the last `periods`, those in which an action came on time.
    std::uint32_t on_time{0};
    /// 100 at most; 0 if the robot declares no rate.
    std::uint32_t periods{0};
    /// All periods that were missed.
    std::uint64_t missed{0};
    std::uint64_t refused{0};
    std::uint64_t clamped{0};
    /// Actions that came while the robot was disarmed or stopped.
    std::uint64_t not_armed{0};
    /// How often the robot was stopped.
    std::uint64_t stops{0};

    /// The share of the last periods in which an action came on time; none before the first.
    std::optional<double> success_rate() const {
        return periods == 0 ? std::nullopt : std::optional<double>(static_cast<double>(on_time) / periods);
    }
};

namespace detail {

/// The status that a function of chiral.h gives for a handle.
template <class T>
std::optional<ContractStatus> contract_status(chiral_status (*ask)(const T*, chiral_contract_status*),
                                              const T* handle) {
    auto found = sized<chiral_contract_status>();
    if (check(ask(handle, &found)) == CHIRAL_NOTHING) {
        return std::nullopt;
    }
    ContractStatus status;
    status.state = static_cast<ArmingState>(found.state);
    status.on_time = found.on_time;
    status.periods = found.periods;
    status.missed = found.missed;
    status.refused = found.refused;
    status.clamped = found.clamped;
    status.not_armed = found.not_armed;
    status.stops = found.stops;
    return status;
}

}  // namespace detail

// ---- who may connect ------------------------------------------------------------------------------

/// The secret by which a robot knows its policies: 16 to 1024 characters, as `openssl rand -hex 16` makes
/// one. It is shown nowhere. Over a network it belongs into TLS.
class Token {
public:
    Token(std::string text) : Token(std::move(text), &chiral_token::text) {}
    Token(const char* text) : Token(std::string(text)) {}

    /// The token that a file consists of, which is read when it is needed.
    static Token from_file(std::string path) { return {std::move(path), &chiral_token::file}; }
    /// The token in an environment variable.
    static Token from_env(std::string variable) { return {std::move(variable), &chiral_token::variable}; }

    /// As chiral.h has it; valid for as long as this.
    chiral_token get() const {
        auto token = detail::sized<chiral_token>();
        token.*where_ = text_.c_str();
        return token;
    }

private:
    using Where = const char* chiral_token::*;

    Token(std::string text, Where where) : text_(std::move(text)), where_(where) {}

    std::string text_;
    Where where_;
};

namespace detail {

/// A path or fingerprint; null where none is set.
inline const char* text_or_null(const std::string& text) { return text.empty() ? nullptr : text.c_str(); }

}  // namespace detail

// ---- what travels ---------------------------------------------------------------------------------

/// One camera of an observation.
struct CameraInfo {
    std::string name;
    /// K, in pixels.
    Matrix3d intrinsics = Matrix3d::Identity();
    /// T, camera to world, in metres.
    Matrix4d extrinsics = Matrix4d::Identity();
    Pixels image{};
    /// [H, W, C], or [H, W].
    std::vector<int> image_shape{};
    std::string image_dtype = "uint8";
    bool has_depth{false};
    Pixels depth_data{};
    /// [H, W].
    std::vector<int> depth_shape{};
    std::string depth_dtype{};
    /// When the image was captured, in monotonic seconds of the robot's clock; 0 before the first.
    double timestamp{0};

    /// The depth map as `float`; null where there is none, or it is of another dtype.
    const float* depth() const noexcept {
        return has_depth && depth_dtype == "float32"
                   ? reinterpret_cast<const float*>(depth_data.cdata())
                   : nullptr;
    }
};

/// One proprioception vector of an observation.
struct ProprioInfo {
    std::string name;
    std::vector<float> data{};
};

/// What a robot senses at one moment. Copying it copies no pixel.
struct Observation {
    std::vector<CameraInfo> cameras{};
    std::vector<ProprioInfo> proprios{};
    double timestamp{0};
    /// What else the robot says; as JSON where it is not a text. A robot that leaves a value as it is
    /// sends it as what it was.
    InfoMap extra{};
    /// What it was made from, which `follow` and the like need: where in the timeline it was taken.
    detail::Shared handle{};

    /// The camera of a name; throws `std::out_of_range`, which lists the names, when there is none.
    const CameraInfo& operator[](const std::string& name) const { return find(cameras, name, "camera"); }

    /// The same, to be changed.
    CameraInfo& camera(const std::string& name) {
        return const_cast<CameraInfo&>(static_cast<const Observation&>(*this)[name]);
    }

    /// The proprioception vector of a name; throws `std::out_of_range` when there is none.
    const ProprioInfo& proprio(const std::string& name) const { return find(proprios, name, "proprio"); }

    bool has_camera(const std::string& name) const noexcept { return has(cameras, name); }
    bool has_proprio(const std::string& name) const noexcept { return has(proprios, name); }

private:
    template <class Sensor>
    static bool has(const std::vector<Sensor>& sensors, const std::string& name) noexcept {
        for (const auto& sensor : sensors) {
            if (sensor.name == name) {
                return true;
            }
        }
        return false;
    }

    template <class Sensor>
    static const Sensor& find(const std::vector<Sensor>& sensors, const std::string& name,
                              const char* what) {
        std::string names;
        for (const auto& sensor : sensors) {
            if (sensor.name == name) {
                return sensor;
            }
            names += names.empty() ? "\"" : ", \"";
            names += sensor.name + '"';
        }
        throw std::out_of_range(std::string("no ") + what + " is called \"" + name + "\"; " +
                                (names.empty() ? "there are none at all" : "there are " + names));
    }
};

/// What a policy tells a robot to do: `N` rows of `D` values, row-major; one row, but for a step.
struct Action {
    std::vector<float> data{};
    int N{0};
    int D{0};
    /// Whether it was clamped to what the robot's contract allows, as the robot is given it.
    bool clamped{false};
};

/// What a legacy step gives back.
struct StepResult {
    Observation obs{};
    float reward{0};
    bool terminated{false};
    bool truncated{false};
    InfoMap info{};
};

namespace detail {

inline std::vector<int> shape_of(const chiral_array& array) {
    std::vector<int> shape(array.rank);
    for (std::size_t i = 0; i < array.rank; ++i) {
        shape[i] = static_cast<int>(array.shape[i]);
    }
    return shape;
}

inline Pixels pixels_of(const Shared& owner, const chiral_array& array) {
    return {owner, static_cast<const std::uint8_t*>(array.data), array.len};
}

/// An observation of C's, which it takes over, as C++ has it. Copies no pixel.
inline Observation read_observation(chiral_observation* taken) {
    const Shared handle(taken, Free{});
    Observation observation;
    observation.timestamp = chiral_observation_timestamp(taken);
    const std::size_t cameras = chiral_observation_cameras(taken);
    observation.cameras.reserve(cameras);
    for (std::size_t i = 0; i < cameras; ++i) {
        auto camera = sized<chiral_camera>();
        auto array = sized<chiral_array>();
        check(chiral_observation_camera(taken, i, &camera));
        check(chiral_observation_image(taken, i, &array));
        CameraInfo& info = observation.cameras.emplace_back();
        info.name.assign(camera.name, camera.name_len);
        info.timestamp = camera.timestamp;
        info.intrinsics = from_rows<3, Matrix3d>(camera.intrinsics);
        info.extrinsics = from_rows<4, Matrix4d>(camera.extrinsics);
        info.image = pixels_of(handle, array);
        info.image_shape = shape_of(array);
        info.image_dtype = chiral_dtype_name(array.dtype);
        info.has_depth = camera.has_depth;
        if (camera.has_depth) {
            check(chiral_observation_depth(taken, i, &array));
            info.depth_data = pixels_of(handle, array);
            info.depth_shape = shape_of(array);
            info.depth_dtype = chiral_dtype_name(array.dtype);
        }
    }
    const std::size_t proprios = chiral_observation_proprios(taken);
    observation.proprios.reserve(proprios);
    for (std::size_t i = 0; i < proprios; ++i) {
        auto proprio = sized<chiral_proprio>();
        check(chiral_observation_proprio(taken, i, &proprio));
        observation.proprios.push_back({std::string(proprio.name, proprio.name_len),
                                        {proprio.values, proprio.values + proprio.count}});
    }
    const Handle<chiral_map> extra(chiral_observation_extra(taken));
    observation.extra = read_map(extra.get());
    observation.handle = handle;
    return observation;
}

inline chiral_array array_of(const Pixels& pixels, const std::vector<std::size_t>& shape,
                             const std::string& dtype) {
    auto array = sized<chiral_array>();
    array.dtype = chiral_dtype_from_name(dtype.c_str());
    if (array.dtype == 0) {
        throw Error(CHIRAL_MISUSE, "there is no dtype \"" + dtype + "\"");
    }
    array.data = pixels.data();
    array.len = pixels.size();
    array.shape = shape.data();
    array.rank = shape.size();
    array.owner = pixels.owner();
    return array;
}

inline std::vector<std::size_t> to_sizes(const std::vector<int>& shape) {
    std::vector<std::size_t> sizes;
    for (const int side : shape) {
        sizes.push_back(static_cast<std::size_t>(side < 0 ? 0 : side));
    }
    return sizes;
}

/// What an observation says as its `extra`. What is as it was read stays what it was: a number or a map
/// does not become a text.
inline Handle<chiral_map> write_extra(const Observation& observation) {
    Handle<chiral_map> extra(observation.handle ? chiral_observation_extra(observation.handle.get())
                                                : chiral_map_new());
    const InfoMap before = read_map(extra.get());
    for (const auto& [key, value] : observation.extra) {
        const auto found = before.find(key);
        if (found == before.end() || found->second != value) {
            write_value(extra.get(), key, value);
        }
    }
    for (const auto& [key, value] : before) {
        if (observation.extra.count(key) == 0) {
            check(chiral_map_remove(extra.get(), key.c_str()));
        }
    }
    return extra;
}

/// An observation of C++ as C has it. Pixels that are views are shared, others copied.
inline Handle<chiral_observation> write_observation(const Observation& observation) {
    Handle<chiral_observation> written(chiral_observation_new(observation.timestamp));
    for (const CameraInfo& info : observation.cameras) {
        auto camera = sized<chiral_camera>();
        camera.name = info.name.data();
        camera.name_len = info.name.size();
        camera.timestamp = info.timestamp;
        to_rows<3>(info.intrinsics, camera.intrinsics);
        to_rows<4>(info.extrinsics, camera.extrinsics);
        const auto image_shape = to_sizes(info.image_shape), depth_shape = to_sizes(info.depth_shape);
        const auto image = array_of(info.image, image_shape, info.image_dtype);
        if (!info.has_depth) {
            check(chiral_observation_add_camera(written.get(), &camera, &image, nullptr));
            continue;
        }
        const std::string dtype = info.depth_dtype.empty() ? "float32" : info.depth_dtype;
        const auto depth = array_of(info.depth_data, depth_shape, dtype);
        check(chiral_observation_add_camera(written.get(), &camera, &image, &depth));
    }
    for (const ProprioInfo& info : observation.proprios) {
        auto proprio = sized<chiral_proprio>();
        proprio.name = info.name.data();
        proprio.name_len = info.name.size();
        proprio.values = info.data.data();
        proprio.count = info.data.size();
        check(chiral_observation_add_proprio(written.get(), &proprio));
    }
    if (!observation.extra.empty()) {
        check(chiral_observation_set_extra(written.get(), write_extra(observation).get()));
    }
    return written;
}

inline double to_seconds(std::chrono::duration<double> duration) { return duration.count(); }

inline const char* level_name(std::int32_t level) {
    return level == CHIRAL_LOG_ERROR ? "error" : level == CHIRAL_LOG_WARN ? "warning" : "info";
}

}  // namespace detail

/// Prints the log to the standard error: who connects, who is refused and why, which actions were
/// dropped. Without it nothing of that is seen. Once in a program, before anything else of chiral.
inline void log_to_stderr(std::int32_t level = CHIRAL_LOG_INFO) {
    detail::check(chiral_set_log(level, nullptr, nullptr));
}

/// The time of the monotonic clock by which images are stamped, in seconds.
inline double now() noexcept { return chiral_now(); }

}  // namespace plain or eigen
}  // namespace chiral

#endif  // CHIRAL_TYPES_HPP
