//! Whether the volumes of the pods can take more. Kubernetes looks at the nodes' own disks only.

use super::facts::{Observed, PodReport, joined};
use super::network::GRANT;
use crate::doctor::Check;

const NAME: &str = "disks";
/// From here on it is worth knowing, in percent.
const ALMOST: u8 = 95;

pub fn judge(probes: &Observed<Vec<PodReport>>) -> Check {
    let reports = match probes {
        Ok(reports) => reports,
        Err(why) => return Check::skipped(NAME, why, GRANT),
    };
    let disks = reports
        .iter()
        .flat_map(|report| report.disks.iter().map(move |disk| (&report.pod, disk)));
    let disks: Vec<_> = disks.collect();
    let Some(most) = disks.iter().map(|(_, disk)| disk.percent_used).max() else {
        return Check::skipped(NAME, "no pod has told how full its volumes are", "");
    };
    let full = disks.iter().filter(|(_, disk)| disk.percent_used >= ALMOST);
    let told = full.map(|(pod, disk)| match disk.percent_used {
        100 => format!("{} of {pod} is full", disk.path),
        percent => format!("{percent} % of {} of {pod} are used", disk.path),
    });
    let told: Vec<_> = told.collect();
    let hint = "remove what is not needed there, or enlarge the volume: work folders (spark.worker.cleanup), shuffle files of drivers that were \
                killed, ZooKeeper's logs; without space, tasks fail and ZooKeeper ends";
    match most {
        100 => Check::failed(NAME, joined(&told), hint),
        ALMOST.. => Check::warning(NAME, joined(&told), hint),
        _ => Check::ok(NAME, format!("at most {most} % of a volume's disk are used")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::Disk;
    use super::*;
    use crate::doctor::Status;

    fn check(percents: &[u8]) -> (Status, String) {
        let report = |percent: &u8| PodReport {
            pod: format!("p-{percent}"),
            disks: vec![Disk {
                path: "/tmp".into(),
                percent_used: *percent,
            }],
            ..PodReport::default()
        };
        let check = judge(&Ok(percents.iter().map(report).collect()));
        (check.status, check.observed)
    }

    #[test]
    fn a_disk_that_is_almost_full_is_a_warning() {
        let well = (Status::Ok, "at most 94 % of a volume's disk are used".to_owned());
        assert_eq!(check(&[30, 94]), well);
        assert_eq!(
            check(&[94, 95]),
            (Status::Warning, "95 % of /tmp of p-95 are used".to_owned())
        );
        assert_eq!(check(&[]).0, Status::Skipped);
    }
}
