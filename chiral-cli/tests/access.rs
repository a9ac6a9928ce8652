//! Tokens and TLS on the command line, as programs over loopback.
#![cfg(all(unix, feature = "tls"))]

mod support;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;

use support::{Served, chiral};

const TOKEN: &str = "0123456789-a-secret-of-the-robots";

/// A folder for a test, which goes with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("chiral-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("text").to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left over is in the folder for temporary files.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn probe(uri: &str, arguments: &[&str], token: Option<&str>) -> Output {
    let mut command = chiral();
    command.args(["probe", uri, "--json", "--seconds", "0"]).args(arguments);
    command.env_remove("CHIRAL_TOKEN").envs(token.map(|token| ("CHIRAL_TOKEN", token)));
    command.output().expect("the program starts")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("it is text")
}

#[test]
fn a_certificate_is_made_and_used_as_the_program_says() {
    let folder = Folder::new("cert");
    let cert =
        || chiral().args(["cert", "--out", &folder.file("new")]).output().expect("it starts");
    let first = cert();
    assert!(first.status.success(), "{}", text(&first.stderr));
    let (certificate, key) =
        (folder.file("new/chiral-cert.pem"), folder.file("new/chiral-key.pem"));
    let mode = Path::new(&key).metadata().expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let said = text(&first.stdout);
    let line = said.lines().find_map(|line| line.strip_prefix("fingerprint  "));
    let fingerprint = line.expect("it has one").to_owned();
    assert!(said.contains(&format!("--tls-cert {certificate} --tls-key {key}")), "{said}");
    assert!(said.contains(&format!("wss://localhost:8765 --pin {fingerprint}")), "{said}");

    let again = cert();
    assert_eq!(again.status.code(), Some(2));
    assert!(text(&again.stderr).contains("it is not overwritten"), "{}", text(&again.stderr));

    let served = Served::start(&["--tls-cert", &certificate, "--tls-key", &key]);
    assert!(served.uri.starts_with("wss://127.0.0.1:"), "{}", served.uri);
    for trust in [["--pin", &fingerprint[..]], ["--ca", &certificate[..]]] {
        let probed = probe(&served.uri, &trust, None);
        assert!(probed.status.success(), "{trust:?}: {}", text(&probed.stderr));
    }
    let probed = probe(&served.uri, &["--pin", &"0".repeat(64)], None);
    assert_eq!(probed.status.code(), Some(1));
    assert!(text(&probed.stderr).contains(&fingerprint), "{}", text(&probed.stderr));
    let plain = served.uri.replace("wss://", "ws://");
    let probed = probe(&plain, &["--pin", &fingerprint], None);
    assert_eq!(probed.status.code(), Some(2));
    assert!(text(&probed.stderr).contains("connect with wss://"), "{}", text(&probed.stderr));
}

#[test]
fn a_token_comes_from_a_file_or_the_environment_and_is_never_shown() {
    let folder = Folder::new("token");
    let file = folder.file("token");
    std::fs::write(&file, format!("{TOKEN}\n")).expect("a file");
    let served = Served::start(&["-vv", "--token-file", &file]);
    for (arguments, token) in [(&["--token-file", &file[..]][..], None), (&[], Some(TOKEN))] {
        let probed = probe(&served.uri, arguments, token);
        assert!(probed.status.success(), "{arguments:?}: {}", text(&probed.stderr));
    }
    let mut shown = String::new();
    for (token, why) in [(None, "found none"), (Some("another-secret-than-that"), "found another")]
    {
        let probed = probe(&served.uri, &["-vv"], token);
        assert_eq!(probed.status.code(), Some(1));
        let said = text(&probed.stderr);
        assert!(said.contains("401 Unauthorized") && said.contains(why), "{said}");
        shown += said;
    }
    let short = probe(&served.uri, &["--token", "short-secret"], None);
    assert_eq!(short.status.code(), Some(2));
    shown += text(&short.stderr);
    served.signal(rustix::process::Signal::TERM);
    shown += &served.end().1;
    assert!(!shown.contains("secret"), "{shown}");
}

#[test]
fn a_robot_that_others_can_reach_is_warned_of() {
    let mut open = Served::start_at("0.0.0.0:0", &[]);
    let warning = open.next_note();
    assert!(warning.contains("can be reached from other computers"), "{warning}");
    let mut closed = Served::start_at("127.0.0.1:0", &[]);
    assert_eq!(closed.next_note(), format!("listening on {}; Ctrl-C ends it", closed.uri));
}
