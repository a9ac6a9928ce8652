// A policy and a robot for peers that are written in other languages.
//
//   interop client URI        asks for everything, streams, acts; fails when something is amiss
//   interop server ADDRESS    serves until its standard input ends; prints its URI
#include <atomic>
#include <cstdio>
#include <cstdlib>

#include <chiral/client.hpp>
#include <chiral/server.hpp>

#include "check.hpp"

namespace {

class Robot : public chiral::PolicyServer {
public:
    explicit Robot(const std::string& address)
        : PolicyServer({{"wrist_cam", 48, 64, 3, true}}, {{"arm", 7}}, host(address), port(address)) {
        const std::vector<uint8_t> image(48 * 64 * 3, 7);
        const std::vector<float> depth(48 * 64, 0.5F);
        publish("wrist_cam", chiral::CameraFrame().image(image).depth(depth));
    }
    ~Robot() override { stop(); }

    chiral::InfoMap get_metadata() override {
        return {{"robot", "in C++"}, {"action_shape", chiral::json("[7]")}};
    }
    void apply_action(const chiral::Action& action) override {
        actions += action.N > 0;
        update_proprio(0, action.data.data(), action.data.size());
    }

    std::atomic<int> actions{0};

private:
    static std::string host(const std::string& address) {
        const auto colon = address.rfind(':');
        return has_scheme(address) ? address : address.substr(0, colon);
    }
    static int port(const std::string& address) {
        return has_scheme(address) ? 0 : std::atoi(address.c_str() + address.rfind(':') + 1);
    }
    static bool has_scheme(const std::string& address) { return address.find('/') != std::string::npos; }
};

int serve(const std::string& address) {
    Robot robot(address);
    robot.start();
    std::printf("%s\n", robot.uri().c_str());
    std::fflush(stdout);
    while (std::getchar() != EOF) {
    }
    robot.stop();
    std::printf("%d actions\n", robot.actions.load());
    return 0;
}

int drive(const std::string& uri) {
    chiral::ClientOptions options;
    options.connect_timeout = 30;
    options.request_timeout = 20;
    chiral::PolicyClient robot(uri, options);
    const std::string metadata = robot.connect().get_metadata_json();
    const auto [begun, info] = robot.reset();
    CHECK(!begun.cameras.empty() && !begun.proprios.empty());
    const auto& camera = begun.cameras[0];
    size_t size = 1;
    for (const int side : camera.image_shape) {
        size *= static_cast<size_t>(side);
    }
    CHECK(camera.image.size() == size && size > 0);
    const size_t width = begun.proprios[0].data.size();
    const std::vector<float> action(width, 0.25F);
    const auto obs = robot.get_obs();
    CHECK(obs.cameras.size() == begun.cameras.size());
    robot.start_obs_stream(100);
    robot.start_action_dispatch(100);
    for (int i = 0; i < 10; ++i) {
        const auto next = robot.next_obs(std::chrono::seconds(20));
        CHECK(next && (*next)[camera.name].image.size() == size);
        robot.follow(*next, {action, action, action});
    }
    robot.send_action(action);
    robot.stop_obs_stream();
    robot.stop_action_dispatch();
    const auto step = robot.step(action);
    CHECK(step.obs.cameras.size() == begun.cameras.size());
    robot.close();
    std::printf("%s: %zu cameras of %zu bytes, %s\n", uri.c_str(), begun.cameras.size(), size, metadata.c_str());
    return 0;
}

}  // namespace

int main(int argc, char** argv) try {
    const std::string role = argc == 3 ? argv[1] : "";
    if (role == "client") {
        return drive(argv[2]);
    }
    if (role == "server") {
        return serve(argv[2]);
    }
    std::fprintf(stderr, "usage: interop client URI | server ADDRESS\n");
    return 2;
} catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
}
