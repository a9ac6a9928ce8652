//! `chiral cert`: a certificate that a robot signs itself, for a laboratory without an authority.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use chiral_blocking::TlsServer;
use clap::Args;
use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};

use crate::output;
use crate::usage::ensure_usage;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The folder for the two files.
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,

    /// A name or address under which policies reach the robot; several, each with a --name of its
    /// own. It makes no difference to those who pin the certificate.
    #[arg(long = "name", value_name = "NAME", default_values = ["localhost", "127.0.0.1", "::1"])]
    names: Vec<String>,

    /// For how many years the certificate is valid.
    #[arg(long, value_name = "YEARS", default_value_t = 10,
        value_parser = clap::value_parser!(u16).range(1..=100))]
    years: u16,
}

const CERTIFICATE: &str = "chiral-cert.pem";
const KEY: &str = "chiral-key.pem";

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let (certificate, key) = (options.out.join(CERTIFICATE), options.out.join(KEY));
    for path in [&certificate, &key] {
        let is_there = path.symlink_metadata().is_ok();
        ensure_usage!(!is_there, "{} is there already: it is not overwritten", path.display());
    }
    let last_year = this_year() + i32::from(options.years);
    let secret = KeyPair::generate()?;
    let mut params = CertificateParams::new(options.names.clone())?;
    params.distinguished_name.push(DnType::CommonName, "chiral robot");
    params.not_before = date_time_ymd(this_year() - 1, 1, 1);
    params.not_after = date_time_ymd(last_year, 12, 31);
    let signed = params.self_signed(&secret)?;

    std::fs::create_dir_all(&options.out)
        .with_context(|| format!("{} cannot be made", options.out.display()))?;
    write(&key, &secret.serialize_pem(), Access::OwnerOnly)?;
    write(&certificate, &signed.pem(), Access::Default)?;
    let fingerprint = TlsServer::from_pem_files(&certificate, &key)?.fingerprint();
    let (names, host) = (options.names.join(", "), in_uri(&options.names[0]));
    let (certificate, key) = (certificate.display(), key.display());
    output::print(&format!(
        "certificate  {certificate}, for {names}, until the end of {last_year}\n\
         key          {key}: a secret of the robot's\n\
         fingerprint  {fingerprint}\n\n\
         The robot:   chiral serve --tls-cert {certificate} --tls-key {key}\n\
         A policy:    chiral probe wss://{host}:8765 --pin {fingerprint}\n"
    ))
}

/// A host as it stands in a URI.
fn in_uri(name: &str) -> String {
    if name.contains(':') { format!("[{name}]") } else { name.to_owned() }
}

fn this_year() -> i32 {
    // A clock that stands before 1970 is set right before long.
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    // The mean year of the Gregorian calendar, in seconds.
    1970 + (seconds / 31_556_952) as i32
}

/// Who may read a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Default,
    OwnerOnly,
}

/// Writes a file that is not there yet.
fn write(path: &Path, text: &str, access: Access) -> anyhow::Result<()> {
    let write = || create(path, access)?.write_all(text.as_bytes());
    write().with_context(|| format!("{} cannot be written", path.display()))
}

fn create(path: &Path, access: Access) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    if access == Access::OwnerOnly {
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    }
    let _ = access;
    options.open(path)
}
