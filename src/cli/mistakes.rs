//! Mistakes on the command line with a remedy that clap does not report.

use std::ffi::OsString;

use clap::Command;
use clap::error::ErrorKind;

use crate::console::hint::shell_word;
use crate::lifecycle::Error;

/// The raw arguments of a command.
struct Given<'a> {
    /// Arguments up to the command's name.
    before: &'a [String],
    command: &'a Command,
    words: &'a [String],
}

/// The mistake in these arguments, and its remedy. `error` is clap's error, if any.
pub fn explain(sparkha: &Command, arguments: &[OsString], error: Option<&clap::Error>) -> Option<Error> {
    let words = arguments.iter().map(|word| word.to_string_lossy().into_owned());
    let words: Vec<_> = words.collect();
    let at = positionals(sparkha, &words).next()?;
    let Some(command) = sparkha.find_subcommand(&words[at]) else {
        return synonym(&words[at]);
    };
    let given = Given {
        before: &words[..=at],
        command,
        words: &words[at + 1..],
    };
    let mistakes = [ErrorKind::MissingRequiredArgument, ErrorKind::UnknownArgument];
    let is_mistake = |error: &clap::Error| mistakes.contains(&error.kind());
    match given.command.get_name() {
        "submit" if error.is_none_or(is_mistake) => given
            .option_of_spark_submit()
            .or_else(|| given.application_before_dashes()),
        "scale" if error.is_some_and(is_mistake) => given.bare_number(),
        _ => None,
    }
}

/// Names of this program's commands in other programs.
fn synonym(word: &str) -> Option<Error> {
    let command = match word {
        "apply" | "start" | "up" | "install" => "sparkha create",
        "delete" | "destroy" | "down" | "remove" | "rm" | "stop" | "uninstall" => "sparkha teardown",
        "get" | "ls" => "sparkha list",
        "describe" | "ps" | "info" => "sparkha status",
        "run" | "spark-submit" => "sparkha submit",
        "kill" | "cancel" => "sparkha jobs --kill",
        "dashboard" | "open" => "sparkha ui",
        "check" => "sparkha doctor",
        "download" | "fetch" => "sparkha local fetch",
        _ => return None,
    };
    Some(Error::Usage {
        message: format!("unknown command {word}"),
        help: format!("did you mean {command}? sparkha --help lists all commands"),
    })
}

/// `sparkha help create` as `sparkha create --help`.
pub fn without_help_command(arguments: &[OsString]) -> Option<Vec<OsString>> {
    match arguments {
        [program, help, rest @ ..] if help == "help" => {
            let words = [program].into_iter().chain(rest).cloned();
            Some(words.chain(["--help".into()]).collect())
        }
        _ => None,
    }
}

impl Given<'_> {
    /// Options of spark-submit that are not supported.
    fn option_of_spark_submit(&self) -> Option<Error> {
        const REMEDIES: [(&str, &str); 4] = [
            (
                "--master",
                "omit it: sparkha finds the masters of the cluster that NAME, --namespace and --local select",
            ),
            (
                "--num-executors",
                "use --total-executor-cores: a standalone cluster starts as many executors as these cores need",
            ),
            (
                "--driver-java-options",
                "use --conf spark.driver.extraJavaOptions=OPTIONS",
            ),
            ("--driver-class-path", "use --conf spark.driver.extraClassPath=PATH"),
        ];
        let words = self.words.iter().take_while(|word| *word != "--");
        let mut options = words.map(|word| word.split('=').next().unwrap_or_default());
        let is_of = |option: &str| REMEDIES.iter().find(|(known, _)| *known == option);
        let (option, remedy) = options.find_map(is_of)?;
        Some(Error::Usage {
            message: format!("submit has no option {option}"),
            help: (*remedy).to_owned(),
        })
    }

    /// `sparkha submit wc.py 3`: spark-submit needs no `--`.
    fn application_before_dashes(&self) -> Option<Error> {
        let (at, application) = self
            .positionals()
            .find(|(_, word)| word.ends_with(".py") || word.ends_with(".jar"))?;
        let after = self.words[at..].iter().filter(|word| *word != "--").cloned();
        let corrected = [self.words[..at].to_vec(), vec!["--".to_owned()], after.collect()].concat();
        Some(Error::Usage {
            message: format!("the application {application} must come after `--`"),
            help: format!("type: {}", self.line(&corrected)),
        })
    }

    /// `sparkha scale 3`: the number is not a name.
    fn bare_number(&self) -> Option<Error> {
        let is_workers = |word: &String| word == "--workers" || word.starts_with("--workers=");
        if self.words.iter().any(is_workers) {
            return None;
        }
        let (at, number) = self.positionals().find(|(_, word)| word.parse::<u32>().is_ok())?;
        let mut corrected = self.words.to_vec();
        corrected.splice(at..=at, ["--workers".to_owned(), number.to_owned()]);
        Some(Error::Usage {
            message: format!("the number of workers {number} must come after --workers"),
            help: format!("type: {}", self.line(&corrected)),
        })
    }

    /// Words before `--` that are neither options nor their values, with their indexes.
    fn positionals(&self) -> impl Iterator<Item = (usize, &str)> {
        positionals(self.command, self.words).map(|at| (at, self.words[at].as_str()))
    }

    /// The corrected command line.
    fn line(&self, words: &[String]) -> String {
        let own = self.before.iter().skip(1).chain(words);
        let words: Vec<_> = own.map(|word| shell_word(word)).collect();
        format!("sparkha {}", words.join(" "))
    }
}

/// Indexes of words that are neither options nor their values, up to `--`. The first word is the program.
fn positionals(command: &Command, words: &[String]) -> impl Iterator<Item = usize> {
    let takes_value = |word: &str| {
        let option = command.get_arguments().find(|argument| match word.strip_prefix("--") {
            Some(long) => argument.get_long() == Some(long),
            None => word.strip_prefix('-').and_then(|short| short.chars().next_back()) == argument.get_short(),
        });
        word.starts_with('-') && option.is_some_and(|option| option.get_action().takes_values())
    };
    let first = usize::from(command.get_name().ends_with("sparkha"));
    let mut places = Vec::new();
    let mut is_value = false;
    for (at, word) in words.iter().enumerate().skip(first) {
        if word == "--" {
            break;
        }
        if !is_value && !word.starts_with('-') {
            places.push(at);
        }
        is_value = !is_value && takes_value(word);
    }
    places.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The message about a command line, and the corrected one.
    fn explained(line: &str) -> Option<(String, String)> {
        let mut command = crate::cli::command();
        command.build();
        let arguments: Vec<OsString> = line.split(' ').map(Into::into).collect();
        let parsed = command.clone().try_get_matches_from(&arguments);
        match explain(&command, &arguments, parsed.as_ref().err())? {
            Error::Usage { message, help } => Some((message, help)),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn an_application_must_come_after_dashes() {
        for (line, corrected) in [
            ("sparkha submit wc.py 3", "sparkha submit -- wc.py 3"),
            ("sparkha submit wc.py", "sparkha submit -- wc.py"),
            ("sparkha submit wc.py -- 3", "sparkha submit -- wc.py 3"),
            ("sparkha submit etl wc.py", "sparkha submit etl -- wc.py"),
            (
                "sparkha -n data submit --jars a.jar --local -c spark.x=b.jar app.jar --in x",
                "sparkha -n data submit --jars a.jar --local -c spark.x=b.jar -- app.jar --in x",
            ),
        ] {
            let (message, help) = explained(line).unwrap_or_else(|| panic!("{line}"));
            assert!(message.starts_with("the application ") && message.ends_with(" must come after `--`"));
            assert_eq!(help, format!("type: {corrected}"));
        }
        for fine in [
            "sparkha submit -- wc.py 3",
            "sparkha submit --help",
            "sparkha submit",
            "sparkha submit x y",
        ] {
            assert_eq!(explained(fine), None, "{fine}");
        }
    }

    #[test]
    fn commands_and_options_of_other_programs_are_explained() {
        for (line, part) in [
            ("sparkha submit --master spark://x:7077 wc.py 3", "omit it"),
            ("sparkha submit --num-executors=3 -- wc.py", "--total-executor-cores"),
            ("sparkha delete etl", "did you mean sparkha teardown?"),
            ("sparkha --local run wc.py", "did you mean sparkha submit?"),
        ] {
            let (_, help) = explained(line).unwrap_or_else(|| panic!("{line}"));
            assert!(help.contains(part), "{help}");
        }
        assert_eq!(explained("sparkha submit -- wc.py --master x"), None);
        let words = |line: &str| line.split(' ').map(Into::into).collect::<Vec<OsString>>();
        let rewritten = |line: &str| without_help_command(&words(line));
        assert_eq!(
            rewritten("sparkha help route render"),
            Some(words("sparkha route render --help"))
        );
        assert_eq!(rewritten("sparkha help"), Some(words("sparkha --help")));
        assert_eq!(rewritten("sparkha create help"), None);
    }

    #[test]
    fn a_number_of_workers_must_come_after_its_option() {
        for (line, corrected) in [
            ("sparkha scale 3", "sparkha scale --workers 3"),
            ("sparkha scale etl 3 --local", "sparkha scale etl --workers 3 --local"),
        ] {
            assert_eq!(explained(line).unwrap().1, format!("type: {corrected}"));
        }
        for other in [
            "sparkha scale",
            "sparkha scale etl",
            "sparkha scale --workers x",
            "sparkha statsu",
        ] {
            assert_eq!(explained(other), None, "{other}");
        }
    }
}
