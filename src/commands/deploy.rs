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
    /// Its Role allows it to read the namespace's pods and inventories. All other arguments are passed on, except the kubeconfig and the
    /// addresses to listen on. A router's Service has port 80, or 443 with --tls-cert, and 53 with --dns.
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
pub struct DeployedCommand {
    /// Name of its objects.
    pub name: &'static str,
    /// The subcommand in the container.
    pub words: &'static [&'static str],
    /// Adds the subcommand's arguments to a command.
    pub own: fn(clap::Command) -> clap::Command,
    pub all_namespaces: bool,
    /// `None` for a command that is no router.
    pub router: Option<DeployedRouter>,
}

/// Options of a deployed router.
pub struct DeployedRouter {
    pub tls: bool,
    pub dns: bool,
    pub access: RouterAccess,
}

impl DeployArguments {
    /// Whether the command deploys.
    pub fn is_deploy(&self) -> bool {
        self.deploy
    }

    /// Whether the command deploys or undeploys instead of running here.
    pub fn is_requested(&self) -> bool {
        self.deploy || self.undeploy
    }
}

pub async fn run(global: &Global, arguments: &DeployArguments, command: DeployedCommand) -> Result<(), Error> {
    if global.local {
        return Err(Error::Usage {
            message: "--deploy requires Kubernetes, and conflicts with --local".into(),
            help: "omit one of them".into(),
        });
    }
    if command.all_namespaces {
        return Err(Error::Usage {
            message: "--deploy supports only one namespace, because its Role does".into(),
            help: "deploy to each namespace with --namespace instead of -A, or apply the `--print`ed objects with your own ClusterRole".into(),
        });
    }
    if let Some(DeployedRouter { access, .. }) = &command.router
        && arguments.deploy
    {
        access.require_choice(match arguments.service_type {
            ServiceTypeArgument::ClusterIp => "every pod can connect to a deployed router, which",
            _ => "a Service of this type is reachable from outside, and its router",
        })?;
    }
    let cluster = super::connected(global).await?;
    let namespace = cluster.namespace().to_string();
    let router = command.router.as_ref().map(|router| RouterService {
        service_type: match arguments.service_type {
            ServiceTypeArgument::ClusterIp => ServiceType::ClusterIp,
            ServiceTypeArgument::NodePort => ServiceType::NodePort,
            ServiceTypeArgument::LoadBalancer => ServiceType::LoadBalancer,
        },
        tls: router.tls,
        // A previous deployment may have a DNS Service.
        dns: router.dns || arguments.undeploy,
    });
    let deployed = Deployed {
        name: command.name,
        args: words(&command, &namespace, std::env::args_os()),
        image: arguments.image.as_ref().map(ToString::to_string).unwrap_or_default(),
        replicas: arguments.replicas,
        secrets: arguments.mount_secret.clone(),
        router,
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
    super::unless_interrupted(work, super::CONTINUE).await?;
    if arguments.deploy {
        progress.done(&format!("{} runs in namespace {}", deployed.name, deployed.namespace));
    }
    Ok(())
}

/// The clap command with only this subcommand.
fn cli_of(command: &DeployedCommand) -> clap::Command {
    let nested = command.words.iter().rev().fold(None, |inner, &word| {
        let outer = clap::Command::new(word);
        Some(match inner {
            None => (command.own)(outer),
            Some(inner) => outer.subcommand(inner),
        })
    });
    Global::augment_args(clap::Command::new("sparkha")).subcommands(nested)
}

/// The container's arguments: those of this run, except those for this machine or the deployment.
fn words(command: &DeployedCommand, namespace: &str, given: impl Iterator<Item = std::ffi::OsString>) -> Vec<String> {
    const NOT_PASSED_ON: [&str; 8] = [
        "namespace",
        "context",
        "kubeconfig",
        "reach",
        "metrics",
        "health",
        "ports",
        "dns",
    ];
    let mut words: Vec<String> = command.words.iter().map(|&word| word.to_owned()).collect();
    // The kubelet needs the health endpoint; metrics are only served if requested.
    let mut metrics_option = "health";
    let mut cli = cli_of(command);
    cli.build();
    // They were already parsed once.
    if let Ok(matches) = cli.clone().try_get_matches_from(given) {
        let (mut cli, mut matches) = (&cli, &matches);
        while let Some((name, below)) = matches.subcommand()
            && let Some(found) = cli.find_subcommand(name)
        {
            (cli, matches) = (found, below);
        }
        for argument in cli.get_arguments() {
            let id = argument.get_id().as_str();
            let is_given = matches.value_source(id) == Some(clap::parser::ValueSource::CommandLine);
            if is_given && id == "metrics" {
                metrics_option = "metrics";
            }
            let is_own = argument.get_help_heading() != Some(heading::DEPLOYMENT) && !NOT_PASSED_ON.contains(&id);
            let (true, true, Some(long)) = (is_given, is_own, argument.get_long()) else {
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
    if let Some(router) = &command.router {
        words.push(format!("--port={ANY_UI_PORT}"));
        if router.dns {
            words.push(format!("--dns=0.0.0.0:{DNS_PORT}"));
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed_on(command: &DeployedCommand, line: &str) -> Vec<String> {
        words(command, "data", line.split(' ').map(Into::into))
    }

    #[test]
    fn the_container_gets_the_same_arguments() {
        let router = DeployedCommand {
            name: "router",
            words: &["router"],
            own: crate::commands::router::Arguments::augment_args,
            all_namespaces: false,
            router: Some(DeployedRouter {
                tls: false,
                dns: true,
                access: RouterAccess::Authenticated,
            }),
        };
        let watch = DeployedCommand {
            name: "watch",
            words: &["route", "watch"],
            own: crate::commands::route::watch::Arguments::augment_args,
            all_namespaces: false,
            router: None,
        };
        let line = "sparkha -n data router --deploy --image sparkha:1 --context c --dns 0.0.0.0 --address 192.0.2.7 \
                    --address=192.0.2.8 --no-access-log --users /etc/sparkha/users/htpasswd --mount-secret users";
        assert_eq!(
            passed_on(&router, line),
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
            passed_on(&watch, line),
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
