//! The private claims of Kubernetes' bound service account tokens (KEP-1205, KEP-4193).

#![forbid(unsafe_code)]

use std::time::Duration;

use serde_json::{Map, Value};

use super::fault::Fault;
use crate::auth::{ObjectReference, ServiceAccount};

/// The claim that holds them.
pub(super) const CLAIM: &str = "kubernetes.io";

/// How `sub` of a service account begins.
const SUBJECT: &str = "system:serviceaccount:";

/// The longest name: of a pod, a DNS subdomain (RFC 1123).
const MAX_NAME: usize = 253;

/// Whom and what a token is bound to.
#[derive(Debug, Default)]
pub(super) struct Bound {
    pub(super) service_account: Option<ServiceAccount>,
    pub(super) pod: Option<ObjectReference>,
    pub(super) node: Option<ObjectReference>,
}

/// Reads them. `sub` must be theirs. A token without them is bound to nothing, whatever its `sub` looks like.
pub(super) fn read(claims: &Map<String, Value>, sub: &str) -> Result<Bound, Fault> {
    let Some(private) = object(claims)? else { return Ok(Bound::default()) };
    let namespace = name(private.get("namespace"))?;
    let Some(Value::Object(account)) = private.get("serviceaccount") else { return Err(shape()) };
    let account_name = name(account.get("name"))?;
    let named = sub.strip_prefix(SUBJECT).and_then(|rest| rest.split_once(':'));
    if named != Some((namespace.as_str(), account_name.as_str())) {
        return Err(Fault::Contradiction("`sub` is not the service account of `kubernetes.io`"));
    }
    let service_account =
        ServiceAccount { namespace, name: account_name, uid: Some(name(account.get("uid"))?) };
    let pod = reference(private, "pod")?;
    if pod.as_ref().is_some_and(|pod| pod.uid.is_none()) {
        return Err(shape());
    }
    Ok(Bound { service_account: Some(service_account), pod, node: reference(private, "node")? })
}

/// From when on the token should have been renewed: only in those that were issued for longer than was asked.
pub(super) fn warn_after(claims: &Map<String, Value>) -> Result<Option<Duration>, Fault> {
    match object(claims)?.and_then(|private| private.get("warnafter")) {
        None => Ok(None),
        Some(value) => value.as_u64().map(Duration::from_secs).map(Some).ok_or_else(shape),
    }
}

fn object(claims: &Map<String, Value>) -> Result<Option<&Map<String, Value>>, Fault> {
    match claims.get(CLAIM) {
        None => Ok(None),
        Some(Value::Object(private)) => Ok(Some(private)),
        Some(_) => Err(shape()),
    }
}

fn reference(private: &Map<String, Value>, key: &str) -> Result<Option<ObjectReference>, Fault> {
    match private.get(key) {
        None => Ok(None),
        Some(Value::Object(object)) => {
            // A node that was gone when the token was issued has a name only.
            let uid = object.get("uid").map(|uid| name(Some(uid))).transpose()?;
            Ok(Some(ObjectReference { name: name(object.get("name"))?, uid }))
        }
        Some(_) => Err(shape()),
    }
}

/// Names and uids: what the API server lets an object be called.
fn name(value: Option<&Value>) -> Result<String, Fault> {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    match value {
        Some(Value::String(text)) if (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(fits) => {
            Ok(text.clone())
        }
        _ => Err(shape()),
    }
}

fn shape() -> Fault {
    Fault::BadClaim(CLAIM.to_owned(), "as an API server writes it")
}
