//! OTLP/HTTP: protobuf and JSON (<https://opentelemetry.io/docs/specs/otlp/#otlphttp>).

#![forbid(unsafe_code)]

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use http_body::Body as _;
use hyper::body::Incoming;

use super::{
    admission::Permit,
    body,
    connection::Connection,
    decompress::Encoding,
    reply::Reply,
    request::{self, Body, Format},
    status::{Code, Failure, partial_success, partial_success_json},
};
use crate::otlp::Accepted;

const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// Answers one request.
pub(super) async fn handle(
    connection: &Connection,
    request: Request<Incoming>,
    path: &str,
    max_body: usize,
) -> Response<Reply> {
    let format = format(request.headers());
    let version = request.version();
    match export(connection, request, path, max_body, format).await {
        Ok((format, accepted)) => success(format, &accepted),
        Err((failure, spans)) => {
            request::refused(connection, &failure, spans);
            let mut response = error(format, &failure);
            // HTTP/2 has no such header (RFC 9113 section 8.2.2), and needs none: the stream is reset.
            if version <= Version::HTTP_11 && connection.has_unread() {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            response
        }
    }
}

async fn export(
    connection: &Connection,
    request: Request<Incoming>,
    path: &str,
    max: usize,
    format: Option<Format>,
) -> Result<(Format, Accepted), (Failure, u32)> {
    let fail = |failure| (failure, 0);
    let (parts, mut body) = request.into_parts();
    if let Err(failure) = check_target(&parts.method, parts.uri.path(), path) {
        connection.discard(&body);
        return Err(fail(failure));
    }
    let identity = request::admit(connection, &parts.headers).await.map_err(|failure| {
        connection.discard(&body);
        fail(failure)
    })?;
    let admitted = check_headers(connection, &parts.headers, format, body.size_hint().exact(), max);
    let (format, encoding) = admitted.map_err(|failure| {
        connection.discard(&body);
        fail(failure)
    })?;
    let mut permit = Permit::new(&connection.share);
    let frames = body::read(&mut body, &connection.limits, &mut permit, |frames, _| {
        if frames.len() > max { Err(too_large(max)) } else { Ok(()) }
    })
    .await
    .map_err(|failure| {
        connection.discard(&body);
        fail(failure)
    })?;
    let body = Body { data: frames.into_bytes(0), encoding, format };
    let accepted = request::consume(connection, identity, body, max, permit).await?;
    Ok((format, accepted))
}

fn check_target(method: &Method, requested: &str, path: &str) -> Result<(), Failure> {
    if requested != path {
        let message = format!("unknown path; this receiver takes traces at {path}");
        return Err(Failure::new(Code::Unimplemented, 404, "path", message));
    }
    if method != Method::POST {
        return Err(Failure::new(Code::Unimplemented, 405, "method", "only POST is taken here"));
    }
    Ok(())
}

/// Everything that can be refused before a byte of the body is read.
fn check_headers(
    connection: &Connection,
    headers: &HeaderMap,
    format: Option<Format>,
    length: Option<u64>,
    max: usize,
) -> Result<(Format, Encoding), Failure> {
    let format = format.ok_or_else(|| {
        let message = "content type is not supported; use application/x-protobuf or application/json";
        Failure::new(Code::InvalidArgument, 415, "content_type", message)
    })?;
    let encoding = match headers.get(header::CONTENT_ENCODING) {
        None => Encoding::Identity,
        Some(value) => Encoding::parse(value.as_bytes()).ok_or_else(|| {
            let message = "content encoding is not supported; use gzip, zstd or identity";
            Failure::new(Code::InvalidArgument, 415, "encoding", message)
        })?,
    };
    if let Some(length) = length {
        if length > max as u64 {
            return Err(too_large(max));
        }
        connection.share.room_for(length).map_err(body::admission_failure)?;
    }
    Ok((format, encoding))
}

fn too_large(max: usize) -> Failure {
    Failure::too_large("request_too_large", format!("body is larger than {max} bytes; send smaller batches"))
}

/// The media type without its parameters.
fn format(headers: &HeaderMap) -> Option<Format> {
    let value = headers.get(header::CONTENT_TYPE)?.as_bytes();
    let media_type = value.split(|&b| b == b';').next().unwrap_or_default().trim_ascii();
    if media_type.eq_ignore_ascii_case(b"application/x-protobuf") {
        Some(Format::Protobuf)
    } else if media_type.eq_ignore_ascii_case(b"application/json") {
        Some(Format::Json)
    } else {
        None
    }
}

fn success(format: Format, accepted: &Accepted) -> Response<Reply> {
    let whole = *accepted == Accepted::default();
    let (content_type, body) = match format {
        Format::Protobuf if whole => (PROTOBUF, Vec::new()),
        Format::Protobuf => (PROTOBUF, partial_success(accepted.rejected_spans, &accepted.message)),
        Format::Json if whole => (JSON, b"{}".to_vec()),
        Format::Json => (JSON, partial_success_json(accepted.rejected_spans, &accepted.message)),
    };
    let mut response = Response::new(Reply::data(body));
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}

/// A `google.rpc.Status` in the request's own format, as OTLP asks; text for who speaks neither.
fn error(format: Option<Format>, failure: &Failure) -> Response<Reply> {
    let (content_type, body) = match format {
        Some(Format::Protobuf) => (PROTOBUF, failure.to_protobuf()),
        Some(Format::Json) => (JSON, failure.to_json()),
        None => (TEXT, format!("{}\n", failure.message).into_bytes()),
    };
    let mut response = Response::new(Reply::data(body));
    *response.status_mut() = StatusCode::from_u16(failure.http).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, content_type);
    if let Some(seconds) = failure.retry_after_seconds() {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if let Some(challenge) = failure.challenge().and_then(|text| HeaderValue::try_from(text).ok()) {
        headers.insert(header::WWW_AUTHENTICATE, challenge);
    }
    match failure.http {
        405 => drop(headers.insert(header::ALLOW, HeaderValue::from_static("POST"))),
        415 => {
            let encodings = HeaderValue::from_static("gzip, zstd, identity");
            headers.insert(header::ACCEPT_ENCODING, encodings);
        }
        _ => {}
    }
    response
}
