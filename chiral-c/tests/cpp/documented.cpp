// Every name of the documented C++ API, used as it is documented: this must compile, and do what it
// says, whatever is added.
#include <map>

#include <chiral/client.hpp>
#include <chiral/server.hpp>
#include <chiral/types.hpp>

#include "check.hpp"

namespace {

class Simulator : public chiral::PolicyServer {
public:
    Simulator() : PolicyServer(cameras(), {{"joint_pos", 7}, {"gripper", 1}}, "127.0.0.1", 0) {
        std::vector<uint8_t> image(static_cast<size_t>(configs_[0].height * configs_[0].width * 3), 10);
        update_image(0, image.data(), image.size());
        std::vector<float> depth(4 * 6, 0.5F);
        update_depth(0, reinterpret_cast<const uint8_t*>(depth.data()), depth.size() * sizeof(float));
        auto K = chiral::Matrix3d::Identity();
        chiral::Matrix3d intrinsics = K;
        intrinsics(0, 0) = 100;
        update_intrinsics(0, intrinsics);
        chiral::Matrix4d extrinsics = chiral::Matrix4d::Identity();
        extrinsics(0, 3) = 0.25;
        update_extrinsics(0, extrinsics);
        const float joints[7] = {0, 1, 2, 3, 4, 5, 6};
        update_proprio(0, joints, 7);
    }

    ~Simulator() override { stop(); }

    chiral::InfoMap get_metadata() override {
        chiral::InfoMap metadata;
        metadata["name"] = "simulator";
        metadata["proprios"] = std::to_string(proprio_configs_.size());
        return metadata;
    }

    std::pair<chiral::Observation, chiral::InfoMap> reset() override {
        count_ = 0;
        return {make_obs(0.0), {{"seed", "17"}}};
    }

    chiral::StepResult step(const chiral::Action& action) override {
        CHECK(action.data.size() == static_cast<size_t>(action.N * action.D));
        chiral::StepResult result;
        result.obs = make_obs(++count_);
        result.reward = action.data[0];
        result.terminated = count_ == 3;
        result.truncated = false;
        result.info["rows"] = std::to_string(action.N);
        return result;
    }

private:
    static std::vector<chiral::CameraConfig> cameras() {
        chiral::CameraConfig wrist;
        wrist.name = "wrist_cam";
        wrist.height = 4;
        wrist.width = 6;
        wrist.channels = 3;
        wrist.has_depth = true;
        wrist.intrinsics = chiral::Matrix3d::Identity();
        wrist.extrinsics = chiral::Matrix4d::Identity();
        chiral::CameraConfig top{"top_cam", 2, 2};
        return {wrist, top};
    }

    int count_ = 0;
};

TEST(the_documented_calls_do_what_they_say) {
    Simulator simulator;
    simulator.start();

    chiral::PolicyClient env(simulator.uri());
    auto [obs, info] = env.connect().reset();
    CHECK(info.at("seed") == "17");
    chiral::InfoMap metadata = env.get_metadata();
    CHECK(metadata["name"] == "simulator" && metadata["proprios"] == "2");

    const auto& camera = obs["wrist_cam"];
    CHECK(camera.name == "wrist_cam");
    CHECK((camera.image_shape == std::vector<int>{4, 6, 3}) && camera.image_dtype == "uint8");
    CHECK(camera.image.size() == 72 && camera.image[71] == 10);
    CHECK(camera.intrinsics(0, 0) == 100 && camera.intrinsics(1, 1) == 1);
    CHECK(camera.extrinsics(0, 3) == 0.25 && camera.extrinsics(3, 3) == 1);
    CHECK(camera.has_depth && camera.depth_dtype == "float32");
    CHECK((camera.depth_shape == std::vector<int>{4, 6}) && camera.depth_data.size() == 96);
    float metres;
    std::memcpy(&metres, camera.depth_data.data(), sizeof metres);
    CHECK(metres == 0.5F && camera.depth()[23] == 0.5F);
    CHECK(!obs["top_cam"].has_depth);
    CHECK(obs.proprio("joint_pos").data.at(6) == 6 && obs.proprio("joint_pos").name == "joint_pos");
    CHECK(obs.cameras.size() == 2 && obs.proprios.size() == 2 && obs.timestamp == 0.0);
    CHECK_HAS(test::thrown<std::out_of_range>([&obs = obs] { obs["front"]; }), "\"wrist_cam\", \"top_cam\"");
    CHECK_HAS(test::thrown<std::out_of_range>([&obs = obs] { obs.proprio("q"); }), "joint_pos");

    chiral::Action action;
    action.data = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14};
    action.N = 2;
    action.D = 7;
    for (int i = 1; i <= 3; ++i) {
        chiral::StepResult result = env.step(action);
        CHECK(result.obs.timestamp == i && result.reward == 1.0F && !result.truncated);
        CHECK(result.terminated == (i == 3) && result.info["rows"] == "2");
    }
    env.close();
    CHECK_HAS(test::thrown<chiral::ConnectionClosed>([&] { env.reset(); }), "connect again");
    env.connect();
    env.reset();
}

TEST(what_takes_a_vector_of_pixels_takes_an_image) {
    Simulator simulator;
    const chiral::Observation obs = simulator.make_obs(1.5);
    chiral::CameraInfo camera = obs["wrist_cam"];
    std::vector<uint8_t> copy = camera.image;
    CHECK(copy.size() == 72 && camera.image.is_view());
    uint64_t sum = 0;
    for (uint8_t pixel : obs["wrist_cam"].image) {
        sum += pixel;
    }
    CHECK(sum == 720);
    const uint8_t* before = camera.image.cdata();
    CHECK(before == obs["wrist_cam"].image.data());
    camera.image[0] = 99;
    CHECK(!camera.image.is_view() && camera.image.cdata() != before);
    CHECK(camera.image.at(0) == 99 && obs["wrist_cam"].image[0] == 10);
    CHECK(camera.image != obs["wrist_cam"].image);
    camera.image = std::vector<uint8_t>(3, 7);
    camera.image.push_back(8);
    camera.image.resize(5);
    CHECK((camera.image.vec() == std::vector<uint8_t>{7, 7, 7, 8, 0}));
    CHECK_HAS(test::thrown<std::out_of_range>([&] { camera.image.at(5); }), "byte 5 of 5");
    chiral::Pixels a(2, 1), b{3};
    a.swap(b);
    CHECK(a.size() == 1 && b.back() == 1);
    a.assign(copy.begin(), copy.end());
    CHECK(a == obs["wrist_cam"].image);
}

TEST(an_image_outlives_its_observation_and_its_robot) {
    chiral::Pixels image;
    {
        Simulator simulator;
        image = simulator.make_obs(0)["wrist_cam"].image;
    }
    CHECK(image.is_view() && image.cdata()[71] == 10);
}

TEST(wrong_sizes_are_told_and_the_old_image_stays) {
    Simulator simulator;
    const std::vector<uint8_t> image(71, 20);
    CHECK_HAS(test::thrown<chiral::Error>([&] { simulator.update_image(0, image.data(), image.size()); }),
              "takes 72 elements");
    CHECK_HAS(test::thrown<chiral::Error>([&] { simulator.update_image(9, image.data(), image.size()); }),
              "there is no camera 9");
    const float depth[4] = {};
    CHECK_HAS(test::thrown<chiral::Error>([&] { simulator.update_depth(1, depth, 4); }), "no depth map");
    CHECK_HAS(test::thrown<chiral::Error>([&] { simulator.update_proprio(0, depth, 4); }), "joint_pos");
    CHECK(simulator.make_obs(0)["wrist_cam"].image[0] == 10);
}

}  // namespace

int main(int argc, char** argv) { return test::run(argc > 1 ? argv[1] : ""); }
