//! Notices that this process was paused: by a signal, a closed laptop lid, a stopped virtual machine. What was true before has to be checked again then.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use tokio::time::{MissedTickBehavior, interval};

/// How long a process may rest before it counts as paused. A busy machine takes less, and locks last longer.
const PAUSE: Duration = Duration::from_secs(5);
/// How often to look. Nothing else may happen for long while an answer is awaited.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// The outcome of `work`, which is dropped as soon as the process turns out to have been paused since `known` or between two looks: `None`
/// then. A request that waits for its connection is not sent any more; one that was sent may have been carried out.
pub async fn unless_paused<T>(known: SystemTime, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    let mut checks = interval(CHECK_INTERVAL);
    checks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut last = known;
    poll_fn(move |context| {
        while checks.poll_tick(context).is_ready() {}
        // The wall clock goes on while the machine sleeps. One that was set back proves nothing.
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
    async fn work_goes_on_however_long_it_takes_and_not_after_a_pause() {
        let slow = async {
            tokio::time::sleep(CHECK_INTERVAL * 3).await;
            1
        };
        assert_eq!(unless_paused(SystemTime::now(), slow).await, Some(1));
        let before = SystemTime::now() - PAUSE - Duration::from_secs(1);
        assert_eq!(unless_paused(before, async { 1 }).await, None);
    }
}
