//! Pods from the kubelet: its own list (`GET /pods`), every so often, and at once when an unknown pod appears.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use tokio::time::{sleep, sleep_until};

use super::{
    raw::RawList,
    read::{self, Listed},
    remote::{Backoff, Failed, RemoteError, Shared},
};
use crate::{
    config::extensions::Kubelet,
    transport::http::{Client, ClientOptions, api_server},
};

/// The largest list that is read. A pod has 5-20 KiB, and a node a few hundred.
pub(super) const MAX_LIST: usize = 32 << 20;
/// How long a list may take.
pub(super) const TIMEOUT: Duration = Duration::from_secs(30);
/// How soon after a list the next may be asked for because a pod is not known.
const GAP: Duration = Duration::from_millis(500);

pub(super) struct Feed {
    client: Client,
    url: String,
    interval: Duration,
}

impl Feed {
    pub(super) fn new(config: &Kubelet) -> Result<Self, RemoteError> {
        let mut reached = config.client.clone();
        let endpoint = config.endpoint.trim_end_matches('/').to_owned();
        reached.endpoint = Some(endpoint.clone());
        let (_, options) = api_server(&reached)?;
        let options = ClientOptions { timeout: TIMEOUT, body_limit: MAX_LIST, ..options };
        Ok(Self { client: Client::new(options)?, url: format!("{endpoint}/pods"), interval: config.interval })
    }

    /// Asks for ever.
    pub(super) async fn run(self, shared: &Shared) {
        let mut backoff = Backoff::default();
        loop {
            shared.turn();
            let turn = Instant::now() + self.interval;
            // Once a turn, and once more each time an unknown pod appears in between.
            loop {
                let gap = match self.ask(shared).await {
                    Ok(listed) => {
                        shared.publish(listed);
                        shared.good("ok");
                        backoff.reset();
                        GAP
                    }
                    Err(error) => {
                        shared.bad(&error);
                        backoff.next()
                    }
                };
                sleep(gap).await;
                tokio::select! {
                    () = sleep_until(turn.into()) => break,
                    () = shared.missed() => {}
                }
            }
        }
    }

    async fn ask(&self, shared: &Shared) -> Result<Listed, Failed> {
        let answer = self.client.get(&self.url).await?.success()?;
        parse(&answer.body, &self.url, shared).map(|(listed, _)| listed)
    }
}

/// Pods of a `v1.PodList`, with its resource version. Pods that lack what every pod has are left out.
pub(super) fn parse(body: &[u8], url: &str, shared: &Shared) -> Result<(Listed, Option<String>), Failed> {
    let garbage = |why: String| Failed::Garbage { url: url.to_owned(), why };
    let list: RawList = serde_json::from_slice(body).map_err(|error| garbage(error.to_string()))?;
    // An object of another kind would look like a list of nothing, and nobody would be known any more.
    if list.kind.as_deref() != Some("PodList") {
        return Err(garbage("its kind is not PodList".to_owned()));
    }
    let mut uids = HashSet::new();
    let mut listed = Listed::default();
    for raw in list.items {
        match read::pod(raw) {
            Ok(pod) if uids.insert(pod.pod.uid.clone()) => listed.pods.push(pod),
            _ => shared.ignore("incomplete"),
        }
    }
    Ok((listed, list.metadata.resource_version))
}
