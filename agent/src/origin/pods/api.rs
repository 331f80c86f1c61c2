//! Pods from the API server: a watch of those of this node.
//!
//! The watch begins with what is there (`sendInitialEvents`, KEP-3157); a server that refuses that is asked for a list
//! first. It ends every few minutes as planned and goes on where it was; when the server no longer knows that place
//! (410 Gone), it begins anew. What was known stays known meanwhile.

mod frames;
mod known;

use std::time::{Duration, Instant};

use http::StatusCode;
use tokio::time::{sleep, sleep_until};

use super::{
    kubelet::{MAX_LIST, TIMEOUT, parse},
    remote::{Backoff, Failed, RemoteError, Shared, fraction},
};
use crate::{
    config::extensions::Api,
    transport::http::{Client, ClientOptions, HttpError, Stream, api_server},
};
use frames::{Frame, Frames};
use known::{Known, Told};

/// How long nothing may come on a watch. An API server sends a bookmark about every minute.
const IDLE: Duration = Duration::from_secs(150);
/// How long a watch is asked to last at least; at most twice as long, by chance.
const WATCH: Duration = Duration::from_mins(5);
/// How long the events of the beginning may take.
const INITIAL: Duration = Duration::from_mins(1);
/// Changes that come together are taken in together.
const SETTLE: Duration = Duration::from_millis(50);
/// How long a server that refuses initial events is not asked for them again.
const RELUCTANT: Duration = Duration::from_hours(1);
/// Watches begin no faster than this, whatever the server does.
const PACE: Duration = Duration::from_secs(1);

pub(super) struct Feed {
    client: Client,
    /// `…/api/v1/pods?fieldSelector=spec.nodeName%3D…`
    url: String,
    node: String,
}

/// How a watch ended.
enum End {
    /// As planned, or by the network: it can go on where it was.
    Resume,
    /// The server no longer knows what came after our place.
    Gone,
    /// It does not do initial events.
    Reluctant,
}

impl Feed {
    pub(super) fn new(config: &Api) -> Result<Self, RemoteError> {
        let node = match &config.node {
            Some(node) => node.clone(),
            None => {
                std::env::var("K8S_NODE_NAME").ok().filter(|n| !n.is_empty()).ok_or(RemoteError::NoNode)?
            }
        };
        if !is_node_name(&node) {
            return Err(RemoteError::BadNode(node.chars().take(64).flat_map(char::escape_debug).collect()));
        }
        let (endpoint, options) = api_server(&config.client)?;
        let options = ClientOptions { timeout: TIMEOUT, idle_timeout: IDLE, body_limit: MAX_LIST, ..options };
        let url = format!("{endpoint}/api/v1/pods?fieldSelector=spec.nodeName%3D{node}");
        Ok(Self { client: Client::new(options)?, url, node })
    }

    /// Watches for ever.
    pub(super) async fn run(self, shared: &Shared) {
        let mut known = Known::new(self.node.clone());
        let mut backoff = Backoff::default();
        let mut reluctant: Option<Instant> = None;
        loop {
            let began = Instant::now();
            let initial =
                known.version.is_none() && reluctant.is_none_or(|since| since.elapsed() > RELUCTANT);
            let before = known.told;
            let end = self.once(&mut known, initial, shared).await;
            let told = known.told != before;
            if told && end.is_ok() {
                backoff.reset();
            }
            match end {
                Ok(End::Resume) if told || began.elapsed() >= PACE => {
                    shared.count("ended");
                    sleep(PACE.saturating_sub(began.elapsed())).await;
                    continue;
                }
                Ok(End::Resume) => shared.bad(&Failed::Watch("at once, without a word".to_owned())),
                Ok(End::Gone) => {
                    shared.count("gone");
                    shared.set_current(false);
                    known.version = None;
                    if told {
                        sleep(PACE.saturating_sub(began.elapsed())).await;
                        continue;
                    }
                }
                Ok(End::Reluctant) => {
                    tracing::info!("the API server sends no initial events; pods are listed, then watched");
                    reluctant = Some(Instant::now());
                    continue;
                }
                Err(error) => {
                    shared.bad(&error);
                    // What it was that could not be read is not known, so everything is asked for again.
                    if matches!(error, Failed::Garbage { .. }) {
                        known.version = None;
                    }
                }
            }
            sleep(backoff.next()).await;
        }
    }

    /// One watch, from its beginning to its end.
    async fn once(&self, known: &mut Known, initial: bool, shared: &Shared) -> Result<End, Failed> {
        if known.version.is_none() && !initial {
            // From the API server's memory, as every list of a watcher: a little old is good enough, the watch goes on there.
            let url = format!("{}&resourceVersion=0", self.url);
            let answer = self.client.get(&url).await?.success()?;
            let (listed, version) = parse(&answer.body, &self.url, shared)?;
            known.listed(listed, version.as_deref(), shared)?;
            known.publish(shared);
            shared.good("ok");
        }
        let seconds = (WATCH + WATCH.mul_f64(fraction())).as_secs();
        let place = match &known.version {
            Some(version) => format!("&resourceVersion={version}"),
            None => "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan".to_owned(),
        };
        let url = format!("{}&watch=true&allowWatchBookmarks=true&timeoutSeconds={seconds}{place}", self.url);
        let stream = match self.client.stream(&url).await {
            Ok(stream) => stream,
            Err(error) => {
                return match error.status() {
                    Some(StatusCode::GONE) => Ok(End::Gone),
                    Some(StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY) if initial => {
                        Ok(End::Reluctant)
                    }
                    _ => Err(error.into()),
                };
            }
        };
        if !initial {
            shared.good("ok");
        }
        let deadline = Instant::now() + INITIAL;
        let end = self.follow(stream, known, initial.then_some(deadline), shared).await;
        // What came last is known, however the watch ended.
        known.publish(shared);
        shared.set_current(matches!(end, Ok(End::Resume)) && known.version.is_some());
        end
    }

    async fn follow(
        &self,
        mut stream: Stream,
        known: &mut Known,
        mut initial: Option<Instant>,
        shared: &Shared,
    ) -> Result<End, Failed> {
        let mut frames = Frames::default();
        if initial.is_some() {
            known.begin();
        }
        let mut changed: Option<Instant> = None;
        loop {
            let wake = initial.or(changed.map(|at| at + SETTLE)).unwrap_or_else(|| Instant::now() + IDLE);
            let piece = tokio::select! {
                piece = stream.chunk() => match piece {
                    Ok(Some(piece)) => piece,
                    Ok(None) | Err(HttpError::Idle { .. }) => return Ok(End::Resume),
                    // The connection is lost; what was told stays.
                    Err(error) if initial.is_none() => {
                        tracing::debug!(%error, "the watch of pods broke off");
                        return Ok(End::Resume);
                    }
                    Err(error) => return Err(error.into()),
                },
                () = sleep_until(wake.into()) => {
                    if initial.is_some() {
                        return Ok(End::Reluctant);
                    }
                    known.publish(shared);
                    changed = None;
                    continue;
                }
            };
            frames.push(&piece);
            while let Some(frame) = frames.next() {
                let line = match frame {
                    Frame::Line(line) => line,
                    Frame::TooLong => {
                        shared.ignore("too_large");
                        continue;
                    }
                };
                match known
                    .take(&line, shared)
                    .map_err(|why| Failed::Garbage { url: self.url.clone(), why })?
                {
                    Told::Nothing => {}
                    Told::Change => changed = changed.or(Some(Instant::now())),
                    Told::InitialEnd => {
                        initial = None;
                        changed = None;
                        known.publish(shared);
                        shared.good("ok");
                    }
                    Told::Gone => return Ok(End::Gone),
                    Told::Error(_) if initial.is_some() => return Ok(End::Reluctant),
                    Told::Error(why) => return Err(Failed::Watch(why)),
                }
            }
            if initial.is_none() && changed.is_some_and(|at| at.elapsed() > SETTLE) {
                known.publish(shared);
                changed = None;
            }
        }
    }
}

/// An RFC 1123 subdomain, as the API server demands of names.
fn is_node_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 253
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.'))
}
