// A robot as robots were written before there were streams: it steps. A policy that streams drives it
// too, as an action is then a step whose result nobody asks for.
//
//   example_legacy_server [host [port]]
#include <cstdio>
#include <cstdlib>
#include <mutex>

#include <chiral/server.hpp>

namespace {

constexpr int height = 240, width = 320, joints = 7;

chiral::ServerOptions options() {
    chiral::ServerOptions options;
    options.action = chiral::ActionSpec::vector(joints, chiral::ActionKind::Absolute).bounds(-2.9, 2.9);
    options.watchdog = 2;  // this policy computes between its steps
    return options;
}

class Arm : public chiral::PolicyServer {
public:
    Arm(const std::string& host, int port)
        : PolicyServer({{"top_cam", height, width}}, {{"joint_pos", joints}}, host, port, options()) {
        render(0);
    }

    chiral::InfoMap get_metadata() override { return {{"robot", "arm-3"}}; }

    std::pair<chiral::Observation, chiral::InfoMap> reset() override {
        steps_ = 0;
        render(0);
        return {make_obs(0.0), {{"episode", std::to_string(++episode_)}}};
    }

    chiral::StepResult step(const chiral::Action& action) override {
        const float* last = action.data.data() + (action.N - 1) * action.D;
        update_proprio(0, last, static_cast<std::size_t>(action.D));
        render(++steps_);
        chiral::StepResult result;
        result.obs = make_obs(static_cast<double>(steps_) * 0.1);
        result.reward = 1.0F;
        result.terminated = steps_ == 20;
        result.info["steps"] = std::to_string(steps_);
        return result;
    }

    void on_watchdog(double) override { std::printf("no action: the arm stays where it is\n"); }
    void on_disconnect(const std::string&) override {
        std::printf("the policy has gone: the arm stays where it is\n");
    }

private:
    void render(int step) {
        const std::vector<std::uint8_t> image(static_cast<std::size_t>(height * width * 3),
                                              static_cast<std::uint8_t>(10 * step));
        update_image(0, image.data(), image.size());
    }

    int steps_ = 0, episode_ = 0;
};

}  // namespace

int main(int argc, char** argv) try {
    chiral::log_to_stderr();
    Arm arm(argc > 1 ? argv[1] : "127.0.0.1", argc > 2 ? std::atoi(argv[2]) : 8765);
    arm.run();  // until Ctrl-C
} catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
}
