//! Checks that command lines in documents and help texts have valid arguments, without running them.

use clap::Parser;
use clap::error::ErrorKind;

use super::Cli;

#[path = "../../tests/kit/documents.rs"]
mod documents;

use documents::{Snippet, documents, snippets};

/// The shell commands in a code block: all of a script, and those after a prompt in a transcript. Continued lines are joined.
fn lines(snippet: &Snippet) -> Vec<String> {
    let is_transcript = snippet.info == "console";
    if !is_transcript && snippet.info.split(',').next() != Some("sh") {
        return Vec::new();
    }
    let joined = snippet.text.replace("\\\n", " ");
    let lines = joined.lines();
    let shell = lines.filter_map(|line| {
        if is_transcript {
            line.strip_prefix("$ ")
        } else {
            Some(line)
        }
    });
    shell.map(str::to_owned).collect()
}

/// The words of each `sparkha` command in a line of shell, including nested commands.
fn commands(line: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for (at, _) in line.match_indices("sparkha ") {
        let before = &line[..at];
        let is_nested = before.ends_with("$(");
        if !(is_nested || before.trim_end().is_empty() || before.ends_with("| ") || before.ends_with("&& ")) {
            continue;
        }
        let rest = match line[at..].split_once(')') {
            Some((inside, _)) if is_nested => inside,
            _ => &line[at..],
        };
        let words = shlex::split(rest).unwrap_or_else(|| panic!("a quote without an end: {line}"));
        let ends = |word: &String| word.starts_with(['|', '&', ';', '>', '<']) || word.starts_with("2>");
        found.push(words.into_iter().take_while(|word| !ends(word)).collect());
    }
    found
}

/// The number of checked commands, and their mistakes.
#[derive(Default)]
struct SnippetCheck {
    commands: usize,
    invalid: String,
}

impl SnippetCheck {
    /// Checks the commands in a line of shell.
    fn line(&mut self, place: &str, line: &str) {
        for command in commands(line) {
            self.commands += 1;
            let error = Cli::try_parse_from(command).err();
            let is_help =
                |error: &clap::Error| matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            if let Some(error) = error.filter(|error| !is_help(error)) {
                self.invalid += &format!("{place}: {line}\n{error}\n");
            }
        }
    }
}

#[test]
fn commands_are_found_in_lines_of_shell() {
    let words = |line: &str| commands(line).iter().map(|words| words.join(" ")).collect::<Vec<_>>();
    assert_eq!(words("sparkha render > x.yaml"), ["sparkha render"]);
    assert_eq!(words("sparkha status   # says all"), ["sparkha status"]);
    assert_eq!(words("eval \"$(sparkha local env)\""), ["sparkha local env"]);
    assert_eq!(
        words("sparkha submit -- 'a b' && sparkha jobs"),
        ["sparkha submit -- a b", "sparkha jobs"]
    );
    assert_eq!(words("cat /etc/sparkha x"), [""; 0]);
}

#[test]
fn commands_in_documents_have_valid_arguments() {
    let mut checked = SnippetCheck::default();
    for snippet in documents().iter().flat_map(|document| snippets(document)) {
        for line in lines(&snippet) {
            checked.line(&snippet.place, &line);
        }
    }
    assert!(checked.invalid.is_empty(), "{}", checked.invalid);
    assert!(checked.commands > 0, "README.md has commands");
}

#[test]
fn examples_in_help_have_valid_arguments() {
    let mut checked = SnippetCheck::default();
    for (_, command) in super::commands() {
        let help = command
            .get_after_long_help()
            .or(command.get_after_help())
            .map(ToString::to_string)
            .unwrap_or_default();
        for line in help.lines().filter_map(|line| line.strip_prefix("  ")) {
            // Spaces separate an example from its description.
            let example = line.split("  ").next().unwrap_or_default();
            checked.line(command.get_name(), example);
        }
    }
    assert!(checked.invalid.is_empty(), "{}", checked.invalid);
    assert!(checked.commands > 50, "{}", checked.commands);
}
