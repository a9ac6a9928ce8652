//! Writes the seeds of the WebSocket session's corpus: streams of frames in and out of order.

use std::path::Path;
use std::{fs, io};

/// First bytes of frames: the last of its message, and the opcode.
const CONTINUE: u8 = 0x00;
const LAST: u8 = 0x80;
const TEXT: u8 = 0x81;
const START: u8 = 0x02;
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

fn main() -> io::Result<()> {
    let close = [&1000_u16.to_be_bytes()[..], b"bye"].concat();
    let long = vec![7; 70_000];
    let streams: [(&str, &[(u8, &[u8])]); 12] = [
        ("message", &[(BINARY, b"\x00\x00\x00\x00payload")]),
        ("empty", &[(BINARY, b""), (BINARY, b"")]),
        ("fragments", &[(START, b"one"), (CONTINUE, b"two"), (LAST, b"three")]),
        ("ping_within", &[(START, b"one"), (PING, b"?"), (LAST, b"two"), (PONG, b"!")]),
        ("closed", &[(BINARY, b"last"), (CLOSE, &close), (BINARY, b"too late")]),
        ("close_empty", &[(CLOSE, b"")]),
        ("close_short", &[(CLOSE, b"x")]),
        ("close_bad_code", &[(CLOSE, &[0x03, 0xed])]),
        ("text", &[(TEXT, b"hello")]),
        ("unexpected", &[(LAST, b"of nothing")]),
        ("reserved", &[(0xf2, b"bits"), (0x83, b"opcode")]),
        ("long", &[(BINARY, &long[..600]), (START, &long), (LAST, &long[..200])]),
    ];
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/websocket_session");
    fs::create_dir_all(&folder)?;
    for (name, frames) in streams {
        for (role, is_server) in [("server", true), ("client", false)] {
            let mut input = vec![u8::from(is_server), 50];
            for (first, payload) in frames {
                frame(&mut input, *first, payload, is_server.then_some([0xa5, 1, 0, 0xff]));
            }
            // The beginning of a long stream is enough: the fuzzer varies the lengths itself.
            input.truncate(1000);
            fs::write(folder.join(format!("{role}_{name}")), input)?;
        }
    }
    Ok(())
}

/// A frame as RFC 6455 defines it.
fn frame(out: &mut Vec<u8>, first: u8, payload: &[u8], mask: Option<[u8; 4]>) {
    let masked = if mask.is_some() { 0x80 } else { 0 };
    out.push(first);
    match payload.len() {
        len @ 0..126 => out.push(masked + len as u8),
        len @ 126..65536 => {
            out.push(masked + 126);
            out.extend((len as u16).to_be_bytes());
        }
        len => {
            out.push(masked + 127);
            out.extend((len as u64).to_be_bytes());
        }
    }
    out.extend(mask.iter().flatten());
    let key = mask.unwrap_or_default();
    out.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
}
