//! Frames that announce what is not there, contradict themselves or go to the edge of what is
//! allowed, each with what must come of it.

use chiral_proto::wire::ErrorKind::{
    self, BadBuffer, DuplicateField, Limit, MissingField, NotMsgpack, OutOfRange, Truncated,
    UnknownType, WrongType,
};
use chiral_proto::{Map, Value};

use crate::pack::{
    NIL, TRUE, action, announced, array, camera, float, floats, frame, int, ints, map, metadata,
    negative, observation, one_camera, one_proprio, proprio, step, text,
};

pub(crate) struct Hostile {
    pub(crate) name: String,
    pub(crate) frame: Vec<u8>,
    /// The kind of error, or none where the frame is odd but legal.
    pub(crate) fault: Option<ErrorKind>,
}

struct Frames(Vec<Hostile>);

impl Frames {
    fn legal(&mut self, name: &str, frame: Vec<u8>) {
        self.0.push(Hostile { name: name.to_owned(), frame, fault: None });
    }

    fn fault(&mut self, fault: ErrorKind, name: &str, frame: Vec<u8>) {
        self.0.push(Hostile { name: name.to_owned(), frame, fault: Some(fault) });
    }
}

pub(crate) fn frames() -> Vec<Hostile> {
    let mut frames = Frames(Vec::new());
    prefixes(&mut frames);
    headers(&mut frames);
    announcements(&mut frames);
    nesting(&mut frames);
    long_names(&mut frames);
    fields(&mut frames);
    numbers(&mut frames);
    shapes(&mut frames);
    buffers(&mut frames);
    oversized_counts(&mut frames);
    dense_oversized_counts(&mut frames);
    frames.0
}

fn prefixes(frames: &mut Frames) {
    frames.fault(Truncated, "nothing", vec![]);
    frames.fault(Truncated, "three bytes", vec![1, 0, 0]);
    frames.fault(Truncated, "an empty header", vec![0; 4]);
    frames.fault(Limit, "a header of 4 GiB", [&[0xff; 4][..], &[0x81; 6]].concat());
    frames.fault(Truncated, "a header of 16 MiB", [&[0, 0, 0, 1][..], &[0x81; 6]].concat());
    frames.fault(Truncated, "a header one byte too long", vec![2, 0, 0, 0, 0x80]);
}

fn headers(frames: &mut Frames) {
    frames.fault(NotMsgpack, "a header that is an array", frame(&array(&[text("reset")]), &[]));
    frames.fault(NotMsgpack, "a header that is a string", frame(&text("reset"), &[]));
    frames.fault(NotMsgpack, "the byte that is no msgpack", frame(&[0x81, 0xa1, b'x', 0xc1], &[]));
    let reset = map(&[("type", text("reset"))]);
    frames.legal("a payload that nobody asked for", frame(&reset, &[0; 100]));
    let two = [reset.clone(), reset].concat();
    frames.fault(NotMsgpack, "two maps", frame(&two, &[]));
    frames.fault(MissingField, "no type", frame(&map(&[]), &[]));
    frames.fault(WrongType, "a type that is nil", frame(&map(&[("type", vec![NIL])]), &[]));
    frames.fault(
        UnknownType,
        "a type of another protocol",
        frame(&map(&[("type", text("hi"))]), &[]),
    );
    let bad_utf8 = announced(0xd9, 1, 1);
    let bad_utf8 = [bad_utf8, vec![0xff]].concat();
    frames.fault(WrongType, "a name that is not UTF-8", one_camera(&[("name", bad_utf8.clone())]));
    frames.legal(
        "free-form text that is not UTF-8",
        observation(&[("extra", map(&[("x", bad_utf8)]))]),
    );
}

/// A billion of everything, in ten bytes.
fn announcements(frames: &mut Frames) {
    let billion =
        [("array", 0xdd), ("map", 0xdf), ("string", 0xdb), ("binary", 0xc6), ("ext", 0xc9)];
    for (kind, marker) in billion {
        for field in ["unknown", "cameras", "proprios", "extra", "timestamp"] {
            let name = format!("a billion in {field}, as {kind}");
            frames.fault(Truncated, &name, observation(&[(field, announced(marker, 1 << 30, 4))]));
        }
        for field in ["shape", "obs_timestamps"] {
            let name = format!("a billion in {field}, as {kind}");
            frames.fault(
                Truncated,
                &name,
                action(&[(field, announced(marker, u32::MAX.into(), 4))]),
            );
        }
        let header = announced(marker, u32::MAX.into(), 4);
        let fault = if kind == "map" { Truncated } else { NotMsgpack };
        frames.fault(fault, &format!("a header of four billion, as {kind}"), frame(&header, &[]));
    }
    for field in ["intrinsics", "extrinsics", "image_shape", "name"] {
        let name = format!("a billion in a camera's {field}");
        frames.fault(Truncated, &name, one_camera(&[(field, announced(0xdd, 1 << 30, 4))]));
    }
    let nils = vec![NIL; (1 << 20) + 1];
    let million = [announced(0xdd, nils.len() as u64, 4), nils].concat();
    frames.fault(Limit, "a million values", metadata(million));
}

fn nesting(frames: &mut Frames) {
    let arrays = |depth: usize| [vec![0x91; depth], vec![NIL]].concat();
    let maps = |depth: usize| [[0x81, NIL].repeat(depth), vec![NIL]].concat();
    for (kind, nested) in [("arrays", arrays(10_000)), ("maps", maps(10_000))] {
        frames.fault(Limit, &format!("10,000 {kind} in data"), metadata(nested.clone()));
        let unknown = observation(&[("unknown", nested.clone())]);
        frames.fault(Limit, &format!("10,000 {kind} in an unknown key"), unknown);
        let cameras = one_camera(&[("unknown", nested)]);
        frames.fault(Limit, &format!("10,000 {kind} in a camera"), cameras);
    }
    // The header is the first level, `unknown` the second, and nil stands in the innermost.
    frames.legal("nesting to the limit", observation(&[("unknown", arrays(62))]));
    frames.fault(Limit, "nesting over the limit", observation(&[("unknown", arrays(63))]));
    frames.fault(Limit, "maps as keys of maps", frame(&[0x81; 10_000], &[]));
}

fn long_names(frames: &mut Frames) {
    let long = "n".repeat(1 << 20);
    frames.legal("a camera's name of 1 MB", one_camera(&[("name", text(&long))]));
    frames.legal("a stream's name of 1 MB", one_proprio(&[("name", text(&long))]));
    frames.legal("an unknown key of 1 MB", observation(&[(&long, vec![NIL])]));
    frames.legal(
        "a camera's timestamp under a name of 1 MB",
        action(&[("obs_timestamps", map(&[(&long, float(0.0))]))]),
    );
    frames.fault(UnknownType, "a type of 1 MB", observation(&[("type", text(&long))]));
    frames.fault(OutOfRange, "a dtype of 1 MB", one_camera(&[("image_dtype", text(&long))]));
}

fn fields(frames: &mut Frames) {
    frames.fault(MissingField, "an observation without type", observation(&[("type", vec![])]));
    for key in ["timestamp", "cameras", "proprios", "extra"] {
        frames.legal(&format!("an observation without {key}"), observation(&[(key, vec![])]));
        frames
            .legal(&format!("an observation with nil for {key}"), observation(&[(key, vec![NIL])]));
    }
    for key in ["shape", "dtype"] {
        frames.fault(MissingField, &format!("an action without {key}"), action(&[(key, vec![])]));
    }
    for key in ["reward", "terminated", "truncated"] {
        frames.legal(&format!("a step without {key}"), step(&[(key, vec![])]));
        frames.legal(&format!("a step with nil for {key}"), step(&[(key, vec![NIL])]));
        frames.legal(&format!("a step with true for {key}"), step(&[(key, vec![TRUE])]));
        frames.legal(&format!("a step with 2 for {key}"), step(&[(key, int(2))]));
        let name = format!("a step with text for {key}");
        frames.fault(WrongType, &name, step(&[(key, text("1"))]));
    }
    frames.legal("metadata without data", metadata(vec![]));
    frames.legal("metadata with nil for data", metadata(vec![NIL]));
    frames.fault(WrongType, "metadata that is no map", metadata(vec![TRUE]));
    for key in [
        "name",
        "intrinsics",
        "extrinsics",
        "image_shape",
        "image_dtype",
        "image_offset",
        "image_size",
    ] {
        let name = format!("a camera without {key}");
        frames.fault(MissingField, &name, one_camera(&[(key, vec![])]));
        frames.fault(
            WrongType,
            &format!("a camera with true for {key}"),
            one_camera(&[(key, vec![TRUE])]),
        );
    }
    frames.legal("a camera without timestamp", one_camera(&[("timestamp", vec![])]));
    frames.fault(MissingField, "half a depth map", one_camera(&[("depth_shape", ints(&[1, 2]))]));
    for key in ["name", "dtype", "offset", "size"] {
        frames.fault(
            MissingField,
            &format!("a stream without {key}"),
            one_proprio(&[(key, vec![])]),
        );
    }
    duplicates(frames);
}

/// Keys that stand twice.
fn duplicates(frames: &mut Frames) {
    let twice = |mut header: Vec<u8>, key: &str, value: Vec<u8>| {
        header[2] += 1;
        [header, text(key), value].concat()
    };
    let observation_header = observation(&[])[4..].to_vec();
    let observation_header = observation_header[..observation_header.len() - 8].to_vec();
    let double_type = twice(observation_header.clone(), "type", text("obs_response"));
    frames.fault(DuplicateField, "two types", frame(&double_type, &[]));
    let double_data = twice(observation_header.clone(), "data", vec![NIL]);
    let double_data = twice(double_data, "data", vec![NIL]);
    frames.fault(DuplicateField, "a field of another message twice", frame(&double_data, &[]));
    let double_unknown = twice(observation_header, "unknown", vec![NIL]);
    let double_unknown = twice(double_unknown, "unknown", vec![NIL]);
    frames.legal("an unknown key twice", frame(&double_unknown, &[]));
    let cameras = array(&[twice(camera(&[]), "image_size", int(6))]);
    frames.fault(DuplicateField, "two sizes of an image", observation(&[("cameras", cameras)]));
    let proprios = array(&[twice(proprio(&[]), "offset", int(0))]);
    frames.fault(DuplicateField, "two offsets of a stream", observation(&[("proprios", proprios)]));
    let timestamps = twice(map(&[("wrist", float(1.0))]), "wrist", float(2.0));
    frames.legal("two timestamps of a camera", action(&[("obs_timestamps", timestamps)]));
    let extra = twice(map(&[("x", vec![NIL])]), "x", vec![TRUE]);
    frames.legal("a free-form key twice", observation(&[("extra", extra)]));
}

/// Sizes, offsets and dimensions that are no such thing.
fn numbers(frames: &mut Frames) {
    let no_sizes = [
        ("negative", negative(-1)),
        ("the most negative", negative(i64::MIN)),
        ("negative, in one byte", vec![0xff]),
        ("fractional", float(1.5)),
        ("a negative float", float(-2.0)),
        ("not a number", float(f64::NAN)),
        ("infinite", float(f64::INFINITY)),
        ("beyond every integer", float(1e300)),
    ];
    for (name, value) in no_sizes {
        for key in ["image_offset", "image_size"] {
            let name = format!("{key}: {name}");
            frames.fault(OutOfRange, &name, one_camera(&[(key, value.clone())]));
        }
        for key in ["offset", "size"] {
            let name = format!("a stream's {key}: {name}");
            frames.fault(OutOfRange, &name, one_proprio(&[(key, value.clone())]));
        }
        let shape = array(&[value, int(2)]);
        frames.fault(
            OutOfRange,
            &format!("a dimension: {name}"),
            one_camera(&[("image_shape", shape.clone())]),
        );
        frames.fault(
            OutOfRange,
            &format!("an action's dimension: {name}"),
            action(&[("shape", shape)]),
        );
    }
    frames.legal(
        "sizes that are whole floats",
        one_camera(&[("image_size", float(6.0)), ("image_offset", float(-0.0))]),
    );
    for (count, key) in
        [(8, "intrinsics"), (10, "intrinsics"), (9, "extrinsics"), (0, "extrinsics")]
    {
        let name = format!("{count} numbers for {key}");
        frames.fault(OutOfRange, &name, one_camera(&[(key, floats(count))]));
    }
    let words = array(&vec![text("1"); 9]);
    frames.fault(WrongType, "intrinsics of text", one_camera(&[("intrinsics", words)]));
    frames.fault(OutOfRange, "a big-endian dtype", one_camera(&[("image_dtype", text(">f4"))]));
}

fn shapes(frames: &mut Frames) {
    for (name, dims, size) in [
        ("a product that overflows to 0", [1 << 32, 1 << 32], 0),
        ("a product that overflows to 6", [u64::MAX / 2, 1 << 2], 6),
        ("a product that overflows", [u64::MAX, u64::MAX], 1),
        ("a shape too large for its buffer", [3, 3], 6),
        ("a shape too small for its buffer", [1, 5], 6),
        ("a shape of nothing for some bytes", [0, u64::MAX], 6),
    ] {
        let changes = [("image_shape", ints(&dims)), ("image_size", int(size))];
        frames.fault(BadBuffer, name, one_camera(&changes));
        frames.fault(BadBuffer, &format!("an action: {name}"), action(&[("shape", ints(&dims))]));
    }
    // 2^61 elements of 8 bytes are 2^64 bytes: nothing, if one forgets to check.
    let changes = [
        ("image_shape", ints(&[1 << 61])),
        ("image_dtype", text("float64")),
        ("image_size", int(0)),
    ];
    frames.fault(BadBuffer, "bytes that overflow", one_camera(&changes));
    let nothing = [("image_shape", ints(&[u64::MAX, 0, u64::MAX])), ("image_size", int(0))];
    frames.fault(BadBuffer, "a huge shape of nothing", one_camera(&nothing));
    let scalar = [("image_shape", ints(&[])), ("image_size", int(1))];
    frames.legal("a scalar image", one_camera(&scalar));
    let ones = [("image_shape", ints(&[1; 32])), ("image_size", int(1))];
    frames.legal("an array of 32 dimensions", one_camera(&ones));
    let ones = [("image_shape", ints(&[1; 33])), ("image_size", int(1))];
    frames.fault(Limit, "an array of 33 dimensions", one_camera(&ones));
    frames.fault(BadBuffer, "an action of more than came", action(&[("shape", ints(&[3]))]));
    frames.fault(BadBuffer, "an action of less than came", action(&[("shape", ints(&[1]))]));
    frames.fault(
        BadBuffer,
        "an action of elements that do not divide",
        action(&[("dtype", text("float64"))]),
    );
}

fn buffers(frames: &mut Frames) {
    for offset in [3, 8, 9, 1 << 32, i64::MAX as u64, u64::MAX - 6, u64::MAX - 5, u64::MAX] {
        let name = format!("an image at {offset}");
        frames.fault(BadBuffer, &name, one_camera(&[("image_offset", int(offset))]));
        let changes = [("offset", int(offset.max(5)))];
        frames.fault(BadBuffer, &format!("a stream at {offset}"), one_proprio(&changes));
    }
    for size in [5, 6, 7, 9, 12, u64::MAX, u64::MAX - 3] {
        let name = format!("a stream of {size} bytes of float32");
        frames.fault(BadBuffer, &name, one_proprio(&[("size", int(size))]));
    }
    let halves = [("image_dtype", text("float16")), ("image_shape", ints(&[1, 2]))];
    frames.fault(BadBuffer, "elements that do not divide the image", one_camera(&halves));
    frames.legal("an image at the payload's end", one_camera(&[("image_offset", int(2))]));
    let overlapping = [
        ("depth_shape", ints(&[1, 2])),
        ("depth_dtype", text("float32")),
        ("depth_offset", int(0)),
        ("depth_size", int(8)),
    ];
    frames.legal("depth over the image", one_camera(&overlapping));
    let nothing =
        [("image_shape", ints(&[0, 2, 3])), ("image_size", int(0)), ("image_offset", int(9))];
    frames.fault(BadBuffer, "nothing, but behind the payload", one_camera(&nothing));
}

/// Many of something.
fn oversized_counts(frames: &mut Frames) {
    let nils = |count: u64| [announced(0xdd, count, 4), vec![NIL; count as usize]].concat();
    frames.fault(WrongType, "256 cameras of nil", observation(&[("cameras", nils(256))]));
    frames.fault(Limit, "257 cameras of nil", observation(&[("cameras", nils(257))]));
    frames.fault(Limit, "a million cameras of nil", observation(&[("cameras", nils(1_000_000))]));
    frames.fault(WrongType, "1024 streams of nil", observation(&[("proprios", nils(1024))]));
    frames.fault(Limit, "1025 streams of nil", observation(&[("proprios", nils(1025))]));
    let cameras = |count| array(&vec![camera(&[]); count]);
    frames.legal("256 cameras over one image", observation(&[("cameras", cameras(256))]));
    frames.fault(Limit, "257 cameras", observation(&[("cameras", cameras(257))]));
    let proprios = |count| array(&vec![proprio(&[]); count]);
    frames.legal("1024 streams over one buffer", observation(&[("proprios", proprios(1024))]));
    frames.fault(Limit, "1025 streams", observation(&[("proprios", proprios(1025))]));
    let names: Vec<_> = (0..257).map(|index| index.to_string()).collect();
    let timestamps: Vec<_> = names.iter().map(|name| (&**name, float(0.5))).collect();
    let stamped = |count| action(&[("obs_timestamps", map(&timestamps[..count]))]);
    frames.legal("256 timestamps", stamped(256));
    frames.fault(Limit, "257 timestamps", stamped(257));
}

/// As many entries as are allowed, each in the fewest bytes that make one: the most that a frame
/// can unfold to.
fn dense_oversized_counts(frames: &mut Frames) {
    let entries = |fields: &[(&str, Value)]| {
        Value::Map(fields.iter().map(|(key, value)| ((*key).into(), value.clone())).collect())
    };
    let numbers = |count: usize| Value::Array(vec![0.into(); count]);
    let observation = |cameras: Vec<Value>, proprios: Vec<Value>| {
        let header = Map::from([("type", Value::from("obs_response")), ("timestamp", 0.into())])
            .with("cameras", cameras)
            .with("proprios", proprios);
        frame(&header.encode(), &[])
    };

    let plain = vec![
        ("name", "".into()),
        ("intrinsics", numbers(9)),
        ("extrinsics", numbers(16)),
        ("image_shape", numbers(1)),
        ("image_dtype", "bool".into()),
        ("image_offset", 0.into()),
        ("image_size", 0.into()),
    ];
    let cameras = vec![entries(&plain); 256];
    frames.legal("256 cameras in the fewest bytes", observation(cameras, vec![]));
    let mut of_high_rank = plain;
    of_high_rank[3].1 = numbers(32);
    of_high_rank.extend([
        ("depth_shape", numbers(32)),
        ("depth_dtype", "bool".into()),
        ("depth_offset", 0.into()),
        ("depth_size", 0.into()),
    ]);
    let cameras = vec![entries(&of_high_rank); 256];
    frames.legal("256 cameras of 32 dimensions", observation(cameras, vec![]));

    let stream = entries(&[
        ("name", "".into()),
        ("dtype", "bool".into()),
        ("offset", 0.into()),
        ("size", 0.into()),
    ]);
    frames.legal("1024 streams in the fewest bytes", observation(vec![], vec![stream; 1024]));

    let names: Vec<_> = (0..256).map(|index| format!("{index:x}")).collect();
    let timestamps: Vec<_> = names.iter().map(|name| (&**name, 0.into())).collect();
    let header = Map::from([("type", Value::from("apply_action")), ("shape", numbers(1))])
        .with("dtype", "bool")
        .with("obs_timestamps", entries(&timestamps));
    frames.legal("256 timestamps in the fewest bytes", frame(&header.encode(), &[]));
}
