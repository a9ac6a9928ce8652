//! Writes the seed corpora of the wire targets: the golden frames, the hostile frames of the tests,
//! and some unusual ones.

use std::path::Path;
use std::{fs, io};

use chiral_proto::wire::{ClientMessage, Frame, Limits, Message, ServerMessage};
use chiral_proto::{Action, Array, Dtype, Map, Observation, Proprio, StepResult, Value};

#[path = "../../chiral-proto/tests/wire_memory/hostile.rs"]
mod hostile;
#[path = "../../chiral-proto/tests/wire_memory/pack.rs"]
mod pack;

/// Longer frames reach no new code and make the fuzzer slow.
const LONGEST: usize = 5000;
const LONGEST_HOSTILE: usize = 1500;

fn main() -> io::Result<()> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut seeds = golden(&here.join("../tests/vectors"))?;
    seeds.extend(unusual());
    for (name, frame) in &seeds {
        write(here, "roundtrip", name, frame)?;
    }
    for (index, hostile) in hostile::frames().into_iter().enumerate() {
        if hostile.frame.len() <= LONGEST_HOSTILE {
            let fault = hostile.fault.map_or("Legal".to_owned(), |fault| format!("{fault:?}"));
            let name = hostile.name.replace(|c: char| !c.is_alphanumeric(), "_");
            seeds.push((format!("{fault}_{name:.20}_{index}"), hostile.frame));
        }
    }
    for (name, frame) in &seeds {
        write(here, target(frame), name, frame)?;
    }
    Ok(())
}

fn write(here: &Path, target: &str, name: &str, frame: &[u8]) -> io::Result<()> {
    let folder = here.join("corpus").join(target);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(name), frame)
}

/// The target whose decoder gets furthest with the frame.
fn target(frame: &[u8]) -> &'static str {
    const ACTION: &[u8] = b"apply_action";
    let limits = Limits::default();
    let message = Frame::parse(frame.to_vec().into(), &limits)
        .and_then(|frame| Message::decode(&frame, &limits));
    match message {
        Ok(Message::Client(_)) => "decode_client_frame",
        Err(_) if frame.windows(ACTION.len()).any(|window| window == ACTION) => {
            "decode_client_frame"
        }
        _ => "decode_server_frame",
    }
}

fn golden(folder: &Path) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut seeds = Vec::new();
    for peer in ["python", "cpp"] {
        for entry in fs::read_dir(folder.join(peer))? {
            let path = entry?.path();
            let frame = fs::read(&path)?;
            let stem = path.file_stem().unwrap_or_default().display().to_string();
            if path.extension().is_some_and(|extension| extension == "bin")
                && frame.len() <= LONGEST
            {
                seeds.push((format!("{}_{stem}", &peer[..2]), frame));
            }
        }
    }
    Ok(seeds)
}

fn unusual() -> Vec<(String, Vec<u8>)> {
    let nested = Value::Map(vec![
        (Value::Ext(-1, vec![1; 4]), Value::Nil),
        (7.into(), Value::Binary(vec![0; 3])),
        (Value::F32(0.5), Value::Array(vec![u64::MAX.into(), i64::MIN.into(), true.into()])),
    ]);
    let free_form = Map::new().with("nested", nested).with("text", "ünïcödé");
    let zeros = |dtype, len: usize| Array::zeros(dtype, len).expect("a few bytes");
    let mut messages =
        vec![("free_form".to_owned(), Message::Server(ServerMessage::Metadata(free_form.clone())))];
    for dtype in Dtype::ALL {
        let action = Action::new(zeros(dtype, 3));
        messages.push((format!("act_{dtype}"), Message::Client(ClientMessage::Step(action))));
        let proprio = Proprio { name: "q".into(), values: zeros(dtype, 3) };
        let observation = Observation { proprios: vec![proprio], ..Observation::default() };
        let step = StepResult { observation, info: free_form.clone(), ..StepResult::default() };
        messages.push((format!("obs_{dtype}"), Message::Server(ServerMessage::Step(step))));
    }
    let frames = messages.into_iter();
    frames.map(|(name, message)| (name, message.encode().to_bytes().into())).collect()
}
