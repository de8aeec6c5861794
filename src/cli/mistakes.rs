//! Mistakes on the command line with a remedy that clap does not report.

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{Arg, Command};

use crate::console::hint::{self, shell_word};
use crate::lifecycle::Error;

/// The raw arguments of a command.
struct Given<'a> {
    sparkha: &'a Command,
    /// The program, and the arguments up to the command's name.
    before: &'a [String],
    command: &'a Command,
    words: &'a [String],
}

/// The mistake in these arguments, and its remedy. `error` is clap's error, if any.
pub fn explain(sparkha: &Command, arguments: &[OsString], error: Option<&clap::Error>) -> Option<Error> {
    let words = arguments.iter().map(|word| word.to_string_lossy().into_owned());
    let words: Vec<_> = words.collect();
    let mut at = positionals(sparkha, &words).next()?;
    let Some(mut command) = sparkha.find_subcommand(&words[at]) else {
        return synonym(&words[at]);
    };
    while let Some(next) = positionals(command, &words[at + 1..]).next()
        && let Some(nested) = command.find_subcommand(&words[at + 1 + next])
    {
        (at, command) = (at + 1 + next, nested);
    }
    let given = Given {
        sparkha,
        before: &words[..=at],
        command,
        words: &words[at + 1..],
    };
    let mistakes = [ErrorKind::MissingRequiredArgument, ErrorKind::UnknownArgument];
    if error.is_some_and(|error| !mistakes.contains(&error.kind())) {
        return None;
    }
    let foreign = given.option_without_equivalent();
    let of_command = || match given.command.get_name() {
        "submit" => given.application_before_dashes(),
        "scale" if error.is_some() => given.bare_number(),
        _ => None,
    };
    foreign.or_else(|| given.synonym_of_option()).or_else(of_command)
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

/// Options that other programs have, of commands that have no equivalent, and the remedies.
const WITHOUT_EQUIVALENT: [(&str, &str, &str); 8] = [
    (
        "submit",
        "--master",
        "omit it: sparkha finds the masters of the cluster that NAME, --namespace and --local select",
    ),
    (
        "submit",
        "--num-executors",
        "use --total-executor-cores: a standalone cluster starts as many executors as these cores need",
    ),
    (
        "submit",
        "--driver-java-options",
        "use --conf spark.driver.extraJavaOptions=OPTIONS",
    ),
    (
        "submit",
        "--driver-class-path",
        "use --conf spark.driver.extraClassPath=PATH",
    ),
    ("create", "--spark-version", SPARK_VERSION),
    ("render", "--spark-version", SPARK_VERSION),
    ("upgrade", "--spark-version", SPARK_VERSION),
    (
        "teardown",
        "--delete-data",
        "omit it: teardown deletes the data unless you pass --keep-data",
    ),
];

const SPARK_VERSION: &str = "use --image: the tag of the image is the version, such as docker.io/apache/spark:VERSION";

/// Names of options in other programs, and this program's. The first that a command has is meant.
const SYNONYMS: [(&str, &str); 8] = [
    ("--cores", "--worker-cores"),
    ("--cores", "--total-executor-cores"),
    ("--cpus", "--worker-cores"),
    ("--memory", "--worker-memory"),
    ("--memory", "--executor-memory"),
    ("--replicas", "--workers"),
    ("--config", "--file"),
    ("--lines", "--tail"),
];

/// Options of other programs for the cluster's name, which is the first argument here.
const NAMES: [&str; 2] = ["--name", "--cluster"];

impl Given<'_> {
    fn option_without_equivalent(&self) -> Option<Error> {
        let mut options = self
            .own()
            .iter()
            .filter(|word| self.is_unknown(word))
            .map(|word| split(word).0);
        let remedy = |option: &str| {
            let is_it = |entry: &&(_, _, _)| (self.command.get_name(), option) == (entry.0, entry.1);
            WITHOUT_EQUIVALENT.iter().find(is_it).map(|&(_, _, remedy)| remedy)
        };
        let (option, remedy) = options.find_map(|option| Some((option, remedy(option)?)))?;
        Some(Error::Usage {
            message: self.has_no(option),
            help: remedy.to_owned(),
        })
    }

    /// `sparkha create --name etl --cores 4`: clap suggests options that are only spelled alike.
    fn synonym_of_option(&self) -> Option<Error> {
        let has_name = hint::NAMED.contains(&self.path().as_str());
        let mut found = None;
        let (mut name, mut corrected) = (vec![], vec![]);
        let mut words = self.own().iter();
        while let Some(word) = words.next() {
            let (option, value) = split(word);
            let is_name = has_name && NAMES.contains(&option);
            let equivalent = match is_name {
                true => Some("the argument NAME"),
                false => self.equivalent(option),
            };
            let Some(equivalent) = equivalent.filter(|_| self.is_unknown(word)) else {
                corrected.push(word.clone());
                continue;
            };
            found.get_or_insert((option, equivalent));
            if is_name {
                let next = || words.next().filter(|word| !word.starts_with('-')).cloned();
                name.push(value.map(str::to_owned).or_else(next)?);
            } else {
                corrected.push(word.replacen(option, equivalent, 1));
            }
        }
        let (option, equivalent) = found?;
        let corrected = [&name, &corrected, &self.words[self.own().len()..]].concat();
        Some(Error::Usage {
            message: self.has_no(option),
            help: self.line(&corrected).unwrap_or_else(|| format!("use {equivalent}")),
        })
    }

    /// `sparkha submit wc.py 3`: spark-submit needs no `--`.
    fn application_before_dashes(&self) -> Option<Error> {
        let (at, application) = self.application()?;
        let (mut own, mut job) = (self.words[..at].to_vec(), vec![]);
        let mut words = self.words[at..].iter();
        while let Some(word) = words.next().filter(|word| *word != "--") {
            match option(self.command, word) {
                Some(NextWord::IsValue) => own.extend([word].into_iter().chain(words.next()).cloned()),
                Some(NextWord::IsOther) => own.push(word.clone()),
                None => job.push(word.clone()),
            }
        }
        let options = match own.len() == at {
            true => "",
            false => ", and the options of submit before it",
        };
        let corrected = [own, vec!["--".to_owned()], job, words.cloned().collect()].concat();
        Some(Error::Usage {
            message: format!("the application {application} must come after `--`{options}"),
            help: self.line(&corrected)?,
        })
    }

    /// `sparkha scale 3`: the number is not a name.
    fn bare_number(&self) -> Option<Error> {
        let (at, number) = self.positionals().find(|(_, word)| word.parse::<u32>().is_ok())?;
        let mut corrected = self.words.to_vec();
        corrected.splice(at..=at, ["--workers".to_owned(), number.to_owned()]);
        Some(Error::Usage {
            message: format!("the number of workers {number} must come after --workers"),
            help: self.line(&corrected)?,
        })
    }

    /// The words before `--`, and before an application: what follows it is the application's own.
    fn own(&self) -> &[String] {
        let dashes = self.words.iter().position(|word| word == "--");
        let application = match self.command.get_name() {
            "submit" => self.application().map(|(at, _)| at),
            _ => None,
        };
        let end = dashes.unwrap_or(self.words.len());
        &self.words[..application.map_or(end, |at| at.min(end))]
    }

    /// What looks like an application before `--`, with its index.
    fn application(&self) -> Option<(usize, &str)> {
        let mut words = self.positionals();
        words.find(|(_, word)| word.ends_with(".py") || word.ends_with(".jar"))
    }

    /// Words before `--` that are neither options nor their values, with their indexes.
    fn positionals(&self) -> impl Iterator<Item = (usize, &str)> {
        positionals(self.command, self.words).map(|at| (at, self.words[at].as_str()))
    }

    /// The command with those that it is nested in, such as `local env`.
    fn path(&self) -> String {
        let words = positionals(self.sparkha, self.before).map(|at| self.before[at].as_str());
        words.collect::<Vec<_>>().join(" ")
    }

    fn is_unknown(&self, word: &str) -> bool {
        option(self.command, word).is_none()
    }

    /// This command's option that another program calls `foreign`.
    fn equivalent(&self, foreign: &str) -> Option<&'static str> {
        let mut own = SYNONYMS.iter().filter(|(synonym, _)| *synonym == foreign);
        own.find(|(_, own)| !self.is_unknown(own)).map(|&(_, own)| own)
    }

    fn has_no(&self, option: &str) -> String {
        format!("{} has no option {option}", self.path())
    }

    /// The corrected command line, if it has no other mistake.
    fn line(&self, words: &[String]) -> Option<String> {
        let line = [self.before, words].concat();
        self.sparkha.clone().try_get_matches_from(&line).ok()?;
        let words: Vec<_> = line[1..].iter().map(|word| shell_word(word)).collect();
        Some(format!("type: sparkha {}", words.join(" ")))
    }
}

/// An option and its value: `--workers=3`.
fn split(word: &str) -> (&str, Option<&str>) {
    match word.split_once('=') {
        Some((option, value)) => (option, Some(value)),
        None => (word, None),
    }
}

/// The word after an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NextWord {
    IsValue,
    IsOther,
}

/// What follows if the word is an option, or several short ones, of the command.
fn option(command: &Command, word: &str) -> Option<NextWord> {
    let next = |argument: &Arg, has_value: bool| match argument.get_action().takes_values() && !has_value {
        true => NextWord::IsValue,
        false => NextWord::IsOther,
    };
    let mut arguments = command.get_arguments();
    if word.starts_with("--") {
        let (long, value) = split(word);
        let argument = arguments.find(|argument| argument.get_long() == Some(&long[2..]));
        return argument.map(|argument| next(argument, value.is_some()));
    }
    let mut rest = word.strip_prefix('-')?.chars();
    let mut found = None;
    while let Some(short) = rest.next() {
        let argument = command
            .get_arguments()
            .find(|argument| argument.get_short() == Some(short))?;
        found = Some(next(argument, !rest.as_str().is_empty()));
        if argument.get_action().takes_values() {
            break;
        }
    }
    found
}

/// Indexes of words that are neither options nor their values, up to `--`. The first word is the program.
fn positionals(command: &Command, words: &[String]) -> impl Iterator<Item = usize> {
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
        is_value = !is_value && option(command, word) == Some(NextWord::IsValue);
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
            // Words after an application are its arguments, even if submit knows such options.
            (
                "sparkha submit wc.py --cluster prod --memory 8g --master x",
                "sparkha submit -- wc.py --cluster prod --memory 8g --master x",
            ),
            (
                "sparkha -n data submit --jars a.jar --local -c spark.x=b.jar app.jar --in x",
                "sparkha -n data submit --jars a.jar --local -c spark.x=b.jar -- app.jar --in x",
            ),
        ] {
            let (message, help) = explained(line).unwrap_or_else(|| panic!("{line}"));
            assert!(message.starts_with("the application ") && message.ends_with(" must come after `--`"));
            assert_eq!(help, format!("type: {corrected}"));
        }
        for (line, corrected) in [
            (
                "sparkha submit job.py --namespace data",
                "sparkha submit --namespace data -- job.py",
            ),
            (
                "sparkha submit etl job.py 3 --local --in=x -vn data --conf=spark.a=b y -- --quiet",
                "sparkha submit etl --local -vn data --conf=spark.a=b -- job.py 3 --in=x y --quiet",
            ),
        ] {
            let (message, help) = explained(line).unwrap_or_else(|| panic!("{line}"));
            assert!(message.ends_with("must come after `--`, and the options of submit before it"));
            assert_eq!(help, format!("type: {corrected}"));
        }
        for fine in [
            "sparkha submit -- wc.py 3",
            "sparkha submit --help",
            "sparkha submit",
            "sparkha submit x y",
            "sparkha submit --bogus wc.py",
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
            ("sparkha upgrade --spark-version 4.3.0", "use --image"),
            ("sparkha teardown --delete-data", "unless you pass --keep-data"),
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
    fn options_are_explained_by_their_meaning_not_by_their_spelling() {
        for (line, message, help) in [
            (
                "sparkha create --name etl --cores 4 --memory=8g --workers 3",
                "create has no option --name",
                "type: sparkha create etl --worker-cores 4 --worker-memory=8g --workers 3",
            ),
            (
                "sparkha -n data status --cluster=etl",
                "status has no option --cluster",
                "type: sparkha -n data status etl",
            ),
            (
                "sparkha local env --name etl",
                "local env has no option --name",
                "type: sparkha local env etl",
            ),
            (
                "sparkha submit --cores 4 -- job.py --memory 3",
                "submit has no option --cores",
                "type: sparkha submit --total-executor-cores 4 -- job.py --memory 3",
            ),
            (
                "sparkha render --config x.yaml",
                "render has no option --config",
                "type: sparkha render --file x.yaml",
            ),
            (
                "sparkha logs --lines 5",
                "logs has no option --lines",
                "type: sparkha logs --tail 5",
            ),
            (
                "sparkha create --replicas 3 --workers 2",
                "create has no option --replicas",
                "use --workers",
            ),
        ] {
            assert_eq!(explained(line), Some((message.into(), help.into())), "{line}");
        }
        for other in [
            "sparkha create --lines 5",
            "sparkha create --name --local",
            "sparkha router --name etl",
            "sparkha route",
        ] {
            assert_eq!(explained(other), None, "{other}");
        }
    }

    #[test]
    fn a_number_of_workers_must_come_after_its_option() {
        for (line, corrected) in [
            ("sparkha scale 3", "sparkha scale --workers 3"),
            ("sparkha scale etl 3 --local", "sparkha scale etl --workers 3 --local"),
            ("sparkha scale --replicas 3", "sparkha scale --workers 3"),
        ] {
            assert_eq!(explained(line).unwrap().1, format!("type: {corrected}"));
        }
        for other in [
            "sparkha scale",
            "sparkha scale etl",
            "sparkha scale --workers x",
            "sparkha scale --bogus 3",
            "sparkha scale etl 3 --workers 2",
            "sparkha statsu",
        ] {
            assert_eq!(explained(other), None, "{other}");
        }
    }
}
