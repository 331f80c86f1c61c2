//! One batch to several consumers: a receiver's pipelines, or a pipeline's exporters.
#![forbid(unsafe_code)]

use std::sync::Arc;

use futures_util::future::join_all;

use crate::otlp::{Accepted, Batch, Consumer, Consuming};

/// Gives every batch to all of its consumers at the same time.
///
/// It is accepted when all accepted it. When one refuses, the sender is told and will send again, so that the
/// others see the batch twice: a duplicate rather than a loss, as in the Collector.
pub(super) struct Fanout(Vec<Arc<dyn Consumer>>);

impl Fanout {
    /// The consumer itself where there is only one.
    pub(super) fn of(mut consumers: Vec<Arc<dyn Consumer>>) -> Arc<dyn Consumer> {
        match consumers.len() {
            1 => consumers.remove(0),
            _ => Arc::new(Self(consumers)),
        }
    }
}

impl Consumer for Fanout {
    fn consume(&self, batch: Batch) -> Consuming<'_> {
        Box::pin(async move {
            let outcomes = join_all(self.0.iter().map(|consumer| consumer.consume(batch.clone()))).await;
            let mut worst = Accepted::default();
            for outcome in outcomes {
                let accepted = outcome?;
                if accepted.rejected_spans > worst.rejected_spans {
                    worst = accepted;
                }
            }
            Ok(worst)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use bytes::Bytes;

    use super::*;
    use crate::otlp::{Context, Refusal, RefusalKind};

    struct Answer(Result<Accepted, Refusal>, AtomicU32);

    impl Consumer for Answer {
        fn consume(&self, batch: Batch) -> Consuming<'_> {
            self.1.fetch_add(batch.spans, Ordering::Relaxed);
            Box::pin(async { self.0.clone() })
        }
    }

    fn answer(outcome: Result<Accepted, Refusal>) -> Arc<Answer> {
        Arc::new(Answer(outcome, AtomicU32::new(0)))
    }

    #[tokio::test]
    async fn all_get_the_batch_and_the_worst_answer_is_given() {
        let well = answer(Ok(Accepted::default()));
        let partly = answer(Ok(Accepted { rejected_spans: 2, message: "two".into() }));
        let batch = Batch { data: Bytes::new(), spans: 5, context: Context::default() };
        let all = Fanout::of(vec![well.clone(), partly.clone()]);
        assert_eq!(all.consume(batch.clone()).await.unwrap().rejected_spans, 2);
        let kind = RefusalKind::Permanent;
        let never = answer(Err(Refusal { kind, cause: "test", message: String::new() }));
        let all = Fanout::of(vec![never, well.clone(), partly.clone()]);
        assert_eq!(all.consume(batch).await.unwrap_err().kind, RefusalKind::Permanent);
        assert_eq!((well.1.load(Ordering::Relaxed), partly.1.load(Ordering::Relaxed)), (10, 10));
    }
}
