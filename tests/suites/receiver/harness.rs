//! A bound receiver with a consumer and an origin source of the test's own, and clients for it.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    os::fd::BorrowedFd,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use spanwarden::{
    config::{
        ComponentId,
        receivers::{GrpcServer, HttpServer, Keepalive, OtlpReceiver},
        tls::ServerTls,
    },
    origin::{Evidence, Origin, OriginSource, Pod, Process},
    otlp::{Accepted, Batch, Consumer, Consuming, Refusal},
    receiver::{Admission, Gates, Limits, Server, Transport, Trigger, Upstream, shutdown},
    telemetry::metrics,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    sync::watch,
};

/// Nothing here takes longer, on a slow machine either; a wait that does is a failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
pub(crate) const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// Bounds a wait.
pub(crate) async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
}

type Answer = dyn Fn(&Batch) -> Result<Accepted, Refusal> + Send + Sync;

/// Keeps what it is given; answers as the test says, once the test lets it.
pub(crate) struct Sink {
    pub(crate) batches: Mutex<Vec<Batch>>,
    pub(crate) answer: Mutex<Box<Answer>>,
    /// Batches of so many bytes are kept waiting for so long.
    pub(crate) slow: Mutex<(usize, Duration)>,
    open: watch::Sender<bool>,
    /// Requests that have arrived, also those that wait.
    arrived: watch::Sender<usize>,
}

impl Default for Sink {
    fn default() -> Self {
        Self {
            batches: Mutex::default(),
            answer: Mutex::new(Box::new(|_| Ok(Accepted::default()))),
            slow: Mutex::new((usize::MAX, Duration::ZERO)),
            open: watch::Sender::new(true),
            arrived: watch::Sender::new(0),
        }
    }
}

impl Sink {
    pub(crate) fn answer(
        &self,
        answer: impl Fn(&Batch) -> Result<Accepted, Refusal> + Send + Sync + 'static,
    ) {
        *self.answer.lock().unwrap() = Box::new(answer);
    }

    /// Holds every request back until [`Sink::release`].
    pub(crate) fn hold(&self) {
        self.open.send_replace(false);
    }

    pub(crate) fn release(&self) {
        self.open.send_replace(true);
    }

    pub(crate) async fn wait_for_arrivals(&self, count: usize) {
        let mut arrived = self.arrived.subscribe();
        soon("arrivals", arrived.wait_for(|n| *n >= count)).await.unwrap();
    }

    pub(crate) fn spans(&self) -> u32 {
        self.batches.lock().unwrap().iter().map(|b| b.spans).sum()
    }
}

impl Consumer for Sink {
    fn consume(&self, batch: Batch) -> Consuming<'_> {
        Box::pin(async move {
            self.arrived.send_modify(|n| *n += 1);
            let _ = self.open.subscribe().wait_for(|open| *open).await;
            let (size, wait) = *self.slow.lock().unwrap();
            if batch.data.len() >= size {
                tokio::time::sleep(wait).await;
            }
            let result = (self.answer.lock().unwrap())(&batch);
            if result.is_ok() {
                self.batches.lock().unwrap().push(batch);
            }
            result
        })
    }
}

/// Every connection comes from this process, of a cgroup numbered as its address ends; remembers whom it was asked
/// about.
#[derive(Default)]
pub(crate) struct Origins {
    pub(crate) asked: Mutex<Vec<SocketAddr>>,
    /// Whose connections they are.
    pub(crate) pod: Mutex<Option<Arc<Pod>>>,
}

impl OriginSource for Origins {
    fn origin(&self, _socket: BorrowedFd<'_>, peer: SocketAddr) -> Arc<Origin> {
        self.asked.lock().unwrap().push(peer);
        let process = Process {
            pid: std::process::id(),
            uid: 0,
            comm: "suite".into(),
            cgroup_id: match peer.ip() {
                IpAddr::V4(ip) => u64::from(ip.octets()[3]),
                IpAddr::V6(_) => 1,
            },
            cgroup_path: None,
            netns_cookie: 1,
        };
        let pod = self.pod.lock().unwrap().clone();
        let pod_uid = pod.as_ref().map(|pod| pod.uid.clone());
        let process = Some(process);
        Arc::new(Origin { evidence: Evidence::Kernel, process, pod, pod_uid, ..Origin::unknown(peer) })
    }

    fn alive(&self) -> bool {
        true
    }
}

/// How a receiver is started; `id` also keeps the tests' metrics apart.
pub(crate) struct Setup {
    pub(crate) id: &'static str,
    pub(crate) workers: usize,
    pub(crate) tls: Option<ServerTls>,
    pub(crate) keepalive: Keepalive,
    pub(crate) header_timeout: Duration,
    pub(crate) max_body: u64,
    pub(crate) limits: Limits,
    pub(crate) budget: u64,
    pub(crate) trust_domains: Vec<String>,
    pub(crate) gates: Gates,
}

impl Setup {
    pub(crate) fn new(id: &'static str) -> Self {
        Self {
            id,
            workers: 1,
            tls: None,
            keepalive: Keepalive::default(),
            header_timeout: PATIENCE,
            max_body: 1 << 20,
            limits: Limits::default(),
            budget: 64 << 20,
            trust_domains: Vec::new(),
            gates: Gates::default(),
        }
    }

    /// gRPC takes 1 MiB, HTTP `max_body`.
    fn config(&self) -> OtlpReceiver {
        OtlpReceiver {
            grpc: Some(GrpcServer {
                endpoint: "127.0.0.1:0".into(),
                tls: self.tls.clone(),
                auth: None,
                max_recv_msg_size_mib: 1,
                max_concurrent_streams: 100,
                keepalive: self.keepalive.clone(),
            }),
            http: Some(HttpServer {
                endpoint: "127.0.0.1:0".into(),
                tls: self.tls.clone(),
                auth: None,
                max_request_body_size: self.max_body,
                traces_url_path: "/v1/traces".into(),
                read_header_timeout: self.header_timeout,
                idle_timeout: PATIENCE,
            }),
        }
    }

    pub(crate) fn start(self) -> Running {
        let id = ComponentId { kind: "otlp".into(), name: Some(self.id.into()) };
        let server = Server::bind_with(&self.config(), &id, self.workers, self.limits).unwrap();
        let at =
            |transport| server.local_addrs().iter().find(|(t, _)| *t == transport).map(|(_, a)| *a).unwrap();
        let (grpc, http) = (at(Transport::Grpc), at(Transport::Http));
        let (sink, origins) = (Arc::new(Sink::default()), Arc::new(Origins::default()));
        let (trigger, signal) = shutdown::channel();
        let upstream = Upstream {
            consumer: Arc::clone(&sink) as _,
            origins: Arc::clone(&origins) as _,
            accepting: Arc::new(AtomicBool::new(true)),
            admission: Admission::new(self.budget),
            gates: Gates { trust_domains: self.trust_domains.into(), ..self.gates },
        };
        let mut threads = Vec::new();
        for worker in server.into_workers() {
            let (upstream, signal) = (upstream.clone(), signal.clone());
            threads.push(std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(worker.serve(upstream, signal)).unwrap();
            }));
        }
        Running { id: id.to_string(), grpc, http, sink, origins, upstream, trigger, threads }
    }
}

/// A receiver that serves.
pub(crate) struct Running {
    id: String,
    pub(crate) grpc: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) sink: Arc<Sink>,
    pub(crate) origins: Arc<Origins>,
    pub(crate) upstream: Upstream,
    pub(crate) trigger: Trigger,
    threads: Vec<JoinHandle<()>>,
}

impl Running {
    pub(crate) fn accepting(&self, accepting: bool) {
        self.upstream.accepting.store(accepting, Ordering::Relaxed);
    }

    /// The value of a counter or gauge of this receiver with one more label, or none.
    pub(crate) fn metric(&self, name: &str, transport: &str, label: Option<(&str, &str)>) -> u64 {
        let mut wanted = vec![format!("receiver=\"{}\"", self.id), format!("transport=\"{transport}\"")];
        wanted.extend(label.map(|(k, v)| format!("{k}=\"{v}\"")));
        metrics::render()
            .lines()
            .filter_map(|line| line.strip_prefix(name)?.strip_prefix('{')?.split_once("} "))
            .filter(|(labels, _)| wanted.iter().all(|w| labels.split(',').any(|l| l == w)))
            .map(|(_, value)| value.parse::<u64>().unwrap())
            .sum()
    }

    pub(crate) fn refused(&self, transport: &str, cause: &str) -> u64 {
        self.metric("spanwarden_receiver_refused_requests", transport, Some(("cause", cause)))
    }

    /// Waits for a counter of connections: they are counted after the peer sees them end.
    pub(crate) async fn refused_connection(&self, transport: &str, cause: &str) {
        let name = "spanwarden_receiver_refused_connections";
        soon(cause, async {
            while self.metric(name, transport, Some(("cause", cause))) == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }

    /// Drains and waits for the workers' ends.
    pub(crate) async fn stop(self, grace: Duration) {
        self.trigger.drain(grace);
        let threads = self.threads;
        let joined = tokio::task::spawn_blocking(|| threads.into_iter().for_each(|t| t.join().unwrap()));
        soon("workers end", joined).await.unwrap();
        assert_eq!(self.upstream.admission.in_use(), 0, "all memory is given back");
    }
}

/// An `ExportTraceServiceRequest` of `spans` spans, about `size` bytes each.
pub(crate) fn request(spans: usize, size: usize) -> Vec<u8> {
    let field = |number: u8, content: &[u8]| {
        let mut out = vec![number << 3 | 2];
        let mut length = content.len();
        while length >= 0x80 {
            out.push(length as u8 | 0x80);
            length >>= 7;
        }
        out.push(length as u8);
        out.extend_from_slice(content);
        out
    };
    let mut scope_spans = Vec::new();
    for i in 0..spans {
        let name: String = format!("GET /{i}/").chars().chain(('a'..='z').cycle()).take(size).collect();
        let ids = [field(1, &[i as u8 | 1; 16]), field(2, &[i as u8 | 1; 8])].concat();
        scope_spans.extend(field(2, &[ids, field(5, name.as_bytes())].concat()));
    }
    field(1, &field(2, &scope_spans))
}

/// gRPC's framing.
pub(crate) fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
    [&[flag], &(message.len() as u32).to_be_bytes()[..], message].concat()
}

/// What a gRPC call ended with.
#[derive(Debug)]
pub(crate) struct GrpcReply {
    pub(crate) http: StatusCode,
    /// `grpc-status`, from the headers (Trailers-Only) or the trailers.
    pub(crate) status: Option<u16>,
    pub(crate) message: String,
    pub(crate) details: Option<String>,
    pub(crate) headers: HeaderMap,
    pub(crate) data: Bytes,
}

/// An HTTP/2 connection.
#[derive(Clone)]
pub(crate) struct GrpcClient(conn::http2::SendRequest<Full<Bytes>>);

impl GrpcClient {
    pub(crate) async fn connect(to: SocketAddr) -> Self {
        Self::over(TcpStream::connect(to).await.unwrap()).await
    }

    /// As another sender: from 127.0.0.`last`.
    pub(crate) async fn connect_as(last: u8, to: SocketAddr) -> Self {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, last], 0).into()).unwrap();
        Self::over(socket.connect(to).await.unwrap()).await
    }

    pub(crate) async fn over<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(stream: S) -> Self {
        let (send, conn) = conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(conn);
        Self(send)
    }

    /// Whether the connection has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    /// Exports a message as it is.
    pub(crate) async fn export(&mut self, message: &[u8]) -> GrpcReply {
        self.call(EXPORT, &[("content-type", "application/grpc")], framed(0, message)).await.unwrap()
    }

    /// The status of an export, where one comes: the connection may be closing.
    pub(crate) async fn try_export(&mut self, message: &[u8]) -> Option<u16> {
        let headers = [("content-type", "application/grpc")];
        self.call(EXPORT, &headers, framed(0, message)).await.ok()?.status
    }

    pub(crate) async fn call(
        &mut self,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<GrpcReply, hyper::Error> {
        let mut request = Request::post(format!("http://test{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Full::from(body)).unwrap()).await
    }

    pub(crate) async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<GrpcReply, hyper::Error> {
        soon("connection ready", self.0.ready()).await?;
        let response = soon("response", self.0.send_request(request)).await?;
        let (parts, body) = response.into_parts();
        let body = soon("body", body.collect()).await?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        let find = |name: &str| {
            let value = parts.headers.get(name).or(trailers.get(name))?;
            Some(value.to_str().unwrap().to_owned())
        };
        Ok(GrpcReply {
            http: parts.status,
            status: find("grpc-status").map(|s| s.parse().unwrap()),
            message: find("grpc-message").unwrap_or_default(),
            details: find("grpc-status-details-bin"),
            headers: parts.headers.clone(),
            data: body.to_bytes(),
        })
    }
}

/// What an HTTP request ended with.
#[derive(Debug)]
pub(crate) struct HttpReply {
    pub(crate) status: u16,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Bytes,
}

impl HttpReply {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// One HTTP/1 request on a connection of its own.
pub(crate) async fn http(to: SocketAddr, request: Request<Full<Bytes>>) -> HttpReply {
    http_over(TcpStream::connect(to).await.unwrap(), request).await
}

pub(crate) async fn http_over<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    stream: S,
    request: Request<Full<Bytes>>,
) -> HttpReply {
    let (mut send, conn) = conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(conn);
    let response = soon("response", send.send_request(request)).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = soon("body", body.collect()).await.unwrap().to_bytes();
    HttpReply { status: parts.status.as_u16(), headers: to_map(&parts.headers), body }
}

fn to_map(headers: &HeaderMap) -> HashMap<String, String> {
    headers.iter().map(|(k, v)| (k.to_string(), v.to_str().unwrap().to_owned())).collect()
}

/// `POST /v1/traces` of this body.
pub(crate) fn post(content_type: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Request<Full<Bytes>> {
    let mut request = Request::post("/v1/traces").header("host", "test").header("content-type", content_type);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::from(body)).unwrap()
}

pub(crate) const PROTOBUF: &str = "application/x-protobuf";
pub(crate) const JSON: &str = "application/json";

/// Sends bytes and reads until the receiver closes.
pub(crate) async fn raw(to: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(to).await.unwrap();
    // The receiver may have closed already; what it said is what counts.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = soon("end of the connection", stream.read_to_end(&mut answer)).await;
    answer
}

/// A directory that is removed again.
pub(crate) struct TempDir(pub(crate) PathBuf);

impl TempDir {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("spanwarden-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
