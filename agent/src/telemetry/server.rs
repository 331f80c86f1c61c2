//! The two small HTTP servers: `/metrics` (8888) and health (13133).
#![forbid(unsafe_code)]

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, sync::Semaphore};

use super::{health::Health, metrics, process};

/// More scrapes or probes at a time than this wait. Probes are few; a flood of them must not cost memory.
const MAX_CONNECTIONS: usize = 64;
/// A client that has not sent its request head by then is cut off.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// What a server answers.
#[derive(Clone)]
pub enum Page {
    /// `/metrics`
    Metrics,
    /// `/livez`; `/readyz` and, as in the Collector's `health_check`, `/`
    Health(Arc<Health>),
}

/// Serves `page` for ever. Cancel it by dropping the future.
pub async fn serve(listener: TcpListener, page: Page) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "accept on a telemetry listener failed");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let page = page.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let answer = page.answer(request.method(), request.uri().path());
                async move { Ok::<_, Infallible>(answer) }
            });
            let _client_went_away = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            drop(slot);
        });
    }
}

impl Page {
    fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        if method != Method::GET && method != Method::HEAD {
            return text(StatusCode::METHOD_NOT_ALLOWED, "use GET\n".into());
        }
        match (self, path) {
            (Self::Metrics, "/metrics") => {
                process::update();
                text(StatusCode::OK, metrics::render())
            }
            (Self::Health(health), "/livez") => match health.live() {
                Ok(()) => text(StatusCode::OK, "live\n".into()),
                Err(stuck) => text(StatusCode::SERVICE_UNAVAILABLE, format!("stuck: {}\n", stuck.join(", "))),
            },
            (Self::Health(health), "/" | "/readyz") => match health.ready() {
                Ok(()) => {
                    let remarks =
                        health.remarks().iter().fold(String::new(), |all, one| format!("{all}; {one}"));
                    text(StatusCode::OK, format!("ready{remarks}\n"))
                }
                Err(missing) => {
                    text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}\n", missing.join("; ")))
                }
            },
            (Self::Metrics, _) => text(StatusCode::NOT_FOUND, "only /metrics is here\n".into()),
            (Self::Health(_), _) => text(StatusCode::NOT_FOUND, "only /livez and /readyz are here\n".into()),
        }
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let plain = header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}

/// Binds one of the servers. `localhost` means the IPv4 loopback.
pub async fn bind(endpoint: &str) -> std::io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(endpoint.replacen("localhost:", "127.0.0.1:", 1)).await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}
