// Who may connect: tokens and TLS. And what becomes of a connection that is lost.
//
//   connection [FILTER]      CHIRAL_CERTIFICATES names a folder with chiral-cert.pem and chiral-key.pem, for
//                            127.0.0.1, in each of robot/ and policy/; without it TLS is left out
#include <netinet/in.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <mutex>

#include <chiral/client.hpp>
#include <chiral/server.hpp>

#include "check.hpp"

extern char** environ;

namespace {

using namespace std::chrono_literals;
using Kind = chiral::ConnectionEvent::Kind;

const std::string token = "6d1f0c8f2f6be3cf1a2a1fb0b5a5e6f7", wrong_token = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// All lines of the log.
class Log {
public:
    static void add(const char* text) {
        const std::lock_guard<std::mutex> lock(mutex());
        lines() += text + std::string("\n");
    }
    static std::string all() {
        const std::lock_guard<std::mutex> lock(mutex());
        return lines();
    }

private:
    static std::mutex& mutex() {
        static std::mutex mutex;
        return mutex;
    }
    static std::string& lines() {
        static std::string lines;
        return lines;
    }
};

class Arm : public chiral::PolicyServer {
public:
    explicit Arm(chiral::ServerOptions options = {}, int port = 0)
        : PolicyServer({}, {{"joint_pos", 2}}, "127.0.0.1", port, std::move(options)) {
        const float home[] = {0, 0};
        update_proprio(0, home, 2);
    }
    ~Arm() override {
        let_go();
        stop();
    }

    std::pair<chiral::Observation, chiral::InfoMap> reset() override {
        std::unique_lock<std::mutex> lock(mutex_);
        ++resets;
        changed_.wait(lock, [this] { return !is_holding_; });
        return {make_obs(), {}};
    }
    void apply_action(const chiral::Action&) override { ++actions; }

    /// From now on a reset lasts until the robot is let go.
    void hold_resets() {
        const std::lock_guard<std::mutex> lock(mutex_);
        is_holding_ = true;
    }
    void let_go() {
        const std::lock_guard<std::mutex> lock(mutex_);
        is_holding_ = false;
        changed_.notify_all();
    }

    std::atomic<int> resets{0}, actions{0};

private:
    std::mutex mutex_;
    std::condition_variable changed_;
    bool is_holding_{false};
};

chiral::ClientOptions in_time() {
    chiral::ClientOptions options;
    options.connect_timeout = 20;
    options.print_waiting = false;
    return options;
}

std::string refused(const std::string& uri, chiral::ClientOptions options) {
    return test::thrown<chiral::Error>([&] { chiral::PolicyClient(uri, std::move(options)).connect(); });
}

// ---- tokens ---------------------------------------------------------------------------------------

TEST(a_policy_without_the_token_does_not_reach_the_robot) {
    chiral::ServerOptions options;
    options.token = token;
    Arm arm(options);
    arm.start();
    auto client = in_time();
    CHECK_HAS(refused(arm.uri(), client), "401");
    client.token = wrong_token;
    CHECK_HAS(refused(arm.uri(), client), "401");
    client.token = chiral::Token(" " + token + "\n");
    chiral::PolicyClient(arm.uri(), client).connect().get_obs();

    const std::string path = "/tmp/chiral-cpp-token-" + std::to_string(getpid());
    std::FILE* file = std::fopen(path.c_str(), "w");
    CHECK(file && std::fputs((token + "\n").c_str(), file) >= 0);
    std::fclose(file);
    client.token = chiral::Token::from_file(path);
    chiral::PolicyClient(arm.uri(), client).connect().get_obs();
    ::unlink(path.c_str());
    CHECK_HAS(refused(arm.uri(), client), "the token cannot be read from " + path);
    ::setenv("CHIRAL_CPP_TOKEN", token.c_str(), 1);
    client.token = chiral::Token::from_env("CHIRAL_CPP_TOKEN");
    chiral::PolicyClient(arm.uri(), client).connect().get_obs();
    client.token = chiral::Token::from_env("CHIRAL_CPP_NONE");
    CHECK_HAS(refused(arm.uri(), client), "CHIRAL_CPP_NONE");
    client.token = "secret";
    const std::string text = refused(arm.uri(), client);
    CHECK_HAS(text, "found a token of 6 characters");
    CHECK(!test::has(text, "secret"));
}

TEST(a_server_without_its_token_is_not_started) {
    chiral::ServerOptions options;
    options.token = chiral::Token::from_env("CHIRAL_CPP_NONE");
    Arm arm(options);
    CHECK_HAS(test::thrown<chiral::Error>([&] { arm.start(); }), "CHIRAL_CPP_NONE");
    CHECK(arm.uri().empty());
}

// ---- TLS ------------------------------------------------------------------------------------------

std::string file(const std::string& name) { return std::string(std::getenv("CHIRAL_CERTIFICATES")) + "/" + name; }

chiral::ServerOptions secure() {
    chiral::ServerOptions options;
    options.tls = chiral::ServerTls{file("robot/chiral-cert.pem"), file("robot/chiral-key.pem"), ""};
    return options;
}

TEST(over_tls_the_robot_is_the_one_that_is_trusted) {
    if (!std::getenv("CHIRAL_CERTIFICATES")) {
        return;
    }
    auto options = secure();
    options.token = token;
    Arm arm(options);
    CHECK(arm.fingerprint().empty());
    arm.start();
    CHECK(arm.fingerprint().size() == 64);
    CHECK_HAS(arm.uri(), "wss://127.0.0.1:");
    auto client = in_time();
    client.token = token;
    CHECK_HAS(refused(arm.uri(), client), "signed by nobody who is trusted here");
    client.tls = chiral::ClientTls::pinned(std::string(64, '0'));
    CHECK_HAS(refused(arm.uri(), client), "has the SHA-256 fingerprint " + arm.fingerprint());
    client.tls = chiral::ClientTls::pinned("12:34");
    CHECK_HAS(refused(arm.uri(), client), "64 hexadecimal digits");
    client.tls = chiral::ClientTls::trusting(file("policy/chiral-cert.pem"));
    CHECK_HAS(refused(arm.uri(), client), "signed by nobody who is trusted here");
    client.tls = chiral::ClientTls::trusting("/nowhere.pem");
    CHECK_HAS(refused(arm.uri(), client), "/nowhere.pem");
    client.tls = chiral::ClientTls{arm.fingerprint(), file("robot/chiral-cert.pem"), "", ""};
    CHECK_HAS(refused(arm.uri(), client), "expected one of them");
    client.tls = chiral::ClientTls::trusting(file("robot/chiral-cert.pem"));
    chiral::PolicyClient(arm.uri(), client).connect().get_obs();
    client.tls = chiral::ClientTls::pinned(arm.fingerprint());
    chiral::PolicyClient robot(arm.uri(), client);
    CHECK(robot.connect().get_obs().proprios.size() == 1);
    const std::string plain = "ws://" + arm.uri().substr(6);
    CHECK_HAS(refused(plain, client), "connect with wss://");
    client.tls.reset();
    client.connect_timeout = 0.5;
    CHECK_HAS(refused(plain, client), "");
}

TEST(a_robot_asks_for_the_certificate_of_the_policy) {
    if (!std::getenv("CHIRAL_CERTIFICATES")) {
        return;
    }
    auto options = secure();
    options.tls->client_authorities = file("policy/chiral-cert.pem");
    Arm arm(options);
    arm.start();
    auto client = in_time();
    const auto robot = chiral::ClientTls::pinned(arm.fingerprint());
    client.tls = robot;
    CHECK_HAS(refused(arm.uri(), client), "asks for a certificate of the client");
    client.tls->certificate = file("policy/chiral-cert.pem");
    CHECK_HAS(refused(arm.uri(), client), "found one of certificate and key, expected both or none");
    client.tls->identity(file("robot/chiral-cert.pem"), file("robot/chiral-key.pem"));
    CHECK_HAS(refused(arm.uri(), client), "certificate");
    client.tls->identity(file("policy/chiral-cert.pem"), file("robot/chiral-key.pem"));
    CHECK_HAS(refused(arm.uri(), client), "the certificate with this key cannot be used");
    client.tls->identity(file("policy/chiral-cert.pem"), file("policy/chiral-key.pem"));
    chiral::PolicyClient(arm.uri(), client).connect().get_obs();

    options.tls->key = file("policy/chiral-key.pem");
    Arm wrong(options);
    CHECK_HAS(test::thrown<chiral::Error>([&] { wrong.start(); }), "the certificate with this key cannot be used");
}

// ---- a connection that is lost --------------------------------------------------------------------

/// A port that nobody listens on.
int free_port() {
    const int socket = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    CHECK(::bind(socket, reinterpret_cast<sockaddr*>(&address), size) == 0);
    CHECK(::getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size) == 0);
    ::close(socket);
    return ntohs(address.sin_port);
}

/// The events of a connection, as they are called with.
class Events {
public:
    std::function<void(const chiral::ConnectionEvent&)> hook() {
        return [this](const chiral::ConnectionEvent& event) {
            const std::lock_guard<std::mutex> lock(mutex_);
            events_.push_back(event);
        };
    }
    std::vector<chiral::ConnectionEvent> all() {
        const std::lock_guard<std::mutex> lock(mutex_);
        return events_;
    }
    bool last_is(Kind kind) {
        return test::soon([&] { return !all().empty() && all().back().kind == kind; });
    }

private:
    std::mutex mutex_;
    std::vector<chiral::ConnectionEvent> events_;
};

chiral::ClientOptions again(Events& events) {
    auto options = in_time();
    options.reconnect.emplace();
    options.reconnect->initial = 0.01;
    options.reconnect->max = 0.05;
    options.on_connection = events.hook();
    return options;
}

TEST(after_a_restart_of_the_robot_nothing_of_before_is_done) {
    const int port = free_port();
    auto first = std::make_unique<Arm>(chiral::ServerOptions(), port);
    first->start();
    Events events;
    chiral::PolicyClient robot(first->uri(), again(events));
    robot.connect();
    const auto old = robot.get_obs();
    robot.put_action({1, 1});
    robot.put_chunk(old, {{2, 2}, {3, 3}});
    CHECK(robot.queued_actions() == 3 && robot.is_connected());

    first->hold_resets();
    std::string in_flight;
    std::thread reset([&] { in_flight = test::thrown<chiral::Interrupted>([&] { robot.reset(); }); });
    CHECK(test::soon([&] { return first->resets == 1; }));
    first->request_stop();
    reset.join();
    CHECK_HAS(in_flight, "whether the robot has acted on the reset is not known");
    CHECK(events.last_is(Kind::Lost) && !robot.is_connected());
    CHECK_HAS(events.all()[0].text, "the connection was interrupted");
    CHECK_HAS(test::thrown<chiral::Interrupted>([&] { robot.put_action({4, 4}); }), "no action is kept for later");
    CHECK_HAS(test::thrown<chiral::Interrupted>([&] { robot.get_obs(); }), "try later");
    CHECK(robot.queued_actions() == 0 && !robot.latest_obs());
    robot.connect();  // it is being connected already
    first.reset();

    Arm second({}, port);
    second.start();
    CHECK(events.last_is(Kind::Restored));
    CHECK(events.all().size() == 2 && events.all()[1].attempts >= 1 && events.all()[1].down_for > 0);
    CHECK(robot.is_connected() && robot.stats().reconnects == 1);
    robot.start_action_dispatch(100);
    CHECK_HAS(test::thrown<chiral::Error>([&] { robot.put_chunk(old, {{5, 5}}); }), "connection");
    robot.reset();  // behind whatever might have been sent
    CHECK(second.actions == 0);
    robot.follow(robot.get_obs(), {{6, 6}});
    CHECK(test::soon([&] { return second.actions == 1; }));
    robot.close();
    CHECK(events.last_is(Kind::Ended));
}

/// Runs a robot at a port in another process.
pid_t serve(int port) {
    std::string self = "/proc/self/exe", as = "--serve", to = std::to_string(port);
    char* arguments[] = {self.data(), as.data(), to.data(), nullptr};
    pid_t pid = 0;
    CHECK(posix_spawn(&pid, self.c_str(), nullptr, nullptr, arguments, environ) == 0);
    return pid;
}

void end(pid_t pid) {
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
}

TEST(a_supervised_policy_lives_through_the_death_of_its_robot) {
    const int port = free_port();
    pid_t served = serve(port);
    auto robot = chiral::PolicyClient::supervised("ws://127.0.0.1:" + std::to_string(port), in_time());
    robot.connect().start_obs_stream(100);
    const auto old = robot.next_obs();
    end(served);
    const auto lost = robot.next_connection_event(20s);
    CHECK(lost && lost->kind == Kind::Lost);
    std::atomic<bool> has_come{false};
    std::thread looking([&] {
        robot.get_obs();
        has_come = true;
    });
    CHECK(!robot.next_connection_event(50ms) && !has_come);
    CHECK(robot.follow(old, {{1, 1}}).discarded);
    CHECK_HAS(test::thrown<chiral::Interrupted>([&] { robot.send_action({1, 1}); }), "decide anew");
    served = serve(port);
    looking.join();
    const auto restored = robot.next_connection_event(20s);
    CHECK(restored && restored->kind == Kind::Restored && restored->attempts >= 1);
    CHECK(robot.next_obs(20s));  // of the stream, which goes on
    robot.close();
    CHECK(robot.next_connection_event(20s)->kind == Kind::Ended && !robot.next_connection_event(20s));
    end(served);
}

TEST(a_robot_that_does_not_come_back_is_given_up) {
    auto arm = std::make_unique<Arm>();
    arm->start();
    Events events;
    auto options = again(events);
    options.reconnect->give_up_after = 0.2;
    chiral::PolicyClient robot(arm->uri(), options);
    robot.connect();
    arm.reset();
    CHECK(events.last_is(Kind::Ended));
    CHECK(events.all().size() == 2 && events.all()[0].kind == Kind::Lost);
    test::thrown<chiral::ConnectionClosed>([&] { robot.get_obs(); });
}

TEST(an_exception_in_the_hook_is_logged_and_a_client_that_moves_keeps_its_hook) {
    const int port = free_port();
    auto arm = std::make_unique<Arm>(chiral::ServerOptions(), port);
    arm->start();
    Events events;
    auto options = again(events);
    options.on_connection = [note = events.hook()](const chiral::ConnectionEvent& event) {
        note(event);
        throw std::runtime_error("the lamp is broken");
    };
    chiral::PolicyClient made(arm->uri(), options);
    made.connect();
    chiral::PolicyClient moved(std::move(made));
    Arm other;
    other.start();
    Events others;
    chiral::PolicyClient robot(other.uri(), again(others));
    robot.connect();
    robot = std::move(moved);
    CHECK(others.last_is(Kind::Ended));
    arm.reset();
    CHECK(events.last_is(Kind::Lost));
    arm = std::make_unique<Arm>(chiral::ServerOptions(), port);
    arm->start();
    CHECK(events.last_is(Kind::Restored));
    robot.get_obs();
    CHECK(test::soon([] { return test::has(Log::all(), "`on_connection` failed: the lamp is broken"); }));
}

/// Last: of all that was logged above, with everything that the log can say.
TEST(no_secret_stands_in_the_log) {
    const std::string log = Log::all();
    CHECK_HAS(log, "401");
    CHECK(!test::has(log, token) && !test::has(log, wrong_token) && !test::has(log, "PRIVATE KEY"));
}

}  // namespace

int main(int argc, char** argv) {
    if (argc == 3 && std::strcmp(argv[1], "--serve") == 0) {
        Arm({}, std::atoi(argv[2])).run();
        return 0;
    }
    chiral::detail::check(chiral_set_log(
        CHIRAL_LOG_DEBUG, [](void*, std::int32_t, const char* text) { Log::add(text); }, nullptr));
    return test::run(argc > 1 ? argv[1] : "");
}
