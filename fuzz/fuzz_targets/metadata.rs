//! Free-form maps and what a robot declares of its actions in them: built in any way, or sent by
//! anybody, a map holds what a simple model says, and a declaration arrives as it was made, beside
//! what else the metadata has.
#![no_main]

use std::collections::BTreeMap;
use std::time::Instant;

use arbitrary::Arbitrary;
use chiral_fuzz::machines::epoch;
use chiral_proto::server::{Config, Event, Server};
use chiral_proto::wire::{ClientMessage, Frame, Limits, Message, ServerMessage};
use chiral_proto::{ActionDeclaration, ActionKind, ActionSpec, Map, Value};

/// Levels of nesting that a peer takes surely, and that can be read.
const FLAT: usize = 40;
const READABLE: usize = 400;
const KINDS: [ActionKind; 3] = [ActionKind::Absolute, ActionKind::Delta, ActionKind::Velocity];

#[derive(Debug, Arbitrary)]
struct Input {
    from: From,
    ops: Vec<Op>,
    kind: Option<u8>,
    hold: Option<Vec<f32>>,
}

/// Where the map comes from.
#[derive(Debug, Arbitrary)]
enum From {
    Nothing,
    Pairs(Vec<(Key, Tree)>),
    Serialized(BTreeMap<String, Tree>),
    /// A header's msgpack, as a peer sends it.
    Peer(Vec<u8>),
}

#[derive(Debug, Arbitrary)]
enum Op {
    Insert(Key, Tree),
    /// A value within so many lists.
    Nest(Key, u16),
    Get(Key),
    Travel,
    Deserialize,
}

#[derive(Debug, Clone, Arbitrary)]
enum Key {
    Chiral,
    Action,
    Any(String),
}

impl AsRef<str> for Key {
    fn as_ref(&self) -> &str {
        match self {
            Self::Chiral => "chiral",
            Self::Action => "action",
            Self::Any(text) => text,
        }
    }
}

#[derive(Debug, Clone, Arbitrary)]
enum Tree {
    Nil,
    Bool(bool),
    Integer(i128),
    F32(f32),
    F64(f64),
    Text(String),
    Binary(Vec<u8>),
    List(Vec<Tree>),
    Map(Vec<(Tree, Tree)>),
    Ext(i8, Vec<u8>),
    /// What a declaration consists of.
    Word(u8),
}

impl std::convert::From<Tree> for Value {
    fn from(tree: Tree) -> Self {
        const WORDS: [&str; 6] = ["action", "kind", "hold", "velocity", "delta", "absolute"];
        match tree {
            Tree::Nil => Self::Nil,
            Tree::Bool(boolean) => Self::Boolean(boolean),
            Tree::Integer(integer) => Self::Integer(integer),
            Tree::F32(number) => Self::F32(number),
            Tree::F64(number) => Self::F64(number),
            Tree::Text(text) => Self::String(text),
            Tree::Binary(bytes) => Self::Binary(bytes),
            Tree::List(elements) => Self::Array(elements.into_iter().map(Self::from).collect()),
            Tree::Map(entries) => {
                let entry = |(key, value)| (Self::from(key), Self::from(value));
                Self::Map(entries.into_iter().map(entry).collect())
            }
            Tree::Ext(kind, bytes) => Self::Ext(kind, bytes),
            Tree::Word(index) => WORDS[usize::from(index) % WORDS.len()].into(),
        }
    }
}

impl serde::Serialize for Tree {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Value::from(self.clone()).serialize(serializer)
    }
}

/// The map, and its entries in words; a key that stands twice counts as it stands last.
struct Pair {
    map: Map,
    model: BTreeMap<String, String>,
    /// All was written by us, each key once and every value of what msgpack has.
    is_plain: bool,
    /// No value is nested so deeply that a peer refuses it.
    is_flat: bool,
    /// No value is nested so deeply that it cannot be read at all, nor what stands behind it.
    is_readable: bool,
}

impl Pair {
    fn new(from: From) -> Option<Self> {
        let mut is_plain = true;
        let map = match from {
            From::Nothing => Map::new(),
            From::Pairs(pairs) => pairs.into_iter().collect(),
            From::Serialized(entries) => Map::from_serialize(&entries).expect("string keys"),
            From::Peer(header) => {
                is_plain = false;
                let len = (header.len() as u32).to_le_bytes();
                let frame = [&len[..], &header].concat();
                let frame = Frame::parse(frame.into(), &Limits::default()).ok()?;
                match Message::decode(&frame, &Limits::default()).ok()? {
                    Message::Server(ServerMessage::Metadata(map)) => map,
                    _ => return None,
                }
            }
        };
        let model = map.iter().map(|(key, value)| (key, value.to_string())).collect();
        let mut pair = Self { map, model, is_plain, is_flat: true, is_readable: true };
        let values: Vec<_> = pair.map.iter().map(|(_, value)| value).collect();
        // What a peer was let send is flat enough, whatever its depth.
        values.iter().filter(|_| is_plain).for_each(|value| pair.measure(value));
        Some(pair)
    }

    fn does(&mut self, op: Op) {
        match op {
            Op::Insert(key, tree) => self.insert(key.as_ref(), tree.into()),
            Op::Nest(key, levels) => {
                let nested = (0..levels % 3000).fold(Value::Nil, |inner, _| [inner].into());
                self.insert(key.as_ref(), nested);
            }
            Op::Get(key) => {
                let found = self.map.get(key.as_ref()).map(|value| value.to_string());
                assert!(!self.is_readable || found.as_ref() == self.model.get(key.as_ref()));
            }
            Op::Travel => {
                let frame = ServerMessage::Metadata(self.map.clone()).encode();
                match ServerMessage::decode(&frame, &Limits::default()) {
                    Ok(ServerMessage::Metadata(read)) => assert_eq!(read, self.map),
                    other => assert!(!self.is_flat, "{other:?}"),
                }
            }
            Op::Deserialize => {
                let read = self.map.deserialize::<BTreeMap<String, Value>>();
                if let (Ok(read), true) = (read, self.is_plain && self.is_readable) {
                    let shown = read.into_iter().map(|(key, value)| (key, value.to_string()));
                    assert!(shown.eq(self.model.clone()));
                }
            }
        }
        if self.is_plain && self.is_readable {
            assert_eq!(self.map.len(), self.model.len());
        }
        let _ = ActionDeclaration::of_metadata(&self.map);
    }

    fn measure(&mut self, value: &Value) {
        let depth = depth(value);
        self.is_flat &= depth < FLAT;
        self.is_readable &= depth < READABLE;
    }

    fn insert(&mut self, key: &str, value: Value) {
        // An integer that msgpack does not have goes out as a float.
        let shown = Map::new().with("k", value.clone()).get("k").map(|value| value.to_string());
        self.measure(&value);
        self.map.insert(key, value);
        self.model.extend(shown.map(|shown| (key.to_owned(), shown)));
    }
}

fn depth(value: &Value) -> usize {
    let inner = match value {
        Value::Array(elements) => elements.iter().map(depth).max(),
        Value::Map(entries) => {
            entries.iter().map(|(key, value)| depth(key).max(depth(value))).max()
        }
        _ => None,
    };
    1 + inner.unwrap_or_default()
}

/// What a policy reads in the metadata of a robot that declares its actions.
fn told(now: Instant, spec: ActionSpec, metadata: &Map) -> Option<Map> {
    let mut server = Server::new(now, Config { action_spec: spec, ..Config::default() });
    server.handle_message(now, ClientMessage::Metadata.encode().to_bytes());
    let request = match server.poll_event(now) {
        Some(Event::Metadata(request)) => request,
        other => panic!("{other:?}"),
    };
    server.reply_metadata(request, metadata.clone()).expect("a request that waits");
    let frame = server.poll_transmit(now).expect("the reply");
    match ServerMessage::decode(&frame, &Limits::default()).ok()? {
        ServerMessage::Metadata(read) => Some(read),
        other => panic!("{other:?}"),
    }
}

libfuzzer_sys::fuzz_target!(|input: Input| {
    let Input { from, ops, kind, hold } = input;
    let Some(mut pair) = Pair::new(from) else { return };
    for op in ops {
        pair.does(op);
    }
    let mut spec = ActionSpec::any();
    let kind = kind.map(|index| KINDS[usize::from(index) % KINDS.len()]);
    if let Some(kind) = kind {
        spec = spec.kind(kind);
    }
    let hold = hold.filter(|hold| !hold.is_empty());
    if let Some(hold) = &hold {
        spec = spec.hold(hold.clone());
    }
    let Some(read) = told(epoch(), spec.clone(), &pair.map) else {
        assert!(!pair.is_flat, "the metadata cannot be read");
        return;
    };
    let declared = ActionDeclaration::of_metadata(&read);
    if spec.declaration().is_empty() {
        assert_eq!(read, pair.map);
    } else if pair.is_readable {
        assert_eq!(declared.kind, kind);
        let bits = |hold: &[f32]| hold.iter().map(|number| number.to_bits()).collect::<Vec<_>>();
        let read_hold = declared.hold.map(|hold| bits(&hold.to_f32()));
        let is_number = hold.as_ref().is_none_or(|hold| hold.iter().all(|number| !number.is_nan()));
        assert!(!is_number || read_hold == hold.as_deref().map(bits));
        for (key, value) in read.iter().filter(|(key, _)| key != "chiral") {
            assert_eq!(
                pair.model.get(&key).cloned(),
                read.get(&key).map(|v| v.to_string()),
                "{value}"
            );
        }
    }
});
