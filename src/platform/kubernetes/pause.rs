//! Detects that this process was paused by a signal, a closed laptop lid or a stopped virtual machine. Conditions checked before the pause
//! may no longer hold.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use tokio::time::{MissedTickBehavior, interval};

/// How long a process may be idle before it counts as paused. Delays on a busy machine are shorter, and locks last longer.
const PAUSE: Duration = Duration::from_secs(5);
/// How often to check. A request may be pending for long without any other event.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// The result of `work`, or `None` if the process was paused since `known` or between two checks: `work` is dropped then. A request that
/// still waits for its connection is not sent. One that was sent may have been executed.
pub async fn unless_paused<T>(known: SystemTime, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    let mut checks = interval(CHECK_INTERVAL);
    checks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut last = known;
    poll_fn(move |context| {
        while checks.poll_tick(context).is_ready() {}
        // The wall clock advances while the machine sleeps. A clock that was set back counts as a pause.
        let now = SystemTime::now();
        if now.duration_since(last).map_or(true, |rest| rest > PAUSE) {
            return Poll::Ready(None);
        }
        last = now;
        work.as_mut().poll(context).map(Some)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn slow_work_completes_but_work_after_a_pause_does_not() {
        let slow = async {
            tokio::time::sleep(CHECK_INTERVAL * 3).await;
            1
        };
        assert_eq!(unless_paused(SystemTime::now(), slow).await, Some(1));
        let before = SystemTime::now() - PAUSE - Duration::from_secs(1);
        assert_eq!(unless_paused(before, async { 1 }).await, None);
    }
}
