//! OTLP servers that answer by a script and remember what they got.

use std::{
    collections::VecDeque,
    convert::Infallible,
    io::Read,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpListener, task::AbortHandle};
use tokio_rustls::TlsAcceptor;

/// One answer.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    Ok,
    /// Partial success: so many spans rejected.
    Partial(u8),
    /// A gRPC code, with `RetryInfo` in milliseconds.
    Code(u8, Option<u32>),
    /// An HTTP status, with `Retry-After`.
    Status(u16, Option<&'static str>),
    /// No answer at all.
    Never,
}

/// One request, decompressed.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) data: Bytes,
    pub(crate) headers: HeaderMap,
    pub(crate) path: String,
    pub(crate) at: Instant,
    /// The number of its connection.
    pub(crate) connection: usize,
    accepted: bool,
}

#[derive(Default)]
struct State {
    script: VecDeque<Reply>,
    /// When the script is over.
    always: Option<Reply>,
    got: Vec<Got>,
    connections: usize,
    tasks: Vec<AbortHandle>,
}

/// A server; it ends when it is dropped.
pub(crate) struct Server {
    pub(crate) endpoint: String,
    state: Arc<Mutex<State>>,
    listener: AbortHandle,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.listener.abort();
        self.disconnect();
    }
}

impl Server {
    pub(crate) async fn grpc(script: impl Into<VecDeque<Reply>>) -> Self {
        Self::start(script.into(), None, true).await
    }

    pub(crate) async fn http(script: impl Into<VecDeque<Reply>>) -> Self {
        Self::start(script.into(), None, false).await
    }

    pub(crate) async fn grpc_tls(acceptor: TlsAcceptor) -> Self {
        Self::start(VecDeque::new(), Some(acceptor), true).await
    }

    pub(crate) async fn http_tls(acceptor: TlsAcceptor) -> Self {
        Self::start(VecDeque::new(), Some(acceptor), false).await
    }

    async fn start(script: VecDeque<Reply>, tls: Option<TlsAcceptor>, h2: bool) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let endpoint = listener.local_addr().expect("it is bound").to_string();
        let state = Arc::new(Mutex::new(State { script, ..State::default() }));
        let shared = Arc::clone(&state);
        let listener = tokio::spawn(async move {
            loop {
                let Ok((tcp, _)) = listener.accept().await else { continue };
                let (tls, state) = (tls.clone(), Arc::clone(&shared));
                let connection = {
                    let mut state = state.lock().unwrap();
                    state.connections += 1;
                    state.connections
                };
                let shared = Arc::clone(&state);
                let task = tokio::spawn(async move {
                    let answer = service_fn(move |request| {
                        let state = Arc::clone(&state);
                        async move { Ok::<_, Infallible>(answer(&state, request, connection, h2).await) }
                    });
                    // A client that goes away in the middle is none of the server's business.
                    let _ = match tls {
                        Some(tls) => {
                            let Ok(stream) = tls.accept(tcp).await else { return };
                            let stream = TokioIo::new(stream);
                            if h2 {
                                hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                                    .serve_connection(stream, answer)
                                    .await
                            } else {
                                hyper::server::conn::http1::Builder::new()
                                    .serve_connection(stream, answer)
                                    .await
                            }
                        }
                        None if h2 => {
                            hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                                .serve_connection(TokioIo::new(tcp), answer)
                                .await
                        }
                        None => {
                            hyper::server::conn::http1::Builder::new()
                                .serve_connection(TokioIo::new(tcp), answer)
                                .await
                        }
                    };
                });
                shared.lock().unwrap().tasks.push(task.abort_handle());
            }
        });
        Self { endpoint, state, listener: listener.abort_handle() }
    }

    /// What it answers once the script is over, `Ok` without this.
    pub(crate) fn always(&self, reply: Reply) {
        self.state.lock().unwrap().always = Some(reply);
    }

    /// Closes every connection that it has.
    pub(crate) fn disconnect(&self) {
        for task in self.state.lock().unwrap().tasks.drain(..) {
            task.abort();
        }
    }

    pub(crate) fn requests(&self) -> usize {
        self.state.lock().unwrap().got.len()
    }

    /// Connections that have not ended yet.
    pub(crate) fn open_connections(&self) -> usize {
        self.state.lock().unwrap().tasks.iter().filter(|task| !task.is_finished()).count()
    }

    pub(crate) fn connections(&self) -> usize {
        self.state.lock().unwrap().connections
    }

    /// Looks at what it got.
    pub(crate) fn got<T>(&self, look: impl FnOnce(&[Got]) -> T) -> T {
        look(&self.state.lock().unwrap().got)
    }

    /// What it said OK to.
    pub(crate) fn accepted(&self) -> Vec<Bytes> {
        self.got(|got| got.iter().filter(|g| g.accepted).map(|g| g.data.clone()).collect())
    }
}

/// An endpoint where nobody listens, and nobody else can while the socket is there.
pub(crate) fn nobody() -> (tokio::net::TcpSocket, String) {
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind(([127, 0, 0, 1], 0).into()).expect("a free port");
    let endpoint = socket.local_addr().expect("it is bound").to_string();
    (socket, endpoint)
}

fn inflate(encoding: Option<&str>, data: &[u8]) -> Bytes {
    match encoding {
        Some("gzip") => {
            let mut out = Vec::new();
            flate2::read::GzDecoder::new(data).read_to_end(&mut out).expect("gzip");
            out.into()
        }
        Some("zstd") => zstd::decode_all(data).expect("zstd").into(),
        None => Bytes::copy_from_slice(data),
        Some(other) => panic!("unknown encoding {other}"),
    }
}

type Body = BoxBody<Bytes, Infallible>;

async fn answer(
    state: &Mutex<State>,
    request: Request<Incoming>,
    connection: usize,
    h2: bool,
) -> Response<Body> {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else { return Response::default() };
    let body = body.to_bytes();
    let header = |name: &str| head.headers.get(name).map(|v| v.to_str().expect("text").to_owned());
    let data = if h2 {
        let length = u32::from_be_bytes(body[1..5].try_into().expect("four bytes"));
        assert_eq!(length as usize, body.len() - 5, "one message a request");
        assert_eq!(body[0] == 1, header("grpc-encoding").is_some());
        inflate(header("grpc-encoding").as_deref(), &body[5..])
    } else {
        inflate(header("content-encoding").as_deref(), &body)
    };
    let reply = {
        let mut state = state.lock().unwrap();
        let reply = state.script.pop_front().or_else(|| state.always.clone()).unwrap_or(Reply::Ok);
        let accepted = matches!(reply, Reply::Ok | Reply::Partial(_));
        let path = head.uri.path().to_owned();
        state.got.push(Got {
            data,
            headers: head.headers.clone(),
            path,
            at: Instant::now(),
            connection,
            accepted,
        });
        reply
    };
    if matches!(reply, Reply::Never) {
        tokio::time::sleep(Duration::from_hours(1)).await;
    }
    if h2 { grpc_response(&reply) } else { http_response(&reply, header("content-type").as_deref()) }
}

fn partial(rejected: u8) -> Vec<u8> {
    vec![0x0a, 8, 0x08, rejected, 0x12, 4, b'o', b'o', b'p', b's']
}

fn full(data: Vec<u8>) -> Body {
    Full::new(Bytes::from(data)).boxed()
}

fn grpc_response(reply: &Reply) -> Response<Body> {
    let response = Response::builder().header("content-type", "application/grpc");
    match reply {
        Reply::Code(code, retry) => {
            let mut response =
                response.header("grpc-status", code.to_string()).header("grpc-message", "oops");
            if let Some(millis) = retry {
                response = response.header("grpc-status-details-bin", retry_info(*code, *millis));
            }
            response.body(full(Vec::new())).unwrap()
        }
        Reply::Status(status, _) => response.status(*status).body(full(Vec::new())).unwrap(),
        Reply::Ok | Reply::Partial(_) | Reply::Never => {
            let message = if let Reply::Partial(n) = reply { partial(*n) } else { Vec::new() };
            let mut body = vec![0, 0, 0, 0, message.len() as u8];
            body.extend(message);
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", "0".parse().unwrap());
            let body = Full::new(Bytes::from(body));
            response.body(body.with_trailers(async { Some(Ok(trailers)) }).boxed()).unwrap()
        }
    }
}

/// `google.rpc.Status` with a `RetryInfo`, in base64 as gRPC sends it.
fn retry_info(code: u8, millis: u32) -> String {
    #[derive(prost::Message)]
    struct Status {
        #[prost(int32, tag = "1")]
        code: i32,
        #[prost(message, repeated, tag = "3")]
        details: Vec<Any>,
    }
    #[derive(prost::Message)]
    struct Any {
        #[prost(string, tag = "1")]
        type_url: String,
        #[prost(message, optional, tag = "2")]
        value: Option<RetryInfo>,
    }
    #[derive(prost::Message)]
    struct RetryInfo {
        #[prost(message, optional, tag = "1")]
        delay: Option<Delay>,
    }
    #[derive(prost::Message)]
    struct Delay {
        #[prost(int64, tag = "1")]
        seconds: i64,
        #[prost(int32, tag = "2")]
        nanos: i32,
    }
    let delay = Delay { seconds: i64::from(millis / 1000), nanos: (millis % 1000 * 1_000_000).cast_signed() };
    let any = Any {
        type_url: "type.googleapis.com/google.rpc.RetryInfo".into(),
        value: Some(RetryInfo { delay: Some(delay) }),
    };
    base64(&prost::Message::encode_to_vec(&Status { code: i32::from(code), details: vec![any] }))
}

fn base64(data: &[u8]) -> String {
    const SYMBOLS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    data.chunks(3)
        .flat_map(|chunk| {
            let word = chunk.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte))
                << (8 * (3 - chunk.len()));
            (0..=chunk.len()).map(move |i| SYMBOLS[(word >> (18 - 6 * i) & 63) as usize] as char)
        })
        .collect()
}

fn http_response(reply: &Reply, content: Option<&str>) -> Response<Body> {
    let json = content == Some("application/json");
    let response = Response::builder().header("content-type", content.unwrap_or_default());
    match reply {
        Reply::Status(status, after) => {
            let mut response = response.status(*status);
            if let Some(after) = after {
                response = response.header("retry-after", *after);
            }
            response.body(full(Vec::new())).unwrap()
        }
        Reply::Partial(n) if json => {
            let body = format!(r#"{{"partialSuccess":{{"rejectedSpans":"{n}","errorMessage":"oops"}}}}"#);
            response.body(full(body.into_bytes())).unwrap()
        }
        Reply::Partial(n) => response.body(full(partial(*n))).unwrap(),
        _ => response.body(full(if json { b"{}".to_vec() } else { Vec::new() })).unwrap(),
    }
}
