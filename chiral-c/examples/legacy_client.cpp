// A policy of the coupled kind: it acts, and waits for what comes of it.
//
//   example_legacy_client [uri]
#include <cstdio>

#include <chiral/client.hpp>

int main(int argc, char** argv) try {
    chiral::PolicyClient env(argc > 1 ? argv[1] : "ws://127.0.0.1:8765");
    auto [obs, info] = env.connect().reset();
    std::printf("episode %s, %zu cameras\n", info["episode"].c_str(), obs.cameras.size());
    float total = 0;
    for (bool done = false; !done;) {
        chiral::Action action;
        action.data = obs.proprio("joint_pos").data;  // in the place of your model
        action.N = 1;
        action.D = static_cast<int>(action.data.size());
        chiral::StepResult result = env.step(action);
        total += result.reward;
        done = result.terminated || result.truncated;
        obs = std::move(result.obs);
    }
    std::printf("return %.1f\n", static_cast<double>(total));
    env.close();
} catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
}
