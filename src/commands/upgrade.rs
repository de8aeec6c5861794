//! `sparkha upgrade`.

use std::rc::Rc;
use std::time::Duration;

use clap::Args;

use super::create::{Consent, agree, report};
use super::spec::{Description, PlacedSpecArguments};
use crate::commands::arguments::{Global, OutputArguments};
use crate::commands::heading;
use crate::console::progress::Progress;
use crate::lifecycle::create::{CreateOptions, CreateResult, Prepared, RunningApplications};
use crate::lifecycle::differences::Origin;
use crate::lifecycle::generations::Generation;
use crate::lifecycle::inventory::inventory;
use crate::lifecycle::teardown::{owned_resources, remove_replaced};
use crate::lifecycle::upgrade::{NEXT, NEXT_BESIDE, abort, drain, mark, takes_changes};
use crate::lifecycle::{Error, create, generations};
use crate::platform::Platform;
use crate::render::inventory::{Upgrade, UpgradePhase};
use crate::spec::names::Alias;
use crate::spec::words::counted;
use crate::spec::{ClusterSpec, EventLogs, VolumeSource};

/// Change the Spark version once no applications run
///
/// Two versions of Spark cannot share applications: an application that runs while masters and workers are replaced is lost. upgrade therefore
/// stops `sparkha submit` from starting jobs, waits until no application and no submitted driver runs, and then replaces ZooKeeper servers,
/// masters, workers, and finally the history and Connect servers. It takes the arguments of create, and may change more than the version.
///
/// With --side-by-side nothing waits: a second generation of the cluster, with a numbered name, takes new jobs. The first generation is removed
/// with its volumes when its last job has ended. The cluster's name then means the second generation.
///
/// upgrade cannot keep out jobs that start in other ways: it also waits for your own spark-submit runs and notebooks. It does not wait for Spark
/// Connect, whose clients lose their sessions when the server restarts.
///
/// If upgrade is interrupted or times out, the cluster stays closed to jobs. Run the same command again to continue, or use --abort to reopen the
/// cluster before its first pod was replaced. After that, upgrade with the old image reverts the change. With --side-by-side, --abort also waits
/// for the jobs of the second generation, and removes it.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  sparkha upgrade --image docker.io/apache/spark:4.3.0 --namespace data
  sparkha upgrade etl -f sparkha.yaml --drain-timeout 8h
  sparkha upgrade etl --side-by-side --image spark:4.3.0  new jobs run on etl-2 meanwhile
  sparkha upgrade --abort                                 stop waiting, and keep the version
  sparkha local fetch 4.3.0 && sparkha upgrade --image spark:4.3.0 --local")]
pub struct Arguments {
    #[command(flatten)]
    spec: PlacedSpecArguments,
    /// Wait until no applications run (the default)
    #[arg(long, help_heading = heading::CHANGES)]
    drain: bool,
    /// Run new jobs on a second generation; remove the first when its jobs end
    #[arg(long, conflicts_with = "drain", help_heading = heading::CHANGES)]
    side_by_side: bool,
    /// Stop waiting, and reopen the cluster to jobs
    #[arg(long, conflicts_with_all = ["drain", "side_by_side", "file", "image"], help_heading = heading::CHANGES)]
    abort: bool,
    /// Change the cluster without confirmation
    ///
    /// upgrade asks only if the cluster loses something.
    #[arg(short, long, help_heading = heading::CHANGES)]
    yes: bool,
    /// Take over fields that other field managers own
    #[arg(long, help_heading = heading::CHANGES)]
    force_conflicts: bool,
    /// Continue even if the preflight checks fail
    #[arg(long, help_heading = heading::CHANGES)]
    skip_preflight: bool,
    /// How long to wait for running applications
    #[arg(long, default_value = "1h", value_parser = super::duration, value_name = "TIME", help_heading = heading::WAITING)]
    drain_timeout: Duration,
    /// How long each stage may take
    #[arg(long, default_value = "10m", value_parser = super::duration, value_name = "TIME", help_heading = heading::WAITING)]
    timeout: Duration,
    #[command(flatten)]
    output: OutputArguments,
}

const HELP: &str = "pass --yes to change it; `sparkha create --dry-run`, with the same arguments, shows every object";

pub async fn run(global: &Global, arguments: Arguments) -> Result<(), Error> {
    let mut description = arguments.spec.describe(global)?;
    let old = description.find(global).await?;
    let progress = Progress::new(global.quiet);
    if arguments.abort {
        let work = go_back(&old, &arguments, &progress);
        super::unless_interrupted(work, super::CONTINUE).await?;
        return Ok(());
    }
    let mut run = UpgradeRun {
        global,
        arguments: &arguments,
        description: &mut description,
        progress: &progress,
    };
    let work = async {
        match arguments.side_by_side {
            true => run.side_by_side(&old).await,
            false => {
                let outcome = run.drained(old.platform.as_ref()).await?;
                Ok((old.platform.clone(), outcome))
            }
        }
    };
    let next = if arguments.side_by_side { NEXT_BESIDE } else { NEXT };
    let (platform, outcome) = super::unless_interrupted(work, next).await?;
    drop(progress);
    report(&outcome, false, arguments.output.output, platform.name())
}

/// An upgrade in progress.
struct UpgradeRun<'a, 'b> {
    global: &'a Global,
    arguments: &'a Arguments,
    description: &'a mut Description<'b>,
    progress: &'a Progress,
}

impl UpgradeRun<'_, '_> {
    /// Waits until no application runs, and then changes the cluster.
    async fn drained(&mut self, platform: &dyn Platform) -> Result<CreateResult, Error> {
        let pending = inventory(platform).await?;
        takes_changes(Some(&pending))?;
        let (_, mut options, mut prepared) = self.prepare(platform, None).await?;
        agree(platform, &prepared.differences, self.arguments.consent(), self.progress).await?;
        let upgrade = prepared.change().map(|change| change.upgrade(UpgradePhase::Draining));
        if let Some(upgrade) = upgrade {
            drain(platform, &upgrade, self.arguments.drain_timeout, self.progress).await?;
            // The cluster may have changed meanwhile.
            (_, options, prepared) = self.prepare(platform, Some(upgrade)).await?;
        } else if let Some(pending) = pending.cluster.upgrade
            && pending.phase == UpgradePhase::Draining
        {
            // This command does not end it: another one may wait.
            self.progress.warn(&format!("{pending}: {}", pending.help()));
        }
        create::create(platform, prepared, &options, self.progress).await
    }

    /// Creates another generation for new jobs, and removes the old one when its last job has ended.
    async fn side_by_side(&mut self, old: &Generation) -> Result<(Rc<dyn Platform>, CreateResult), Error> {
        let old_platform = old.platform.as_ref();
        let old_inventory = inventory(old_platform).await?;
        if let Some(Alias { name, active: false }) = &old.alias {
            return Err(Error::InUse {
                message: format!("{} has not replaced the previous generation yet", old.platform.name()),
                help: format!(
                    "`sparkha upgrade {name} --side-by-side` completes that first, `sparkha upgrade {name} --abort` reverts it"
                ),
            });
        }
        let (upgrade, next) = if let Some(upgrade) = old_inventory.cluster.upgrade
            && let Some(successor) = &upgrade.successor
        {
            // The source of the next generation.
            self.description.origin(old_platform).await?;
            let next = old.later(successor.clone());
            (upgrade, next)
        } else {
            let (spec, options, prepared) = self.prepare(old_platform, None).await?;
            let Some(upgrade) = prepared.change().map(|change| change.upgrade(UpgradePhase::SideBySide)) else {
                let outcome = self.carry_out(old_platform, &options, prepared).await?;
                return Ok((old.platform.clone(), outcome));
            };
            check(&spec, &options.origin)?;
            self.ask(old_platform).await?;
            let next = old.next().await?;
            let successor = Some(next.platform.name().clone());
            (Upgrade { successor, ..upgrade }, next)
        };
        self.description.set_generation(next.clone());
        self.create(next.platform.as_ref()).await?;
        // It may have been aborted, which this reverts.
        mark(next.platform.as_ref(), |_| Ok(None)).await?;
        let (old_name, new_name) = (old_platform.name(), next.platform.name());
        self.progress
            .done(&format!("{new_name} is in service beside {old_name}"));
        drain(old_platform, &upgrade, self.arguments.drain_timeout, self.progress).await?;
        remove_replaced(old_platform, &upgrade, self.arguments.timeout, self.progress).await?;
        // The old name now belongs to the new generation.
        let next = generations::find(next.platform).await?;
        self.description.set_generation(next.clone());
        let outcome = self.create(next.platform.as_ref()).await?;
        Ok((next.platform, outcome))
    }

    async fn prepare(
        &mut self,
        platform: &dyn Platform,
        drained: Option<Upgrade>,
    ) -> Result<(ClusterSpec, CreateOptions, Prepared), Error> {
        let options = CreateOptions {
            drained,
            ..self.arguments.options(self.description.origin(platform).await?)
        };
        let spec = self.description.resolve(self.global)?;
        let prepared = create::prepare(platform, spec.clone(), &options, self.progress).await?;
        Ok((spec, options, prepared))
    }

    /// Applies the prepared change after confirmation.
    async fn carry_out(
        &self,
        platform: &dyn Platform,
        options: &CreateOptions,
        prepared: Prepared,
    ) -> Result<CreateResult, Error> {
        agree(platform, &prepared.differences, self.arguments.consent(), self.progress).await?;
        create::create(platform, prepared, options, self.progress).await
    }

    /// Changes a generation to match the description.
    async fn create(&self, platform: &dyn Platform) -> Result<CreateResult, Error> {
        let options = CreateOptions {
            retain: false,
            running: RunningApplications::Stay,
            ..self.arguments.options(Origin::File)
        };
        let spec = self.description.resolve(self.global)?;
        let prepared = create::prepare(platform, spec, &options, self.progress).await?;
        self.carry_out(platform, &options, prepared).await
    }

    /// Asks for confirmation before data of the old generation is removed.
    async fn ask(&self, old: &dyn Platform) -> Result<(), Error> {
        if self.arguments.yes {
            return Ok(());
        }
        let claims = owned_resources(old).await?.map(|owned| owned.claim_names());
        let claims = claims.unwrap_or_default();
        if claims.is_empty() {
            return Ok(());
        }
        let consequence = format!(
            "when the last job of {} has ended, its data is removed: {} ({})",
            old.name(),
            counted(claims.len(), "volume claim"),
            claims.join(", ")
        );
        self.progress.clear();
        super::confirm(
            &consequence,
            "Continue?",
            "`sparkha upgrade --side-by-side --yes` continues",
        )
    }
}

/// Checks that two generations of the cluster can coexist.
fn check(spec: &ClusterSpec, origin: &Origin) -> Result<(), Error> {
    if matches!(origin, Origin::Inventory(None)) {
        return Err(Error::Usage {
            message: "the cluster's inventory has no cluster file to create the next generation from".into(),
            help: "set the cluster file with -f".into(),
        });
    }
    let event_logs = spec.history.as_ref().map(|history| &history.event_logs);
    match event_logs {
        Some(EventLogs::Volume(VolumeSource::NewClaim(_))) => Err(Error::Usage {
            message: "the event logs are in a volume claim of this generation, which the next one cannot read".into(),
            help: "upgrade without --side-by-side, or keep event logs in S3 or in a claim of your own".into(),
        }),
        _ => Ok(()),
    }
}

/// Aborts an upgrade before it has ended anything. Waits for the jobs of a successor, and then removes it.
async fn go_back(old: &Generation, arguments: &Arguments, progress: &Progress) -> Result<(), Error> {
    let Some(successor) = old.made_next().await?.map(|next| next.platform) else {
        return abort(old.platform.as_ref(), progress).await;
    };
    let from = inventory(successor.as_ref()).await?.cluster;
    let to = inventory(old.platform.as_ref()).await?.cluster;
    let back = match to.upgrade {
        Some(upgrade) => upgrade.back(from.image),
        // It was interrupted.
        None => from.upgrade.unwrap_or_else(|| Upgrade::of_images(from.image, to.image)),
    };
    mark(successor.as_ref(), |_| Ok(Some(back.clone()))).await?;
    abort(old.platform.as_ref(), progress).await?;
    drain(successor.as_ref(), &back, arguments.drain_timeout, progress).await?;
    remove_replaced(successor.as_ref(), &back, arguments.timeout, progress).await
}

impl Arguments {
    fn options(&self, origin: Origin) -> CreateOptions {
        CreateOptions {
            origin,
            timeout: self.timeout,
            wait: true,
            dry_run: false,
            retain: true,
            skip_preflight: self.skip_preflight,
            force_conflicts: self.force_conflicts,
            running: RunningApplications::Drained,
            drained: None,
        }
    }

    fn consent(&self) -> Consent {
        Consent {
            yes: self.yes,
            dry_run: false,
            help: HELP,
        }
    }
}
