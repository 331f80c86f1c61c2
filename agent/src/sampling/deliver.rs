//! Hands on what has been acknowledged already: nobody else will send it again.

use std::time::Duration;

use crate::otlp::{Accepted, Batch, Consumer, Refusal, RefusalKind};

/// The first wait where the refusal does not name a longer one.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// The longest wait between two attempts.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Gives a batch to `next`, again while that is overloaded or away, until `patience` is over.
pub(crate) async fn deliver(
    next: &dyn Consumer,
    batch: Batch,
    patience: Duration,
) -> Result<Accepted, Refusal> {
    let started = tokio::time::Instant::now();
    let mut wait = FIRST_WAIT;
    loop {
        let refusal = match next.consume(batch.clone()).await {
            Ok(accepted) => return Ok(accepted),
            Err(refusal) => refusal,
        };
        let (RefusalKind::Overloaded { retry_after } | RefusalKind::Unavailable { retry_after }) =
            refusal.kind
        else {
            return Err(refusal);
        };
        let pause = retry_after.clamp(wait, LONGEST_WAIT);
        if started.elapsed() + pause > patience {
            return Err(refusal);
        }
        tokio::time::sleep(pause).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}
