//! The only place that formats output. Results go to standard output, everything else to standard error.

pub mod doctor;
pub mod error;
pub mod exit_code;
pub mod failover;
pub mod import;
pub mod jobs;
pub mod live;
pub mod logging;
pub mod logs;
pub mod routes;
pub mod status;
pub mod versions;

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Value;

use crate::lifecycle::Error;
use crate::logs::streams::OutputStream;
use crate::spec::file;

/// Output format of results.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    #[default]
    Table,
    Json,
    Yaml,
    // Names only, one per line.
    Name,
}

/// Writes to standard output. A closed pipe (`| head`) is not an error.
pub fn print(text: &str) -> Result<(), Error> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Error::Output(error)),
        _ => Ok(()),
    }
}

/// Writes a job's output. A closed pipe does not end the job.
pub fn pass_on(stream: OutputStream, bytes: &[u8]) {
    let _ = match stream {
        OutputStream::Output => {
            let mut stdout = io::stdout().lock();
            stdout.write_all(bytes).and_then(|()| stdout.flush())
        }
        OutputStream::Errors => io::stderr().lock().write_all(bytes),
    };
}

/// Shell commands that export variables and prepend a folder to PATH.
pub fn shell(variables: &[(String, String)], path: &std::path::Path) -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "'\\''"));
    let exports = variables
        .iter()
        .map(|(name, value)| format!("export {name}={}\n", quoted(value)));
    let path = quoted(&path.display().to_string());
    exports.collect::<String>() + &format!("export PATH={path}:\"$PATH\"\n")
}

/// One value as JSON.
pub fn json(value: &impl Serialize) -> String {
    // Serialising our own types cannot fail.
    serde_json::to_string_pretty(value).unwrap_or_default() + "\n"
}

/// Values as YAML documents.
pub fn yaml<'a>(values: impl IntoIterator<Item = &'a Value>) -> String {
    let documents: Vec<_> = values.into_iter().map(file::yaml).collect();
    documents.join("---\n")
}

/// A value in JSON or YAML; `None` for other formats.
pub fn structured(format: Format, value: &impl Serialize) -> Option<String> {
    match format {
        Format::Json => Some(json(value)),
        Format::Yaml => Some(yaml([&serde_json::to_value(value).unwrap_or_default()])),
        Format::Table | Format::Name => None,
    }
}
