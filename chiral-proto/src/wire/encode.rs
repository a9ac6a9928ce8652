use rmp::encode::{write_array_len, write_bool, write_f64, write_map_len, write_str, write_uint};

use super::frame::{Frame, PREFIX_LEN, Payload};
use super::message::{ClientMessage, ServerMessage};
use super::message_type::MessageType;
use super::timing::SEQ;
use crate::{Action, Array, Camera, Map, Observation, Proprio, Timestamps};

/// Writes a header in the key order of the Python peer, and collects the payload that it
/// describes.
struct Writer {
    head: Vec<u8>,
    payload: Payload,
}

/// Bytes of the head that one camera takes without its name: 12 keys and 25 floats.
const CAMERA_LEN: usize = 448;
const PROPRIO_LEN: usize = 64;
const REST_LEN: usize = 200;

pub(super) fn client_message(message: &ClientMessage) -> Frame {
    let (keys, action) = match message {
        ClientMessage::Metadata | ClientMessage::Reset | ClientMessage::Observe => (1, None),
        ClientMessage::ApplyAction(action) | ClientMessage::Step(action) => (4, Some(action)),
    };
    let sent = match message {
        ClientMessage::ApplyAction(Action { sent: Some(sent), .. }) => Some(sent),
        _ => None,
    };
    let timestamps = action.and_then(|action| action.obs_timestamps.as_ref());
    let names: usize =
        timestamps.map_or(0, |all| all.iter().map(|(name, _)| name.len() + 14).sum());
    let snap = sent.and_then(|_| timestamps?.snap);
    let hold = sent.and_then(|sent| sent.hold);
    let more = [sent.is_some(), snap.is_some(), hold.is_some()];
    let keys = keys + more.into_iter().map(u32::from).sum::<u32>();
    let mut writer = Writer::new(message.message_type(), keys, REST_LEN + names, 1);
    if let Some(action) = action {
        writer.action(action);
    }
    if let Some(sent) = sent {
        writer.key(SEQ);
        writer.whole(sent.seq);
    }
    for (key, time) in [("snap", snap), ("hold", hold)] {
        if let Some(time) = time {
            writer.float(key, time.as_secs_f64());
        }
    }
    writer.finish()
}

/// A request for an observation, with the number of actions that were sent before it.
pub(super) fn numbered_observe(sent: u64) -> Frame {
    let mut writer = Writer::new(MessageType::Observe, 2, REST_LEN, 0);
    writer.key(SEQ);
    writer.whole(sent);
    writer.finish()
}

pub(super) fn server_message(message: &ServerMessage) -> Frame {
    match message {
        ServerMessage::Metadata(data) => {
            let room = REST_LEN + data.encoded_len();
            let mut writer = Writer::new(message.message_type(), 2, room, 0);
            writer.map("data", data);
            writer.finish()
        }
        ServerMessage::Observation(observation) => {
            Writer::observation(message, observation, 0, 0).finish()
        }
        ServerMessage::Reset(reset) => {
            let mut writer =
                Writer::observation(message, &reset.observation, 1, reset.info.encoded_len());
            writer.map("info", &reset.info);
            writer.finish()
        }
        ServerMessage::Step(step) => {
            let mut writer =
                Writer::observation(message, &step.observation, 4, step.info.encoded_len());
            writer.float("reward", step.reward);
            writer.boolean("terminated", step.terminated);
            writer.boolean("truncated", step.truncated);
            writer.map("info", &step.info);
            writer.finish()
        }
    }
}

// A `Vec` takes every write, so the writers' results are dropped here, and only here.
impl Writer {
    fn new(message_type: MessageType, keys: u32, head_len: usize, segments: usize) -> Self {
        let mut head = Vec::with_capacity(head_len);
        head.extend_from_slice(&[0; PREFIX_LEN]);
        let _ = write_map_len(&mut head, keys);
        let mut writer = Self { head, payload: Payload::with_capacity(segments) };
        writer.key("type");
        writer.string(message_type.name());
        writer
    }

    fn observation(
        message: &ServerMessage,
        observation: &Observation,
        more_keys: u32,
        more_len: usize,
    ) -> Self {
        let Observation { timestamp, cameras, proprios, extra, arrival: _, stamp: _ } = observation;
        let names = cameras.iter().map(|camera| CAMERA_LEN + camera.name.len()).sum::<usize>()
            + proprios.iter().map(|proprio| PROPRIO_LEN + proprio.name.len()).sum::<usize>();
        let mut writer = Self::new(
            message.message_type(),
            5 + more_keys,
            REST_LEN + names + extra.encoded_len() + more_len,
            2 * cameras.len() + proprios.len(),
        );
        writer.float("timestamp", *timestamp);
        writer.array_of("cameras", cameras.len());
        cameras.iter().for_each(|camera| writer.camera(camera));
        writer.array_of("proprios", proprios.len());
        proprios.iter().for_each(|proprio| writer.proprio(proprio));
        writer.map("extra", extra);
        writer
    }

    fn camera(&mut self, camera: &Camera) {
        let _ = write_map_len(&mut self.head, if camera.depth.is_some() { 12 } else { 8 });
        self.key("name");
        self.string(&camera.name);
        self.float("timestamp", camera.timestamp);
        // nalgebra lies column by column, the wire is row-major.
        self.floats("intrinsics", camera.intrinsics.transpose().as_slice());
        self.floats("extrinsics", camera.extrinsics.transpose().as_slice());
        self.buffer(&camera.image, ["image_shape", "image_dtype", "image_offset", "image_size"]);
        if let Some(depth) = &camera.depth {
            self.buffer(depth, ["depth_shape", "depth_dtype", "depth_offset", "depth_size"]);
        }
    }

    fn proprio(&mut self, proprio: &Proprio) {
        let _ = write_map_len(&mut self.head, 4);
        self.key("name");
        self.string(&proprio.name);
        self.key("dtype");
        self.string(proprio.values.dtype().name());
        self.placed("offset", "size", &proprio.values);
    }

    fn action(&mut self, action: &Action) {
        self.shape("shape", &action.values);
        self.key("dtype");
        self.string(action.values.dtype().name());
        let timestamps = action.obs_timestamps.as_ref();
        self.key("obs_timestamps");
        let _ = write_map_len(&mut self.head, timestamps.map_or(0, |all| all.len() as u32));
        for (name, timestamp) in timestamps.into_iter().flat_map(Timestamps::iter) {
            self.string(name);
            let _ = write_f64(&mut self.head, timestamp);
        }
        self.payload.push(action.values.bytes().clone());
    }

    fn buffer(&mut self, array: &Array, [shape, dtype, offset, size]: [&str; 4]) {
        self.shape(shape, array);
        self.key(dtype);
        self.string(array.dtype().name());
        self.placed(offset, size, array);
    }

    fn placed(&mut self, offset: &str, size: &str, array: &Array) {
        let at = self.payload.push(array.bytes().clone());
        self.key(offset);
        self.whole(at as u64);
        self.key(size);
        self.whole(array.bytes().len() as u64);
    }

    fn shape(&mut self, key: &str, array: &Array) {
        self.array_of(key, array.shape().len());
        for &dim in &**array.shape() {
            self.whole(dim as u64);
        }
    }

    fn floats(&mut self, key: &str, values: &[f64]) {
        self.array_of(key, values.len());
        for &value in values {
            let _ = write_f64(&mut self.head, value);
        }
    }

    fn whole(&mut self, value: u64) {
        let _ = write_uint(&mut self.head, value);
    }

    fn float(&mut self, key: &str, value: f64) {
        self.key(key);
        let _ = write_f64(&mut self.head, value);
    }

    fn boolean(&mut self, key: &str, value: bool) {
        self.key(key);
        let _ = write_bool(&mut self.head, value);
    }

    fn map(&mut self, key: &str, map: &Map) {
        self.key(key);
        map.encode_into(&mut self.head);
    }

    fn array_of(&mut self, key: &str, len: usize) {
        self.key(key);
        let _ = write_array_len(&mut self.head, len as u32);
    }

    fn key(&mut self, key: &str) {
        self.string(key);
    }

    fn string(&mut self, text: &str) {
        let _ = write_str(&mut self.head, text);
    }

    fn finish(mut self) -> Frame {
        let header_len = (self.head.len() - PREFIX_LEN) as u32;
        self.head[..PREFIX_LEN].copy_from_slice(&header_len.to_le_bytes());
        Frame::from_parts(self.head.into(), self.payload)
    }
}
