//! Headers put together by hand, so that they can say what no honest writer would.

/// A map of the entries; an entry with an empty value is left out.
pub(crate) fn map(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let entries: Vec<_> = entries.iter().filter(|(_, value)| !value.is_empty()).collect();
    let mut out = announced(0xde, entries.len() as u64, 2);
    for (key, value) in entries {
        out.extend(text(key));
        out.extend_from_slice(value);
    }
    out
}

pub(crate) fn array(values: &[Vec<u8>]) -> Vec<u8> {
    [announced(0xdd, values.len() as u64, 4), values.concat()].concat()
}

pub(crate) fn text(text: &str) -> Vec<u8> {
    [announced(0xdb, text.len() as u64, 4), text.into()].concat()
}

pub(crate) fn int(value: u64) -> Vec<u8> {
    announced(0xcf, value, 8)
}

pub(crate) fn ints(values: &[u64]) -> Vec<u8> {
    array(&values.iter().copied().map(int).collect::<Vec<_>>())
}

pub(crate) fn negative(value: i64) -> Vec<u8> {
    announced(0xd3, value as u64, 8)
}

pub(crate) fn float(value: f64) -> Vec<u8> {
    announced(0xcb, value.to_bits(), 8)
}

pub(crate) fn floats(count: usize) -> Vec<u8> {
    array(&vec![float(0.5); count])
}

pub(crate) const NIL: u8 = 0xc0;
pub(crate) const TRUE: u8 = 0xc3;

/// A marker and a length in so many bytes, with nothing behind it.
pub(crate) fn announced(marker: u8, len: u64, width: usize) -> Vec<u8> {
    [&[marker], &len.to_be_bytes()[8 - width..]].concat()
}

/// The entries with some of them changed or added; a change to nothing leaves the entry out.
pub(crate) fn changed<'a>(
    entries: Vec<(&'a str, Vec<u8>)>,
    changes: &[(&'a str, Vec<u8>)],
) -> Vec<u8> {
    let mut entries = entries;
    for (key, value) in changes {
        match entries.iter_mut().find(|(known, _)| known == key) {
            Some((_, old)) => old.clone_from(value),
            None => entries.push((key, value.clone())),
        }
    }
    map(&entries)
}

/// A camera with a 1 × 2 RGB image at the payload's start.
pub(crate) fn camera(changes: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let entries = vec![
        ("name", text("wrist")),
        ("timestamp", float(0.5)),
        ("intrinsics", floats(9)),
        ("extrinsics", floats(16)),
        ("image_shape", ints(&[1, 2, 3])),
        ("image_dtype", text("uint8")),
        ("image_offset", int(0)),
        ("image_size", int(6)),
    ];
    changed(entries, changes)
}

/// A stream of one float32 at the payload's start.
pub(crate) fn proprio(changes: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let entries =
        vec![("name", text("q")), ("dtype", text("float32")), ("offset", int(0)), ("size", int(4))];
    changed(entries, changes)
}

/// An `obs_response` without sensors, and 8 bytes of payload.
pub(crate) fn observation(changes: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let entries = vec![
        ("type", text("obs_response")),
        ("timestamp", float(1.5)),
        ("cameras", array(&[])),
        ("proprios", array(&[])),
    ];
    frame(&changed(entries, changes), &[7; 8])
}

pub(crate) fn one_camera(changes: &[(&str, Vec<u8>)]) -> Vec<u8> {
    observation(&[("cameras", array(&[camera(changes)]))])
}

pub(crate) fn one_proprio(changes: &[(&str, Vec<u8>)]) -> Vec<u8> {
    observation(&[("proprios", array(&[proprio(changes)]))])
}

/// A `step_response` without sensors.
pub(crate) fn step(changes: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let entries = vec![
        ("type", text("step_response")),
        ("timestamp", float(1.5)),
        ("cameras", array(&[])),
        ("reward", float(1.0)),
        ("terminated", vec![TRUE]),
        ("truncated", vec![TRUE]),
    ];
    frame(&changed(entries, changes), &[])
}

/// An `apply_action` of two float32.
pub(crate) fn action(changes: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let entries = vec![
        ("type", text("apply_action")),
        ("shape", ints(&[2])),
        ("dtype", text("float32")),
        ("obs_timestamps", map(&[("wrist", float(0.5))])),
    ];
    frame(&changed(entries, changes), &[0; 8])
}

pub(crate) fn metadata(data: Vec<u8>) -> Vec<u8> {
    frame(&map(&[("type", text("metadata_response")), ("data", data)]), &[])
}

pub(crate) fn frame(header: &[u8], payload: &[u8]) -> Vec<u8> {
    [&(header.len() as u32).to_le_bytes()[..], header, payload].concat()
}
