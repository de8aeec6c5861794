//! sparkha as a plugin of kubectl: help that says `kubectl sparkha`, and the completion that kubectl asks for.

use std::ffi::OsString;
use std::fmt::Write;

use clap::Command;
use clap::builder::StyledStr;
use clap_complete::engine::complete;

use crate::console::program::{PLUGIN, Program};
use crate::lifecycle::Error;
use crate::report;

const COMPLETIONS: &str = "Examples:
  ln -s kubectl-sparkha \"$(dirname \"$(command -v kubectl-sparkha)\")/kubectl_complete-sparkha\"

kubectl's own completion runs kubectl_complete-sparkha. The script that this command prints completes kubectl-sparkha.";

/// The command line under this name.
pub fn named(command: Command, program: Program) -> Command {
    if program == Program::Sparkha {
        return command;
    }
    let command = with_texts(command, program).name(PLUGIN).bin_name("kubectl sparkha");
    command.mut_subcommand("completions", |completions| completions.after_help(COMPLETIONS))
}

/// All texts with their commands under this name.
fn with_texts(mut command: Command, program: Program) -> Command {
    let named = |text: &StyledStr| program.named(&text.to_string());
    if let Some(text) = command.get_about().map(named) {
        command = command.about(text);
    }
    if let Some(text) = command.get_long_about().map(named) {
        command = command.long_about(text);
    }
    if let Some(text) = command.get_after_help().map(named) {
        command = command.after_help(text.replace("man sparkha-", "man kubectl-sparkha-"));
    }
    if let Some(text) = command.get_after_long_help().map(named) {
        command = command.after_long_help(text);
    }
    let command = command.mut_args(|mut argument| {
        if let Some(text) = argument.get_help().map(named) {
            argument = argument.help(text);
        }
        if let Some(text) = argument.get_long_help().map(named) {
            argument = argument.long_help(text);
        }
        argument
    });
    command.mut_subcommands(|command| with_texts(command, program))
}

/// Completes the last of these arguments: a line for each candidate, and the directive that kubectl expects.
///
/// # Errors
/// If standard output cannot be written.
pub fn print_candidates(mut command: Command, arguments: Vec<OsString>) -> Result<(), Error> {
    report::print(&candidates(&mut command, arguments))
}

fn candidates(command: &mut Command, arguments: Vec<OsString>) -> String {
    let last = arguments.len().saturating_sub(1);
    // As kubectl's own commands, which offer flags once their first dash is typed.
    let is_flag = arguments
        .last()
        .is_some_and(|word| word.to_string_lossy().starts_with('-'));
    let folder = std::env::current_dir().ok();
    let found = complete(command, arguments, last, folder.as_deref()).unwrap_or_default();
    let mut lines = String::new();
    let mut is_folder = false;
    for candidate in found.iter().filter(|candidate| !candidate.is_hide_set()) {
        let value = candidate.get_value().to_string_lossy();
        if value.starts_with('-') && !is_flag {
            continue;
        }
        is_folder |= value.ends_with('/');
        let help = candidate.get_help().map(ToString::to_string).unwrap_or_default();
        // Writing to a string cannot fail.
        let _ = writeln!(lines, "{value}\t{}", help.lines().next().unwrap_or_default());
    }
    // cobra's ShellCompDirective: no file names of the shell's own (4), and no space after a folder (2).
    let directive = if is_folder { 6 } else { 4 };
    lines.replace("\t\n", "\n") + &format!(":{directive}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::program::commands;

    fn completed(line: &str) -> String {
        let mut command = named(crate::cli::command(), Program::Completer);
        candidates(&mut command, line.split(' ').map(Into::into).collect())
    }

    #[test]
    fn candidates_are_as_kubectl_expects_them() {
        let about = "Create a cluster, or change it to match";
        assert_eq!(completed("x cr"), format!("create\t{about}\n:4\n"));
        assert!(completed("x scale --wo").starts_with("--workers\t"));
        assert!(!completed("x ").contains("--namespace"));
        assert!(completed("x route render --format tr").contains("traefik"));
        assert_eq!(completed("x no-such-command"), ":4\n");
    }

    #[test]
    fn folders_are_completed_without_a_space() {
        assert_eq!(completed("x create -f sr"), "src/\n:6\n");
    }

    #[test]
    fn all_commands_have_a_name_of_a_plugin() {
        let command = crate::cli::command();
        let mut names: Vec<_> = command.get_subcommands().map(Command::get_name).collect();
        // `sparkha help create` is accepted.
        names.push("help");
        names.sort_unstable();
        let mut known: Vec<_> = commands().collect();
        known.sort_unstable();
        assert_eq!(names, known);
    }

    #[test]
    fn help_names_no_command_without_kubectl() {
        let mut root = named(crate::cli::command(), Program::Plugin);
        root.build();
        let mut queue = vec![root];
        while let Some(command) = queue.pop() {
            // Without line breaks of its own.
            let mut command = command.term_width(0);
            queue.extend(command.get_subcommands().cloned());
            let help = command.render_long_help().to_string();
            assert!(help.contains("Usage: kubectl sparkha"), "{help}");
            for (at, _) in help.match_indices("sparkha ") {
                let (before, after) = (&help[..at], &help[at + "sparkha ".len()..]);
                let is_command = commands().any(|verb| {
                    after
                        .strip_prefix(verb)
                        .is_some_and(|rest| !rest.starts_with(char::is_alphanumeric))
                });
                assert!(!is_command || before.ends_with("kubectl "), "{help}");
            }
        }
    }
}
