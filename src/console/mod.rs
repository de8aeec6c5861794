//! Output for people during a command: progress, colours, and hints with the command to run next.

pub mod hint;
pub mod program;
pub mod progress;

use std::io::IsTerminal;

/// Whether to use colours on this stream.
pub fn colours(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
