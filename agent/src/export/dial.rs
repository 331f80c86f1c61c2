//! Where an exporter connects to, and how: address, TLS or plaintext, socket options.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::uri::Authority;
use nix::sys::socket::{setsockopt, sockopt};
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::failure::Failure;
use crate::{config::tls::ClientTls, route::with_default_port, transport::tls};

/// A peer that acknowledges nothing for so long is gone (`TCP_USER_TIMEOUT`); requests time out earlier.
const DEAD_PEER: Duration = Duration::from_secs(20);

/// An address that can be dialled.
#[derive(Clone)]
pub(crate) struct Target {
    /// `host:port`, as `:authority` and `Host` show it.
    pub(crate) authority: Authority,
    /// Absent: plaintext.
    tls: Option<(Arc<tls::ClientSource>, ServerName<'static>)>,
}

/// Why an endpoint is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EndpointError {
    /// Not `host:port`.
    #[error("`{0}` is no endpoint; write host:port, or http://host:port or https://host:port")]
    Address(String),
    /// A scheme that is not spoken.
    #[error(
        "`{0}` is no scheme that is spoken here; write host:port, http://… (plaintext) or https://… (TLS)"
    )]
    Scheme(String),
    /// The TLS settings do not work.
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
}

/// Splits off the scheme: whether it asks for plaintext (`None` where there is none), and what follows it.
pub(crate) fn scheme(endpoint: &str) -> Result<(Option<bool>, &str), EndpointError> {
    match endpoint.split_once("://") {
        None => Ok((None, endpoint)),
        Some(("http", rest)) => Ok((Some(true), rest)),
        Some(("https", rest)) => Ok((Some(false), rest)),
        // gRPC's own way to say: resolve this by DNS, which is what is done anyway.
        Some(("dns", rest)) if rest.starts_with('/') => Ok((None, &rest[1..])),
        Some((other, _)) => Err(EndpointError::Scheme(format!("{other}://"))),
    }
}

impl Target {
    /// A gRPC endpoint: `host[:port]`, port 4317 where there is none. The scheme decides about TLS; without one
    /// `tls.insecure` does.
    pub(crate) fn grpc(endpoint: &str, settings: &ClientTls) -> Result<Self, EndpointError> {
        let (plaintext, address) = scheme(endpoint)?;
        let address = address.strip_suffix('/').unwrap_or(address);
        let authority: Authority = with_default_port(address)
            .parse()
            .ok()
            .filter(|_| !address.is_empty())
            .ok_or_else(|| EndpointError::Address(endpoint.to_owned()))?;
        Self::new(authority, plaintext.unwrap_or(settings.insecure), settings, tls::H2)
    }

    /// An address with its port.
    pub(crate) fn new(
        authority: Authority,
        plaintext: bool,
        settings: &ClientTls,
        alpn: &[u8],
    ) -> Result<Self, EndpointError> {
        if authority.port_u16().is_none() || authority.host().is_empty() || authority.as_str().contains('@') {
            return Err(EndpointError::Address(authority.to_string()));
        }
        let tls = if plaintext {
            None
        } else {
            let source = tls::ClientSource::new(settings, &[alpn])?;
            Some((source, tls::server_name(settings, authority.host())?))
        };
        Ok(Self { authority, tls })
    }

    /// The same TLS settings for another member of a group.
    pub(crate) fn sibling(&self, member: &str, settings: &ClientTls) -> Result<Self, EndpointError> {
        let authority: Authority =
            with_default_port(member).parse().map_err(|_| EndpointError::Address(member.to_owned()))?;
        if authority.port_u16().is_none() || authority.host().is_empty() {
            return Err(EndpointError::Address(member.to_owned()));
        }
        let tls = match &self.tls {
            Some((source, _)) => Some((Arc::clone(source), tls::server_name(settings, authority.host())?)),
            None => None,
        };
        Ok(Self { authority, tls })
    }

    /// `http` or `https`.
    pub(crate) fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// Connects. Not bounded in time: every caller has a deadline of its own.
    pub(crate) async fn dial(&self) -> Result<(Stream, Lease), Failure> {
        let port = self.authority.port_u16().unwrap_or_default();
        let host = self.authority.host();
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        let tcp = TcpStream::connect((host, port)).await.map_err(|error| {
            let message = format!(
                "no connection to {}: {error}; check that the backend runs and listens there",
                self.authority
            );
            Failure::unavailable("connect", message)
        })?;
        prepare(&tcp);
        match &self.tls {
            None => Ok((Stream::Plain(tcp), Lease(None))),
            Some((source, name)) => {
                let current = source.current();
                let connector = TlsConnector::from(Arc::clone(&current.config));
                let stream = connector.connect(name.clone(), tcp).await;
                let stream = stream.map_err(|error| self.tls_failure(&error))?;
                Ok((Stream::Tls(Box::new(stream)), Lease(Some(current))))
            }
        }
    }

    /// A failed handshake stays retryable: certificates are renewed. It is never answered with plaintext.
    fn tls_failure(&self, error: &io::Error) -> Failure {
        let hint = match error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::InvalidCertificate(
                rustls::CertificateError::NotValidForName
                | rustls::CertificateError::NotValidForNameContext { .. },
            )) => "its certificate is for another name; set tls.server_name_override or fix the endpoint",
            Some(rustls::Error::InvalidCertificate(_)) => {
                "its certificate is not signed by a CA that tls.ca_file (or the system) trusts, or is not valid \
                 now; set tls.ca_file to its CA, or renew it"
            }
            Some(rustls::Error::AlertReceived(_)) => {
                "it refused us; check tls.cert_file and tls.key_file, which it may require"
            }
            Some(rustls::Error::InvalidMessage(_)) => {
                "it does not speak TLS; use http:// or tls.insecure if plaintext is meant"
            }
            _ => "check that it speaks TLS on this port",
        };
        Failure::unavailable("tls", format!("no TLS with {}: {error}; {hint}", self.authority))
    }
}

/// How long a connection may be used: as long as the certificates and CAs that it was made with are the newest ones.
#[derive(Clone)]
pub(crate) struct Lease(Option<tls::Current>);

impl Lease {
    /// Whether it must not be used for another request.
    pub(crate) fn is_over(&self) -> bool {
        self.0.as_ref().is_some_and(tls::Current::outdated)
    }

    /// Resolves when it is over.
    pub(crate) async fn over(&mut self) {
        match &mut self.0 {
            Some(current) => current.replaced().await,
            None => std::future::pending().await,
        }
    }
}

/// Small requests at once, and dead peers noticed by the kernel. HTTP/2 pings would be refused by servers of
/// grpc-go, which allow one in five minutes.
fn prepare(tcp: &TcpStream) {
    // None of these fails on a TCP socket; a connection without them still works.
    let _ = tcp.set_nodelay(true);
    let _ = setsockopt(tcp, sockopt::KeepAlive, &true);
    let _ = setsockopt(tcp, sockopt::TcpKeepIdle, &30);
    let _ = setsockopt(tcp, sockopt::TcpKeepInterval, &10);
    let _ = setsockopt(tcp, sockopt::TcpKeepCount, &3);
    let _ = setsockopt(tcp, sockopt::TcpUserTimeout, &(DEAD_PEER.as_millis() as u32));
}

/// A connection, with or without TLS.
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

macro_rules! either {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Stream::Plain($stream) => {
                let $stream = Pin::new($stream);
                $call
            }
            Stream::Tls($stream) => {
                let $stream = Pin::new(&mut **$stream);
                $call
            }
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        either!(self, stream => stream.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, stream => stream.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_shutdown(cx))
    }
}

/// An exporter's connections, one set for each thread that uses it, so that the task which drives a connection
/// runs on the runtime that sends over it and no request crosses threads. Looking one up is a scan of a list as
/// long as there are threads, without a lock.
pub(crate) struct PerThread<T> {
    list: arc_swap::ArcSwap<Vec<(std::thread::ThreadId, Arc<T>)>>,
}

impl<T> PerThread<T> {
    pub(crate) fn new() -> Self {
        Self { list: arc_swap::ArcSwap::from_pointee(Vec::new()) }
    }

    /// This thread's own, made by `make` the first time.
    pub(crate) fn get(&self, make: impl Fn() -> T) -> Arc<T> {
        let me = std::thread::current().id();
        if let Some((_, own)) = self.list.load().iter().find(|(thread, _)| *thread == me) {
            return Arc::clone(own);
        }
        let own = Arc::new(make());
        self.list.rcu(|list| {
            let mut list = Vec::clone(list);
            list.push((me, Arc::clone(&own)));
            list
        });
        own
    }

    /// Forgets all of them, which closes what is idle.
    pub(crate) fn clear(&self) {
        self.list.store(Arc::default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insecure() -> ClientTls {
        ClientTls { insecure: true, ..ClientTls::default() }
    }

    #[test]
    fn scheme_decides_and_insecure_is_the_fallback() {
        for (endpoint, settings, authority, scheme) in [
            ("gw:4317", insecure(), "gw:4317", "http"),
            ("gw", insecure(), "gw:4317", "http"),
            ("http://gw:1/", ClientTls::default(), "gw:1", "http"),
            ("dns:///gw:1", insecure(), "gw:1", "http"),
            ("[::1]:1", insecure(), "[::1]:1", "http"),
        ] {
            let target = Target::grpc(endpoint, &settings).unwrap();
            assert_eq!((target.authority.as_str(), target.scheme()), (authority, scheme), "{endpoint}");
        }
    }

    #[test]
    fn what_is_no_endpoint_is_said_so() {
        for endpoint in ["", "unix:///run/otel.sock", "ftp://x", "a b:1", "user@gw:1", "http://", "gw:99999"]
        {
            let error = Target::grpc(endpoint, &insecure()).err().expect(endpoint).to_string();
            assert!(error.contains("write "), "{endpoint}: {error}");
        }
    }

    #[test]
    fn threads_have_their_own() {
        let per = Arc::new(PerThread::<u8>::new());
        let mine = per.get(|| 1);
        assert!(Arc::ptr_eq(&mine, &per.get(|| 2)));
        let other = Arc::clone(&per);
        assert_eq!(*std::thread::spawn(move || other.get(|| 3)).join().unwrap(), 3);
        assert_eq!(*per.get(|| 4), 1);
    }
}
