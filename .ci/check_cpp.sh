#!/usr/bin/env bash
# Builds and runs the C and C++ tests of chiral-c, from the workspace's root. Needs cargo and a C++
# compiler; does more where clang, Eigen, CMake and the Python peer (CHIRAL_PYTHON) are there, and says
# what it left out. CHIRAL_CPP_ZENOH=1 builds with Zenoh, and tries it.
set -euo pipefail

here=chiral-c/tests/cpp
out=$CARGO_TARGET_DIR/cpp
mkdir -p "$out"

has() {
    command -v "$1" >/dev/null
}

if test "$(id -u)" = 0 && has apt-get && ! { has cmake && has clang++ && test -d /usr/include/eigen3; }; then
    { apt-get update -qq && apt-get install -qq -y libeigen3-dev cmake clang pkg-config; } >/dev/null 2>&1 ||
        echo "the packages libeigen3-dev, cmake, clang, pkg-config cannot be installed"
fi

features=()
if test -n "${CHIRAL_CPP_ZENOH:-}"; then
    features=(--features zenoh)
fi
cargo build --locked -p chiral-c "${features[@]}"
cargo build --locked -p chiral-cli
library=$CARGO_TARGET_DIR/debug

echo "-- the library has the functions of symbols.txt, and no others"
if has nm && test -f "$library/libchiral_c.so"; then
    nm -D --defined-only "$library/libchiral_c.so" | awk '$3 ~ /^chiral_/ { print $3 }' | LC_ALL=C sort |
        diff chiral-c/symbols.txt -
else
    echo "left out: there is no nm, or no shared library"
fi

kinds=(plain)
if test -d /usr/include/eigen3; then
    kinds=(eigen plain)
else
    echo "left out: Eigen is not installed"
fi
compilers=()
for compiler in g++ clang++; do
    if has $compiler; then
        compilers+=($compiler)
    else
        echo "left out: $compiler is not installed"
    fi
done

# compile COMPILER KIND NAME [OPTION...]
compile() {
    local compiler=$1 kind=$2 name=$3 sources=("$here/$3.cpp")
    shift 3
    case $kind in
        plain) set -- -DCHIRAL_NO_EIGEN "$@" ;;
        eigen) set -- -isystem /usr/include/eigen3 "$@" ;;
    esac
    if test "$name" = behaviour && test "$kind" = eigen; then
        sources+=("$here/plain.cpp")
    fi
    $compiler -std=c++17 -O1 -g1 -Wall -Wextra -Werror "$@" -Ichiral-c/include "${sources[@]}" \
        -o "$out/$name" -L"$library" -lchiral_c -Wl,-rpath,"$library" -pthread
}

# compile_c SOURCE NAME [OPTION...]
compile_c() {
    local source=$1 name=$2
    shift 2
    cc -std=c99 -g1 -Wall -Wextra -Wpedantic -Werror "$@" -Ichiral-c/include "chiral-c/$source" \
        -o "$out/$name" -L"$library" -lchiral_c -Wl,-rpath,"$library"
}

echo "-- C: the ABI, and the example"
compile_c examples/client.c c_client
compile_c tests/cpp/abi.c abi
"$out/abi"

rm -rf "$out/certificates"
for who in robot policy; do
    "$library/chiral" cert --name 127.0.0.1 --out "$out/certificates/$who" >/dev/null
done
export CHIRAL_CERTIFICATES=$out/certificates

for compiler in "${compilers[@]}"; do
    for kind in "${kinds[@]}"; do
        echo "-- the documented API, $compiler, $kind"
        compile "$compiler" "$kind" documented
        "$out/documented"
    done
done

compiler=${compilers[0]}
kind=${kinds[0]}
echo "-- behaviour, $compiler, $kind"
compile "$compiler" "$kind" behaviour
CHIRAL_CONNECTS=${CHIRAL_CONNECTS:-1000} "$out/behaviour"

# All that follows is built without Eigen, which takes the compilers long.
for name in contract connection; do
    echo "-- $name, $compiler"
    compile "$compiler" plain $name
    "$out/$name"
done

# The library itself is not instrumented: its part is Rust's, beside the blocks that say why they are
# sound. What goes over the border, and the headers, are.
echo "-- addresses and undefined behaviour"
for name in documented behaviour contract connection; do
    compile "$compiler" plain $name -O0 -DCHIRAL_SANITIZED -fsanitize=address,undefined -fno-sanitize-recover=all
    CHIRAL_CONNECTS=50 "$out/$name"
done
compile_c tests/cpp/abi.c abi -fsanitize=address,undefined -fno-sanitize-recover=all
"$out/abi"
echo "-- threads"
for name in documented behaviour contract connection; do
    compile "$compiler" plain $name -O0 -fsanitize=thread
    CHIRAL_CONNECTS=50 TSAN_OPTIONS=ignore_noninstrumented_modules=1:halt_on_error=1 "$out/$name"
done

echo "-- peers in Rust and Python"
compile "$compiler" plain interop
# serve COMMAND...: starts a server and sets `line` to the first line that it prints.
serve() {
    mkfifo "$out/stdin.$$" "$out/stdout.$$"
    "$@" <"$out/stdin.$$" >"$out/stdout.$$" &
    served=$!
    exec 7>"$out/stdin.$$" 6<"$out/stdout.$$"
    rm "$out/stdin.$$" "$out/stdout.$$"
    read -r line <&6
    cat <&6 >"$out/served.log" &
}
stop() {
    exec 7>&- 6<&-
    kill "$served" 2>/dev/null || true
    wait "$served" 2>/dev/null || true
}
addresses=(127.0.0.1:0)
if test -n "${CHIRAL_CPP_ZENOH:-}"; then
    addresses+=(tcp/127.0.0.1:17447)
fi
for address in "${addresses[@]}"; do
    serve "$out/interop" server "$address"
    "$out/interop" client "$line"
    if test -n "${CHIRAL_PYTHON:-}"; then
        (cd tests/interop && timeout 60 "$CHIRAL_PYTHON" -m peer.client --uri "$line" --scenario calls \
            >"$out/python.log")
        echo "the Python policy has driven the robot in C++ at $line"
    fi
    if test "$address" = 127.0.0.1:0; then
        "$out/c_client" "$line" 10 >"$out/c_client.log" 2>&1
        "$library/chiral" probe "$line" >/dev/null
        echo "the command chiral has probed the robot in C++"
    fi
    stop
done
if test -n "${CHIRAL_PYTHON:-}"; then
    serve bash -c 'cd tests/interop && exec "$1" -m peer.server --port 0 --cameras 2 --size 64x48 --depth \
        --proprio arm:7' bash "$CHIRAL_PYTHON"
    "$out/interop" client "ws://127.0.0.1:$(grep -oE '[0-9]+' <<<"$line" | head -n 1)"
    stop
else
    echo "left out: CHIRAL_PYTHON is not set"
fi
serve "$library/chiral" serve --bind 127.0.0.1:17655 --depth --json
"$out/interop" client ws://127.0.0.1:17655
stop

echo "-- the benchmark runs; what it says of an unoptimised library is nothing"
CXX=$compiler CHIRAL_BENCH_PROFILE=dev chiral-c/benchmarks/run all 1 >/dev/null

if ! has cmake; then
    echo "left out: CMake is not installed"
    exit
fi
echo "-- CMake: add_subdirectory, and find_package after an installation"
settings=(-DCHIRAL_ZENOH="${CHIRAL_CPP_ZENOH:-OFF}" -DCHIRAL_PROFILE=dev -DCHIRAL_CARGO_TARGET_DIR="$CARGO_TARGET_DIR")
if test "$kind" = plain; then
    settings+=(-DCHIRAL_EIGEN=OFF)
fi
rm -rf "$out/cmake" "$out/prefix"
cmake -S chiral-c/tests/consumer -B "$out/cmake/sub" -DCHIRAL_SOURCE="$PWD/chiral-c" "${settings[@]}" >/dev/null
cmake --build "$out/cmake/sub" >/dev/null
"$out/cmake/sub/consumer" >/dev/null
# find CMAKE_OPTION...: a user's program that finds the installation, by CMake and by pkg-config.
find() {
    rm -rf "$out/cmake/own" "$out/cmake/found" "$out/prefix"
    cmake -S chiral-c -B "$out/cmake/own" "${settings[@]}" "$@" -DCMAKE_INSTALL_PREFIX="$out/prefix" \
        -DCMAKE_INSTALL_LIBDIR=lib >/dev/null
    cmake --build "$out/cmake/own" >/dev/null
    cmake --install "$out/cmake/own" >/dev/null
    cmake -S chiral-c/tests/consumer -B "$out/cmake/found" -DCMAKE_PREFIX_PATH="$out/prefix" >/dev/null
    cmake --build "$out/cmake/found" >/dev/null
    "$out/cmake/found/consumer" >/dev/null
    if ! has pkg-config; then
        echo "left out: there is no pkg-config"
        return
    fi
    # shellcheck disable=SC2046
    ${compilers[0]} -std=c++17 $here/documented.cpp -o "$out/pkg" \
        $(PKG_CONFIG_PATH="$out/prefix/lib/pkgconfig" pkg-config --cflags --libs chiral) -pthread
    LD_LIBRARY_PATH="$out/prefix/lib" "$out/pkg" >/dev/null
}
find
echo "-- the same, linked into the program"
find -DCHIRAL_STATIC=ON -DCHIRAL_EXAMPLES=OFF
