// A policy that looks all the time and plans half a second ahead.
//
//   example_client [uri [seconds]]
//
// For a robot on a network, with CHIRAL_TOKEN set to its token, and CHIRAL_PIN to the fingerprint of its
// certificate.
#include <chrono>
#include <cstdio>
#include <cstdlib>

#include <chiral/client.hpp>

namespace {

/// In the place of your model: joint targets for half a second from when the observation was made, at
/// 50 Hz.
std::vector<std::vector<float>> plan(const chiral::Observation& obs) {
    const auto& image = obs["wrist_cam"].image;  // the memory into which the socket received
    const float brightness = static_cast<float>(image[0]) / 255.0F;
    return std::vector<std::vector<float>>(25, std::vector<float>(7, brightness));
}

chiral::ClientOptions options() {
    chiral::ClientOptions options;
    if (std::getenv("CHIRAL_TOKEN")) {
        options.token = chiral::Token::from_env("CHIRAL_TOKEN");
    }
    if (const char* fingerprint = std::getenv("CHIRAL_PIN")) {
        options.tls = chiral::ClientTls::pinned(fingerprint);
    }
    return options;
}

}  // namespace

int main(int argc, char** argv) try {
    chiral::log_to_stderr();
    // Lives through a restart of the robot; what it had planned before is then dropped.
    auto robot = chiral::PolicyClient::supervised(argc > 1 ? argv[1] : "ws://127.0.0.1:8765", options());
    robot.connect();  // waits for a robot that is not up yet
    std::printf("%s\n", robot.get_metadata_json().c_str());
    std::printf("%s\n", robot.action_spec_text().c_str());  // by it each action is checked
    robot.reset();  // which arms a robot that declares so
    robot.start_obs_stream(30);
    robot.start_action_dispatch(50);  // one row every 20 ms
    const auto end = std::chrono::steady_clock::now() +
                     std::chrono::seconds(argc > 2 ? std::atoi(argv[2]) : 5);
    while (std::chrono::steady_clock::now() < end) {
        const auto obs = robot.next_obs(std::chrono::milliseconds(500));
        if (!obs) {
            std::printf("no observation for half a second\n");
            continue;
        }
        robot.follow(*obs, plan(*obs));  // rows that have passed are skipped
    }
    std::printf("%s\n", robot.stats_text().c_str());
    robot.close();
} catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
}
