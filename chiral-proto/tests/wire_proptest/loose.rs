//! A writer that shares no code with the crate's, and that takes every liberty a reader must
//! tolerate: keys in any order, unknown keys, numbers and lengths in any format that holds them,
//! optional fields left out or nil, buffers anywhere in the payload.

use chiral_proto::wire::{ClientMessage, ServerMessage};
use chiral_proto::{Action, Array, Camera, Map, Observation, Proprio, Timestamps};

use crate::rng::Rng;

pub(crate) struct Loose {
    rng: Rng,
    payload: Vec<u8>,
}

/// The entries of a map: each key with the msgpack of its value.
type Entries = Vec<(String, Vec<u8>)>;

impl Loose {
    pub(crate) fn new(seed: u64) -> Self {
        Self { rng: Rng::new(seed), payload: Vec::new() }
    }

    pub(crate) fn client_message(mut self, message: &ClientMessage) -> Vec<u8> {
        let mut fields = self.message(message.message_type().name());
        if let ClientMessage::ApplyAction(action) | ClientMessage::Step(action) = message {
            self.action(&mut fields, action);
        }
        if let ClientMessage::ApplyAction(Action { sent: Some(sent), obs_timestamps, .. }) = message
        {
            fields.push(("seq".into(), self.size(sent.seq as usize)));
            let snap = obs_timestamps.as_ref().and_then(Timestamps::snap);
            for (key, time) in [("snap", snap), ("hold", sent.hold)] {
                match time {
                    Some(time) => fields.push((key.into(), self.number(time.as_secs_f64()))),
                    None if self.rng.coin() => fields.push((key.into(), NIL.into())),
                    None => {}
                }
            }
        }
        self.frame(fields)
    }

    pub(crate) fn server_message(mut self, message: &ServerMessage) -> Vec<u8> {
        let mut fields = self.message(message.message_type().name());
        match message {
            ServerMessage::Metadata(data) => {
                let data = self.free_form(data);
                fields.push(("data".into(), data));
            }
            ServerMessage::Observation(observation) => self.observation(&mut fields, observation),
            ServerMessage::Reset(reset) => {
                self.observation(&mut fields, &reset.observation);
                self.optional_map(&mut fields, "info", &reset.info);
            }
            ServerMessage::Step(step) => {
                self.observation(&mut fields, &step.observation);
                self.optional_map(&mut fields, "info", &step.info);
                fields.push(("reward".into(), self.number(step.reward)));
                self.flag(&mut fields, "terminated", step.terminated);
                self.flag(&mut fields, "truncated", step.truncated);
            }
            other => panic!("a {} is not known here", other.message_type()),
        }
        self.frame(fields)
    }

    fn message(&mut self, message_type: &str) -> Entries {
        vec![("type".into(), self.string(message_type))]
    }

    fn frame(mut self, fields: Entries) -> Vec<u8> {
        let header = self.map(fields);
        let mut frame = (header.len() as u32).to_le_bytes().to_vec();
        frame.extend_from_slice(&header);
        frame.extend_from_slice(&self.payload);
        frame
    }

    fn action(&mut self, fields: &mut Entries, action: &Action) {
        self.payload = action.values.bytes().to_vec();
        fields.push(("shape".into(), self.shape(&action.values)));
        fields.push(("dtype".into(), self.string(action.values.dtype().name())));
        let timestamps: Entries = action
            .obs_timestamps
            .iter()
            .flat_map(Timestamps::iter)
            .map(|(name, at)| (name.to_string(), self.number(at)))
            .collect();
        if !timestamps.is_empty() || self.rng.coin() {
            let timestamps = self.map_of(&timestamps);
            fields.push(("obs_timestamps".into(), timestamps));
        } else if self.rng.coin() {
            fields.push(("obs_timestamps".into(), NIL.into()));
        }
    }

    fn observation(&mut self, fields: &mut Entries, observation: &Observation) {
        let Observation { timestamp, cameras, proprios, extra, .. } = observation;
        let arrays = cameras.iter().flat_map(|camera| [Some(&camera.image), camera.depth.as_ref()]);
        let arrays = arrays.flatten().chain(proprios.iter().map(|proprio| &proprio.values));
        let mut offsets = self.lay_out(&arrays.collect::<Vec<_>>()).into_iter();

        fields.push(("timestamp".into(), self.number(*timestamp)));
        let entries = cameras.iter().map(|camera| self.camera(camera, &mut offsets));
        let entries = entries.collect::<Vec<_>>();
        fields.push(("cameras".into(), self.array(&entries)));
        let entries = proprios.iter().map(|proprio| self.proprio(proprio, &mut offsets));
        let entries = entries.collect::<Vec<_>>();
        if !entries.is_empty() || self.rng.coin() {
            fields.push(("proprios".into(), self.array(&entries)));
        }
        self.optional_map(fields, "extra", extra);
    }

    /// Puts the arrays into the payload in any order, with gaps, and returns their offsets.
    fn lay_out(&mut self, arrays: &[&Array]) -> Vec<usize> {
        let mut order: Vec<usize> = (0..arrays.len()).collect();
        self.rng.shuffle(&mut order);
        let mut offsets = vec![0; arrays.len()];
        for index in order {
            let gap = self.rng.below(4);
            let gap = self.rng.bytes(gap);
            self.payload.extend_from_slice(&gap);
            offsets[index] = self.payload.len();
            self.payload.extend_from_slice(arrays[index].bytes());
        }
        let rest = self.rng.below(4);
        let rest = self.rng.bytes(rest);
        self.payload.extend_from_slice(&rest);
        offsets
    }

    fn camera(&mut self, camera: &Camera, offsets: &mut impl Iterator<Item = usize>) -> Vec<u8> {
        let mut fields = vec![("name".into(), self.string(&camera.name))];
        if camera.timestamp.to_bits() != 0 || self.rng.coin() {
            fields.push(("timestamp".into(), self.number(camera.timestamp)));
        } else if self.rng.coin() {
            fields.push(("timestamp".into(), NIL.into()));
        }
        for (field, matrix) in [
            ("intrinsics", camera.intrinsics.transpose().as_slice()),
            ("extrinsics", camera.extrinsics.transpose().as_slice()),
        ] {
            let numbers = matrix.iter().map(|value| self.number(*value)).collect::<Vec<_>>();
            fields.push((field.into(), self.array(&numbers)));
        }
        self.buffer(&mut fields, "image", &camera.image, offsets);
        match &camera.depth {
            Some(depth) => self.buffer(&mut fields, "depth", depth, offsets),
            None if self.rng.coin() => {
                for part in ["shape", "dtype", "offset", "size"] {
                    fields.push((format!("depth_{part}"), NIL.into()));
                }
            }
            None => {}
        }
        self.map(fields)
    }

    fn buffer(
        &mut self,
        fields: &mut Entries,
        prefix: &str,
        array: &Array,
        offsets: &mut impl Iterator<Item = usize>,
    ) {
        fields.push((format!("{prefix}_shape"), self.shape(array)));
        fields.push((format!("{prefix}_dtype"), self.string(array.dtype().name())));
        fields.push((format!("{prefix}_offset"), self.size(offsets.next().unwrap())));
        fields.push((format!("{prefix}_size"), self.size(array.bytes().len())));
    }

    fn proprio(&mut self, proprio: &Proprio, offsets: &mut impl Iterator<Item = usize>) -> Vec<u8> {
        let fields = vec![
            ("name".into(), self.string(&proprio.name)),
            ("dtype".into(), self.string(proprio.values.dtype().name())),
            ("offset".into(), self.size(offsets.next().unwrap())),
            ("size".into(), self.size(proprio.values.bytes().len())),
        ];
        self.map(fields)
    }

    fn shape(&mut self, array: &Array) -> Vec<u8> {
        let dims = array.shape().iter().map(|dim| self.size(*dim)).collect::<Vec<_>>();
        self.array(&dims)
    }

    fn optional_map(&mut self, fields: &mut Entries, key: &str, map: &Map) {
        if !map.is_empty() || self.rng.coin() {
            let map = self.free_form(map);
            fields.push((key.into(), map));
        } else if self.rng.coin() {
            fields.push((key.into(), NIL.into()));
        }
    }

    /// A free-form map's entries as they are, behind a length of any width.
    fn free_form(&mut self, map: &Map) -> Vec<u8> {
        let encoded = map.encode();
        let own_header = match encoded[0] {
            0xde => 3,
            0xdf => 5,
            _ => 1,
        };
        let mut out = self.length(map.len(), Some((0x80, 16)), &[(0xde, 2), (0xdf, 4)]);
        out.extend_from_slice(&encoded[own_header..]);
        out
    }

    /// A map of known fields: shuffled, with strangers among them.
    fn map(&mut self, mut fields: Entries) -> Vec<u8> {
        for _ in 0..self.rng.below(3) {
            let len = self.rng.below(6);
            let values = (0..len).map(|_| self.string("?")).collect::<Vec<_>>();
            let stranger = [self.array(&values), self.number(0.5), NIL.into(), vec![0xd4, 7, 7]];
            let key = format!("x_{}", self.rng.below(100));
            fields.push((key, self.rng.choose(stranger.into())));
        }
        self.rng.shuffle(&mut fields);
        self.map_of(&fields)
    }

    fn map_of(&mut self, fields: &Entries) -> Vec<u8> {
        let mut out = self.length(fields.len(), Some((0x80, 16)), &[(0xde, 2), (0xdf, 4)]);
        for (key, value) in fields {
            out.extend(self.string(key));
            out.extend_from_slice(value);
        }
        out
    }

    fn array(&mut self, values: &[Vec<u8>]) -> Vec<u8> {
        let mut out = self.length(values.len(), Some((0x90, 16)), &[(0xdc, 2), (0xdd, 4)]);
        values.iter().for_each(|value| out.extend_from_slice(value));
        out
    }

    fn string(&mut self, text: &str) -> Vec<u8> {
        let widths = [(0xd9, 1), (0xda, 2), (0xdb, 4)];
        let mut out = self.length(text.len(), Some((0xa0, 32)), &widths);
        out.extend_from_slice(text.as_bytes());
        out
    }

    /// A length in any format that holds it: inside the marker, or in bytes behind it.
    fn length(&mut self, len: usize, fix: Option<(u8, usize)>, widths: &[(u8, usize)]) -> Vec<u8> {
        let fixed =
            fix.filter(|(_, bound)| len < *bound).map(|(marker, _)| vec![marker | len as u8]);
        let wide =
            widths.iter().filter(|(_, width)| len < 1 << (8 * width)).map(|(marker, width)| {
                let mut out = vec![*marker];
                out.extend_from_slice(&(len as u64).to_be_bytes()[8 - width..]);
                out
            });
        let formats = fixed.into_iter().chain(wide).collect();
        self.rng.choose(formats)
    }

    fn size(&mut self, size: usize) -> Vec<u8> {
        if size < 1 << 53 { self.number(size as f64) } else { integer(size as i128)[0].clone() }
    }

    /// A number in any format that holds it exactly.
    /// A truth value as Python code writes one: a bool, a number, and often nothing for false.
    fn flag(&mut self, fields: &mut Entries, key: &str, value: bool) {
        let number = self.number(f64::from(u8::from(value)));
        let mut forms = vec![Some(boolean(value)), Some(number)];
        if !value {
            forms.extend([Some(NIL.into()), None]);
        }
        fields.extend(self.rng.choose(forms).map(|form| (key.into(), form)));
    }

    fn number(&mut self, value: f64) -> Vec<u8> {
        let mut formats = vec![[&[0xcb], &value.to_be_bytes()[..]].concat()];
        let narrow = value as f32;
        if f64::from(narrow).to_bits() == value.to_bits() && !value.is_nan() {
            formats.push([&[0xca], &narrow.to_be_bytes()[..]].concat());
        }
        let whole = value as i128;
        if (whole as f64).to_bits() == value.to_bits() {
            formats.extend(integer(whole));
        }
        self.rng.choose(formats)
    }
}

const NIL: [u8; 1] = [0xc0];

fn boolean(value: bool) -> Vec<u8> {
    vec![0xc2 | u8::from(value)]
}

/// An integer in every format that holds it, if any does.
fn integer(value: i128) -> Vec<Vec<u8>> {
    let bytes = value.to_be_bytes();
    let tail = |marker: u8, width: usize| [&[marker], &bytes[16 - width..]].concat();
    let mut formats = Vec::new();
    for (marker, width) in [(0xcc, 1), (0xcd, 2), (0xce, 4), (0xcf, 8)] {
        if (0..1 << (8 * width)).contains(&value) {
            formats.push(tail(marker, width));
        }
    }
    for (marker, width) in [(0xd0, 1), (0xd1, 2), (0xd2, 4), (0xd3, 8)] {
        let bound = 1 << (8 * width - 1);
        if (-bound..bound).contains(&value) {
            formats.push(tail(marker, width));
        }
    }
    if (-32..128).contains(&value) {
        formats.push(vec![value as u8]);
    }
    formats
}
