//! `chiral inspect`: one frame, decoded.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use chiral_proto::wire::{Frame, Limits, Message};
use clap::Args;

use crate::describe::{Report, to_json};
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// A file that holds one frame; `-` for standard input.
    file: PathBuf,
    /// Print JSON, bulk data by digest.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let limits = Limits::default();
    let source = &options.file;
    let is_stdin = source.as_path() == Path::new("-");
    let shown = if is_stdin { "standard input".into() } else { source.display().to_string() };
    let bytes = if is_stdin {
        read(io::stdin().lock(), &limits)
    } else {
        File::open(source).and_then(|file| read(file, &limits))
    };
    let bytes = bytes.with_context(|| format!("cannot read {shown}"))?;
    let described = || {
        let frame = Frame::parse(bytes.into(), &limits)?;
        let message = Message::decode(&frame, &limits)?;
        let report = Report::new(&frame, &message);
        if options.json { Ok(to_json(&report, false)? + "\n") } else { Ok(report.to_string()) }
    };
    let described: anyhow::Result<String> = described();
    output::print(&described.with_context(|| format!("{shown} is no frame of the protocol"))?)
}

/// Everything, up to one byte more than a frame may have: then it is refused, however long it is.
fn read(source: impl Read, limits: &Limits) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(limits.frame_len as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
