//! `--deploy` of long-running commands: runs the same command in the cluster.

use clap::{Args, ValueEnum};

use super::arguments::Global;
use super::heading;
use crate::console::progress::Progress;
use crate::lifecycle::Error;
use crate::render::deployed::{ANY_UI_PORT, DNS_PORT, Deployed, METRICS_PORT, RouterService, objects};
use crate::spec::ServiceType;
use crate::spec::image::ImageReference;
use crate::{report, routes};

#[derive(Clone, Debug, Args)]
pub struct DeployArguments {
    /// Run this command as a Deployment in the namespace
    ///
    /// Its Role allows it to read the namespace's pods and inventories. All other arguments are passed on.
    #[arg(long, requires = "image", conflicts_with = "undeploy", help_heading = heading::DEPLOYMENT)]
    deploy: bool,
    /// Remove the objects that --deploy created
    #[arg(long, help_heading = heading::DEPLOYMENT)]
    undeploy: bool,
    /// Image with sparkha
    #[arg(long, value_name = "IMAGE", help_heading = heading::DEPLOYMENT)]
    image: Option<ImageReference>,
    /// Number of pods
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = heading::DEPLOYMENT)]
    replicas: u32,
    /// Mount this Secret at /etc/sparkha/NAME; may be repeated
    #[arg(long, value_name = "NAME", help_heading = heading::DEPLOYMENT)]
    mount_secret: Vec<String>,
    /// Type of the router's Service
    #[arg(long, value_name = "TYPE", value_enum, default_value = "cluster-ip", hide_short_help = true, help_heading = heading::DEPLOYMENT)]
    service_type: ServiceTypeArgument,
    /// Print the objects, and deploy nothing
    #[arg(long, requires = "deploy", help_heading = heading::DEPLOYMENT)]
    print: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ServiceTypeArgument {
    ClusterIp,
    NodePort,
    LoadBalancer,
}

/// The users that a router admits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouterAccess {
    /// Users with a password or a token.
    Authenticated,
    /// Everyone who can connect: --open.
    Open,
    /// None of the options was given.
    Unspecified,
}

/// The deployed command.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum DeployedCommand {
    Router { tls: bool, dns: bool, access: RouterAccess },
    RouteWatch,
}

impl DeployedCommand {
    fn name(self) -> &'static str {
        match self {
            DeployedCommand::Router { .. } => "sparkha-router",
            DeployedCommand::RouteWatch => "sparkha-route-watch",
        }
    }

    /// The subcommand in the container.
    fn words(self) -> &'static [&'static str] {
        match self {
            DeployedCommand::Router { .. } => &["router"],
            DeployedCommand::RouteWatch => &["route", "watch"],
        }
    }
}

impl DeployArguments {
    /// Whether the command deploys or undeploys instead of running here.
    pub fn is_requested(&self) -> bool {
        self.deploy || self.undeploy
    }
}

/// `own` adds the subcommand's arguments to a command.
pub async fn run(
    global: &Global,
    arguments: &DeployArguments,
    command: DeployedCommand,
    all: bool,
    own: fn(clap::Command) -> clap::Command,
) -> Result<(), Error> {
    if global.local {
        return Err(Error::Usage {
            message: "--deploy requires Kubernetes, and conflicts with --local".into(),
            help: "omit one of them".into(),
        });
    }
    if all {
        return Err(Error::Usage {
            message: "--deploy supports only one namespace, because its Role does".into(),
            help: "deploy to each namespace with --namespace instead of -A, or apply the `--print`ed objects with your own ClusterRole".into(),
        });
    }
    let is_outside = arguments.deploy && arguments.service_type != ServiceTypeArgument::ClusterIp;
    if let DeployedCommand::Router { access, .. } = command
        && is_outside
    {
        access.require_choice("a Service of this type is reachable from outside, and its router")?;
    }
    let cluster = super::connected(global).await?;
    let namespace = cluster.namespace().to_string();
    let router = match command {
        DeployedCommand::Router { tls, dns, .. } => Some(RouterService {
            service_type: match arguments.service_type {
                ServiceTypeArgument::ClusterIp => ServiceType::ClusterIp,
                ServiceTypeArgument::NodePort => ServiceType::NodePort,
                ServiceTypeArgument::LoadBalancer => ServiceType::LoadBalancer,
            },
            tls,
            dns,
        }),
        DeployedCommand::RouteWatch => None,
    };
    let deployed = Deployed {
        name: command.name(),
        args: words(command, own, &namespace, std::env::args_os()),
        image: arguments.image.as_ref().map(ToString::to_string).unwrap_or_default(),
        replicas: arguments.replicas,
        secrets: arguments.mount_secret.clone(),
        router: match arguments.undeploy {
            // A previous deployment may have a DNS Service.
            true => router.map(|router| RouterService { dns: true, ..router }),
            false => router,
        },
        namespace,
    };
    let objects = objects(&deployed);
    if arguments.print {
        report::print(&report::yaml(&objects))?;
        return Ok(());
    }
    let progress = Progress::new(global.quiet);
    let work = async {
        match arguments.undeploy {
            true => routes::deploy::remove(&cluster, &objects, &progress).await,
            false => routes::deploy::deploy(&cluster, &objects, &progress).await,
        }
    };
    super::unless_interrupted(work, "run the same command again to continue".into()).await?;
    if arguments.deploy {
        progress.done(&format!("{} runs in namespace {}", deployed.name, deployed.namespace));
    }
    Ok(())
}

/// The clap command with only this subcommand.
fn command(command: DeployedCommand, own: fn(clap::Command) -> clap::Command) -> clap::Command {
    let inner_first = command.words().iter().rev().enumerate();
    let nested = inner_first.fold(None, |inner, (at, &word)| {
        let command = clap::Command::new(word);
        Some(match at {
            0 => own(command),
            _ => command.subcommands(inner),
        })
    });
    Global::augment_args(clap::Command::new("sparkha")).subcommands(nested)
}

/// The container's arguments: those of this run, except those for this machine or the deployment.
fn words(
    command: DeployedCommand,
    own: fn(clap::Command) -> clap::Command,
    namespace: &str,
    given: impl Iterator<Item = std::ffi::OsString>,
) -> Vec<String> {
    const NOT_PASSED_ON: [&str; 15] = [
        "deploy",
        "undeploy",
        "image",
        "replicas",
        "mount_secret",
        "service_type",
        "print",
        "namespace",
        "context",
        "kubeconfig",
        "reach",
        "metrics",
        "health",
        "ports",
        "dns",
    ];
    let mut words: Vec<String> = command.words().iter().map(|&word| word.to_owned()).collect();
    // The kubelet needs the health endpoint; metrics are only served if requested.
    let mut metrics_option = "health";
    let mut cli = self::command(command, own);
    cli.build();
    // They were already parsed once.
    if let Ok(matches) = cli.clone().try_get_matches_from(given) {
        let (mut command, mut matches) = (&cli, &matches);
        while let Some((name, below)) = matches.subcommand() {
            let Some(found) = command.find_subcommand(name) else {
                break;
            };
            (command, matches) = (found, below);
        }
        for argument in command.get_arguments() {
            let id = argument.get_id().as_str();
            let is_given = matches.value_source(id) == Some(clap::parser::ValueSource::CommandLine);
            if is_given && id == "metrics" {
                metrics_option = "metrics";
            }
            let (true, false, Some(long)) = (is_given, NOT_PASSED_ON.contains(&id), argument.get_long()) else {
                continue;
            };
            let values = matches.get_raw(id).into_iter().flatten();
            let values: Vec<_> = values.map(|value| value.to_string_lossy().into_owned()).collect();
            match argument.get_action().takes_values() {
                true => words.extend(values.into_iter().map(|value| format!("--{long}={value}"))),
                false => words.push(format!("--{long}")),
            }
        }
    }
    words.extend([
        format!("--namespace={namespace}"),
        "--reach=direct".into(),
        format!("--{metrics_option}=0.0.0.0:{METRICS_PORT}"),
    ]);
    if let DeployedCommand::Router { dns, access, .. } = command {
        // The pod is reachable by others; a NetworkPolicy can restrict that.
        if access == RouterAccess::Unspecified {
            words.push("--open".into());
        }
        words.push(format!("--port={ANY_UI_PORT}"));
        if dns {
            words.push(format!("--dns=0.0.0.0:{DNS_PORT}"));
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed_on(command: DeployedCommand, line: &str) -> Vec<String> {
        let own = match command {
            DeployedCommand::Router { .. } => crate::commands::router::Arguments::augment_args,
            DeployedCommand::RouteWatch => crate::commands::route::watch::Arguments::augment_args,
        };
        words(command, own, "data", line.split(' ').map(Into::into))
    }

    #[test]
    fn the_container_gets_the_same_arguments() {
        let command = DeployedCommand::Router {
            tls: false,
            dns: true,
            access: RouterAccess::Authenticated,
        };
        let line = "sparkha -n data router --deploy --image sparkha:1 --context c --port 80 --dns 0.0.0.0 --address 192.0.2.7 \
                    --address=192.0.2.8 --no-access-log --users /etc/sparkha/users/htpasswd --mount-secret users";
        assert_eq!(
            passed_on(command, line),
            [
                "router",
                "--users=/etc/sparkha/users/htpasswd",
                "--no-access-log",
                "--address=192.0.2.7",
                "--address=192.0.2.8",
                "--namespace=data",
                "--reach=direct",
                "--health=0.0.0.0:9090",
                "--port=8000",
                "--dns=0.0.0.0:5353",
            ]
        );
        let line = "sparkha route watch --deploy --image sparkha:1 --etcd a:2379,b:2379 --ttl 30s --namespace data --metrics 127.0.0.1:9090";
        assert_eq!(
            passed_on(DeployedCommand::RouteWatch, line),
            [
                "route",
                "watch",
                "--etcd=a:2379",
                "--etcd=b:2379",
                "--ttl=30s",
                "--namespace=data",
                "--reach=direct",
                "--metrics=0.0.0.0:9090",
            ]
        );
    }
}
