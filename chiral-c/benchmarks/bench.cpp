// What a call costs in C++, all ways in turns within one run, so that what else the computer does falls
// on all of them. `run` beside it builds and runs it.
//
//   bench get_obs RUST_CLIENT [ROUNDS]    get_obs beside the Rust client, which is the example
//                                         bench_client, with 1 and with 8 RGB-D cameras
//   bench loop [ROUNDS]                   a control loop at 1 kHz that pulls its actions: bare, with
//                                         actions at 50 Hz, and with 8 RGB-D cameras at 30 Hz besides
#include <dlfcn.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <sstream>
#include <thread>

#include <chiral/client.hpp>
#include <chiral/server.hpp>

extern char** environ;

// Every allocation of the process, of Rust's too, comes through here.
static thread_local bool counts = false;
static thread_local std::uint64_t allocations = 0;
extern "C" void* __libc_malloc(size_t);
extern "C" void* __libc_calloc(size_t, size_t);
extern "C" void* __libc_realloc(void*, size_t);
extern "C" void* __libc_memalign(size_t, size_t);
extern "C" void* malloc(size_t size) { allocations += counts; return __libc_malloc(size); }
extern "C" void* calloc(size_t n, size_t size) { allocations += counts; return __libc_calloc(n, size); }
extern "C" void* realloc(void* p, size_t size) { allocations += counts; return __libc_realloc(p, size); }
extern "C" void* aligned_alloc(size_t to, size_t size) { allocations += counts; return __libc_memalign(to, size); }
extern "C" int posix_memalign(void** p, size_t to, size_t size) {
    allocations += counts;
    *p = __libc_memalign(to, size);
    return *p ? 0 : 12;
}

namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

constexpr int height = 480, width = 640;

/// RGB-D cameras that publish 30 times a second: 2.15 MB each.
class Cameras : public chiral::PolicyServer {
public:
    explicit Cameras(int count, chiral::ServerOptions options = {}, bool moving = true)
        : PolicyServer(declared(count), {{"joint_pos", 7}}, "127.0.0.1", 0, std::move(options)),
          thread_([this, count, moving] {
              std::vector<std::uint8_t> image(static_cast<size_t>(height * width * 3));
              std::vector<float> depth(static_cast<size_t>(height * width), 0.5F);
              do {
                  ++image[0];
                  for (int i = 0; i < count; ++i) {
                      publish(static_cast<size_t>(i), chiral::CameraFrame().image(image).depth(depth));
                  }
                  for (int i = 0; running_ && i < 33; ++i) {
                      std::this_thread::sleep_for(1ms);
                  }
              } while (running_ && moving);
          }) {}
    ~Cameras() override {
        stop();
        running_ = false;
        thread_.join();
    }

private:
    static std::vector<chiral::CameraConfig> declared(int count) {
        std::vector<chiral::CameraConfig> cameras;
        for (int i = 0; i < count; ++i) {
            cameras.push_back({"camera_" + std::to_string(i), height, width, 3, true});
        }
        return cameras;
    }

    std::atomic<bool> running_{true};
    std::thread thread_;
};

/// Another program, with pipes to it.
class Child {
public:
    explicit Child(std::vector<std::string> arguments) {
        int to[2], from[2];
        if (::pipe(to) != 0 || ::pipe(from) != 0) {
            throw std::runtime_error("no pipe");
        }
        posix_spawn_file_actions_t files;
        posix_spawn_file_actions_init(&files);
        posix_spawn_file_actions_adddup2(&files, to[0], 0);
        posix_spawn_file_actions_adddup2(&files, from[1], 1);
        for (const int end : {to[0], to[1], from[0], from[1]}) {
            posix_spawn_file_actions_addclose(&files, end);
        }
        std::vector<char*> argv;
        for (auto& argument : arguments) {
            argv.push_back(argument.data());
        }
        argv.push_back(nullptr);
        if (posix_spawn(&pid_, argv[0], &files, nullptr, argv.data(), environ) != 0) {
            throw std::runtime_error(arguments[0] + " cannot be started");
        }
        ::close(to[0]);
        ::close(from[1]);
        in_ = ::fdopen(to[1], "w");
        out_ = ::fdopen(from[0], "r");
    }
    ~Child() {
        std::fclose(in_);
        ::kill(pid_, SIGCONT);
        ::kill(pid_, SIGTERM);
        ::waitpid(pid_, nullptr, 0);
        std::fclose(out_);
    }
    Child(const Child&) = delete;
    Child& operator=(const Child&) = delete;

    std::string ask(int number) {
        std::fprintf(in_, "%d\n", number);
        std::fflush(in_);
        std::string line;
        for (int c; (c = std::fgetc(out_)) != EOF && c != '\n';) {
            line += static_cast<char>(c);
        }
        return line;
    }
    void signal(int which) const { ::kill(pid_, which); }

private:
    pid_t pid_ = 0;
    std::FILE *in_ = nullptr, *out_ = nullptr;
};

double quantile(std::vector<double> values, double share) {
    if (values.empty()) {
        return 0;
    }
    std::sort(values.begin(), values.end());
    const auto rank = static_cast<size_t>(std::ceil(share * static_cast<double>(values.size())));
    return values[std::min(std::max<size_t>(rank, 1), values.size()) - 1];
}

void add(std::vector<double>& to, const std::string& numbers) {
    std::istringstream stream(numbers);
    for (double nanoseconds; stream >> nanoseconds;) {
        to.push_back(nanoseconds / 1e6);
    }
}

int get_obs(const std::string& rust, int rounds) {
    for (const int cameras : {1, 8}) {
        // One robot for each client, as a robot has one policy; the images stand still.
        Cameras a(cameras, {}, false), b(cameras, {}, false);
        a.start();
        b.start();
        Child in_rust({rust, a.uri()}), in_cpp({"/proc/self/exe", "--get_obs", b.uri()});
        in_rust.ask(5);
        in_cpp.ask(5);
        std::vector<double> from_rust, from_cpp;
        for (int round = 0; round < rounds; ++round) {
            add(from_rust, in_rust.ask(10));
            add(from_cpp, in_cpp.ask(10));
        }
        const double r50 = quantile(from_rust, 0.5), c50 = quantile(from_cpp, 0.5);
        const double r90 = quantile(from_rust, 0.9), c90 = quantile(from_cpp, 0.9);
        std::printf("%d RGB-D cameras, %.2f MB: p50 Rust %.2f ms, C++ %.2f ms, ratio %.2f; "
                    "p90 Rust %.2f ms, C++ %.2f ms, ratio %.2f (%zu each)\n",
                    cameras, cameras * 2.1504, r50, c50, c50 / r50, r90, c90, c90 / r90, from_cpp.size());
        std::fflush(stdout);
    }
    return 0;
}

/// A policy for `get_obs` above.
int answer_get_obs(const char* uri) {
    chiral::PolicyClient robot(uri);
    robot.connect();
    for (int count; std::scanf("%d", &count) == 1;) {
        std::string took;
        for (int i = 0; i < count; ++i) {
            const auto start = Clock::now();
            robot.get_obs();
            took += std::to_string((Clock::now() - start).count()) + ' ';
        }
        std::printf("%s\n", took.c_str());
        std::fflush(stdout);
    }
    return 0;
}

/// A policy that acts at 50 Hz and, where it is to, looks at 30 Hz.
int act(const char* uri, bool looks) {
    chiral::PolicyClient robot(uri);
    robot.connect();
    if (looks) {
        robot.start_obs_stream(30);
    }
    for (auto tick = Clock::now();; tick = std::max(tick + 20ms, Clock::now())) {
        robot.send_action(std::vector<float>(7, 0.5F));
        robot.latest_obs();
        std::this_thread::sleep_until(tick + 20ms);
    }
}

struct Way {
    const char* name;
    std::vector<double> off{}, empty_calls{}, full_calls{};
    std::uint64_t allocated = 0;
};

void control(Way& way, chiral::Commands* commands) {
    std::array<float, 7> action{};
    const auto end = Clock::now() + 1s;
    auto tick = Clock::now();
    Clock::time_point last{};
    while (tick < end) {
        tick = std::max(tick + 1ms, Clock::now());
        std::this_thread::sleep_until(tick);
        const auto woke = Clock::now();
        if (last != Clock::time_point{}) {
            way.off.push_back(std::abs(std::chrono::duration<double, std::milli>(woke - last).count() - 1));
        }
        last = woke;
        if (commands) {
            allocations = 0;
            counts = true;
            const auto start = Clock::now();
            const bool has_come = commands->try_next_action(action);
            const auto took = Clock::now() - start;
            counts = false;
            way.allocated += allocations;
            (has_come ? way.full_calls : way.empty_calls)
                .push_back(std::chrono::duration<double, std::micro>(took).count());
        }
    }
}

int loop(int rounds) {
    chiral::ServerOptions options;
    options.action = chiral::ActionSpec::vector(7);
    chiral::PolicyServer none({}, {}, "127.0.0.1", 0, options);
    Cameras eight(8, options);
    chiral::Commands without = none.pull(), with = eight.pull();
    Child acts({"/proc/self/exe", "--act", none.uri()}), looks({"/proc/self/exe", "--look", eight.uri()});
    std::this_thread::sleep_for(1s);
    acts.signal(SIGSTOP);
    looks.signal(SIGSTOP);
    Way ways[] = {{"without chiral"}, {"with actions at 50 Hz"}, {"and 8 RGB-D cameras at 30 Hz"}};
    for (int round = 0; round < rounds; ++round) {
        control(ways[0], nullptr);
        acts.signal(SIGCONT);
        control(ways[1], &without);
        acts.signal(SIGSTOP);
        looks.signal(SIGCONT);
        control(ways[2], &with);
        looks.signal(SIGSTOP);
    }
    for (const Way& way : ways) {
        std::printf("%-30s off by p50 %.3f p99 %.3f p99.9 %.3f ms", way.name, quantile(way.off, 0.5),
                    quantile(way.off, 0.99), quantile(way.off, 0.999));
        if (!way.empty_calls.empty()) {
            std::vector<double> all = way.empty_calls;
            all.insert(all.end(), way.full_calls.begin(), way.full_calls.end());
            std::printf("; a call %.2f us (p50), without an action %.2f, with one %.2f (%zu); %llu allocations",
                        quantile(all, 0.5), quantile(way.empty_calls, 0.5), quantile(way.full_calls, 0.5),
                        way.full_calls.size(), static_cast<unsigned long long>(way.allocated));
        }
        std::printf("\n");
    }
    return 0;
}

}  // namespace

int main(int argc, char** argv) try {
    ::signal(SIGPIPE, SIG_IGN);
    const std::string what = argc > 1 ? argv[1] : "";
    if (what == "--get_obs") {
        return answer_get_obs(argv[2]);
    }
    if (what == "--act" || what == "--look") {
        return act(argv[2], what == "--look");
    }
    if (what == "get_obs" && argc > 2) {
        return get_obs(argv[2], argc > 3 ? std::atoi(argv[3]) : 20);
    }
    if (what == "loop") {
        return loop(argc > 2 ? std::atoi(argv[2]) : 10);
    }
    std::fprintf(stderr, "usage: bench get_obs RUST_CLIENT [ROUNDS] | bench loop [ROUNDS]\n");
    return 2;
} catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
}
