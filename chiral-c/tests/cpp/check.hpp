// A test runner in a page: functions that are called in order, and what they find to be wrong.
#ifndef CHECK_HPP
#define CHECK_HPP

#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace test {

struct Failed : std::runtime_error {
    using std::runtime_error::runtime_error;
};

inline std::vector<std::pair<std::string, std::function<void()>>>& all() {
    static std::vector<std::pair<std::string, std::function<void()>>> tests;
    return tests;
}

struct Register {
    Register(const char* name, std::function<void()> run) { all().emplace_back(name, std::move(run)); }
};

/// Runs the tests whose names contain `filter`.
inline int run(const char* filter) {
    int failed = 0;
    for (const auto& [name, test] : all()) {
        if (name.find(filter) == std::string::npos) {
            continue;
        }
        const auto start = std::chrono::steady_clock::now();
        std::string why;
        try {
            test();
        } catch (const std::exception& error) {
            why = error.what();
            ++failed;
        }
        const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
        std::printf("%s %s (%.2f s)%s%s\n", why.empty() ? "ok    " : "FAILED", name.c_str(), took.count(),
                    why.empty() ? "" : ": ", why.c_str());
        std::fflush(stdout);
    }
    return failed;
}

/// Waits until something is so, for 20 s at the most.
template <class Is>
bool soon(Is is) {
    for (int i = 0; i < 2000; ++i) {
        if (is()) {
            return true;
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return is();
}

/// What an expression throws: the text of an `Error`.
template <class Error, class Code>
std::string thrown(Code code) {
    try {
        code();
    } catch (const Error& error) {
        return error.what();
    }
    throw Failed("nothing was thrown");
}

inline bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace test

#define TEST(name)                                        \
    static void name();                                   \
    static const test::Register register_##name(#name, name); \
    static void name()

#define CHECK(is)                                                                          \
    do {                                                                                   \
        if (!(is)) {                                                                       \
            throw test::Failed(std::string(__FILE__) + ":" + std::to_string(__LINE__) + ": " + #is); \
        }                                                                                  \
    } while (false)

#define CHECK_HAS(text, part)                                                                     \
    do {                                                                                          \
        const std::string found = (text);                                                         \
        if (!test::has(found, part)) {                                                            \
            throw test::Failed(std::string(__FILE__) + ":" + std::to_string(__LINE__) + ": found \"" + \
                               found + "\", expected one with \"" + (part) + '"');                \
        }                                                                                         \
    } while (false)

#endif  // CHECK_HPP
