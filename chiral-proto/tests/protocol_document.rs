//! `docs/PROTOCOL.md` against the code: its byte dumps decode as they say, and its tables of types,
//! dtypes and limits are those of the implementation.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use chiral_proto::Dtype;
use chiral_proto::wire::{Frame, Limits, Message, MessageType};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn document() -> String {
    let path = repository().join("docs/PROTOCOL.md");
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A fenced block that begins with ```` ```hex TYPE [FILE] ````, FILE being a frame in
/// `tests/vectors`. In its lines, what is behind a `;` is a comment.
struct Dump {
    message_type: String,
    file: Option<String>,
    bytes: Bytes,
}

fn dumps(document: &str) -> Vec<Dump> {
    let mut dumps = Vec::new();
    let mut lines = document.lines();
    while let Some(line) = lines.next() {
        let Some(label) = line.strip_prefix("```hex ") else { continue };
        let mut words = label.split_whitespace().map(str::to_owned);
        let message_type = words.next().expect("a dump names its message");
        let dump = lines.by_ref().take_while(|line| *line != "```");
        let bytes = dump.flat_map(|line| {
            let hex = line.split(';').next().unwrap_or_default();
            hex.split_whitespace().map(move |byte| {
                u8::from_str_radix(byte, 16).unwrap_or_else(|_| panic!("{byte:?} in {line:?}"))
            })
        });
        dumps.push(Dump { message_type, bytes: bytes.collect(), file: words.next() });
    }
    dumps
}

/// The cells of the table's row that begins with a cell of `name` in code font.
fn row(document: &str, name: &str) -> Vec<String> {
    let start = format!("| `{name}` |");
    let row = document.lines().find(|line| line.starts_with(&start));
    let row = row.unwrap_or_else(|| panic!("no table has a row for `{name}`"));
    row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
}

#[test]
fn byte_dumps_decode_to_the_messages_that_they_show() {
    let dumps = dumps(&document());
    assert!(dumps.len() >= 6, "only {} dumps were found", dumps.len());
    for Dump { message_type, bytes, .. } in dumps {
        let decode = |bytes: &Bytes| {
            let frame = Frame::parse(bytes.clone(), &Limits::default())?;
            Message::decode(&frame, &Limits::default())
        };
        let message = decode(&bytes).unwrap_or_else(|error| panic!("{message_type}: {error}"));
        assert_eq!(message.message_type().name(), message_type);
    }
}

#[test]
fn byte_dumps_are_the_files_that_they_name() {
    for Dump { file, bytes, .. } in dumps(&document()) {
        let Some(file) = file else { continue };
        let path = repository().join("tests/vectors").join(&file);
        let expected = std::fs::read(path).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert_eq!(bytes, expected, "{file}");
    }
}

#[test]
fn byte_dumps_of_this_implementation_are_what_it_writes() {
    let own: Vec<_> = dumps(&document()).into_iter().filter(|dump| dump.file.is_none()).collect();
    assert!(!own.is_empty(), "no dump is of a frame that this implementation writes");
    for Dump { message_type, bytes, .. } in own {
        let frame = Frame::parse(bytes.clone(), &Limits::default()).expect("it is a frame");
        let message = Message::decode(&frame, &Limits::default()).expect("it is a message");
        assert_eq!(message.encode().to_bytes(), bytes, "{message_type}");
    }
}

#[test]
fn every_dtype_is_listed_with_its_size() {
    let document = document();
    for dtype in Dtype::ALL {
        assert_eq!(row(&document, dtype.name())[1], dtype.size().to_string(), "{dtype}");
    }
}

#[test]
fn what_stands_for_what_is_as_in_the_code() {
    let document = document();
    let rows = include_str!("../src/wire/mod.rs").lines();
    let rows: Vec<_> = rows.filter_map(|line| line.strip_prefix("//! |")).collect();
    assert!(rows.len() > 5, "{rows:?}");
    for row in rows {
        assert!(document.contains(&format!("\n|{row}\n")), "no row is {row:?}");
    }
}

#[test]
fn every_message_type_is_listed_with_its_sender_and_its_response() {
    let document = document();
    for message_type in MessageType::ALL {
        let row = row(&document, message_type.name());
        let sender = if message_type.is_from_client() { "client" } else { "server" };
        assert_eq!(row[1], sender, "{message_type}");
        if message_type.is_from_client() {
            let response = message_type.response().map(|response| format!("`{response}`"));
            assert_eq!(row[4], response.unwrap_or("nothing".to_owned()), "{message_type}");
        }
    }
}

#[test]
fn the_default_limits_are_those_of_the_code() {
    let document = document();
    let Limits { frame_len, header_len, cameras, proprios, rank, depth, values } =
        Limits::default();
    for (name, limit) in [
        ("frame_len", frame_len),
        ("header_len", header_len),
        ("cameras", cameras),
        ("proprios", proprios),
        ("rank", rank),
        ("depth", depth),
        ("values", values),
    ] {
        // `cameras` and `proprios` are keys of a header too, and have rows as such.
        let expected = format!("| `{name}` | {limit} |");
        assert!(document.contains(&expected), "no row begins with {expected:?}");
    }
    let of_server = chiral_proto::server::Config::default().limits;
    for limit in [of_server.frame_len, of_server.header_len] {
        assert!(document.contains(&format!("{limit} for frames that a server receives")));
    }
}
