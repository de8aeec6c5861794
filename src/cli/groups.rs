//! Groups of commands in `sparkha --help`, which clap does not support.

use std::fmt::Write;

use clap::Command;

use crate::commands::heading;
use crate::console::program::GROUPS;

/// clap's template for the help of this command, with its commands in groups. The commands provide their descriptions.
pub fn template(command: &Command) -> String {
    let header = command.get_styles().get_header();
    let literal = command.get_styles().get_literal();
    let longest = GROUPS.iter().flat_map(|(_, names)| *names).map(|name| name.len()).max();
    let width = longest.unwrap_or_default();
    let mut text = String::from("{about-with-newline}\n{usage-heading} {usage}\n");
    for (group, names) in GROUPS {
        // Writing to a string cannot fail.
        let _ = write!(text, "\n{header}{group}:{header:#}\n");
        for command in names.iter().filter_map(|name| command.find_subcommand(name)) {
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            let _ = writeln!(text, "  {literal}{:width$}{literal:#}  {about}", command.get_name());
        }
    }
    // clap writes no headings in place of `{options}`. All options of sparkha itself are global.
    let _ = write!(
        text,
        "\n{header}{}:{header:#}\n{{options}}{{after-help}}",
        heading::GLOBAL
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_visible_command_is_in_one_group() {
        let command = crate::cli::command();
        let visible = command.get_subcommands().filter(|command| !command.is_hide_set());
        let mut visible: Vec<_> = visible.map(Command::get_name).collect();
        let mut grouped: Vec<_> = GROUPS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        visible.sort_unstable();
        grouped.sort_unstable();
        assert_eq!(visible, grouped);
    }

    #[test]
    fn help_shows_each_command_below_its_group() {
        let mut command = crate::cli::command();
        let help = command.render_help().to_string();
        let mut rest = help.as_str();
        for (group, names) in GROUPS {
            (_, rest) = rest.split_once(&format!("\n{group}:\n")).unwrap();
            for name in names {
                let about = command.find_subcommand(name).and_then(Command::get_about).unwrap();
                let line;
                (line, rest) = rest.split_once('\n').unwrap();
                assert_eq!(line.split_whitespace().next(), Some(*name));
                assert!(line.ends_with(&format!("  {about}")), "{line}");
            }
        }
    }
}
