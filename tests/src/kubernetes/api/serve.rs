//! Connections, and answers that are one piece.

use std::{convert::Infallible, net::TcpListener, sync::Arc};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header::AUTHORIZATION};
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use serde_json::{Value, json};
use tokio::{runtime::Builder, sync::oneshot};
use tokio_rustls::TlsAcceptor;

use super::{Asked, Fault, Shared, rules, watch};
use crate::agent::Directory;

pub(super) type Body = BoxBody<Bytes, Infallible>;

pub(super) fn acceptor(files: &Directory) -> Result<TlsAcceptor> {
    let certificate = CertificateDer::from_pem_file(files.path().join("tls.crt"))?;
    let key = PrivateKeyDer::from_pem_file(files.path().join("tls.key"))?;
    let config = rustls::ServerConfig::builder_with_provider(spanwarden::transport::tls::provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .context("the fake API server's certificate")?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

pub(super) fn run(
    listener: TcpListener,
    acceptor: &TlsAcceptor,
    shared: &Arc<Shared>,
    stopped: oneshot::Receiver<()>,
) {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
        let accept = async {
            loop {
                let Ok((socket, _)) = listener.accept().await else { continue };
                if shared.state().fault == Fault::Closed {
                    continue;
                }
                let (acceptor, shared) = (acceptor.clone(), Arc::clone(shared));
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(socket).await else { return };
                    let service = service_fn(move |request| answer(Arc::clone(&shared), request));
                    let connection = hyper::server::conn::http1::Builder::new();
                    let _client_went_away = connection.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        };
        tokio::select! {
            () = accept => {}
            _ = stopped => {}
        }
    });
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let path = request.uri().to_string();
    let fault = {
        let mut state = shared.state();
        state.asked.push(Asked { path, at: std::time::Instant::now() });
        state.fault
    };
    match fault {
        Fault::Silent => std::future::pending::<()>().await,
        Fault::Status(code) => return Ok(refusal(code, "InternalError", "told to fail")),
        Fault::Garbage => return Ok(text(StatusCode::OK, "<html>a proxy</html>\n")),
        Fault::OtherKind => return Ok(text(StatusCode::OK, "{\"kind\":\"Status\",\"items\":[]}\n")),
        Fault::Huge => return Ok(watch::endless()),
        _ => {}
    }
    let expected = format!("Bearer {}", shared.state().token);
    if request.headers().get(AUTHORIZATION).is_none_or(|token| token.as_bytes() != expected.as_bytes()) {
        return Ok(refusal(401, "Unauthorized", "Unauthorized"));
    }
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let Ok(body) = request.into_body().collect().await else {
        return Ok(refusal(400, "BadRequest", "body"));
    };
    let query = uri.query().unwrap_or_default();
    Ok(match (&method, uri.path()) {
        (&Method::GET, "/api/v1/pods") if query.contains("watch=true") => watch::open(&shared, query),
        (&Method::GET, "/api/v1/pods") => list(&shared, query, true),
        (&Method::GET, "/pods") => list(&shared, query, false),
        (&Method::POST, path) => match path.strip_prefix("/apis/events.k8s.io/v1/namespaces/") {
            Some(rest) if rest.ends_with("/events") => event(&shared, rest, &body.to_bytes()),
            _ => refusal(404, "NotFound", "no such place"),
        },
        (_, path) => match shared.state().answers.get(path) {
            Some(value) => text(StatusCode::OK, &value.to_string()),
            None => refusal(404, "NotFound", "no such place"),
        },
    })
}

/// A `v1.PodList`; the kubelet's has no version.
fn list(shared: &Shared, query: &str, of_api: bool) -> Response<Body> {
    let state = shared.state();
    let items: Vec<&Value> = state.pods.values().filter(|pod| watch::selects(&state, query, pod)).collect();
    let metadata = if of_api { json!({"resourceVersion": state.version.to_string()}) } else { json!({}) };
    let list = json!({"kind": "PodList", "apiVersion": "v1", "metadata": metadata, "items": items});
    text(StatusCode::OK, &list.to_string())
}

fn event(shared: &Shared, rest: &str, body: &[u8]) -> Response<Body> {
    if shared.state().fault == Fault::NoEvents {
        let message = "events.events.k8s.io is forbidden: User \"system:serviceaccount:a:b\" cannot create resource \"events\"";
        return refusal(403, "Forbidden", message);
    }
    let namespace = rest.trim_end_matches("/events");
    match rules::event(namespace, body) {
        Ok(event) => {
            let answer = text(StatusCode::CREATED, &event.to_string());
            shared.change(|state| state.events.push(event));
            answer
        }
        Err(why) => refusal(422, "Invalid", &why),
    }
}

pub(super) fn refusal(code: u16, reason: &str, message: &str) -> Response<Body> {
    let status = watch::status(code, reason, message).to_string();
    text(StatusCode::from_u16(code).expect("a status"), &status)
}

pub(super) fn text(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(text.to_owned())).boxed());
    *response.status_mut() = status;
    response
}
