//! OTLP/gRPC: the one unary method, straight on HTTP/2
//! (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).

#![forbid(unsafe_code)]

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;

use super::{
    admission::Permit,
    body::{self, Frames},
    connection::Connection,
    decompress::Encoding,
    reply::Reply,
    request::{self, Body, Format},
    status::{Code, Failure, base64, partial_success, percent_encode},
};
use crate::otlp::Accepted;

const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
/// Compressed-Flag and Message-Length.
const PREFIX: usize = 5;
const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/grpc");
const ACCEPT_ENCODING: HeaderValue = HeaderValue::from_static("gzip,zstd");
const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_STATUS_DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");

/// Answers one request.
pub(super) async fn handle(
    connection: &Connection,
    request: Request<Incoming>,
    max_message: usize,
) -> Response<Reply> {
    if let Some(refusal) = not_grpc(connection, &request) {
        return refusal;
    }
    match export(connection, request, max_message).await {
        Ok(accepted) => success(&accepted),
        Err((failure, spans)) => {
            request::refused(connection, &failure, spans);
            error(&failure)
        }
    }
}

/// What is no gRPC call at all is answered in HTTP.
fn not_grpc(connection: &Connection, request: &Request<Incoming>) -> Option<Response<Reply>> {
    let (status, cause, message) = if request.method() != Method::POST {
        (StatusCode::METHOD_NOT_ALLOWED, "method", "gRPC calls are POST requests\n")
    } else if !is_grpc(request.headers()) {
        let message = "this port takes OTLP/gRPC (content-type application/grpc); \
                       send OTLP/HTTP to the http endpoint, port 4318 by default\n";
        (StatusCode::UNSUPPORTED_MEDIA_TYPE, "content_type", message)
    } else {
        return None;
    };
    let failure = Failure::new(Code::InvalidArgument, status.as_u16(), cause, message);
    request::refused(connection, &failure, 0);
    let mut response = Response::new(Reply::data(message));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(header::ALLOW, HeaderValue::from_static("POST"));
    }
    Some(response)
}

/// `application/grpc` or `application/grpc+proto`, with or without parameters.
fn is_grpc(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return false };
    let media_type = value.as_bytes().split(|&b| b == b';').next().unwrap_or_default().trim_ascii();
    media_type.eq_ignore_ascii_case(b"application/grpc")
        || media_type.eq_ignore_ascii_case(b"application/grpc+proto")
}

async fn export(
    connection: &Connection,
    request: Request<Incoming>,
    max_message: usize,
) -> Result<Accepted, (Failure, u32)> {
    let (parts, mut body) = request.into_parts();
    let fail = |failure| (failure, 0);
    if parts.uri.path() != EXPORT {
        return Err(fail(unknown_method(parts.uri.path())));
    }
    let identity = request::admit(connection, &parts.headers).await.map_err(fail)?;
    let encoding = match parts.headers.get(GRPC_ENCODING) {
        None => Encoding::Identity,
        Some(value) => Encoding::parse(value.as_bytes()).ok_or_else(|| {
            let message = "grpc-encoding is not supported; use gzip, zstd or identity";
            fail(Failure::new(Code::Unimplemented, 415, "encoding", message))
        })?,
    };
    let mut permit = Permit::new(&connection.share);
    let mut claimed = None;
    let frames = body::read(&mut body, &connection.limits, &mut permit, |frames, permit| {
        check_message(frames, permit, max_message, &mut claimed)
    })
    .await
    .map_err(fail)?;
    let encoding = message_encoding(&frames, claimed, encoding).map_err(fail)?;
    let body = Body { data: frames.into_bytes(PREFIX), encoding, format: Format::Protobuf };
    request::consume(connection, identity, body, max_message, permit).await
}

fn unknown_method(path: &str) -> Failure {
    let other_signal = path.starts_with("/opentelemetry.proto.collector.");
    let message = if other_signal {
        "this receiver takes traces only; send other signals elsewhere"
    } else {
        "unknown method; this receiver takes opentelemetry.proto.collector.trace.v1.TraceService/Export"
    };
    Failure::new(Code::Unimplemented, 404, if other_signal { "signal" } else { "method" }, message)
}

/// Looks at what has arrived: the claimed length as soon as it is there, and that nothing follows the message.
fn check_message(
    frames: &Frames,
    permit: &Permit,
    max: usize,
    claimed: &mut Option<usize>,
) -> Result<(), Failure> {
    if claimed.is_none() {
        let Some([_, length @ ..]) = frames.prefix::<PREFIX>() else { return Ok(()) };
        let length = u32::from_be_bytes(length) as usize;
        if length > max {
            let message = format!("message is larger than {max} bytes; send smaller batches");
            return Err(Failure::too_large("request_too_large", message));
        }
        let missing = (PREFIX + length).saturating_sub(frames.len());
        permit.share().room_for(missing as u64).map_err(body::admission_failure)?;
        *claimed = Some(length);
    }
    if claimed.is_some_and(|length| frames.len() > PREFIX + length) {
        return Err(cardinality());
    }
    Ok(())
}

/// The message must be whole, and packed as it says.
fn message_encoding(
    frames: &Frames,
    claimed: Option<usize>,
    encoding: Encoding,
) -> Result<Encoding, Failure> {
    let (Some([flag, ..]), Some(length)) = (frames.prefix::<PREFIX>(), claimed) else {
        return Err(if frames.len() == 0 { cardinality() } else { truncated() });
    };
    if frames.len() < PREFIX + length {
        return Err(truncated());
    }
    match (flag, encoding) {
        (0, _) => Ok(Encoding::Identity),
        (1, Encoding::Identity) => {
            let message = "message is marked compressed, but grpc-encoding names no compression";
            Err(Failure::new(Code::Internal, 400, "compressed_flag", message))
        }
        (1, encoding) => Ok(encoding),
        _ => {
            let message = "message has an unknown compressed flag; only 0 and 1 are defined";
            Err(Failure::new(Code::Internal, 400, "compressed_flag", message))
        }
    }
}

/// gRPC's status code for a unary method that got none or several (`doc/statuscodes.md`).
fn cardinality() -> Failure {
    let message = "Export takes exactly one message a call";
    Failure::new(Code::Unimplemented, 400, "cardinality", message)
}

fn truncated() -> Failure {
    Failure::malformed("truncated_message", "message is shorter than its length says")
}

fn success(accepted: &Accepted) -> Response<Reply> {
    let data = if *accepted == Accepted::default() {
        Bytes::from_static(&[0; PREFIX])
    } else {
        let message = partial_success(accepted.rejected_spans, &accepted.message);
        let mut data = Vec::with_capacity(PREFIX + message.len());
        data.push(0);
        data.extend_from_slice(&(message.len() as u32).to_be_bytes());
        data.extend_from_slice(&message);
        data.into()
    };
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(GRPC_STATUS, HeaderValue::from_static("0"));
    let mut response = Response::new(Reply::with_trailers(data, trailers));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, CONTENT_TYPE);
    headers.insert(GRPC_ACCEPT_ENCODING, ACCEPT_ENCODING);
    response
}

/// Trailers-Only: status and details in the headers, no body.
fn error(failure: &Failure) -> Response<Reply> {
    let mut response = Response::new(Reply::empty());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, CONTENT_TYPE);
    headers.insert(GRPC_ACCEPT_ENCODING, ACCEPT_ENCODING);
    headers.insert(GRPC_STATUS, HeaderValue::from(failure.code as u16));
    let ascii = |text: String| HeaderValue::try_from(text).expect("printable ASCII is a header value");
    headers.insert(GRPC_MESSAGE, ascii(percent_encode(&failure.message)));
    if let Some(challenge) = failure.challenge() {
        headers.insert(header::WWW_AUTHENTICATE, ascii(challenge));
    }
    if failure.retry_after.is_some() {
        headers.insert(GRPC_STATUS_DETAILS, ascii(base64(&failure.to_protobuf())));
    }
    response
}
