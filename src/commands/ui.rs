//! `sparkha ui`.

use std::net::Ipv4Addr;
use std::process::Stdio;

use clap::Args;
use tokio::process::Command;

use super::Clusters;
use super::router::{TransportArgument, follow};
use crate::commands::arguments::Global;
use crate::commands::heading;
use crate::console::progress::Progress;
use crate::lifecycle::Error;
use crate::platform::system::OPENER;
use crate::report;
use crate::router::{UiNaming, metrics};
use crate::routes::serve::{BoundRouter, ServeOptions};
use crate::routing::{Role, Table};

/// View the web UIs in a browser on this machine, without a router or DNS
///
/// ui serves all web UIs at a port of this machine until Ctrl-C, under names below localhost, which browsers resolve to this machine. To serve
/// them to other people under their own names, use `sparkha router`, or configure a router you have with `sparkha route`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sparkha ui --namespace data           print the addresses, and serve until Ctrl-C
  sparkha ui --open --local             also open the browser
  sparkha ui -A --port 9000
  curl --resolve '*:4400:127.0.0.1' http://spark-master.data.k8s.localhost:4400/json/")]
pub struct Arguments {
    /// Serve clusters of all namespaces
    #[arg(short = 'A', long, help_heading = heading::SELECTION)]
    all_namespaces: bool,
    /// Open the overview of all web UIs in the browser
    #[arg(long, help_heading = heading::HTTP)]
    open: bool,
    /// Port at 127.0.0.1; 0 chooses a free one
    #[arg(long, default_value_t = 4400, help_heading = heading::HTTP)]
    port: u16,
    /// How to connect to the pods
    #[arg(long, value_enum, default_value_t, help_heading = heading::HTTP)]
    reach: TransportArgument,
}

pub async fn run(global: &Global, arguments: Arguments) -> Result<(), Error> {
    let options = ServeOptions {
        listen: vec![Ipv4Addr::LOCALHOST.into()],
        ports: vec![arguments.port],
        naming: UiNaming::Localhost { port: arguments.port },
        tls: None,
        users: None,
        tokens: None,
        monitoring: metrics::MonitoringAddress::NONE,
    };
    let bound = BoundRouter::bind(Some(options), None).await?;
    let clusters = Clusters::connect(global).await?;
    let (follow, way) = follow(global, &clusters, arguments.all_namespaces, arguments.reach).await?;
    let table = follow.first().await?;
    let naming = bound.naming().unwrap_or(UiNaming::AsLinked);
    report::print(&addresses(&table, naming))?;
    let serving = bound.serve(Some((&follow, way)));
    if let (true, UiNaming::Localhost { port }) = (arguments.open, naming) {
        let opening = open(format!("http://localhost:{port}/"), global.quiet);
        let (served, ()) = tokio::join!(serving, opening);
        served?;
    } else {
        serving.await?;
    }
    Ok(())
}

/// Opens an address in the browser. Warns if that fails.
async fn open(url: String, quiet: bool) {
    let program = OPENER[0];
    let mut command = Command::new(program);
    command
        .args(&OPENER[1..])
        .arg(&url)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let reason = match command.status().await {
        Ok(status) if status.success() => return,
        Ok(_) => format!("{program} found no browser"),
        Err(error) => format!("{program}: {error}"),
    };
    Progress::new(quiet).warn(&format!("failed to open the browser ({reason}): open {url} yourself"));
}

/// The addresses of the overview and of each cluster.
fn addresses(table: &Table, naming: UiNaming) -> String {
    let UiNaming::Localhost { port } = naming else {
        return String::new();
    };
    let mut text = format!("All web UIs: http://localhost:{port}/\n");
    for cluster in &table.clusters {
        let leader = table
            .routes
            .iter()
            .find(|route| route.owner.role == Role::Leader && route.host == cluster.host);
        let address = leader.map_or_else(|| "no master leads".into(), |route| naming.url(table, route) + "/");
        text.push_str(&format!("  {}/{}: {address}\n", cluster.namespace, cluster.name));
    }
    text
}
