//! The first bytes of a connection: which protocol is spoken, whatever the port is for.

#![forbid(unsafe_code)]

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

/// The client's HTTP/2 preface (RFC 9113, 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The content type of a TLS handshake record (RFC 8446, 5.1), which no text protocol starts with.
const TLS_HANDSHAKE: u8 = 0x16;

/// What the first bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// A TLS handshake.
    Tls,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// Starts like a method of HTTP/1.
    Http1,
    /// None of these.
    Other,
    /// The peer closed before it said anything: a port probe.
    Nothing,
}

/// A stream whose first bytes were looked at, and are read again first.
#[derive(Debug)]
pub(super) struct Sniffed<S> {
    stream: S,
    prefix: [u8; PREFACE.len()],
    read: u8,
    len: u8,
}

impl<S: AsyncRead + Unpin> Sniffed<S> {
    /// Reads until the protocol is clear: one byte for all but HTTP/2, at most 24.
    pub(super) async fn sniff(mut stream: S) -> io::Result<(Self, Protocol)> {
        let mut prefix = [0; PREFACE.len()];
        let mut len = 0;
        let protocol = loop {
            let n = stream.read(&mut prefix[len..]).await?;
            len += n;
            if let Some(protocol) = classify(&prefix[..len], n == 0) {
                break protocol;
            }
        };
        Ok((Self { stream, prefix, read: 0, len: len as u8 }, protocol))
    }
}

impl<S> Sniffed<S> {
    /// The stream below.
    pub(super) fn get_mut(&mut self) -> &mut S {
        &mut self.stream
    }
}

/// `None`: more bytes are needed.
fn classify(prefix: &[u8], ended: bool) -> Option<Protocol> {
    let Some(&first) = prefix.first() else { return ended.then_some(Protocol::Nothing) };
    if first == TLS_HANDSHAKE {
        return Some(Protocol::Tls);
    }
    if prefix == PREFACE {
        return Some(Protocol::Http2);
    }
    if PREFACE.starts_with(prefix) && !ended {
        return None;
    }
    // A method's first letter; `PRI` of a broken preface goes on to the HTTP/2 parser, which says what is wrong.
    if prefix.starts_with(b"PRI") {
        return Some(Protocol::Http2);
    }
    Some(if first.is_ascii_uppercase() { Protocol::Http1 } else { Protocol::Other })
}

impl<S: AsyncRead + Unpin> AsyncRead for Sniffed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.read < this.len {
            let rest = &this.prefix[usize::from(this.read)..usize::from(this.len)];
            let n = rest.len().min(buf.remaining());
            buf.put_slice(&rest[..n]);
            this.read += n as u8;
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut this.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Sniffed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// What to tell a client that speaks without TLS to a port that speaks with it.
pub(super) fn answer_to_plaintext(protocol: Protocol) -> Option<Vec<u8>> {
    const WHY: &str = "This port speaks TLS: use https, or a TLS channel for gRPC.";
    match protocol {
        Protocol::Http1 => Some(text_response("400 Bad Request", WHY)),
        Protocol::Http2 => {
            // Empty SETTINGS, then GOAWAY with INADEQUATE_SECURITY (0xc) and the reason as debug data (RFC 9113, 6.8).
            let mut out = vec![0, 0, 0, 4, 0, 0, 0, 0, 0];
            out.extend_from_slice(&[0, 0, WHY.len() as u8 + 8, 7, 0, 0, 0, 0, 0]);
            out.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0x0c]);
            out.extend_from_slice(WHY.as_bytes());
            Some(out)
        }
        _ => None,
    }
}

/// What to tell a client that starts TLS on a port without: the fatal alert `protocol_version`.
pub(super) const ANSWER_TO_TLS: &[u8] = &[0x15, 3, 1, 0, 2, 2, 70];

/// What to tell an HTTP/1 client on the gRPC port.
pub(super) fn answer_to_http1_on_grpc() -> Vec<u8> {
    let why =
        "This port speaks OTLP/gRPC (HTTP/2). Send OTLP/HTTP to the http endpoint, port 4318 by default.";
    text_response("400 Bad Request", why)
}

fn text_response(status: &str, text: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}\n",
        text.len() + 1
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tells_protocols_apart_however_the_bytes_are_split() {
        for (bytes, want) in [
            (&b"\x16\x03\x01\x02\x00rest"[..], Protocol::Tls),
            (&[PREFACE.as_slice(), b"frames"].concat(), Protocol::Http2),
            (b"PRI * HTTP/2.0\r\n\r\nXX", Protocol::Http2),
            (b"POST /v1/traces HTTP/1.1\r\n", Protocol::Http1),
            (b"PUT / HTTP/1.1\r\n", Protocol::Http1),
            (b"P", Protocol::Http1),
            (b"\x00\x01garbage", Protocol::Other),
            (b"", Protocol::Nothing),
        ] {
            for piece in [1, 2, 5, 100] {
                let mut mock = tokio::io::join(Pieces(bytes, piece), tokio::io::sink());
                let (mut sniffed, protocol) = Sniffed::sniff(&mut mock).await.unwrap();
                assert_eq!(protocol, want, "{bytes:?} by {piece}");
                let mut again = Vec::new();
                sniffed.read_to_end(&mut again).await.unwrap();
                assert_eq!(again, bytes, "nothing is lost");
            }
        }
    }

    /// Gives at most so many bytes at a time.
    struct Pieces<'a>(&'a [u8], usize);

    impl AsyncRead for Pieces<'_> {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let n = self.0.len().min(self.1).min(buf.remaining());
            buf.put_slice(&self.0[..n]);
            self.0 = &self.0[n..];
            Poll::Ready(Ok(()))
        }
    }
}
