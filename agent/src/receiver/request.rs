//! What both protocols do with a request: ask who sends it, and once its body is there unpack, count, hand over,
//! count again.

#![forbid(unsafe_code)]

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use http::HeaderMap;

use super::{
    admission::Permit,
    body,
    connection::Connection,
    decompress::{self, Encoding},
    refusals,
    status::{Code, Failure},
};
use crate::{
    auth::Identity,
    otlp::{
        Accepted, Batch, Context,
        json::{self as otlp_json, WhatJson},
        walk::Limits,
    },
};

/// When to come back while kernel evidence is required and dead: a restart of the agent, about.
const RETRY_EVIDENCE: Duration = Duration::from_secs(5);

/// How the spans are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Protobuf,
    Json,
}

/// A request's body as it came.
pub(super) struct Body {
    pub(super) data: Bytes,
    pub(super) encoding: Encoding,
    pub(super) format: Format,
}

/// Who sends this request; asked before its body is read.
pub(super) async fn admit(connection: &Connection, headers: &HeaderMap) -> Result<Arc<Identity>, Failure> {
    check_accepting(connection)?;
    refusals::check_standing(connection)?;
    connection.renew_origin();
    if let Some(refused) = connection.distrusted.get() {
        connection.close.notify_one();
        return Err(refusals::disbelieved(connection, refused.clone()));
    }
    let admitted = connection.gate.admit(connection.seat(), headers).await;
    match admitted {
        Ok(identity) => {
            connection.meters.admitted(identity.principal.as_ref().map(|principal| principal.method));
            Ok(identity)
        }
        Err(refused) => Err(refusals::disbelieved(connection, refused)),
    }
}

/// Refuses while the pipeline does not accept. The connection is closed as well: its origin was asked for while
/// evidence was dead, and a new connection gets evidence again.
fn check_accepting(connection: &Connection) -> Result<(), Failure> {
    if connection.upstream.accepting.load(Ordering::Relaxed) {
        return Ok(());
    }
    connection.close.notify_one();
    let message = "kernel evidence of senders is required and not available; send again after the delay";
    Err(Failure::unavailable("evidence_dead", RETRY_EVIDENCE, message))
}

/// Unpacks a body and gives it to the consumer. `max` bounds the unpacked size.
pub(super) async fn consume(
    connection: &Connection,
    identity: Arc<Identity>,
    body: Body,
    max: usize,
    mut permit: Permit,
) -> Result<Accepted, (Failure, u32)> {
    let Body { data, encoding, format } = body;
    let data = decompress::decompress(encoding, data, max, &mut permit).map_err(unread)?;
    let data = match format {
        Format::Protobuf => data,
        Format::Json => from_json(connection, &data, &mut permit).map_err(unread)?,
    };
    let Some(spans) = super::count::spans(&data) else {
        let message = "the request is no ExportTraceServiceRequest: its protobuf is malformed";
        return Err(unread(Failure::malformed("malformed_protobuf", message)));
    };
    if data.is_empty() {
        connection.meters.success.inc();
        return Ok(Accepted::default());
    }
    let context = Context {
        origin: Some(Arc::clone(connection.origin())),
        tenant: identity.tenant.clone(),
        identity: Some(identity),
    };
    let accepted = connection
        .upstream
        .consumer
        .consume(Batch { data, spans, context })
        .await
        .map_err(|refusal| (Failure::from(refusal), spans))?;
    let meters = &connection.meters;
    let rejected = accepted.rejected_spans.min(spans);
    meters.accepted.inc_by(u64::from(spans - rejected));
    meters.refused.inc_by(u64::from(rejected));
    meters.success.inc();
    Ok(accepted)
}

fn unread(failure: Failure) -> (Failure, u32) {
    (failure, 0)
}

/// Counts and logs a request that was not accepted.
pub(super) fn refused(connection: &Connection, failure: &Failure, spans: u32) {
    connection.meters.refuse_request(failure.cause, spans, failure.code == Code::Internal);
    tracing::debug!(
        receiver = &*connection.receiver,
        transport = connection.transport.as_str(),
        peer = %connection.origin.peer,
        cause = failure.cause,
        spans,
        "request refused: {}",
        failure.message
    );
}

/// Protobuf is never longer than the JSON it comes from: a field takes a name and punctuation there, and a tag
/// and a length here. So the same amount is admitted once more.
fn from_json(connection: &Connection, json: &[u8], permit: &mut Permit) -> Result<Bytes, Failure> {
    permit.grow(json.len() as u64).map_err(body::admission_failure)?;
    // The size was checked when the body was read and unpacked.
    let transcoded = otlp_json::to_protobuf(json, &Limits::default()).map_err(|bad| {
        let cause = bad.what.cause();
        match bad.what {
            WhatJson::Bytes => Failure::too_large(cause, bad.to_string()),
            _ => Failure::malformed(cause, bad.to_string()),
        }
    })?;
    if transcoded.unknown_fields > 0 {
        connection.meters.unknown_json_fields(transcoded.unknown_fields);
    }
    Ok(transcoded.data.into())
}
