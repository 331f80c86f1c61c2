//! TCP, TLS, and HTTP/1.1 on it.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinHandle,
};
use tokio_rustls::TlsConnector;

use super::{HttpError, Target};
use crate::{config::tls::ClientTls, transport::tls};

/// The largest head of an answer, in bytes. An API server's has less than 1 KiB.
const MAX_HEAD: usize = 64 << 10;

/// The most header fields of an answer.
const MAX_HEADERS: usize = 100;

/// A connection for one request. Dropped, it is closed.
pub(super) struct Connection {
    pub(super) sender: http1::SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Connection {
    /// Connects; the caller bounds the time.
    pub(super) async fn open(target: &Target, tls: Option<Arc<ClientConfig>>) -> Result<Self, HttpError> {
        let url = || target.shown.to_string();
        let tcp = TcpStream::connect((target.host.as_str(), target.port))
            .await
            .map_err(|source| HttpError::Connect { url: url(), source })?;
        // Only latency is lost without it.
        let _ = tcp.set_nodelay(true);
        let Some(config) = tls else { return Self::start(target, tcp).await };
        let name = tls::server_name(&ClientTls::default(), &target.host)?;
        let stream = TlsConnector::from(config)
            .connect(name, tcp)
            .await
            .map_err(|source| HttpError::Handshake { url: url(), source })?;
        Self::start(target, stream).await
    }

    async fn start<S>(target: &Target, stream: S) -> Result<Self, HttpError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_HEAD)
            .max_headers(MAX_HEADERS)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|e| HttpError::exchange(&target.shown, &e))?;
        // Its errors reach the request and the body too.
        let driver = tokio::spawn(async move { drop(connection.await) });
        Ok(Self { sender, driver })
    }
}
