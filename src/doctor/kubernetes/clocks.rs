//! Whether the clocks of pods, API server and this machine agree. A response takes time, so a reading is an interval: only a difference outside it is
//! certain.

use jiff::fmt::rfc2822;

use super::facts::{ApiServer, ClockReading, Observed, PodReport, joined};
use crate::doctor::{Check, now};
use crate::platform::kubernetes::Cluster;

const NAME: &str = "clocks";
/// A difference without effect, in seconds.
const TOLERABLE: f64 = 2.0;
/// The difference from which Kerberos refuses tickets, in seconds; S3 refuses requests at 15 minutes.
const HARMFUL: f64 = 300.0;

/// The API server's clock: every HTTP response has the time.
pub async fn of_server(cluster: &Cluster) -> Option<ClockReading> {
    let request = hyper::Request::get("/version").body(kube::client::Body::empty()).ok()?;
    let asked = now();
    cluster.count_request();
    let answer = cluster.client().send(request).await.ok()?;
    let date = answer.headers().get(hyper::header::DATE)?.to_str().ok()?;
    // The header has whole seconds.
    let mut reading = ClockReading::within("the API server", seconds(date)?, (asked, now()));
    reading.most += 1.0;
    Some(reading)
}

/// Seconds since the epoch of an HTTP date.
fn seconds(date: &str) -> Option<f64> {
    let date = rfc2822::parse(date).ok()?;
    Some(date.timestamp().as_second() as f64)
}

pub fn judge(server: &ApiServer, probes: Option<&Observed<Vec<PodReport>>>) -> Vec<Check> {
    let pods = probes.into_iter().flatten().flatten();
    let readings: Vec<_> = server
        .clock
        .iter()
        .chain(pods.filter_map(|answer| answer.clock.as_ref()))
        .collect();
    if readings.is_empty() {
        return vec![Check::skipped(NAME, "no clock could be read", "")];
    }
    let certain = |reading: &&&ClockReading| reading.offset().abs() > TOLERABLE;
    let wrong: Vec<_> = readings.iter().filter(certain).collect();
    if wrong.is_empty() {
        let observed = format!("{} agree with this machine's", readings.len());
        return vec![Check::ok(NAME, observed)];
    }
    let list: Vec<_> = wrong
        .iter()
        .map(|reading| {
            let offset = reading.offset();
            let side = if offset > 0.0 { "ahead" } else { "behind" };
            format!("{} is {:.0} s {side}", reading.who, offset.abs())
        })
        .collect();
    let observed = format!("against this machine's clock, {}", joined(&list));
    // If all others agree, this machine's clock is wrong, and jobs are not affected.
    let offsets: Vec<_> = readings.iter().map(|reading| reading.offset()).collect();
    let spread = offsets.iter().copied().fold(f64::MIN, f64::max) - offsets.iter().copied().fold(f64::MAX, f64::min);
    let hint = if spread <= TOLERABLE {
        "this machine's own clock is wrong: set it (`timedatectl`, chrony)"
    } else {
        "synchronize the nodes' clocks (chrony, systemd-timesyncd): S3 and Kerberos refuse clocks that are minutes apart"
    };
    vec![match spread > HARMFUL {
        true => Check::failed(NAME, observed, hint),
        false => Check::warning(NAME, observed, hint),
    }]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Status;

    fn server(offset: f64) -> ApiServer {
        ApiServer {
            address: String::new(),
            version: Default::default(),
            clock: Some(ClockReading::within(
                "the API server",
                1000.0 + offset,
                (1000.0, 1001.0),
            )),
        }
    }

    fn answers(offsets: &[f64]) -> Observed<Vec<PodReport>> {
        let answer = |offset: &f64| PodReport {
            pod: "p".into(),
            clock: Some(ClockReading::within("p", 1000.0 + offset, (1000.0, 1001.0))),
            ..PodReport::default()
        };
        Ok(offsets.iter().map(answer).collect())
    }

    #[test]
    fn parses_http_dates() {
        assert_eq!(seconds("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777.0));
        assert_eq!(seconds("yesterday"), None);
    }

    #[test]
    fn the_time_of_a_response_is_not_skew() {
        assert_eq!(judge(&server(0.9), Some(&answers(&[0.0, 1.0])))[0].status, Status::Ok);
        let skewed = judge(&server(0.0), Some(&answers(&[0.0, -31.0])));
        assert_eq!(skewed[0].observed, "against this machine's clock, p is 31 s behind");
        assert_eq!(skewed[0].status, Status::Warning);
        assert_eq!(judge(&server(0.0), Some(&answers(&[400.0])))[0].status, Status::Failed);
    }

    #[test]
    fn a_wrong_clock_of_this_machine_is_a_warning() {
        let check = &judge(&server(600.0), Some(&answers(&[600.5])))[0];
        assert_eq!(check.status, Status::Warning);
        assert!(check.hint.starts_with("this machine's own clock is wrong"), "{check:?}");
    }
}
