// What is new beside the documented API, and what happens when things go wrong.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <mutex>

#include <chiral/client.hpp>
#include <chiral/server.hpp>

#include "check.hpp"

extern char** environ;

#ifndef CHIRAL_NO_EIGEN
double plain_identity();
#endif

namespace {

using namespace std::chrono_literals;

constexpr int height = 48, width = 64;

/// A robot that notes what it is told, and throws where it is asked to.
class Arm : public chiral::PolicyServer {
public:
    explicit Arm(chiral::ServerOptions options = {}, const std::string& host = "127.0.0.1")
        : PolicyServer({{"wrist_cam", height, width}, {"top_cam", 2, 2}}, {{"joint_pos", 2}}, host, 0,
                       std::move(options)) {
        show(1);
    }
    ~Arm() override { stop(); }

    void show(uint8_t brightness) {
        const std::vector<uint8_t> image(static_cast<size_t>(height * width * 3), brightness);
        publish("wrist_cam", chiral::CameraFrame().image(image).captured_at(100.0 + brightness));
    }

    chiral::InfoMap get_metadata() override {
        fail("metadata");
        return {{"robot", "arm"}, {"hz", chiral::json("50")}, {"shape", chiral::json("[1, 2]")}};
    }
    std::pair<chiral::Observation, chiral::InfoMap> reset() override {
        fail("reset");
        return {make_obs(5), {}};
    }
    void apply_action(const chiral::Action& action) override {
        fail("apply_action");
        const std::lock_guard<std::mutex> lock(mutex_);
        actions_.push_back(action.data);
        update_proprio(0, action.data.data(), action.data.size());
    }
    chiral::Observation get_obs() override {
        fail("get_obs");
        return make_obs(7);
    }
    chiral::StepResult step(const chiral::Action& action) override {
        fail("step");
        return PolicyServer::step(action);
    }
    void on_connect() override { fail("on_connect"); }
    void on_watchdog(double silent_for) override {
        CHECK(silent_for > 0);
        ++watchdogs;
        fail("on_watchdog");
    }
    void on_disconnect(const std::string& reason) override {
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            reason_ = reason;
        }
        ++disconnects;
        fail("on_disconnect");
    }
    void on_actions_dropped(std::uint64_t count, const std::string& why) override {
        dropped += count;
        CHECK(!why.empty());
        fail("on_actions_dropped");
    }

    /// From now on this function throws.
    void fail_in(const std::string& what) {
        const std::lock_guard<std::mutex> lock(mutex_);
        failing_ = what;
    }
    std::vector<std::vector<float>> actions() {
        const std::lock_guard<std::mutex> lock(mutex_);
        return actions_;
    }
    std::string reason() {
        const std::lock_guard<std::mutex> lock(mutex_);
        return reason_;
    }

    std::atomic<int> watchdogs{0}, disconnects{0};
    std::atomic<std::uint64_t> dropped{0};

private:
    void fail(const char* what) {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (failing_ == what) {
            throw std::runtime_error(std::string(what) + ": joint 3 is at its limit");
        }
        if (failing_ == std::string("int in ") + what) {
            throw 7;
        }
    }

    std::mutex mutex_;
    std::string failing_, reason_;
    std::vector<std::vector<float>> actions_;
};

chiral::ServerOptions two_joints() {
    chiral::ServerOptions options;
    options.action = chiral::ActionSpec::vector(2, chiral::ActionKind::Absolute);
    return options;
}

chiral::ClientOptions in_time() {
    chiral::ClientOptions options;
    options.connect_timeout = 20;
    return options;
}

TEST(observations_stream_and_images_are_not_copied) {
    Arm arm;
    arm.start();
    chiral::PolicyClient robot(arm.uri(), in_time());
    robot.connect();
    CHECK(!robot.latest_obs());
    CHECK(!robot.next_obs(1ms));
    robot.start_obs_stream(200);
    const auto first = robot.next_obs(20s);
    CHECK(first && (*first)["wrist_cam"].image.is_view());
    CHECK((*first)["wrist_cam"].timestamp == 101.0);
    arm.show(2);
    CHECK(test::soon([&] { return robot.next_obs()["wrist_cam"].image[5] == 2; }));
    CHECK((*first)["wrist_cam"].image[5] == 1);
    const auto latest = robot.latest_obs();
    CHECK(latest && (*latest)["wrist_cam"].timestamp == 102.0);
    robot.stop_obs_stream();
    CHECK(robot.get_obs().timestamp == 7);
    const auto stats = robot.stats();
    CHECK(stats.observations > 2 && stats.round_trip_p50 > 0 && stats.bytes_received > 20000);
    CHECK_HAS(robot.stats_text(), "observations");
    CHECK(arm.stats() && arm.stats()->observations > 2);
    CHECK_HAS(arm.stats_text(), "observations");
}

TEST(metadata_keeps_the_types_of_its_values) {
    Arm arm(two_joints());
    arm.start();
    chiral::PolicyClient robot(arm.uri(), in_time());
    auto metadata = robot.connect().get_metadata();
    CHECK(metadata["robot"] == "arm" && metadata["hz"] == "50" && metadata["shape"] == "[1,2]");
    CHECK_HAS(metadata["chiral"], "absolute");
    CHECK_HAS(robot.get_metadata_json(), "\"hz\":50");
}

TEST(actions_are_sent_queued_replaced_and_followed) {
    auto options = two_joints();
    options.action_queue = chiral::ActionQueue::in_order(100);
    Arm arm(options);
    arm.start();
    chiral::PolicyClient robot(arm.uri(), in_time());
    robot.connect().get_metadata();
    robot.send_action({0.5F, 1.5F});
    CHECK(test::soon([&] { return arm.actions().size() == 1; }));
    CHECK((arm.actions()[0] == std::vector<float>{0.5F, 1.5F}));
    const auto obs = robot.get_obs();
    CHECK((obs.proprio("joint_pos").data == std::vector<float>{0.5F, 1.5F}));

    robot.put_action({1, 1});
    robot.put_chunk(obs, {{2, 2}, {3, 3}});
    CHECK(robot.queued_actions() == 3);
    CHECK(robot.replace_actions(obs, {{4, 4}}) == 3);
    CHECK(robot.clear_actions() == 1 && robot.queued_actions() == 0);

    const auto placed = robot.follow(obs, {{5, 5}, {6, 6}, {7, 7}});
    CHECK(placed.skipped == 0 && placed.first && placed.delay && !placed.late);
    const auto context = robot.plan_context(obs);
    CHECK(context.base == placed.base && context.spans.size() == 1 && context.spans[0].count == 3);
    CHECK(context.spans[0].chunk == placed.chunk && context.spans[0].row == 0);
    const auto blended = robot.follow(obs, chiral::Action{{7, 7, 8, 8, 9, 9}, 3, 2},
                                      chiral::FollowOptions().blend(0.5).average_only({0}));
    CHECK(blended.blended == 3 && blended.chunk == placed.chunk + 1);
    robot.refill_at(1);
    robot.set_starved(CHIRAL_DECLARED);
    CHECK(!robot.plan_low(0s));
    robot.start_action_dispatch(100);
    CHECK(robot.plan_low(20s));
    CHECK(test::soon([&] { return arm.actions().size() >= 4; }));
    CHECK((arm.actions()[1] == std::vector<float>{6, 7}));
    robot.stop_action_dispatch();
    robot.interpolate(1);
    CHECK_HAS(test::thrown<chiral::Error>([&] { robot.put_chunk(obs, {{1, 2}, {3}}); }), "expected 2");
    CHECK_HAS(test::thrown<chiral::Error>([&] { robot.follow(chiral::Observation(), {{1, 2}}); }),
              "did not come from a robot");
    CHECK_HAS(test::thrown<chiral::Error>([&] { robot.start_obs_stream(0); }), "no rate");
    CHECK_HAS(test::thrown<chiral::Error>([&] { robot.start_action_dispatch(-1); }), "no rate");
}

TEST(an_action_has_as_many_values_as_its_rows) {
    Arm arm;
    arm.start();
    chiral::PolicyClient robot(arm.uri(), in_time());
    robot.connect();
    const auto obs = robot.get_obs();
    const std::vector<float> six(6);
    constexpr int large = std::numeric_limits<int>::max();
    for (const chiral::Action& wrong :
         {chiral::Action{six, 1, 7}, chiral::Action{six, 1, 5}, chiral::Action{six, 0, 0}, chiral::Action{six, -2, -3},
          chiral::Action{{}, 0, -1}, chiral::Action{{}, -1, 0}, chiral::Action{six, large, large}}) {
        const auto text = "values, expected N rows of D: N is " + std::to_string(wrong.N);
        CHECK_HAS(test::thrown<chiral::Error>([&] { robot.step(wrong); }), text);
        CHECK_HAS(test::thrown<chiral::Error>([&] { robot.put_chunk(obs, wrong); }), text);
        CHECK_HAS(test::thrown<chiral::Error>([&] { robot.follow(obs, wrong); }), text);
    }
    CHECK(robot.queued_actions() == 0 && arm.actions().empty());
    robot.put_chunk(obs, chiral::Action{six, 2, 3});
    CHECK(robot.queued_actions() == 2);
}

TEST(a_full_queue_is_told) {
    Arm arm;
    arm.start();
    auto options = in_time();
    options.queue_capacity = 2;
    chiral::PolicyClient robot(arm.uri(), options);
    robot.connect();
    robot.put_action({1});
    robot.put_action({2});
    CHECK_HAS(test::thrown<chiral::Error>([&] { robot.put_action({3}); }), "2 of 2 places");
}

TEST(what_does_not_fit_is_dropped_and_told) {
    Arm arm(two_joints());
    arm.start();
    chiral::PolicyClient robot(arm.uri(), in_time());
    robot.connect();
    robot.send_action({1, 2, 3});
    robot.send_action({std::numeric_limits<float>::quiet_NaN(), 0});
    CHECK(test::soon([&] { return arm.dropped == 2; }));
    CHECK(arm.actions().empty() && arm.stats()->dropped_refused == 2);
}

TEST(the_robot_is_told_to_hold_when_the_policy_is_silent_and_when_it_goes) {
    chiral::ServerOptions options = two_joints();
    options.watchdog = 0.05;
    Arm arm(options);
    arm.start();
    chiral::PolicyClient robot(arm.uri(), in_time());
    robot.connect();
    CHECK(test::soon([&] { return arm.watchdogs == 1; }));
    robot.close();
    CHECK(test::soon([&] { return arm.disconnects == 1; }));
    CHECK_HAS(arm.reason(), "the peer closed the connection");
}

/// With every function of the robot that can throw: the policy is told, and the next one is served.
TEST(an_exception_in_any_callback_ends_the_connection_with_its_text) {
    chiral::ServerOptions options = two_joints();
    options.watchdog = 0.2;
    Arm arm(options);
    arm.start();
    const std::vector<std::pair<const char*, std::function<void(chiral::PolicyClient&)>>> calls = {
        {"metadata", [](auto& robot) { robot.get_metadata(); }},
        {"reset", [](auto& robot) { robot.reset(); }},
        {"get_obs", [](auto& robot) { robot.get_obs(); }},
        {"step", [](auto& robot) { robot.step({1, 2}); }},
        {"apply_action", [](auto& robot) { robot.send_action({1, 2}); robot.next_obs(); }},
        {"on_connect", [](auto& robot) { robot.next_obs(); }},
        {"on_watchdog", [](auto& robot) { robot.next_obs(); }},
        {"on_actions_dropped", [](auto& robot) { robot.send_action({1}); robot.next_obs(); }},
    };
    for (const auto& [what, call] : calls) {
        arm.fail_in(what);
        chiral::PolicyClient robot(arm.uri(), in_time());
        robot.connect();
        const auto text = test::thrown<chiral::ConnectionClosed>([&, &call = call] { call(robot); });
        CHECK_HAS(text, what);
        CHECK_HAS(text, "joint 3 is at its limit");
        arm.fail_in("");
    }
    arm.fail_in("int in reset");
    chiral::PolicyClient robot(arm.uri(), in_time());
    robot.connect();
    CHECK_HAS(test::thrown<chiral::ConnectionClosed>([&] { robot.reset(); }), "no std::exception");
    arm.fail_in("on_disconnect");
    chiral::PolicyClient(arm.uri(), in_time()).connect().close();
    arm.fail_in("");
    robot.connect();
    robot.reset();
}

TEST(a_robot_that_only_steps_is_driven_by_a_policy_that_streams) {
    struct Steps : chiral::PolicyServer {
        Steps() : PolicyServer({}, {{"q", 1}}, "127.0.0.1", 0) {}
        ~Steps() override { stop(); }
        chiral::StepResult step(const chiral::Action& action) override {
            update_proprio(0, action.data.data(), 1);
            return {};
        }
    } arm;
    arm.start();
    chiral::PolicyClient robot(arm.uri(), in_time());
    robot.connect().send_action({0.5F});
    CHECK(test::soon([&] { return robot.get_obs().proprio("q").data[0] == 0.5F; }));
    chiral::PolicyServer nothing({}, {}, "127.0.0.1", 0);
    nothing.start();
    chiral::PolicyClient other(nothing.uri(), in_time());
    other.connect().send_action({0.5F});
    CHECK_HAS(test::thrown<chiral::ConnectionClosed>([&] { other.next_obs(); }), "override apply_action");
}

TEST(a_robot_pulls_its_commands) {
    auto options = two_joints();
    options.pull_observations = true;
    Arm arm(options);
    chiral::Commands commands = arm.pull({{"robot", "pulls"}});
    CHECK(commands.must_hold() && !commands.connected());
    std::thread policy([&arm] {
        chiral::PolicyClient robot(arm.uri(), in_time());
        robot.connect();
        robot.get_metadata();
        robot.send_action({0.5F, 0.75F});
        robot.reset();
        robot.step({3, 4});
        robot.get_obs();
    });
    std::vector<chiral::Command> got;
    chiral::Command command;
    for (bool gone = false; !gone;) {
        while (commands.try_next(command)) {
            got.push_back(command);
            switch (command.kind) {
                case chiral::Command::Kind::Reset: commands.reply_reset({{"seed", "1"}}); break;
                case chiral::Command::Kind::Step: commands.reply_step(); break;
                case chiral::Command::Kind::Observe: commands.reply_observation(arm.make_obs(3)); break;
                case chiral::Command::Kind::Hold: gone = command.silent_for == 0; break;
                case chiral::Command::Kind::Action: CHECK(!commands.must_hold()); break;
            }
        }
        std::this_thread::sleep_for(1ms);
    }
    policy.join();
    using Kind = chiral::Command::Kind;
    std::vector<Kind> kinds;
    for (const auto& one : got) {
        if (one.kind != Kind::Hold || one.silent_for == 0) {
            kinds.push_back(one.kind);
        }
    }
    CHECK((kinds == std::vector<Kind>{Kind::Action, Kind::Reset, Kind::Step, Kind::Observe, Kind::Hold}));
    CHECK((got[0].values == std::vector<float>{0.5F, 0.75F}) && commands.must_hold());
    CHECK_HAS(test::thrown<chiral::Error>([&] { commands.reply_reset(); }), "no reset to answer");
}

TEST(a_control_loop_takes_actions_and_nothing_else) {
    Arm arm(two_joints());
    chiral::Commands commands = arm.pull();
    std::atomic<bool> done{false}, has_come{false};
    std::thread policy([&] {
        chiral::PolicyClient robot(arm.uri(), in_time());
        robot.connect().reset();
        robot.send_action({0.5F, 0.75F});
        robot.get_obs();
        done = true;
        // What the robot has not taken when its policy goes is dropped.
        while (!has_come) {
            std::this_thread::sleep_for(1ms);
        }
    });
    std::array<float, 2> action{};
    while (!done || !has_come) {
        if (commands.try_next_action(action)) {
            has_come = true;
        }
        std::this_thread::sleep_for(1ms);
    }
    policy.join();
    CHECK(action[0] == 0.5F && action[1] == 0.75F);
#ifndef CHIRAL_NO_EIGEN
    Eigen::Vector2f vector;
    commands.try_next_action(vector);
#endif
}

TEST(the_sensors_are_waited_for) {
    chiral::PolicyServer server({{"a", 1, 1}}, {{"q", 1}}, "127.0.0.1", 0);
    CHECK_HAS(test::thrown<chiral::Timeout>([&] { server.wait_ready(1ms); }), "\"a\", \"q\"");
    std::uint64_t number = 0;
    CHECK(!server.wait_image(0, number, 1ms));
    const std::vector<uint8_t> image(3);
    std::thread camera([&] { server.update_image(0, image.data(), image.size()); });
    CHECK(server.wait_image(0, number, 20s) && number == 1);
    camera.join();
    const float q = 1;
    server.update_proprio(0, &q, 1);
    server.wait_ready(20s);
}

TEST(an_observation_of_the_robots_own_arrives_as_it_was_made) {
    struct Own : chiral::PolicyServer {
        Own() : PolicyServer({{"a", 2, 2}}, {}, "127.0.0.1", 0) {}
        ~Own() override { stop(); }
        chiral::Observation get_obs() override {
            auto obs = make_obs(1);
            chiral::CameraInfo own;
            own.name = "own";
            own.image = std::vector<uint8_t>{1, 2, 3, 4};
            own.image_shape = {2, 2};
            own.has_depth = true;
            own.depth_data = std::vector<uint8_t>(8, 0);
            own.depth_shape = {2, 1};
            obs.cameras.push_back(own);
            obs.camera("a").image[3] = 9;
            obs.proprios.push_back({"q", {1.5F}});
            obs.extra["note"] = chiral::json("{\"deep\": [1]}");
            return obs;
        }
    } server;
    server.start();
    chiral::PolicyClient robot(server.uri(), in_time());
    const auto obs = robot.connect().get_obs();
    CHECK(obs["own"].image[2] == 3 && (obs["own"].image_shape == std::vector<int>{2, 2}));
    CHECK(obs["own"].depth_data.size() == 8 && obs["own"].depth_dtype == "float32");
    CHECK(obs["a"].image[3] == 9 && obs["a"].image[4] == 0);
    CHECK(obs.proprio("q").data[0] == 1.5F && obs.extra.at("note") == "{\"deep\":[1]}");
    CHECK(server.make_obs(0)["a"].image[3] == 0);
}

TEST(what_else_a_robot_says_stays_what_it_was) {
    struct Says : chiral::PolicyServer {
        Says() : PolicyServer({camera()}, {}, "127.0.0.1", 0) {
            const std::vector<uint8_t> image(3);
            publish(0, chiral::CameraFrame().image(image));
            set_extra({{"force", chiral::json("12.5")}, {"shape", chiral::json("[1, 2]")}, {"serial", "17"}});
        }
        ~Says() override { stop(); }
        std::pair<chiral::Observation, chiral::InfoMap> reset() override {
            auto obs = make_obs();
            obs.extra["serial"] = "18";
            obs.extra["phase"] = "lift";
            obs.extra.erase("shape");
            return {obs, {}};
        }
        void apply_action(const chiral::Action&) override {}

        static chiral::CameraConfig camera() {
            chiral::CameraConfig config{"a", 1, 1};
            config.max_age = 0.001;
            return config;
        }
    } server;
    server.start();
    chiral::PolicyClient robot(server.uri(), in_time());
    robot.connect();
    std::this_thread::sleep_for(10ms);  // until the image is too old
    const auto json = [](const chiral::Observation& obs) -> std::string {
        const chiral::detail::Handle<chiral_map> extra(chiral_observation_extra(obs.handle.get()));
        return chiral_map_json(extra.get());
    };
    for (const auto& obs : {robot.get_obs(), robot.step({1}).obs}) {
        CHECK_HAS(json(obs), "\"force\":12.5");
        CHECK_HAS(json(obs), "\"shape\":[1,2]");
        CHECK_HAS(json(obs), "\"serial\":\"17\"");
        CHECK_HAS(json(obs), "\"stale_cameras\":{\"a\":0.");
    }
    const auto changed = json(robot.reset().first);
    CHECK_HAS(changed, "\"force\":12.5");
    CHECK_HAS(changed, "\"serial\":\"18\"");
    CHECK_HAS(changed, "\"phase\":\"lift\"");
    CHECK_HAS(changed, "\"stale_cameras\":{\"a\":0.");
    CHECK(!test::has(changed, "shape"));
}

TEST(the_wrong_address_and_the_missing_robot_are_told) {
    auto options = in_time();
    options.connect_timeout = 0.3;
    options.print_waiting = false;
    CHECK_HAS(test::thrown<chiral::Error>([&] { chiral::PolicyClient("ws://127.0.0.1:1", options).connect(); }),
              "no server at");
    CHECK_HAS(test::thrown<chiral::Error>([&] { chiral::PolicyClient("ftp://robot", options).connect(); }), "");
    CHECK_HAS(test::thrown<chiral::Error>([&] { chiral::PolicyClient().get_obs(); }), "call connect() first");
    Arm arm;
    arm.start();
    const int port = std::atoi(arm.uri().c_str() + std::strlen("ws://127.0.0.1:"));
    chiral::PolicyServer second({}, {}, "127.0.0.1", port);
    CHECK_HAS(test::thrown<chiral::Error>([&] { second.run(); }), "cannot be listened on");
    chiral::PolicyClient robot(arm.uri(), in_time());
    robot.connect();
    CHECK_HAS(test::thrown<chiral::Error>([&] { chiral::PolicyClient(arm.uri(), options).connect(); }), "503");
}

TEST(run_returns_when_it_is_stopped_from_elsewhere) {
    Arm arm({}, "unix:/tmp/chiral-cpp-" + std::to_string(getpid()) + ".sock");
    std::thread running([&] { arm.run(); });
    CHECK(test::soon([&] { return !arm.uri().empty(); }));
    chiral::PolicyClient robot(arm.uri(), in_time());
    robot.connect().reset();
    arm.stop();
    running.join();
    CHECK_HAS(test::thrown<chiral::ConnectionClosed>([&] { robot.reset(); }), "shutting down");
}

TEST(many_threads_use_one_client) {
    Arm arm(two_joints());
    arm.start();
    chiral::PolicyClient robot(arm.uri(), in_time());
    robot.connect();
    robot.start_obs_stream(200);
    std::vector<std::thread> threads;
    std::atomic<int> failed{0};
    for (int t = 0; t < 4; ++t) {
        threads.emplace_back([&, t] {
            try {
                for (int i = 0; i < 50; ++i) {
                    robot.get_obs();
                    robot.send_action({static_cast<float>(t), static_cast<float>(i)});
                    robot.next_obs(1ms);
                }
            } catch (const std::exception& error) {
                std::printf("%s\n", error.what());
                ++failed;
            }
        });
    }
    threads.emplace_back([&] {
        for (uint8_t i = 0; i < 100; ++i) {
            arm.show(i);
            arm.make_obs(0);
        }
    });
    for (auto& thread : threads) {
        thread.join();
    }
    CHECK(failed == 0);
}

// ---- peers that do not behave ---------------------------------------------------------------------

/// A plain connection to a server of ours, over TCP or a Unix socket.
class Raw {
public:
    explicit Raw(const std::string& uri)
        : socket_(::socket(uri.rfind("unix:", 0) == 0 ? AF_UNIX : AF_INET, SOCK_STREAM, 0)) {
        if (uri.rfind("unix:", 0) == 0) {
            sockaddr_un address{};
            address.sun_family = AF_UNIX;
            uri.copy(address.sun_path, sizeof address.sun_path - 1, std::strlen("unix:"));
            CHECK(::connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
            return;
        }
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        const int port = std::atoi(uri.c_str() + std::strlen("ws://127.0.0.1:"));
        address.sin_port = htons(static_cast<uint16_t>(port));
        CHECK(::connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
        const timeval timeout{20, 0};
        ::setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
    }
    ~Raw() { ::close(socket_); }
    Raw(const Raw&) = delete;
    Raw& operator=(const Raw&) = delete;

    void send(const std::string& bytes) {
        CHECK(::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size()));
    }
    std::string receive() {
        char buffer[4096];
        const ssize_t count = ::recv(socket_, buffer, sizeof buffer, 0);
        return count > 0 ? std::string(buffer, static_cast<size_t>(count)) : "";
    }
    void open() {
        send("GET / HTTP/1.1\r\nHost: robot\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
             "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
        CHECK_HAS(receive(), "101");
    }
    /// A binary message, masked with zeros.
    void message(const std::string& payload) {
        CHECK(payload.size() < 126);
        send(std::string("\x82", 1) + static_cast<char>(0x80 + payload.size()) + std::string(4, '\0') + payload);
    }

private:
    int socket_;
};

TEST(malformed_frames_end_their_connection_and_nothing_else) {
    Arm arm;
    arm.start();
    const std::string frames[] = {
        std::string("\xff\xff\xff\xff", 4),
        std::string("\x05\0\0\0hello", 9),
        std::string("\x10\0\0\0\x81\xa4type", 10),
        std::string("\x0b\0\0\0\x81\xa4type\xa5reset", 15),
        std::string(100, 'x'),
        "",
    };
    int ended = 0;
    for (const auto& frame : frames) {
        Raw raw(arm.uri());
        raw.open();
        raw.message(frame);
        CHECK(!raw.receive().empty());  // why it is closed
        ++ended;
        CHECK(test::soon([&] { return arm.disconnects == ended; }));
        CHECK_HAS(arm.reason(), "cannot be read");
    }
    { Raw garbage(arm.uri()); garbage.send("\x16\x03\x01 no HTTP\r\n\r\n"); garbage.receive(); }
    { Raw silent(arm.uri()); }
    chiral::PolicyClient robot(arm.uri(), in_time());
    robot.connect().get_obs();
}

/// Writing to a Unix socket whose other end is closed raises SIGPIPE, if nothing prevents that: it would
/// end this program.
TEST(a_policy_that_goes_before_it_is_answered_harms_nobody) {
    const std::string uri = "unix:/tmp/chiral-cpp-gone-" + std::to_string(getpid()) + ".sock";
    Arm arm({}, uri);
    arm.start();
    for (int i = 1; i <= 3; ++i) {
        Raw raw(uri);
        raw.open();
        for (int request = 0; request < 10; ++request) {
            raw.message(std::string("\x0c\0\0\0\x81\xa4type\xa5reset", 16));
        }
    }
    CHECK(test::soon([&] { return arm.disconnects == 3; }));
    chiral::PolicyClient robot(uri, in_time());
    robot.connect().get_obs();
}

/// Runs this program as another process.
pid_t child(const char* role, const std::string& uri) {
    std::string self = "/proc/self/exe", as = std::string("--") + role, to = uri;
    char* arguments[] = {self.data(), as.data(), to.data(), nullptr};
    pid_t pid = 0;
    CHECK(posix_spawn(&pid, self.c_str(), nullptr, nullptr, arguments, environ) == 0);
    return pid;
}

TEST(a_policy_that_is_killed_is_noticed) {
    Arm arm;
    arm.start();
    const pid_t policy = child("stream", arm.uri());
    CHECK(test::soon([&] { return arm.stats() && arm.stats()->observations > 3; }));
    ::kill(policy, SIGKILL);
    ::waitpid(policy, nullptr, 0);
    CHECK(test::soon([&] { return arm.disconnects == 1; }));
    CHECK_HAS(arm.reason(), "process has ended");
    chiral::PolicyClient robot(arm.uri(), in_time());
    robot.connect().get_obs();
}

TEST(a_robot_that_is_killed_is_noticed) {
    const std::string uri = "unix:/tmp/chiral-cpp-killed-" + std::to_string(getpid()) + ".sock";
    const pid_t served = child("serve", uri);
    chiral::PolicyClient robot(uri, in_time());
    robot.connect().start_obs_stream(100);
    robot.next_obs();
    ::kill(served, SIGKILL);
    ::waitpid(served, nullptr, 0);
    CHECK_HAS(test::thrown<chiral::ConnectionClosed>([&] { while (true) { robot.next_obs(); } }), "ended");
    ::unlink(uri.c_str() + std::strlen("unix:"));
}

/// How much memory the process has, in bytes.
size_t memory() {
    std::FILE* file = std::fopen("/proc/self/statm", "r");
    long pages = 0, resident = 0;
    CHECK(file && std::fscanf(file, "%ld %ld", &pages, &resident) == 2);
    std::fclose(file);
    return static_cast<size_t>(resident) * static_cast<size_t>(::sysconf(_SC_PAGESIZE));
}

/// How many entries a folder has, such as one for each thread of the process, or each descriptor.
long entries(const char* folder) {
    const std::filesystem::directory_iterator all(folder);
    return std::distance(begin(all), end(all));
}

TEST(connecting_again_and_again_leaks_nothing) {
    const char* wanted = std::getenv("CHIRAL_CONNECTS");
    const int connects = wanted ? std::atoi(wanted) : 300;
    Arm arm;
    arm.start();
    size_t before = 0;
    long threads = 0, descriptors = 0;
    const auto settled = [&] {
        return entries("/proc/self/task") <= threads && entries("/proc/self/fd") <= descriptors;
    };
    for (int i = 0; i < connects; ++i) {
        if (i == connects / 5) {
            CHECK(test::soon([&] { return arm.disconnects == i; }));
            before = memory();
            threads = entries("/proc/self/task");
            descriptors = entries("/proc/self/fd");
        }
        chiral::PolicyClient robot(arm.uri(), in_time());
        robot.connect().get_obs();
        robot.close();
    }
    const size_t grown = memory() > before ? memory() - before : 0;
    CHECK(test::soon([&] { return arm.disconnects == connects; }));
    CHECK(test::soon(settled));
    std::printf("       %d connects, the later four fifths of them took %zu KiB; %ld threads, %ld descriptors\n",
                connects, grown / 1024, threads, descriptors);
    // A sanitizer keeps freed memory for a while.
#ifndef CHIRAL_SANITIZED
    CHECK(grown < (8u << 20));
#endif
}

#ifndef CHIRAL_NO_EIGEN
TEST(both_kinds_of_matrices_live_in_one_program) { CHECK(plain_identity() == 1.0); }
#endif

}  // namespace

int main(int argc, char** argv) {
    if (argc == 3 && std::strcmp(argv[1], "--stream") == 0) {
        chiral::PolicyClient robot(argv[2]);
        robot.connect().start_obs_stream(100);
        for (;;) {
            robot.next_obs();
        }
    }
    if (argc == 3 && std::strcmp(argv[1], "--serve") == 0) {
        Arm({}, argv[2]).run();
        return 0;
    }
    return test::run(argc > 1 ? argv[1] : "");
}
