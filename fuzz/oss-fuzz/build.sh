#!/bin/bash -eu
# Builds all fuzz targets into $OUT, each with its seeds, options and dictionary. OSS-Fuzz sets SRC
# and OUT, and has a nightly Rust and cargo-fuzz. Elsewhere, from the repository's root:
#
#   RUSTC_BOOTSTRAP=1 CHIRAL=$PWD OUT=$PWD/out fuzz/oss-fuzz/build.sh
cd "${CHIRAL:-$SRC/chiral}"

cargo fuzz build -O --debug-assertions
built=${CARGO_TARGET_DIR:-fuzz/target}/x86_64-unknown-linux-gnu/release

mkdir -p "$OUT"
for target in $(cargo fuzz list); do
    cp "$built/$target" "$OUT/"
    if test -d "fuzz/corpus/$target"; then
        zip -jrq "$OUT/${target}_seed_corpus.zip" "fuzz/corpus/$target"
    fi
    if test -f "fuzz/options/$target.options"; then
        cp "fuzz/options/$target.options" "$OUT/"
    fi
done
cp fuzz/chiral.dict "$OUT/"
