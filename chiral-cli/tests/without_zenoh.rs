//! What a program says that was built without Zenoh.
#![cfg(not(feature = "zenoh"))]

mod support;

use support::chiral;

#[test]
fn without_the_zenoh_feature_errors_say_how_to_enable_it() {
    for arguments in [
        &["serve", "--bind", "tcp/127.0.0.1:0"][..],
        &["serve", "--bind", "tcp/127.0.0.1:0", "--robot", "arm-3"],
        &["probe", "tcp/127.0.0.1:7447"],
        &["probe", "--list"],
        &["demo", "--transport", "zenoh", "--no-sheet"],
        &["demo", "--transport", "zenoh-shm", "--no-sheet"],
        &["bench", "tcp/127.0.0.1:7447"],
        &["zenoh-acl", "--name", "arm-3"],
        &["send", "tcp/127.0.0.1:7447", "--action", "0"],
    ] {
        let output = chiral().args(arguments).output().expect("it runs");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let error = String::from_utf8(output.stderr).expect("it is text");
        assert!(error.contains("feature") && error.contains("zenoh"), "{arguments:?}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}
