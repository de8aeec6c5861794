//! Polling with a time-out.

use std::ops::ControlFlow;
use std::time::Duration;

use tokio::time::Instant;

/// Calls `check` until it returns `Break` with a result, and sleeps for `every` between calls. `check` is called at least once.
///
/// # Errors
/// The error in the last `Continue` once `within` has passed, or the first error of `check` itself.
pub async fn poll_until<T, E>(
    every: Duration,
    within: Duration,
    mut check: impl AsyncFnMut() -> Result<ControlFlow<T, E>, E>,
) -> Result<T, E> {
    let started = Instant::now();
    loop {
        match check().await? {
            ControlFlow::Break(result) => return Ok(result),
            ControlFlow::Continue(reason) if started.elapsed() >= within => return Err(reason),
            ControlFlow::Continue(_) => tokio::time::sleep(every).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow::{Break, Continue};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    async fn checks(within: u32, result_at: u32, error_at: u32) -> (u32, Result<u32, String>) {
        let mut checks = 0;
        let outcome = poll_until(SECOND, within * SECOND, async || {
            checks += 1;
            match checks {
                now if now == error_at => Err("broken".to_owned()),
                now if now == result_at => Ok(Break(now)),
                now => Ok(Continue(format!("missing at {now}"))),
            }
        });
        let outcome = outcome.await;
        (checks, outcome)
    }

    #[tokio::test(start_paused = true)]
    async fn returns_a_result_an_error_or_the_last_reason_to_wait() {
        assert_eq!(checks(5, 3, 0).await, (3, Ok(3)));
        assert_eq!(checks(5, 0, 2).await, (2, Err("broken".into())));
        assert_eq!(checks(5, 0, 0).await, (6, Err("missing at 6".into())));
    }

    #[tokio::test(start_paused = true)]
    async fn checks_once_even_without_any_time() {
        assert_eq!(checks(0, 1, 0).await, (1, Ok(1)));
        assert_eq!(checks(0, 2, 0).await, (1, Err("missing at 1".into())));
    }
}
