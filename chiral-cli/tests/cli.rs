//! What holds for every command: exit codes, version, completions, and what a terminal shows.

mod support;

use support::chiral;

/// Exit code and standard error.
fn run(arguments: &[&str]) -> (Option<i32>, String) {
    let output = chiral().args(arguments).output().expect("it runs");
    (output.status.code(), String::from_utf8(output.stderr).expect("it is text"))
}

#[test]
fn invalid_arguments_exit_with_code_2() {
    for (arguments, reason) in [
        // clap's
        (&["serve", "--rate", "x"][..], "--rate"),
        (&["probe", "--seconds", "nan"], "expected seconds"),
        (&["send", "127.0.0.1:1", "--action", "1,nan"], "expected a finite number"),
        (&["demo", "--episodes", "0"], "--episodes"),
        (&["completions", "cmd"], "possible values"),
        // ours
        (&["serve", "--cameras", "257"], "257 cameras"),
        (&["serve", "--cameras", "99", "--size", "1920x1080"], "an observation would have"),
        (&["serve", "--bind", "127.0.0.1"], "127.0.0.1: expected host:port"),
        (&["bench", "--samples", "0"], "--samples 0"),
        (&["bench", "--seconds", "0"], "--seconds 0"),
        (&["bench", "--dispatch", "0"], "--dispatch 0"),
        (&["bench", "ftp://127.0.0.1:1"], "expected ws://host:port"),
        (&["bench", "--cameras", "300"], "300 cameras"),
        (&["probe", "ftp://127.0.0.1:1"], "expected ws://host:port"),
        (&["probe", "unix:"], "found no path, expected unix:/path"),
        (&["serve", "--bind", "unix:"], "found no path, expected unix:/path"),
        (&["send", "ftp://127.0.0.1:1", "--action", "0"], "expected ws://host:port"),
    ] {
        let (code, error) = run(arguments);
        assert_eq!(code, Some(2), "{arguments:?}: {error}");
        assert!(error.contains(reason), "{arguments:?}: {error}");
    }
}

#[test]
fn the_version_is_that_of_chiral() {
    let output = chiral().arg("--version").output().expect("it runs");
    let expected = format!("chiral {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(String::from_utf8(output.stdout).expect("it is text"), expected);
}

#[test]
fn every_shell_has_completions_that_name_the_commands() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let output = chiral().args(["completions", shell]).output().expect("it runs");
        assert!(output.status.success(), "{output:?}");
        let script = String::from_utf8(output.stdout).expect("it is text");
        for command in ["demo", "serve", "probe", "send", "bench", "inspect"] {
            assert!(script.contains(command), "{shell}: {command}");
        }
        assert!(!script.contains("demo-robot"), "{shell}: hidden commands stay hidden");
    }
}

#[cfg(unix)]
mod on_a_terminal {
    use chiral_proto::Map;
    use chiral_proto::wire::ServerMessage;

    use crate::support::{chiral, on_terminal};

    #[test]
    fn huge_metadata_is_abridged_on_a_terminal_only() {
        let data = Map::new().with("items", (0..10_000).collect::<chiral_proto::Value>());
        let frame = ServerMessage::Metadata(data).encode().to_bytes();
        let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("huge-metadata.bin");
        std::fs::write(&path, frame).expect("it can be written");
        let path = path.to_str().expect("it is text");

        let (status, shown) = on_terminal(&["inspect", path]);
        assert!(status.success(), "{shown}");
        assert!(shown.lines().count() < 30, "{shown}");
        assert!(shown.contains("more lines; --json shows all"), "{shown}");

        let whole = chiral().args(["inspect", path]).output().expect("it runs");
        assert!(whole.stdout.split(|&byte| byte == b'\n').count() > 10_000);
    }

    #[test]
    fn the_demo_clears_its_progress_line() {
        let (status, shown) =
            on_terminal(&["demo", "--fast", "--episodes", "2", "--size", "96x72", "--no-sheet"]);
        assert!(status.success(), "{shown}");
        assert!(shown.contains("/2 episodes"), "progress is shown: {shown:?}");
        // What the last line of progress is overwritten with, and then the table.
        let (_, after) = shown.rsplit_once("/2 episodes").expect("there was progress");
        assert!(after.contains("\u{1b}[2K"), "the line is cleared: {after:?}");
        assert!(after.contains("2 of 2 solved"), "{after:?}");
    }
}
