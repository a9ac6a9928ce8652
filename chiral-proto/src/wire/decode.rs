use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use nalgebra::{Matrix3, Matrix4};

use super::error::{ErrorKind, WireError};
use super::fields::{Field, Fields};
use super::frame::{Frame, PREFIX_LEN, Payload};
use super::limits::Limits;
use super::message::{ClientMessage, Message, ServerMessage};
use super::message_type::MessageType;
use super::reader::Reader;
use crate::timeline::Stamp;
use crate::types::byte_len;
use crate::{
    Action, Array, Camera, Dtype, Map, Name, Observation, Proprio, ResetResult, Sent, Shape,
    StepResult, Timestamps,
};

type Result<T> = std::result::Result<T, WireError>;

const KEYS: [&str; 16] = [
    "type",
    "timestamp",
    "cameras",
    "proprios",
    "extra",
    "info",
    "data",
    "shape",
    "dtype",
    "obs_timestamps",
    "seq",
    "snap",
    "hold",
    "reward",
    "terminated",
    "truncated",
];
const CAMERA_KEYS: [&str; 12] = [
    "name",
    "timestamp",
    "intrinsics",
    "extrinsics",
    "image_shape",
    "image_dtype",
    "image_offset",
    "image_size",
    "depth_shape",
    "depth_dtype",
    "depth_offset",
    "depth_size",
];
const PROPRIO_KEYS: [&str; 4] = ["name", "dtype", "offset", "size"];

/// Bytes that an entry takes at the least, its keys above all: an announced count is believed,
/// when memory is reserved, only as far as the bytes that came can bear it out.
const SHORTEST_CAMERA: usize = 100;
const SHORTEST_PROPRIO: usize = 30;

/// A frame whose header's structure is checked; what its fields hold is not yet.
pub(super) struct Header<'a> {
    frame: &'a Frame,
    limits: &'a Limits,
    fields: Fields<'a, { KEYS.len() }>,
}

impl<'a> Header<'a> {
    pub(super) fn scan(frame: &'a Frame, limits: &'a Limits) -> Result<Self> {
        let mut reader = Reader::new(frame.header());
        let mut budget = limits.values;
        reader.clone().map_len("").map_err(WireError::of_no_header)?;
        let fields = Fields::scan(&mut reader, &KEYS, limits, &mut budget)?;
        if reader.rest() > 0 {
            return Err(WireError::frame(ErrorKind::NotMsgpack, reader.offset())
                .found(format_args!("{} more bytes behind the header's map", reader.rest()))
                .expected("the header's end"));
        }
        Ok(Self { frame, limits, fields })
    }

    pub(super) fn message_type(&self) -> Result<(&'a str, usize)> {
        let mut reader = self.fields.required("type")?;
        let offset = reader.offset();
        Ok((reader.string("type")?.0, offset))
    }

    /// Reads the fields of a message of that type.
    pub(super) fn decode(&self, message_type: MessageType) -> Result<Message> {
        Ok(match message_type {
            MessageType::Metadata => Message::Client(ClientMessage::Metadata),
            MessageType::Reset => Message::Client(ClientMessage::Reset),
            MessageType::Observe => Message::Client(ClientMessage::Observe),
            MessageType::ApplyAction => Message::Client(ClientMessage::ApplyAction(self.action()?)),
            MessageType::Step => Message::Client(ClientMessage::Step(self.action()?)),
            MessageType::MetadataResponse => {
                Message::Server(ServerMessage::Metadata(self.map("data")?))
            }
            MessageType::ObservationResponse => {
                Message::Server(ServerMessage::Observation(self.observation()?))
            }
            MessageType::ResetResponse => Message::Server(ServerMessage::Reset(ResetResult {
                observation: self.observation()?,
                info: self.map("info")?,
            })),
            MessageType::StepResponse => Message::Server(ServerMessage::Step(StepResult {
                observation: self.observation()?,
                reward: self.fields.field("reward").number_or_zero()?,
                terminated: self.fields.field("terminated").flag()?,
                truncated: self.fields.field("truncated").flag()?,
                info: self.map("info")?,
            })),
        })
    }

    fn action(&self) -> Result<Action> {
        let at_shape = self.fields.field("shape");
        let shape = read_shape(&at_shape, self.limits)?;
        let dtype = read_dtype(&self.fields.field("dtype"))?;
        let payload = self.frame.payload();
        if byte_len(dtype, &shape) != Some(payload.len()) {
            let offset = at_shape.required()?.offset();
            return Err(WireError::at(ErrorKind::BadBuffer, "shape", offset)
                .found(format_args!(
                    "{dtype} of shape {shape} and {} bytes of payload",
                    payload.len()
                ))
                .expected("a payload of exactly the action's size"));
        }
        let values = Array::new(dtype, shape, payload.contiguous()).expect("just checked");
        let obs_timestamps = self.obs_timestamps()?.with_snap(self.seconds("snap"));
        let (obs_timestamps, sent) = (Some(obs_timestamps), self.sent());
        Ok(Action { values, obs_timestamps, sent, clamped: false })
    }

    /// The keys of the timing extension, of which a peer may make what it likes: what cannot be
    /// read counts as missing.
    fn sent(&self) -> Option<Sent> {
        let seq = self.fields.present("seq")?.whole()?;
        Some(Sent { seq, hold: self.seconds("hold") })
    }

    fn seconds(&self, field: &'static str) -> Option<Duration> {
        self.fields.present(field)?.seconds()
    }

    fn obs_timestamps(&self) -> Result<Timestamps> {
        const FIELD: &str = "obs_timestamps";
        let Some(mut reader) = self.fields.present(FIELD) else { return Ok(Timestamps::default()) };
        let start = reader.offset();
        let len = reader.map_len(FIELD)?;
        check_count(FIELD, start, len, self.limits.cameras, "cameras")?;
        (0..len)
            .map(|_| {
                let name = self.name(FIELD, &mut reader)?;
                if reader.nil(FIELD)? {
                    return Ok(None);
                }
                Ok(Some((name, reader.float(FIELD)?)))
            })
            .filter_map(Result::transpose)
            .collect()
    }

    fn observation(&self) -> Result<Observation> {
        let mut buffers = Buffers::of(self.frame.payload());
        Ok(Observation {
            timestamp: self.fields.field("timestamp").number_or_zero()?,
            cameras: read_entries(
                "cameras",
                self.fields.present("cameras"),
                self.limits.cameras,
                SHORTEST_CAMERA,
                |reader| self.camera(reader, &mut buffers),
            )?,
            proprios: read_entries(
                "proprios",
                self.fields.present("proprios"),
                self.limits.proprios,
                SHORTEST_PROPRIO,
                |reader| self.proprio(reader, &mut buffers),
            )?,
            extra: self.map("extra")?,
            arrival: None,
            stamp: Stamp::default(),
        })
    }

    fn camera(&self, reader: &mut Reader<'a>, buffers: &mut Buffers<'_>) -> Result<Camera> {
        let [name, timestamp, intrinsics, extrinsics, arrays @ ..] =
            Fields::rescan(reader, &CAMERA_KEYS, self.limits)?.all();
        let [image @ .., _, _, _, _] = &arrays;
        let [_, _, _, _, depth @ ..] = &arrays;
        let has_depth = depth.iter().any(|field| field.present().is_some());
        Ok(Camera {
            name: self.name(name.name, &mut name.required()?)?,
            timestamp: timestamp.number_or_zero()?,
            intrinsics: Matrix3::from_row_slice(&read_floats::<9>(&intrinsics)?),
            extrinsics: Matrix4::from_row_slice(&read_floats::<16>(&extrinsics)?),
            image: read_array(image, buffers, self.limits)?,
            depth: has_depth.then(|| read_array(depth, buffers, self.limits)).transpose()?,
        })
    }

    fn proprio(&self, reader: &mut Reader<'a>, buffers: &mut Buffers<'_>) -> Result<Proprio> {
        let [name, dtype, offset, size] = Fields::rescan(reader, &PROPRIO_KEYS, self.limits)?.all();
        let name = self.name(name.name, &mut name.required()?)?;
        let dtype = read_dtype(&dtype)?;
        let at = Placed::read(&offset, &size)?;
        if at.size % dtype.size() != 0 {
            return Err(WireError::at(ErrorKind::BadBuffer, size.name, size.required()?.offset())
                .found(format_args!("{} bytes of {dtype}", at.size))
                .expected(format_args!("a multiple of the element's {} bytes", dtype.size())));
        }
        let values = Array::new(dtype, at.size / dtype.size(), buffers.slice(&at)?);
        Ok(Proprio { name, values: values.expect("just checked") })
    }

    fn name(&self, field: &'static str, reader: &mut Reader<'a>) -> Result<Name> {
        let (text, start) = reader.string(field)?;
        Ok(Name::from_checked(self.share(start, start + text.len())))
    }

    /// A free-form map: empty where it is missing.
    fn map(&self, field: &'static str) -> Result<Map> {
        self.fields.present(field).map_or(Ok(Map::new()), |reader| self.read_map(field, reader))
    }

    fn read_map(&self, field: &'static str, mut reader: Reader<'a>) -> Result<Map> {
        let mut behind = reader.clone();
        behind.skip(field, self.limits, 2, &mut self.limits.values.clone())?;
        let len = reader.map_len(field)?;
        Ok(Map::from_checked(len as u32, self.share(reader.position(), behind.position())))
    }

    /// Bytes of the header, shared.
    fn share(&self, start: usize, end: usize) -> Bytes {
        self.frame.head().slice(PREFIX_LEN + start..PREFIX_LEN + end)
    }
}

/// Where a header says that a buffer lies.
struct Placed {
    offset: usize,
    size: usize,
    field: &'static str,
    at: usize,
}

impl Placed {
    fn read(offset: &Field<'_>, size: &Field<'_>) -> Result<Self> {
        let mut at_offset = offset.required()?;
        Ok(Self {
            field: offset.name,
            at: at_offset.offset(),
            offset: at_offset.size(offset.name)?,
            size: size.required()?.size(size.name)?,
        })
    }
}

/// Hands out the payload's buffers: shared where they lie in one segment, gathered where not.
struct Buffers<'a> {
    payload: Cow<'a, Payload>,
    /// Bytes that may still be gathered one buffer at a time: buffers beside one another never
    /// need more than the payload has.
    to_gather: usize,
}

impl<'a> Buffers<'a> {
    fn of(payload: &'a Payload) -> Self {
        Self { payload: Cow::Borrowed(payload), to_gather: payload.len() }
    }

    fn slice(&mut self, at: &Placed) -> Result<Bytes> {
        let Placed { offset, size, .. } = *at;
        if offset.checked_add(size).is_none_or(|end| end > self.payload.len()) {
            return Err(WireError::at(ErrorKind::BadBuffer, at.field, at.at)
                .found(format_args!("a buffer of {size} bytes at offset {offset}"))
                .expected(format_args!("it within the payload's {} bytes", self.payload.len())));
        }
        if !self.payload.is_shared(offset, size) {
            match self.to_gather.checked_sub(size) {
                Some(left) => self.to_gather = left,
                // Buffers over one another: they share one copy of everything.
                None => self.payload = Cow::Owned(self.payload.contiguous().into()),
            }
        }
        Ok(self.payload.slice(offset, size))
    }
}

fn read_entries<'a, T>(
    field: &'static str,
    array: Option<Reader<'a>>,
    limit: usize,
    shortest: usize,
    mut read: impl FnMut(&mut Reader<'a>) -> Result<T>,
) -> Result<Vec<T>> {
    let Some(mut reader) = array else { return Ok(Vec::new()) };
    let start = reader.offset();
    let len = reader.array_len(field)?;
    check_count(field, start, len, limit, field)?;
    let mut entries = Vec::with_capacity(len.min(reader.rest() / shortest));
    for index in 0..len {
        let entry = read(&mut reader);
        entries.push(entry.map_err(|error| error.inside(field, Some(index)))?);
    }
    Ok(entries)
}

fn read_array(
    [shape, dtype, offset, size]: &[Field<'_>; 4],
    buffers: &mut Buffers<'_>,
    limits: &Limits,
) -> Result<Array> {
    let at = Placed::read(offset, size)?;
    let dims = read_shape(shape, limits)?;
    let element = read_dtype(dtype)?;
    if byte_len(element, &dims) != Some(at.size) {
        return Err(WireError::at(ErrorKind::BadBuffer, shape.name, shape.required()?.offset())
            .found(format_args!("{element} of shape {dims} in {} bytes", at.size))
            .expected(format_args!("a shape whose elements fill the buffer, `{}`", size.name)));
    }
    Ok(Array::new(element, dims, buffers.slice(&at)?).expect("just checked"))
}

fn read_shape(field: &Field<'_>, limits: &Limits) -> Result<Shape> {
    let mut reader = field.required()?;
    let start = reader.offset();
    let rank = reader.array_len(field.name)?;
    check_count(field.name, start, rank, limits.rank, "rank")?;
    (0..rank).map(|_| reader.size(field.name)).collect()
}

fn read_dtype(field: &Field<'_>) -> Result<Dtype> {
    let mut reader = field.required()?;
    let offset = reader.offset();
    let (name, _) = reader.string(field.name)?;
    Dtype::from_name(name).ok_or_else(|| {
        WireError::at(ErrorKind::OutOfRange, field.name, offset)
            .found(format_args!("{name:?}"))
            .expected("one of bool, int8 to int64, uint8 to uint64, float16, float32, float64")
    })
}

fn read_floats<const N: usize>(field: &Field<'_>) -> Result<[f64; N]> {
    let mut reader = field.required()?;
    let offset = reader.offset();
    let len = reader.array_len(field.name)?;
    if len != N {
        return Err(WireError::at(ErrorKind::OutOfRange, field.name, offset)
            .found(format_args!("{len} numbers"))
            .expected(format_args!("{N}, row-major")));
    }
    let mut values = [0.0; N];
    for value in &mut values {
        *value = reader.float(field.name)?;
    }
    Ok(values)
}

fn check_count(field: &str, offset: usize, found: usize, limit: usize, name: &str) -> Result<()> {
    if found > limit {
        return Err(WireError::at(ErrorKind::Limit, field, offset)
            .found(format_args!("{found} entries"))
            .expected(format_args!("at most {limit} (`Limits::{name}`)")));
    }
    Ok(())
}
