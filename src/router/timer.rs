//! A timer that a connection sets again for each request. To postpone a timer is one atomic store; a new one is entered in tokio's list of timers and
//! taken out again, under a lock and with an allocation, for every request that is answered in time.

use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::{Sleep, Timer};
use tokio::time::{Instant, sleep_until};

/// One deadline at a time: a later one replaces the earlier.
#[derive(Clone, Default)]
pub struct ReusedTimer(Arc<Mutex<Option<Pin<Box<tokio::time::Sleep>>>>>);

impl ReusedTimer {
    /// The outcome of the work; `None` if it takes longer than the limit.
    pub async fn timeout<T>(&self, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
        self.set(Instant::now() + limit);
        let mut work = pin!(work);
        std::future::poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
            Poll::Pending => self.poll(cx).map(|()| None),
        })
        .await
    }

    fn set(&self, deadline: Instant) {
        let mut timer = self.lock();
        match &mut *timer {
            Some(timer) => timer.as_mut().reset(deadline),
            // Belongs to the thread that serves the connection.
            None => *timer = Some(Box::pin(sleep_until(deadline))),
        }
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut timer = self.lock();
        timer.as_mut().map_or(Poll::Pending, |timer| timer.as_mut().poll(cx))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Pin<Box<tokio::time::Sleep>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// For hyper, which has one deadline for each connection: that of the head of a request.
impl Timer for ReusedTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: std::time::Instant) -> Pin<Box<dyn Sleep>> {
        self.set(deadline.into());
        Box::pin(UntilDeadline(self.clone()))
    }

    fn now(&self) -> std::time::Instant {
        Instant::now().into()
    }
}

struct UntilDeadline(ReusedTimer);

impl Sleep for UntilDeadline {}

impl Future for UntilDeadline {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_use_has_its_own_limit() {
        let timer = ReusedTimer::default();
        let began = Instant::now();
        let work = |seconds| tokio::time::sleep(Duration::from_secs(seconds));
        let limit = Duration::from_secs(60);
        for seconds in [59, 59, 0] {
            assert_eq!(timer.timeout(limit, work(seconds)).await, Some(()));
        }
        assert_eq!(began.elapsed().as_secs(), 118);
        assert_eq!(timer.timeout(limit, work(61)).await, None);
        assert_eq!(began.elapsed().as_secs(), 178);
        assert_eq!(timer.timeout(limit, work(59)).await, Some(()));
        // An earlier deadline, too.
        timer.sleep(limit / 2).await;
        assert_eq!(began.elapsed().as_secs(), 178 + 59 + 30);
    }
}
