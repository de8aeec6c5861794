//! The raw arguments. Commands resolve them.

mod groups;
mod mistakes;
mod plugin;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Arg, ArgAction, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::commands::arguments::Global;
use crate::commands::{
    connect_url, create, doctor, failover, heading, import, jobs, list, local, logs, render, rotate_secret, route,
    router, scale, status, submit, teardown, ui, upgrade, version,
};
use crate::console::hint;
use crate::console::program::Program;
use crate::lifecycle::Error;
use crate::report;
use crate::report::exit_code::ExitCode;

/// Runs highly available standalone Spark clusters on Kubernetes, without an operator.
#[derive(Debug, Parser)]
#[command(
    version,
    propagate_version = true,
    disable_help_subcommand = true,
    disable_help_flag = true,
    disable_version_flag = true,
    arg_required_else_help = true,
    arg = help(),
    arg = version(),
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "Examples:
  sparkha create --namespace data              3 masters, 3 ZooKeeper servers, 2 workers
  sparkha create etl -f sparkha.yaml           a cluster named etl, as the file describes it
  sparkha status --namespace data --watch
  sparkha submit --namespace data -- job.py 20
  sparkha teardown --namespace data
  sparkha create --local                       the same, as processes on this machine";

/// Replaces clap's own flag, which would be among a command's options instead of the global ones.
fn help() -> Arg {
    let text = "Print help; --help prints more than -h";
    let flag = Arg::new("help").short('h').long("help").action(ArgAction::Help);
    flag.global(true).help(text).help_heading(heading::GLOBAL)
}

/// The same.
fn version() -> Arg {
    let flag = Arg::new("version").short('V').long("version");
    let flag = flag.action(ArgAction::Version).help("Print the version");
    flag.global(true).help_heading(heading::GLOBAL)
}

/// The command line under the name that it was called by, with its commands in groups.
fn command() -> clap::Command {
    let command = Cli::command();
    let template = groups::template(&command);
    let more = format!("{EXAMPLES}\n\n{}", ExitCode::TABLE);
    plugin::named(
        command.help_template(template).after_long_help(more),
        Program::current(),
    )
}

/// Completes the arguments of this process if kubectl called it for that.
pub fn completed() -> Option<Result<(), Error>> {
    let is_asked = Program::current() == Program::Completer;
    is_asked.then(|| plugin::print_candidates(command(), std::env::args_os().collect()))
}

/// Parses the arguments of this process. Exits after `--help` and after mistakes that clap reports.
///
/// # Errors
/// If a mistake has a remedy that clap does not report.
pub fn parse() -> Result<Cli, Error> {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let arguments = mistakes::without_help_command(&arguments).unwrap_or(arguments);
    let mut command = command();
    let parsed = command.try_get_matches_from_mut(&arguments);
    match mistakes::explain(&command, &arguments, parsed.as_ref().err()) {
        Some(error) => Err(error),
        None => {
            let matches = parsed.unwrap_or_else(|error| error.exit());
            Ok(Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit()))
        }
    }
}

impl Cli {
    /// Whether to log each request to web UIs.
    pub fn has_access_log(&self) -> bool {
        match &self.command {
            Command::Router(arguments) => !arguments.no_access_log && !self.global.quiet,
            _ => self.global.verbose > 0,
        }
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    Create(create::Arguments),
    Render(render::Arguments),
    #[command(subcommand)]
    Import(import::ImportCommand),
    Teardown(teardown::Arguments),
    Scale(scale::Arguments),
    Upgrade(upgrade::Arguments),
    Status(status::Arguments),
    List(list::Arguments),
    Logs(logs::Arguments),
    Failover(failover::Arguments),
    RotateSecret(rotate_secret::Arguments),
    ConnectUrl(connect_url::Arguments),
    Submit(submit::Arguments),
    Jobs(jobs::Arguments),
    #[command(subcommand)]
    Route(route::RouteCommand),
    Router(router::Arguments),
    Ui(ui::Arguments),
    Doctor(doctor::Arguments),
    /// Download Spark to this machine, and use local clusters
    #[command(subcommand)]
    Local(local::LocalCommand),
    Version(version::Arguments),
    /// Print the JSON Schema of the cluster file
    #[command(after_help = "Examples:
  sparkha schema > sparkha.schema.json")]
    Schema,
    /// Write a man page for each command
    #[command(after_help = "Examples:
  sparkha man ~/.local/share/man/man1 && man sparkha-create")]
    Man {
        /// Folder for the pages
        folder: PathBuf,
    },
    /// Print a completion script for a shell
    #[command(after_help = "Examples:
  sparkha completions bash > ~/.local/share/bash-completion/completions/sparkha
  source <(sparkha completions zsh)")]
    Completions {
        /// Shell
        shell: clap_complete::Shell,
    },
}

/// Runs a command.
pub async fn run(cli: Cli) -> Result<ExitCode, Error> {
    let mut global = cli.global;
    global.local |= matches!(cli.command, Command::Local(_));
    hint::update(|invocation| {
        invocation.namespace = global.namespace.clone();
        invocation.context = global.context.clone();
        invocation.kubeconfig = global.kubeconfig.clone();
        invocation.local = global.local;
    });
    if global.local {
        local::check_system(std::env::consts::OS)?;
    }
    match cli.command {
        // Commands whose result is an exit code.
        Command::Status(arguments) => return status::run(&global, &arguments).await,
        Command::Failover(arguments) => return failover::run(&global, &arguments).await,
        Command::Submit(arguments) => return submit::run(&global, arguments).await,
        Command::Doctor(arguments) => return doctor::run(&global, arguments).await,
        Command::Route(command) => return route::run(&global, command).await,
        Command::Create(arguments) => create::run(&global, arguments).await?,
        Command::Render(arguments) => render::run(&global, &arguments)?,
        Command::Import(command) => import::run(&global, command).await?,
        Command::Teardown(arguments) => teardown::run(&global, &arguments).await?,
        Command::Scale(arguments) => scale::run(&global, &arguments).await?,
        Command::Upgrade(arguments) => upgrade::run(&global, arguments).await?,
        Command::List(arguments) => list::run(&global, &arguments).await?,
        Command::Logs(arguments) => logs::run(&global, arguments).await?,
        Command::RotateSecret(arguments) => rotate_secret::run(&global, &arguments).await?,
        Command::Jobs(arguments) => jobs::run(&global, &arguments).await?,
        Command::Router(arguments) => router::run(&global, arguments).await?,
        Command::Ui(arguments) => ui::run(&global, arguments).await?,
        Command::ConnectUrl(arguments) => connect_url::run(&global, &arguments).await?,
        Command::Local(command) => local::run(&global, command).await?,
        Command::Version(arguments) => version::run(&global, &arguments).await?,
        Command::Schema => report::print(&report::json(&crate::spec::file::schema()))?,
        Command::Man { folder } => {
            let shown = folder.display();
            std::fs::create_dir_all(&folder).map_err(Error::io(format!("make folder {shown}")))?;
            let written = clap_mangen::generate_to(command(), &folder);
            written.map_err(Error::io(format!("write the manual pages to {shown}")))?;
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            let mut command = command();
            let name = command.get_name().to_owned();
            clap_complete::generate(shell, &mut command, name, &mut script);
            report::print(&String::from_utf8_lossy(&script))?;
        }
    }
    Ok(ExitCode::Success)
}

#[cfg(test)]
mod reference;
#[cfg(test)]
mod snippets;

/// Every command with its path, such as `route render`; the first is sparkha itself.
#[cfg(test)]
fn commands() -> Vec<(String, clap::Command)> {
    let mut root = command();
    root.build();
    let mut found = Vec::new();
    let mut queue = vec![(String::new(), root)];
    while let Some((path, command)) = queue.pop() {
        let subcommands = command.get_subcommands();
        queue.extend(subcommands.map(|sub| (format!("{path} {}", sub.get_name()).trim().to_owned(), sub.clone())));
        found.push((path, command));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visible_commands() -> impl Iterator<Item = (String, clap::Command)> {
        commands().into_iter().filter(|(_, command)| !command.is_hide_set())
    }

    #[test]
    fn short_help_fits_a_screen() {
        for (path, command) in visible_commands() {
            let help = command.term_width(100).render_help().to_string();
            assert!(
                help.lines().count() <= 50,
                "{path}: {} lines\n{help}",
                help.lines().count()
            );
        }
    }

    #[test]
    fn every_command_has_an_example() {
        for (path, mut command) in visible_commands() {
            let help = command.render_long_help().to_string();
            let Some((_, examples)) = help.split_once("\nExamples:\n") else {
                panic!("{path} has no examples");
            };
            let of_command = format!("sparkha {path}");
            assert!(examples.contains(of_command.trim()), "{path}:\n{examples}");
        }
    }

    #[test]
    fn global_options_are_last_under_their_own_heading() {
        for (path, mut command) in visible_commands() {
            let help = command.render_help().to_string();
            let (before, global) = help.split_once("\nGlobal options:\n").unwrap();
            let options = global.split("\n\n").next().unwrap();
            let first_words = options
                .lines()
                .map(|line| line.trim_start().split([' ', ',']).next().unwrap());
            let flags: Vec<_> = first_words.filter(|word| word.starts_with('-')).collect();
            let expected = ["-n", "--context", "--kubeconfig", "--local", "-v", "-q", "-h", "-V"];
            assert_eq!(flags, expected, "{path}");
            assert!(
                !before.contains("\nOptions:\n"),
                "{path} has options without a heading:\n{before}"
            );
            assert!(!global.contains("\n  -o,"), "{path}");
        }
    }

    #[test]
    fn the_arguments_are_consistent() {
        command().debug_assert();
    }

    #[test]
    fn commands_that_take_a_name_are_known() {
        let takes_name = |command: &clap::Command| {
            let first = command.get_positionals().next();
            let named = first.and_then(|first| first.get_value_names()?.first());
            named.is_some_and(|named| named.starts_with("NAME"))
        };
        let named = commands().into_iter().filter(|(_, command)| takes_name(command));
        let mut found: Vec<_> = named.map(|(path, _)| path).collect();
        found.sort();
        let mut known = hint::NAMED.map(str::to_owned);
        known.sort();
        assert_eq!(found, known);
    }
}
