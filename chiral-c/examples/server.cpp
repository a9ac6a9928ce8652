// A robot with one camera, joints, and a policy that streams: takes what its contract allows, and holds
// still when the policy is silent or gone. Ends with Ctrl-C.
//
//   example_server [host [port]]
//
// On a network, with CHIRAL_TOKEN set to the secret that its policies know, and CHIRAL_CERTIFICATE to the
// folder into which `chiral cert --out FOLDER` has written.
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <thread>

#include <chiral/server.hpp>

namespace {

constexpr int height = 480, width = 640, joints = 7;

volatile std::sig_atomic_t interrupted = 0;

chiral::ServerOptions options() {
    chiral::ServerOptions options;
    // In the place of your arm's: no other action reaches it. It is no safety function.
    options.action = chiral::ActionSpec::vector(joints, chiral::ActionKind::Absolute)  // radians
                         .bounds(-2.9, 2.9)
                         .max_step(0.05)  // from one action to the next
                         .measured_by("joint_pos")
                         .on_violation(chiral::OnViolation::Clamp)
                         .rate(50)
                         .hold_after(5)     // missed periods: `on_watchdog`
                         .stop_after(100)   // `on_stop`; then it takes no action
                         .arming(chiral::Arming::OnReset);  // before the first one, and after a stop
    if (std::getenv("CHIRAL_TOKEN")) {
        options.token = chiral::Token::from_env("CHIRAL_TOKEN");
    }
    if (const char* folder = std::getenv("CHIRAL_CERTIFICATE")) {
        options.tls.emplace();
        options.tls->certificate = std::string(folder) + "/chiral-cert.pem";
        options.tls->key = std::string(folder) + "/chiral-key.pem";
    }
    return options;
}

class Arm : public chiral::PolicyServer {
public:
    Arm(const std::string& host, int port)
        : PolicyServer({{"wrist_cam", height, width}}, {{"joint_pos", joints}}, host, port, options()),
          camera_([this] { capture(); }) {
        move_to(position_);
    }

    ~Arm() override {
        stop();  // before anything of this class goes: chiral's threads call it
        running_ = false;
        camera_.join();
    }

    chiral::InfoMap get_metadata() override {
        return {{"robot", "arm-3"}, {"control_hz", chiral::json("50")}};
    }

    std::pair<chiral::Observation, chiral::InfoMap> reset() override {
        move_to(std::vector<float>(joints, 0.0F));
        return {make_obs(chiral::now()), {{"object", "ball"}}};
    }

    void apply_action(const chiral::Action& action) override { move_to(action.data); }

    void on_watchdog(double silent_for) override {
        std::printf("no action for %.1f s: holding still\n", silent_for);
        hold();
    }

    void on_stop(const std::string& reason, double) override {
        std::printf("stopped until the next reset (%s): holding still\n", reason.c_str());
        hold();
    }

    void on_disconnect(const std::string& reason) override {
        std::printf("the policy has gone (%s): holding still\n", reason.c_str());
        hold();
    }

private:
    void move_to(const std::vector<float>& target) {
        const std::lock_guard<std::mutex> lock(mutex_);
        position_ = target;  // in the place of your motors
        update_proprio(0, position_.data(), position_.size());
    }

    /// To hold still is to command the joints to stay where they are.
    void hold() {
        const std::lock_guard<std::mutex> lock(mutex_);
        update_proprio(0, position_.data(), position_.size());
    }

    /// In the place of your camera's driver.
    void capture() {
        std::vector<std::uint8_t> image(static_cast<std::size_t>(height * width * 3));
        for (std::uint8_t brightness = 0; running_; ++brightness) {
            std::fill(image.begin(), image.end(), brightness);
            update_image(0, image.data(), image.size());
            std::this_thread::sleep_for(std::chrono::milliseconds(33));
        }
    }

    std::mutex mutex_;
    std::vector<float> position_ = std::vector<float>(joints, 0.0F);
    std::atomic<bool> running_{true};
    std::thread camera_;
};

}  // namespace

int main(int argc, char** argv) try {
    std::signal(SIGINT, [](int) { interrupted = 1; });
    chiral::log_to_stderr();
    Arm arm(argc > 1 ? argv[1] : "127.0.0.1", argc > 2 ? std::atoi(argv[2]) : 8765);
    arm.start();
    std::printf("serving at %s %s\n", arm.uri().c_str(), arm.fingerprint().c_str());
    std::fflush(stdout);
    while (!interrupted) {
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    arm.stop();
} catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
}
