//! A SPIFFE Workload API: `FetchX509SVID` over a Unix socket, with updates, refusals and ends as the test wants them.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
};

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::stream;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http2,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::{net::UnixListener, sync::watch};

/// `X509SVIDResponse` of `workload.proto`.
#[derive(Clone, PartialEq, Message)]
pub struct X509SvidResponse {
    /// Identities.
    #[prost(message, repeated, tag = "1")]
    pub svids: Vec<X509Svid>,
    /// Other trust domains, by their SPIFFE IDs.
    #[prost(map = "string, bytes", tag = "3")]
    pub federated_bundles: std::collections::HashMap<String, Vec<u8>>,
}

/// `X509SVID`
#[derive(Clone, PartialEq, Message)]
pub struct X509Svid {
    /// SPIFFE ID.
    #[prost(string, tag = "1")]
    pub spiffe_id: String,
    /// Certificates in DER, the leaf first.
    #[prost(bytes = "vec", tag = "2")]
    pub x509_svid: Vec<u8>,
    /// PKCS#8, DER.
    #[prost(bytes = "vec", tag = "3")]
    pub x509_svid_key: Vec<u8>,
    /// CAs in DER.
    #[prost(bytes = "vec", tag = "4")]
    pub bundle: Vec<u8>,
}

/// What a call gets.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Its first message, and another for each change.
    Update(X509SvidResponse),
    /// A gRPC status and message.
    Refuse(u32, &'static str),
}

/// A running API. Dropped, it ends.
pub struct WorkloadApi {
    socket: PathBuf,
    answer: watch::Sender<Option<Answer>>,
    calls: watch::Receiver<usize>,
    thread: Option<JoinHandle<()>>,
}

impl WorkloadApi {
    /// Listens at this path.
    ///
    /// # Panics
    /// In its thread, where no runtime can be started.
    pub fn start(socket: &Path, answer: Answer) -> std::io::Result<Self> {
        let (answer, answers) = watch::channel(Some(answer));
        let (counter, calls) = watch::channel(0);
        let listener = std::os::unix::net::UnixListener::bind(socket)?;
        listener.set_nonblocking(true)?;
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(serve(listener, answers, Arc::new(counter)));
        });
        Ok(Self { socket: socket.to_owned(), answer, calls, thread: Some(thread) })
    }

    /// Answers this from now on; open streams get an update, and end with a refusal.
    pub fn answer(&self, answer: Answer) {
        self.answer.send_replace(Some(answer));
    }

    /// How many calls there were.
    pub fn calls(&self) -> usize {
        *self.calls.borrow()
    }
}

impl Drop for WorkloadApi {
    fn drop(&mut self) {
        self.answer.send_replace(None);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let _ = std::fs::remove_file(&self.socket);
    }
}

async fn serve(
    listener: std::os::unix::net::UnixListener,
    mut answers: watch::Receiver<Option<Answer>>,
    calls: Arc<watch::Sender<usize>>,
) {
    let listener = UnixListener::from_std(listener).expect("a listener");
    let mut gone = answers.clone();
    let accepting = async {
        loop {
            let Ok((stream, _)) = listener.accept().await else { return };
            let (answers, calls) = (answers.clone(), Arc::clone(&calls));
            let service = service_fn(move |request| {
                let (answers, calls) = (answers.clone(), Arc::clone(&calls));
                async move {
                    calls.send_modify(|calls| *calls += 1);
                    Ok::<_, std::convert::Infallible>(call(&request, answers))
                }
            });
            tokio::spawn(
                http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service),
            );
        }
    };
    tokio::select! {
        () = accepting => {}
        _ = gone.wait_for(Option::is_none) => {}
    }
    answers.mark_unchanged();
}

type Body = UnsyncBoxBody<Bytes, std::convert::Infallible>;

fn call(request: &Request<Incoming>, answers: watch::Receiver<Option<Answer>>) -> Response<Body> {
    let right = request.uri().path() == "/SpiffeWorkloadAPI/FetchX509SVID"
        && request.headers().get("workload.spiffe.io").is_some_and(|value| value == "true");
    let first = right.then(|| answers.borrow().clone()).flatten();
    let refused = match first {
        Some(Answer::Update(_)) => None,
        Some(Answer::Refuse(status, message)) => Some((status, message)),
        None => Some((3, "not this call")),
    };
    let response = Response::builder().header("content-type", "application/grpc");
    if let Some((status, message)) = refused {
        let body = StreamBody::new(stream::empty());
        let response = response.header("grpc-status", status).header("grpc-message", message);
        return response.body(BodyExt::boxed_unsync(body)).expect("a response");
    }
    let frames = stream::unfold((answers, true), |(mut answers, first)| async move {
        if !first && answers.changed().await.is_err() {
            return None;
        }
        let answer = answers.borrow_and_update().clone();
        let frame = match answer? {
            Answer::Update(update) => Frame::data(framed(&update)),
            Answer::Refuse(status, message) => {
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", status.into());
                trailers.insert("grpc-message", http::HeaderValue::from_static(message));
                Frame::trailers(trailers)
            }
        };
        Some((Ok(frame), (answers, false)))
    });
    response.body(BodyExt::boxed_unsync(StreamBody::new(frames))).expect("a response")
}

fn framed(update: &X509SvidResponse) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u8(0);
    out.put_u32(update.encoded_len() as u32);
    update.encode(&mut out).expect("a growing buffer");
    out.freeze()
}
