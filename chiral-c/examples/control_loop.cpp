// A robot with a control loop of its own at 1 kHz, which pulls its commands. Ends with Ctrl-C.
//
//   example_control_loop [host [port]]
#include <array>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <thread>

#include <chiral/server.hpp>

namespace {

volatile std::sig_atomic_t interrupted = 0;

}  // namespace

int main(int argc, char** argv) try {
    std::signal(SIGINT, [](int) { interrupted = 1; });
    chiral::log_to_stderr();
    chiral::ServerOptions options;
    // In the place of your arm's. It is no safety function.
    options.action = chiral::ActionSpec::vector(7, chiral::ActionKind::Absolute)  // radians
                         .bounds(-2.9, 2.9)
                         .max_step(0.05)
                         .measured_by("joint_pos")
                         .on_violation(chiral::OnViolation::Clamp)
                         .rate(50)
                         .hold_after(5);  // missed periods, until `must_hold`
    chiral::PolicyServer server({{"wrist_cam", 240, 320}}, {{"joint_pos", 7}},
                                argc > 1 ? argv[1] : "127.0.0.1", argc > 2 ? std::atoi(argv[2]) : 8765,
                                options);
    // In the place of your camera's driver, which has a thread of its own.
    const std::vector<std::uint8_t> image(240 * 320 * 3, 128);
    server.update_image(0, image.data(), image.size());

    std::array<float, 7> position{}, target{}, action{};
    server.update_proprio(0, position.data(), position.size());  // from there the first action is measured
    chiral::Commands commands = server.pull({{"robot", "arm-3"}});
    std::printf("serving at %s\n", server.uri().c_str());
    std::fflush(stdout);
    auto tick = std::chrono::steady_clock::now();
    while (!interrupted) {
        // No call here waits, and none allocates.
        while (commands.try_next_action(action)) {
            target = action;
        }
        if (commands.must_hold()) {
            target = position;  // the policy has gone, or is silent: stop where the arm is
        }
        position = target;  // in the place of your motors
        server.update_proprio(0, position.data(), position.size());
        tick += std::chrono::milliseconds(1);
        std::this_thread::sleep_until(tick);
    }
} catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
}
