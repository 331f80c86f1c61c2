//! An OTLP/gRPC server that takes everything and keeps nothing.

use std::convert::Infallible;

use anyhow::Result;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http2,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

/// Serves the given loopback ports until it is killed.
pub(crate) fn run(ports: &[u16]) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut servers = Vec::new();
        for port in ports {
            servers.push(tokio::spawn(serve(TcpListener::bind(("127.0.0.1", *port)).await?)));
        }
        println!("listening");
        futures_util::future::join_all(servers).await;
        Ok(())
    })
}

async fn serve(listener: TcpListener) -> Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let connection = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(4 << 20)
            .initial_connection_window_size(16 << 20)
            .max_frame_size(1 << 20)
            .serve_connection(TokioIo::new(stream), service_fn(swallow));
        tokio::spawn(connection);
    }
}

async fn swallow(
    mut request: Request<Incoming>,
) -> Result<Response<impl http_body_util::BodyExt<Data = Bytes, Error = Infallible>>, hyper::Error> {
    while let Some(frame) = request.body_mut().frame().await {
        frame?;
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let empty_response = Frame::data(Bytes::from_static(&[0; 5]));
    let frames = [Ok(empty_response), Ok(Frame::trailers(trailers))];
    let mut response = Response::new(StreamBody::new(futures_util::stream::iter(frames)));
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    Ok(response)
}
