// A camera that OpenCV reads, and a robot that goes nowhere. Built where OpenCV is installed.
//
//   example_opencv_camera [device [host [port]]]
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>

#include <opencv2/core.hpp>
#include <opencv2/imgproc.hpp>
#include <opencv2/videoio.hpp>

#include <chiral/server.hpp>

namespace {

volatile std::sig_atomic_t interrupted = 0;

}  // namespace

int main(int argc, char** argv) try {
    std::signal(SIGINT, [](int) { interrupted = 1; });
    chiral::log_to_stderr();
    cv::VideoCapture capture(argc > 1 ? std::atoi(argv[1]) : 0);
    cv::Mat bgr, rgb;
    if (!capture.read(bgr)) {
        std::fprintf(stderr, "the camera gives no image\n");
        return 1;
    }
    chiral::ServerOptions options;
    options.action = chiral::ActionSpec::vector(7, chiral::ActionKind::Absolute).bounds(-2.9, 2.9);
    options.watchdog = 0.5;
    chiral::PolicyServer server({{"camera", bgr.rows, bgr.cols}}, {}, argc > 2 ? argv[2] : "127.0.0.1",
                                argc > 3 ? std::atoi(argv[3]) : 8765, options);
    chiral::Commands commands = server.pull({{"robot", "a camera"}});
    std::vector<float> action(7);
    while (!interrupted && capture.read(bgr)) {
        cv::cvtColor(bgr, rgb, cv::COLOR_BGR2RGB);
        server.update_image(0, rgb.data, rgb.total() * rgb.elemSize());
        while (commands.try_next_action(action)) {
            // There is nothing to move, and so nothing to hold still.
        }
    }
} catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
}
