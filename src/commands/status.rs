//! `sparkha status`.

use std::io::IsTerminal;
use std::time::Duration;

use clap::Args;

use crate::cli::{Global, Output};
use crate::exit_code::ExitCode;
use crate::platform::kubernetes::Cluster;
use crate::platform::observer::Observer;
use crate::report::{self, Format};
use crate::steps::Error;
use crate::steps::local::LocalView;
use crate::steps::status::status;

/// How often a watched status is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sparkha status --namespace data
  sparkha status etl -o json | jq .workers.registered
  sparkha status --watch

Exit code 0 means in service, 9 means that something is missing.")]
pub struct Arguments {
    /// Name of the cluster [default: spark]
    name: Option<String>,
    /// Look again and again
    #[arg(short, long)]
    watch: bool,
    #[command(flatten)]
    output: Output,
}

/// Where to look.
#[expect(clippy::large_enum_variant, reason = "there is one of it")]
enum Look {
    Kubernetes(Observer<Cluster>, Cluster),
    Local(LocalView),
}

pub async fn run(global: &Global, arguments: &Arguments) -> Result<ExitCode, Error> {
    let name = super::cluster_name(arguments.name.as_deref())?;
    let mut look = match global.local {
        true => Look::Local(LocalView::of(&super::local_cluster(global, &name)?)),
        false => {
            let cluster = super::connected(global).await?;
            Look::Kubernetes(Observer::new(cluster.clone()), cluster)
        }
    };
    let format = arguments.output.output;
    let clear = format == Format::Table && std::io::stdout().is_terminal();
    loop {
        let state = match &mut look {
            Look::Local(view) => view.state().await?,
            Look::Kubernetes(observer, cluster) => status(cluster, &name, observer).await?,
        };
        let text = report::status::cluster(&state, format);
        if !arguments.watch {
            report::print(&text)?;
            return Ok(if state.ready {
                ExitCode::Success
            } else {
                ExitCode::NotReady
            });
        }
        // Home, and clear what is below: the screen does not flicker.
        let text = if clear { format!("\x1b[H\x1b[2J{text}") } else { text };
        report::print(&text)?;
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
