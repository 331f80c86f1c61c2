//! Where the API server is, as a pod knows it.

use std::path::PathBuf;

use super::{ClientOptions, HttpError};
use crate::config::extensions::ApiClient;

/// Where the kubelet mounts `ca.crt` and `token` of a pod's service account.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// The API server's URL without a slash at its end, and how to reach it. What is not configured is as in every pod:
/// `KUBERNETES_SERVICE_HOST` and `_PORT`, and the service account's files. Timeouts and limits are the defaults.
pub fn api_server(configured: &ApiClient) -> Result<(String, ClientOptions), HttpError> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let endpoint = match &configured.endpoint {
        Some(endpoint) => endpoint.trim_end_matches('/').to_owned(),
        None => of_environment(variable("KUBERNETES_SERVICE_HOST"), variable("KUBERNETES_SERVICE_PORT"))
            .ok_or_else(|| {
                HttpError::url(
                    "the API server",
                    "KUBERNETES_SERVICE_HOST is not set, so this is no pod; configure `endpoint`, `ca_file` and `token_file`",
                )
            })?,
    };
    let own = |name: &str| PathBuf::from(SERVICE_ACCOUNT).join(name);
    // `http://` is for tests and `kubectl proxy`: no CA, and no token unless one is named.
    let plaintext = endpoint.starts_with("http://");
    let default = |name: &str| (!plaintext).then(|| own(name));
    let ca_file = match &configured.ca_file {
        Some(path) => Some(path.clone()),
        None if configured.insecure_skip_verify => None,
        None => default("ca.crt"),
    };
    let options = ClientOptions {
        ca_file,
        token_file: configured.token_file.clone().or_else(|| default("token")),
        insecure_skip_verify: configured.insecure_skip_verify,
        ..ClientOptions::default()
    };
    Ok((endpoint, options))
}

fn of_environment(host: Option<String>, port: Option<String>) -> Option<String> {
    let host = host?;
    let port = port.unwrap_or_else(|| "443".to_owned());
    Some(if host.contains(':') {
        format!("https://[{host}]:{port}")
    } else {
        format!("https://{host}:{port}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_either_family_is_a_url() {
        let some = |text: &str| Some(text.to_owned());
        for (host, port, url) in [
            (some("10.96.0.1"), some("443"), some("https://10.96.0.1:443")),
            (some("fd00::1"), some("6443"), some("https://[fd00::1]:6443")),
            (some("kubernetes"), None, some("https://kubernetes:443")),
            (None, some("443"), None),
        ] {
            assert_eq!(of_environment(host, port), url);
        }
    }

    #[test]
    fn what_is_configured_goes_before_what_a_pod_has() {
        let configured = ApiClient { endpoint: Some("https://api.example/".into()), ..ApiClient::default() };
        let (endpoint, options) = api_server(&configured).unwrap();
        assert_eq!(endpoint, "https://api.example");
        assert_eq!(
            options.ca_file,
            Some(PathBuf::from("/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"))
        );
        let configured = ApiClient {
            endpoint: Some("http://127.0.0.1:8001".into()),
            token_file: Some("/t".into()),
            ..ApiClient::default()
        };
        let (_, options) = api_server(&configured).unwrap();
        assert_eq!((options.ca_file, options.token_file), (None, Some("/t".into())));
    }
}
