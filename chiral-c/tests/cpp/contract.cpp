// The contract that a robot declares of its actions: what reaches it, what arms it, what a policy sees.
#include <atomic>
#include <limits>
#include <mutex>

#include <chiral/client.hpp>
#include <chiral/server.hpp>

#include "check.hpp"

namespace {

using chiral::ActionKind;
using chiral::ActionSpec;
using chiral::Arming;
using chiral::ArmingState;
using chiral::OnViolation;

/// Two joints that are where they were last told to be.
class Arm : public chiral::PolicyServer {
public:
    explicit Arm(ActionSpec contract, double watchdog = 0)
        : PolicyServer({}, {{"joint_pos", 2}}, "127.0.0.1", 0, options(std::move(contract), watchdog)) {
        const float home[] = {0, 0};
        update_proprio(0, home, 2);
        start();
    }
    ~Arm() override { stop(); }

    void apply_action(const chiral::Action& action) override {
        const std::lock_guard<std::mutex> lock(mutex_);
        actions_.push_back(action);
        update_proprio(0, action.data.data(), action.data.size());
    }
    void on_watchdog(double) override { ++holds; }
    void on_stop(const std::string& reason, double silent_for) override {
        const std::lock_guard<std::mutex> lock(mutex_);
        why_stopped_ = reason;
        silent_for_ = silent_for;
        ++stops;
    }

    std::vector<chiral::Action> actions() {
        const std::lock_guard<std::mutex> lock(mutex_);
        return actions_;
    }
    std::pair<std::string, double> why_stopped() {
        const std::lock_guard<std::mutex> lock(mutex_);
        return {why_stopped_, silent_for_};
    }
    ArmingState state() const {
        const auto status = contract_status();
        return status ? status->state : ArmingState::Disarmed;
    }

    std::atomic<int> holds{0}, stops{0};

private:
    static chiral::ServerOptions options(ActionSpec contract, double watchdog) {
        chiral::ServerOptions options;
        options.action = std::move(contract);
        options.watchdog = watchdog;
        options.action_queue = chiral::ActionQueue::in_order(100);
        return options;
    }

    std::mutex mutex_;
    std::vector<chiral::Action> actions_;
    std::string why_stopped_;
    double silent_for_{0};
};

ActionSpec joints() { return ActionSpec::vector(2, ActionKind::Absolute).bounds({-1, -2}, {1, 2}); }

chiral::PolicyClient connected(const chiral::PolicyServer& arm) {
    chiral::ClientOptions options;
    options.connect_timeout = 20;
    chiral::PolicyClient robot(arm.uri(), options);
    robot.connect();
    return robot;
}

bool is(const chiral::Action& action, std::vector<float> values) { return action.data == values; }

TEST(the_policy_sees_the_whole_contract) {
    Arm arm(ActionSpec::vector(2, ActionKind::Absolute)
                .hold({0, 0.5F})
                .bounds({-1, -2}, 2)
                .max_step(std::vector<double>{0.5, 0.25})
                .measured_by("joint_pos")
                .on_violation(OnViolation::Clamp)
                .rate(50)
                .hold_after(2)
                .stop_after(1000)
                .arming(Arming::OnReset),
            0.75);
    auto robot = connected(arm);
    CHECK(robot.action_spec().shape().empty() && robot.action_spec().allows_non_finite());
    robot.get_metadata();
    const ActionSpec spec = robot.action_spec();
    CHECK(spec.width() == 2 && spec.kind() == ActionKind::Absolute && spec.dtypes() == chiral::Dtypes::Float);
    CHECK((spec.hold() == std::vector<float>{0, 0.5F}));
    CHECK(spec.low()[1] == -2 && spec.high()[0] == 2 && spec.high()[1] == 2);
    CHECK((spec.max_step().values() == std::vector<float>{0.5F, 0.25F}));
    CHECK(spec.on_violation() == OnViolation::Clamp && spec.arming() == Arming::OnReset);
    CHECK(spec.rate() == 50 && spec.hold_after() == 2 && spec.stop_after() == 1000);
    CHECK(spec.watchdog() == 0.75 && spec.max_obs_age() == 5 && spec.measured_by().empty());
    CHECK(!spec.allows_empty() && !spec.allows_non_finite());
    CHECK_HAS(robot.action_spec_text(), "clamped if not so\nexpected at 50 Hz");

    Arm grid(ActionSpec::shape({2, 3}).dtypes(chiral::Dtypes::Any).allow_empty().rate(50).hold_after(0));
    auto other = connected(grid);
    other.get_metadata();
    CHECK((other.action_spec().shape() == std::vector<std::size_t>{2, 3}) && other.action_spec().width() == 0);
    CHECK(other.action_spec().allows_empty() && other.action_spec().low().empty());
    CHECK(other.action_spec().rate() == 50 && other.action_spec().hold_after() == 0);
    CHECK(other.action_spec().get().hold_after == -1 && ActionSpec().get().hold_after == 0);
}

TEST(what_the_robot_would_refuse_does_not_leave_the_policy) {
    Arm arm(joints());
    auto robot = connected(arm);
    robot.get_metadata();
    const auto obs = robot.get_obs();
    CHECK_HAS(test::thrown<chiral::ContractError>([&] { robot.send_action({3, 0}); }),
              "element 0 of the action is 3, expected -1 to 1");
    CHECK_HAS(test::thrown<chiral::ContractError>([&] { robot.follow(obs, {{0, 0}, {0, 9}}); }), "action 1 of them");
    CHECK_HAS(test::thrown<chiral::ContractError>([&] { robot.put_action({0}); }), "shape");
    CHECK_HAS(test::thrown<chiral::ContractError>([&] { robot.step({9, 0}); }), "does not take the step");
    CHECK(robot.queued_actions() == 0);
}

TEST(an_action_out_of_bounds_is_refused_by_the_robot) {
    Arm arm(joints());
    auto robot = connected(arm);  // which does not know the contract, as it has not asked
    robot.send_action({3, 0});
    robot.send_action({std::numeric_limits<float>::quiet_NaN(), 0});
    robot.send_action({1, -2});
    CHECK(test::soon([&] { return arm.actions().size() == 1; }));
    CHECK(is(arm.actions()[0], {1, -2}) && !arm.actions()[0].clamped);
    CHECK(arm.stats()->dropped_refused == 2 && arm.contract_status()->refused == 2);
    robot.get_obs();
    CHECK(robot.contract_status()->refused == 2 && robot.contract_status()->state == ArmingState::Moving);
}

TEST(an_action_out_of_bounds_is_clamped) {
    Arm arm(joints().on_violation(OnViolation::Clamp));
    auto robot = connected(arm);
    robot.send_action({3, 0.5F});
    CHECK(test::soon([&] { return arm.actions().size() == 1; }));
    CHECK(is(arm.actions()[0], {1, 0.5F}) && arm.actions()[0].clamped);
    CHECK(arm.contract_status()->clamped == 1);
    robot.get_metadata();
    robot.send_action({0, -9});
    CHECK(test::soon([&] { return arm.actions().size() == 2; }));
    CHECK(is(arm.actions()[1], {0, -2}) && robot.stats().actions_clamped == 1);
}

TEST(a_step_is_measured_from_where_the_robot_is) {
    Arm arm(joints().max_step(0.25).measured_by("joint_pos"));
    auto robot = connected(arm);
    robot.send_action({0.5F, 0});   // too far from home
    robot.send_action({0.25F, 0});
    robot.send_action({0.5F, 0});
    robot.send_action({0.5F, 1});   // too far from there
    CHECK(test::soon([&] { return arm.contract_status()->refused == 2; }));
    CHECK(test::soon([&] { return arm.actions().size() == 2; }));
    CHECK(is(arm.actions()[0], {0.25F, 0}) && is(arm.actions()[1], {0.5F, 0}));
}

TEST(a_robot_holds_at_the_first_missed_period_and_stops_at_the_last) {
    Arm arm(joints().rate(20).stop_after(4));
    auto robot = connected(arm);
    robot.get_metadata();
    robot.send_action({0.25F, 0});
    CHECK(test::soon([&] { return arm.holds >= 1; }));  // once more, if the action came late
    CHECK(test::soon([&] { return arm.stops == 1; }));
    const auto [why, silent_for] = arm.why_stopped();
    CHECK_HAS(why, "no action has come for");
    CHECK(silent_for >= 0.2 && arm.state() == ArmingState::Stopped);

    robot.get_obs();
    const auto seen = robot.contract_status();
    CHECK(seen && seen->state == ArmingState::Stopped && seen->stops == 1 && seen->missed >= 4);
    CHECK(seen->success_rate() && *seen->success_rate() < 1);
    robot.send_action({0.5F, 0});
    robot.reset();  // which arms nothing here
    CHECK(arm.actions().size() == 1 && arm.contract_status()->not_armed == 1);

    CHECK(arm.arm() && arm.state() == ArmingState::Armed);
    robot.get_obs();  // what was decided before is not executed
    robot.send_action({0.75F, 0});
    CHECK(test::soon([&] { return arm.actions().size() == 2; }));
    CHECK(is(arm.actions()[1], {0.75F, 0}));
}

TEST(what_arms_the_robot_is_its_own_choice) {
    Arm by_reset(joints().arming(Arming::OnReset)), by_hand(joints().arming(Arming::Manual));
    CHECK(!by_hand.arm() && !by_hand.stop_motion() && !by_hand.contract_status());
    auto first = connected(by_reset), second = connected(by_hand);
    for (auto* robot : {&first, &second}) {
        robot->send_action({0.25F, 0});
        robot->reset();
        robot->send_action({0.5F, 0});
        robot->get_obs();
    }
    CHECK(test::soon([&] { return by_reset.actions().size() == 1; }));
    CHECK(is(by_reset.actions()[0], {0.5F, 0}) && by_reset.contract_status()->not_armed == 1);
    CHECK(test::soon([&] { return by_hand.contract_status()->not_armed == 2; }));
    CHECK(by_hand.actions().empty() && by_hand.state() == ArmingState::Disarmed);
    CHECK(by_hand.arm());
    second.get_obs();
    second.send_action({0.75F, 0});
    CHECK(test::soon([&] { return by_hand.actions().size() == 1; }));
}

TEST(a_stop_by_the_robots_own_program_is_latched) {
    Arm arm(joints());
    auto robot = connected(arm);
    robot.send_action({0.25F, 0});
    CHECK(test::soon([&] { return arm.actions().size() == 1; }));
    CHECK(arm.stop_motion());
    CHECK(test::soon([&] { return arm.stops == 1; }));
    CHECK_HAS(arm.why_stopped().first, "its own program stopped it");
    robot.send_action({0.5F, 0});
    robot.reset();
    CHECK(arm.actions().size() == 1 && arm.state() == ArmingState::Stopped);
    robot.close();
    auto next = connected(arm);  // a new connection arms it
    next.send_action({0.5F, 0});
    CHECK(test::soon([&] { return arm.actions().size() == 2; }));
}

TEST(a_stop_is_a_hold_where_nothing_else_is_said_and_its_exception_is_told) {
    struct Plain : chiral::PolicyServer {
        Plain() : PolicyServer({}, {{"q", 1}}, "127.0.0.1", 0) {}
        ~Plain() override { stop(); }
        void apply_action(const chiral::Action&) override {}
        void on_watchdog(double silent_for) override {
            CHECK(silent_for == 0);
            ++holds;
            throw std::runtime_error("the brake does not close");
        }
        std::atomic<int> holds{0};
    } arm;
    arm.start();
    auto robot = connected(arm);
    CHECK(arm.stop_motion());
    CHECK_HAS(test::thrown<chiral::ConnectionClosed>([&] { robot.next_obs(); }), "the brake does not close");
    CHECK(arm.holds == 1);
}

TEST(a_robot_that_pulls_is_told_why_to_hold) {
    chiral::ServerOptions options;
    options.action = joints().on_violation(OnViolation::Clamp).rate(20).stop_after(4);
    chiral::PolicyServer arm({}, {{"joint_pos", 2}}, "127.0.0.1", 0, options);
    chiral::Commands commands = arm.pull();
    CHECK(!commands.arm() && !commands.stop_motion());
    auto robot = connected(arm);
    robot.send_action({3, 0});
    using Kind = chiral::Command::Kind;
    using Reason = chiral::Command::Reason;
    // Of a kind, whatever comes before it: a policy that is slow is told to hold more often.
    const auto next = [&](Kind kind, Reason reason) {
        chiral::Command command;
        const auto is_it = [&] { return command.kind == kind && command.reason == reason; };
        const auto look = [&] { return commands.try_next(command) && is_it(); };
        CHECK(test::soon([&] { return look() || look(); }));
        return command;
    };
    const auto first = next(Kind::Action, Reason::None);
    CHECK(first.clamped && (first.values == std::vector<float>{1, 0}) && !commands.must_hold());
    CHECK(next(Kind::Hold, Reason::Silent).silent_for > 0);
    CHECK(next(Kind::Hold, Reason::Stopped).silent_for > 0 && commands.must_hold());
    CHECK(commands.arm());
    robot.get_obs();
    robot.send_action({0.5F, 0});
    const auto second = next(Kind::Action, Reason::None);
    CHECK(!second.clamped && (second.values == std::vector<float>{0.5F, 0}) && !commands.must_hold());
    CHECK(commands.stop_motion());
    robot.close();
    next(Kind::Hold, Reason::Disconnected);
}

TEST(a_contract_that_cannot_be_is_an_error_when_the_robot_is_started) {
    const std::pair<ActionSpec, const char*> wrong[] = {
        {ActionSpec::vector(2).bounds({-1, -1, -1}, 1), "the bounds: found 3 lower bounds, expected 2 or a single one"},
        {ActionSpec::vector(2).bounds(1, -1), "the lower one first"},
        {ActionSpec::vector(2).bounds(1, {}), "found 0 upper bounds"},
        {ActionSpec::vector(2).max_step(-1), "the largest step: dimension 0 has -1"},
        {ActionSpec().max_step(1), "the largest step: expected actions of a declared shape"},
        {ActionSpec::vector(2).hold({0}), "the hold action"},
        {ActionSpec::vector(2).rate(-5), "rate"},
    };
    for (const auto& [contract, text] : wrong) {
        CHECK_HAS(test::thrown<chiral::Error>([&, &spec = contract] { Arm arm(spec); }), text);
    }
}

}  // namespace

int main(int argc, char** argv) { return test::run(argc > 1 ? argv[1] : ""); }
