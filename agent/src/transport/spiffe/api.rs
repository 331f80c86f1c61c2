//! The one call: `SpiffeWorkloadAPI/FetchX509SVID`, a gRPC stream over a Unix socket.

#![forbid(unsafe_code)]

use std::{path::Path, time::Duration};

use bytes::{Buf as _, Bytes, BytesMut};
use h2::{RecvStream, client};
use http::{HeaderMap, Request};
use tokio::{net::UnixStream, time::timeout};

use super::{SpiffeError, Update, response};
use crate::transport::tls::shown;

const PATH: &str = "http://localhost/SpiffeWorkloadAPI/FetchX509SVID";
/// A call without it is refused: the specification (4.1) has it against requests that a browser was tricked into.
const SECURITY_HEADER: (&str, &str) = ("workload.spiffe.io", "true");
/// Until the answer begins. An agent that has no identity yet may take its time for the first message after that.
const PATIENCE: Duration = Duration::from_secs(10);
/// The largest message. A certificate has 1 to 2 KiB, a bundle some of them, and federation some bundles.
const MAX_MESSAGE: usize = 4 << 20;

/// Calls, and gives every update to `publish` until that says no or the stream ends.
pub(super) async fn stream(
    endpoint: &Path,
    mut publish: impl FnMut(Update) -> bool,
) -> Result<(), SpiffeError> {
    let connect = |source| SpiffeError::Connect { endpoint: endpoint.to_owned(), source };
    let late = || SpiffeError::Answer("nothing in time");
    let socket =
        timeout(PATIENCE, UnixStream::connect(endpoint)).await.map_err(|_| late())?.map_err(connect)?;
    let (calls, connection) = timeout(PATIENCE, client::handshake(socket)).await.map_err(|_| late())??;
    let driver = tokio::spawn(connection);
    let outcome = timeout(PATIENCE, call(calls)).await.map_err(|_| late());
    let outcome = match outcome {
        Ok(Ok((headers, mut body))) => match status(&headers) {
            Some(refused) => Err(refused),
            None => messages(&mut body, &mut publish).await,
        },
        Ok(Err(error)) | Err(error) => Err(error),
    };
    driver.abort();
    outcome
}

async fn call(calls: client::SendRequest<Bytes>) -> Result<(HeaderMap, RecvStream), SpiffeError> {
    let request = Request::post(PATH)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header(SECURITY_HEADER.0, SECURITY_HEADER.1)
        .body(())
        .map_err(|_| SpiffeError::Answer("nothing: the request is not valid"))?;
    let (answer, mut body) = calls.ready().await?.send_request(request, false)?;
    // An empty `X509SVIDRequest`: not compressed, no bytes.
    body.send_data(Bytes::from_static(&[0; 5]), true)?;
    let (head, body) = answer.await?.into_parts();
    if head.status != http::StatusCode::OK {
        return Err(SpiffeError::Answer("an answer that is no gRPC: is the endpoint the Workload API's?"));
    }
    Ok((head.headers, body))
}

async fn messages(
    body: &mut RecvStream,
    publish: &mut impl FnMut(Update) -> bool,
) -> Result<(), SpiffeError> {
    let mut buffer = BytesMut::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        buffer.extend_from_slice(&data);
        while let Some(message) = next(&mut buffer)? {
            if !publish(response::read(&message)?) {
                return Ok(());
            }
        }
    }
    match body.trailers().await?.as_ref().and_then(status) {
        Some(refused) => Err(refused),
        None => Err(SpiffeError::Answer("the end of its stream")),
    }
}

/// The next whole message: a byte of flags, four of length.
fn next(buffer: &mut BytesMut) -> Result<Option<Bytes>, SpiffeError> {
    let Some(&[flags, a, b, c, d]) = buffer.first_chunk::<5>() else { return Ok(None) };
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if flags != 0 {
        return Err(SpiffeError::Answer("a compressed message, which nobody asked for"));
    }
    if length > MAX_MESSAGE {
        return Err(SpiffeError::Answer("a message of more than 4 MiB"));
    }
    if buffer.len() < 5 + length {
        return Ok(None);
    }
    buffer.advance(5);
    Ok(Some(buffer.split_to(length).freeze()))
}

/// A refusal, where the headers or trailers hold one.
fn status(headers: &HeaderMap) -> Option<SpiffeError> {
    let status = headers.get("grpc-status")?.to_str().ok()?.parse().unwrap_or(2);
    let message = headers.get("grpc-message").and_then(|message| message.to_str().ok()).unwrap_or_default();
    (status != 0).then(|| SpiffeError::Refused { status, message: shown(message) })
}
