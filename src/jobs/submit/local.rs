//! `sparkha submit --local`: runs the driver as a process on this machine, at the address that the cluster reserves for
//! drivers. Its files stay where they are.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Pod, PodStatus};

use crate::console::progress::Progress;
use crate::jobs::orphans::DriverUi;
use crate::jobs::submit::explain::{Explained, active_ids, explain};
use crate::jobs::submit::job::LocalFile;
use crate::jobs::submit::{
    DriverContext, JobResult, LEADER_TIMEOUT, Submission, UI_PORT, UNREGISTER_TIMEOUT, check_capacity, texts,
};
use crate::lifecycle::{Error, inventory, upgrade};
use crate::model::hosts::pod_host;
use crate::model::ports::DRIVER_UI_PORTS;
use crate::platform::kubernetes::drivers;
use crate::platform::leader::Leader;
use crate::platform::local::LocalPlatform;
use crate::platform::local::addresses::is_free;
use crate::platform::local::packages;
use crate::platform::local::store::{ClusterDir, Store};
use crate::platform::local::submitted::{self as process, DriverOutput, DriverStart};
use crate::platform::system::exit_code;
use crate::platform::transport::Transport;
use crate::render::driver::{self, Driver};

/// Runs a job. Its output goes to sparkha's output.
pub(super) async fn submit(
    platform: &LocalPlatform,
    context: DriverContext,
    submission: &Submission,
    progress: &Progress,
    interrupted: impl Future<Output = ()>,
) -> Result<JobResult, Error> {
    let DriverContext {
        inventory,
        template,
        defaults,
        ..
    } = context;
    let dir = &platform.dir;
    process::clean(dir)?;
    let request = submission.job.job.resource_request(&defaults);
    let masters = || observed_pods(dir);
    let mut leader = Leader::new(Transport::Direct);
    let before = tokio::time::timeout(LEADER_TIMEOUT, leader.query(masters())).await;
    let before = before.ok().flatten();
    if let Some(reply) = &before {
        check_capacity(request, submission, &inventory, reply)?;
    }
    let Some(address) = dir.observed()?.driver_address else {
        return Err(Error::Driver {
            message: "the cluster has no address for drivers".into(),
            help: "its supervisor is not running or is just starting: run `sparkha create` with the same arguments to restart it"
                .into(),
        });
    };
    let mut job = submission.job.clone();
    let options = job.job.package_options();
    if !options.is_empty() {
        progress.step("Fetching the packages");
        packages::resolve(&platform.desired()?.software.spark_home, &options).await?;
    }
    // No other submit may choose a port until this driver is recorded.
    let turn = Store::open()?.lock_addresses()?;
    let ui_port = match job.job.property(UI_PORT) {
        Some(port) => port.trim().parse().unwrap_or_default(),
        None => {
            // Drivers share one address: their web UIs differ by port.
            let port = free_port(dir, address)?;
            job.job.conf.insert(UI_PORT.into(), port.to_string());
            port
        }
    };
    let driver = Driver {
        name: drivers::new_name(&dir.name),
        image: None,
        heap: job.job.driver_memory(&defaults),
        cores: submission.driver_cores,
        python: job.job.is_python(),
        keep: submission.keep || submission.detach,
        one_log: false,
    };
    let start = DriverStart {
        dir,
        desired: &platform.desired()?,
        pod: driver::pod(template, &driver),
        address,
        texts: texts(&job, |file: &LocalFile| file.path.display().to_string()),
        ui_port,
        keep: driver.keep,
        output: if submission.detach {
            DriverOutput::Log
        } else {
            DriverOutput::Inherited
        },
    };
    let started = process::start(start).await;
    drop(turn);
    let (mut child, record) = started.map_err(|reason| Error::Driver {
        message: format!("failed to start the driver: {reason}"),
        help: "`sparkha doctor` shows what this machine lacks".into(),
    })?;
    // From now on an upgrade waits for this driver, unless it checked before.
    let now = inventory::inventory(platform).await;
    if let Err(refused) = now.and_then(|inventory| upgrade::takes_jobs(&inventory)) {
        process::terminate(&record).await;
        process::remove(dir, &record.name)?;
        return Err(refused);
    }
    if submission.detach {
        return Ok(JobResult::Detached { driver: driver.name });
    }
    let mut application = None;
    let explaining = explain(
        &mut leader,
        &mut application,
        masters,
        Explained {
            inventory: &inventory,
            known: before.map(|reply| active_ids(&reply.report)).unwrap_or_default(),
            ui_prefix: Some(format!(
                "http://{}:{ui_port}",
                pod_host(address, dir.namespace.as_str(), &inventory.cluster.ui_domain)
            )),
            ui: Some(DriverUi {
                driver: record.name.clone(),
                pod: at(address),
                port: ui_port,
            }),
            request,
            sets_cores: submission.sets_cores(),
            wait: submission.wait,
        },
        progress,
    );
    let outcome = tokio::select! {
        status = child.wait() => {
            let status = status.map_err(Error::io("wait for the driver's end"))?;
            let code = exit_code(status).and_then(|code| u8::try_from(code).ok());
            Ok(JobResult::Ended { code: code.unwrap_or(1) })
        }
        hopeless = explaining => Err(hopeless),
        () = interrupted => Err(Error::Interrupted { next: "the job was killed; submit it again".into() }),
    };
    progress.clear_parts();
    if outcome.is_err() {
        progress.step("Stopping the driver");
    }
    // Also stops processes that the application left behind.
    process::terminate(&record).await;
    if let (Some(application), true) = (&application, outcome.is_err()) {
        leader.until_gone(application, masters, UNREGISTER_TIMEOUT).await;
    }
    if !submission.keep {
        process::remove(dir, &record.name)?;
    }
    outcome
}

/// The first free port for a driver's web UI.
fn free_port(dir: &ClusterDir, address: IpAddr) -> Result<u16, Error> {
    let records = process::records(dir)?;
    let given = records.iter().filter(|record| record.process.is_alive());
    let is_given = |port: u16| given.clone().any(|record| record.ui_port == port);
    let free = DRIVER_UI_PORTS
        .into_iter()
        .find(|&port| !is_given(port) && is_free(address, port));
    Ok(free.unwrap_or(*DRIVER_UI_PORTS.start()))
}

/// The pods as the supervisor last observed them; none if that cannot be read.
pub fn observed_pods(dir: &ClusterDir) -> Vec<Pod> {
    let observed = dir.observed().unwrap_or_default();
    observed.pods.into_iter().map(|record| record.pod).collect()
}

/// A pod at this address.
fn at(address: IpAddr) -> Pod {
    Pod {
        status: Some(PodStatus {
            pod_ip: Some(address.to_string()),
            ..PodStatus::default()
        }),
        ..Pod::default()
    }
}
