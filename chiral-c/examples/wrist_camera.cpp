// A camera on the wrist: its pose T comes from the joints by forward kinematics, with Eigen, and is
// published together with the image that was taken there.
//
//   example_wrist_camera [host [port]]
#include <atomic>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <thread>

#include <Eigen/Geometry>

#include <chiral/server.hpp>

namespace {

constexpr int height = 240, width = 320, joints = 3;

volatile std::sig_atomic_t interrupted = 0;

using Joints = Eigen::Matrix<float, joints, 1>;

/// The camera's pose in the world: a base that turns, two links of 0.4 m, and the camera 5 cm in
/// front of the last one, which looks along it.
Eigen::Matrix4d camera_to_world(const Joints& q) {
    using Eigen::AngleAxisd, Eigen::Translation3d, Eigen::Vector3d;
    Eigen::Isometry3d pose(AngleAxisd(static_cast<double>(q[0]), Vector3d::UnitZ()));
    pose = pose * Translation3d(0, 0, 0.3) * AngleAxisd(static_cast<double>(q[1]), Vector3d::UnitY()) *
           Translation3d(0.4, 0, 0) * AngleAxisd(static_cast<double>(q[2]), Vector3d::UnitY()) *
           Translation3d(0.4, 0, 0);
    // The camera's x points to the right, its y down, its z along the link.
    Eigen::Matrix3d axes;
    axes.col(0) = -Vector3d::UnitY();
    axes.col(1) = -Vector3d::UnitZ();
    axes.col(2) = Vector3d::UnitX();
    return (pose * Translation3d(0.05, 0, 0) * Eigen::Isometry3d(Eigen::AngleAxisd(axes))).matrix();
}

chiral::CameraConfig wrist() {
    chiral::CameraConfig camera;
    camera.name = "wrist_cam";
    camera.height = height;
    camera.width = width;
    camera.has_depth = true;
    camera.intrinsics << 300, 0, width / 2.0, 0, 300, height / 2.0, 0, 0, 1;
    // A policy is told when the image is older than half a second.
    camera.max_age = 0.5;
    camera.when_stale = chiral::WhenStale::Flag;
    return camera;
}

chiral::ServerOptions options() {
    chiral::ServerOptions options;
    options.action = chiral::ActionSpec::vector(joints, chiral::ActionKind::Absolute)
                         .bounds({-3.1, -1.5, -2.5}, {3.1, 1.5, 2.5})
                         .max_step(0.05)
                         .measured_by("joint_pos")
                         .on_violation(chiral::OnViolation::Clamp);
    options.watchdog = 0.5;
    return options;
}

class Arm : public chiral::PolicyServer {
public:
    Arm(const std::string& host, int port)
        : PolicyServer({wrist()}, {{"joint_pos", joints}}, host, port, options()),
          camera_([this] { capture(); }) {
        update_proprio(0, q_.data(), joints);
    }

    ~Arm() override {
        stop();
        running_ = false;
        camera_.join();
    }

    void apply_action(const chiral::Action& action) override {
        const std::lock_guard<std::mutex> lock(mutex_);
        q_ = Eigen::Map<const Joints>(action.data.data());  // in the place of your motors
        update_proprio(0, q_.data(), joints);
    }

    // The joints stay where they are when nothing new is commanded.
    void on_watchdog(double) override { std::printf("no action: holding still\n"); }
    void on_disconnect(const std::string&) override { std::printf("no policy: holding still\n"); }

private:
    Joints position() {
        const std::lock_guard<std::mutex> lock(mutex_);
        return q_;
    }

    void capture() {
        std::vector<std::uint8_t> image(static_cast<std::size_t>(height * width * 3), 128);
        const std::vector<float> depth(static_cast<std::size_t>(height * width), 0.8F);
        while (running_) {
            // Of the moment of capture, all of it: no observation shows the image with another pose.
            const double captured_at = chiral::now();
            publish("wrist_cam", chiral::CameraFrame()
                                     .image(image)
                                     .depth(depth)
                                     .extrinsics(camera_to_world(position()))
                                     .captured_at(captured_at));
            std::this_thread::sleep_for(std::chrono::milliseconds(33));
        }
    }

    std::mutex mutex_;
    Joints q_ = Joints::Zero();
    std::atomic<bool> running_{true};
    std::thread camera_;
};

}  // namespace

int main(int argc, char** argv) try {
    std::signal(SIGINT, [](int) { interrupted = 1; });
    chiral::log_to_stderr();
    Arm arm(argc > 1 ? argv[1] : "127.0.0.1", argc > 2 ? std::atoi(argv[2]) : 8765);
    arm.start();
    std::printf("serving at %s\n", arm.uri().c_str());
    std::fflush(stdout);
    while (!interrupted) {
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    arm.stop();
} catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
}
