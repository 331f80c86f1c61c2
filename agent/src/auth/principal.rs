//! Who was proven to speak.

use std::time::SystemTime;

/// How a [`Principal`] was proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// A client certificate (mTLS).
    Certificate,
    /// A JSON Web Token of a configured issuer.
    Oidc,
    /// A shared token (`bearertokenauth`).
    BearerToken,
}

impl Method {
    /// The value of metric labels and of `otlp.origin.auth`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Certificate => "mtls",
            Self::Oidc => "oidc",
            Self::BearerToken => "bearer",
        }
    }
}

/// A sender that has proven who it is. What is `None` was not said by the credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// How it was proven.
    pub method: Method,
    /// The SPIFFE ID, DNS name or subject of a certificate; the username claim of a token (`sub` unless configured); the name of
    /// a shared token.
    pub name: String,
    /// A token's `iss`; a certificate's issuer.
    pub issuer: Option<String>,
    /// The Kubernetes service account: of a bound token (`kubernetes.io`), or of a SPIFFE ID `…/ns/NAMESPACE/sa/NAME`.
    pub service_account: Option<ServiceAccount>,
    /// The pod that a token is bound to.
    pub pod: Option<ObjectReference>,
    /// The node that a token is bound to.
    pub node: Option<ObjectReference>,
    /// A SPIFFE ID's trust domain.
    pub trust_domain: Option<String>,
    /// The configured groups claim.
    pub groups: Vec<String>,
    /// Top-level claims that are strings, for rules; bounded in number and length.
    pub claims: Vec<(String, String)>,
    /// From when on it is no longer proven.
    pub not_after: Option<SystemTime>,
}

impl Principal {
    /// A principal of which only the name is known.
    pub fn named(method: Method, name: impl Into<String>) -> Self {
        Self {
            method,
            name: name.into(),
            issuer: None,
            service_account: None,
            pod: None,
            node: None,
            trust_domain: None,
            groups: Vec::new(),
            claims: Vec::new(),
            not_after: None,
        }
    }
}

/// A service account.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServiceAccount {
    /// `metadata.namespace`
    pub namespace: String,
    /// `metadata.name`
    pub name: String,
    /// `metadata.uid`; a certificate does not say it.
    pub uid: Option<String>,
}

/// A pod or node as a token names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ObjectReference {
    /// `metadata.name`
    pub name: String,
    /// `metadata.uid`; of a node only where the API server knew it.
    pub uid: Option<String>,
}
