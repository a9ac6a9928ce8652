//! The committed header is what cbindgen makes of the source, and the library has what it declares.

use std::collections::BTreeSet;
use std::path::Path;

fn generated() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml")).expect("the settings");
    let builder = cbindgen::Builder::new().with_config(config);
    // File by file: reading the crate as cargo sees it would need cargo, and the network.
    let mut files: Vec<_> = std::fs::read_dir(root.join("src"))
        .expect("the sources")
        .map(|entry| entry.expect("a file").path())
        .filter(|path| !path.ends_with("lib.rs"))
        .collect();
    files.sort();
    let builder = files.iter().fold(builder, cbindgen::Builder::with_src);
    let mut header = Vec::new();
    builder.generate().expect("the sources are read").write(&mut header);
    String::from_utf8(header).expect("UTF-8")
}

#[test]
fn the_committed_header_is_made_from_the_source() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("include/chiral.h");
    let generated = generated();
    if std::env::var_os("CHIRAL_WRITE_HEADER").is_some() {
        std::fs::write(&path, generated).expect("the header is written");
        return;
    }
    let committed = std::fs::read_to_string(&path).expect("the header is there");
    assert!(
        committed.replace("\r\n", "\n") == generated,
        "include/chiral.h is not what the source says: \
         CHIRAL_WRITE_HEADER=1 cargo test -p chiral-c --test header"
    );
}

/// The functions that the header declares, in order.
fn declared(header: &str) -> BTreeSet<&str> {
    let words = header.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let is_call = |word: &&str| word.starts_with("chiral_") && header.contains(&format!("{word}("));
    words.filter(is_call).collect()
}

#[test]
fn the_committed_list_of_symbols_is_that_of_the_header() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let header = generated();
    let symbols =
        declared(&header).into_iter().fold(String::new(), |list, name| list + name + "\n");
    let path = root.join("symbols.txt");
    if std::env::var_os("CHIRAL_WRITE_HEADER").is_some() {
        std::fs::write(&path, symbols).expect("the list is written");
        return;
    }
    let committed = std::fs::read_to_string(&path).expect("the list is there");
    assert_eq!(
        committed.replace("\r\n", "\n"),
        symbols,
        "a function was added, or is gone: see CONTRIBUTING.md, then write symbols.txt anew"
    );
}

#[test]
fn every_function_says_what_it_is_and_the_words_stand_in_the_header() {
    let header = generated();
    for name in declared(&header) {
        let at = header.find(&format!("{name}(")).expect("it is declared");
        let before = &header[..at];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let above = before[..line_start].trim_end().lines().next_back().unwrap_or_default();
        assert!(above.starts_with("//"), "{name} has no comment: {above:?}");
    }
}
