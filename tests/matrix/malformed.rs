//! What nobody should send.

/// A chiral frame of any header.
pub(crate) fn frame(header: &[u8], payload: &[u8]) -> Vec<u8> {
    let len = (header.len() as u32).to_le_bytes();
    [&len, header, payload].concat()
}

/// A msgpack map of values that are encoded already.
pub(crate) fn map(fields: &[(&str, &[u8])]) -> Vec<u8> {
    let mut map = vec![0x80 + fields.len() as u8];
    for (key, value) in fields {
        map.extend(text(key));
        map.extend(*value);
    }
    map
}

/// A short msgpack string.
pub(crate) fn text(text: &str) -> Vec<u8> {
    [&[0xa0 + text.len() as u8], text.as_bytes()].concat()
}

/// A map in a map in a map …
fn nested(levels: usize) -> Vec<u8> {
    let mut header = map(&[("type", &text("metadata")), ("extra", &[])]);
    for _ in 1..levels {
        header.extend(map(&[("a", &[])]));
    }
    header.push(0xc0);
    frame(&header, &[])
}

/// Binary messages with which something is wrong for whoever gets them, and the peer's answer:
/// its close code, and words in its reason.
pub(crate) fn messages() -> Vec<(Vec<u8>, u16, &'static str)> {
    let of_type = |name: &str| frame(&map(&[("type", &text(name))]), &[]);
    vec![
        (vec![], 1007, "a frame of 0 bytes"),
        (vec![7, 0], 1007, "a frame of 2 bytes"),
        (frame(&map(&[("type", &text("metadata"))]), &[])[..9].to_vec(), 1007, "announced"),
        (u32::MAX.to_le_bytes().to_vec(), 1009, "header of 4294967295 bytes"),
        (frame(b"{\"type\": \"metadata\"}", &[]), 1007, "integer 123, expected a map"),
        (frame(&[0xc1; 40], &[]), 1007, "byte 0xc1, expected a map"),
        (frame(&[0x93, 1, 2, 3], &[]), 1007, "array, expected a map"),
        (frame(&[], &[]), 1007, "0 more bytes"),
        (frame(&map(&[]), &[]), 1007, "field `type`"),
        (frame(&map(&[("type", &[7])]), &[]), 1007, "found the integer 7"),
        (of_type("teleport"), 1007, "teleport"),
        (nested(10_000), 1009, "nested 65 deep"),
    ]
}

/// Asserts that a peer was told its fault.
#[track_caller]
pub(crate) fn assert_told((code, reason): (u16, String), expected: u16, why: &str) {
    assert_eq!(code, expected, "{reason}");
    assert!(reason.contains(why), "{reason:?} does not say {why:?}");
    assert!(reason.len() <= 123, "{reason:?}");
}
