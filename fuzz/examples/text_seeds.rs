//! Writes the seeds of the targets `handshakes` and `addresses`.

use std::path::Path;
use std::{fs, io};

/// First bytes of the inputs: which side, and how many bytes come at once.
const SERVER: &[u8] = &[0, 7];
const CLIENT: &[u8] = &[1, 7];
const REQUEST: &[u8] = &[2, 255];

const FIELDS: &str = "Host: robot:8765\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";
/// What answers the target's nonce.
const ACCEPT: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";

const ADDRESSES: [&str; 20] = [
    "ws://robot.local:8765/left?arm=1",
    "wss://[::1]",
    "localhost:8765",
    "http://robot/a/b?c=d&e",
    "HTTPS://robot:443/",
    "ws://me:secret@robot:8765/arm?token=1234",
    "ws://robot:8765/#top",
    "127.0.0.1:0",
    "[::1]:8765/",
    "[fe80::1%eth0]:80",
    "0.0.0.0:65535",
    "unix:/run/arm.sock",
    "unix:///run/arm.sock",
    "UNIX:arm.sock",
    "tcp/localhost:7447",
    "tls/robot:7447#iface=eth0",
    "zenoh:?robot=arm-3&connect=tcp/router:7447",
    " ws://robot:80\n",
    "ws://:80",
    "ftp://a:1",
];

fn main() -> io::Result<()> {
    let request = |line: &str, more: &str| format!("{line}\r\n{FIELDS}{more}\r\n");
    let requests = [
        ("plain", request("GET / HTTP/1.1", "")),
        ("path", request("GET /left?arm=1&back=ws://a/b HTTP/1.1", "")),
        ("absolute", request("GET http://robot:8765/left?arm=1 HTTP/1.1", "Origin: http://a\r\n")),
        ("surplus", request("GET / HTTP/1.1", "") + "\u{82}\u{80}"),
        ("subprotocol", request("GET / HTTP/1.1", "Sec-WebSocket-Protocol: foxglove.sdk.v1\r\n")),
        ("post", request("POST / HTTP/1.1", "Content-Length: 5\r\n") + "hello"),
        ("old", request("GET / HTTP/1.0", "")),
        ("invalid_field", request("GET / HTTP/1.1", "no field: at all: \u{fc}\r\n(x: y\r\n")),
    ];
    let refusal = "HTTP/1.1 503 Service Unavailable\r\n";
    let responses = [
        ("accept", format!("{ACCEPT}\r\nsurplus")),
        ("subprotocol", format!("{ACCEPT}Sec-WebSocket-Protocol: a\r\n\r\n")),
        ("extension", format!("{ACCEPT}Sec-WebSocket-Extensions: x\r\n\r\n")),
        ("interim", format!("HTTP/1.1 100 Continue\r\n\r\n{ACCEPT}\r\n")),
        ("refusal", format!("{refusal}Content-Length: 5\r\n\r\nhello")),
        (
            "chunks",
            format!("{refusal}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"),
        ),
        ("endless", format!("{refusal}\r\nuntil the end")),
        (
            "redirect",
            "HTTP/1.1 301 M\r\nLocation: ws://a:b@c/?d\r\nContent-Length: 0\r\n\r\n".into(),
        ),
        ("page", "HTTP/1.1 200 OK\r\n\r\n<html>".into()),
        ("other", "SSH-2.0-OpenSSH_9.2\r\n".into()),
    ];
    let written = [
        ("token", "robot:8765\n/arm?left\nAuthorization\nBearer x".to_owned()),
        ("injection", "robot\n/\nA\nb\r\nEvil: 1".to_owned()),
        ("odd", "a\n/\"<>\\^`{|}\nx-!#$%&'*+.^_`|~\n \u{fc} ".to_owned()),
    ];
    for (side, prefix, texts) in [
        ("server", SERVER, &requests[..]),
        ("client", CLIENT, &responses),
        ("request", REQUEST, &written),
    ] {
        for (name, text) in texts {
            write("handshakes", &format!("{side}_{name}"), &[prefix, text.as_bytes()].concat())?;
        }
    }
    for (index, address) in ADDRESSES.iter().enumerate() {
        write("addresses", &format!("seed_{index}"), address.as_bytes())?;
    }
    Ok(())
}

fn write(target: &str, name: &str, input: &[u8]) -> io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(name), input)
}
