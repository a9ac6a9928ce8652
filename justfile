# The commands that CONTRIBUTING.md names. `just` lists them; https://just.systems

_default:
    @just --list --unsorted

# All checks, or the named steps of `.ci/run --list`.
check *steps:
    .ci/run {{ steps }}

# The tests that need only Rust.
test *arguments:
    cargo test --workspace {{ arguments }}

# Format, and all lints as errors.
lint:
    cargo fmt --all
    cargo clippy --workspace --all-targets --all-features -- -D warnings

# The simulated arm, driven by a policy that goes by its cameras.
demo *arguments:
    cargo run --release -- demo {{ arguments }}

# Throughput and latency beside the bare socket.
bench *arguments:
    cargo run --release -- bench {{ arguments }}

# Adapters, message layers and transports beside each other.
bench-adapters *arguments="--adapter tokio,smol,blocking":
    cargo run --release -p chiral-bench -- {{ arguments }}

# Benchmarks of the core.
bench-core *arguments:
    cargo bench -p chiral-proto {{ arguments }}

# Every interleaving of the sensor buffers' threads.
loom:
    .ci/run loom

# Fuzz one target for some seconds: `just fuzz decode_server_frame 600`.
fuzz target seconds="60":
    mkdir -p fuzz/work/{{ target }}
    RUSTC_BOOTSTRAP=1 cargo fuzz run {{ target }} fuzz/work/{{ target }} fuzz/corpus/{{ target }} -- \
        $(test ! -f fuzz/options/{{ target }}.options || echo -dict=fuzz/chiral.dict -malloc_limit_mb=2) \
        -max_total_time={{ seconds }} -print_final_stats=1

# The documentation, in a browser.
doc:
    cargo doc --workspace --all-features --no-deps --open
