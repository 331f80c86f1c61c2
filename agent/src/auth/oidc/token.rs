//! The compact form of a JSON Web Token (RFC 7515): what is read before anything is believed.
//!
//! Of the header only `alg`, `kid`, `typ` and `crit` are looked at: a token never says where its key is (`jku`, `x5u`,
//! `jwk`, `x5c` mean nothing here).

#![forbid(unsafe_code)]

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use super::{fault::Fault, json, key::Algorithm};

/// The largest token, in bytes. A Kubernetes token has about 1 KiB; a header line of gRPC implementations ends at 8.
pub const MAX_TOKEN: usize = 8 << 10;

/// The longest `kid` and `alg`, in bytes.
const MAX_NAME: usize = 256;

/// A token as it reads; nothing of it is proven.
#[derive(Debug)]
pub struct Token<'t> {
    /// What is signed: header and claims with the dot between them.
    pub signed: &'t [u8],
    /// The signature, decoded.
    pub signature: Vec<u8>,
    /// `alg`, one that is known.
    pub algorithm: Algorithm,
    /// `kid`
    pub kid: Option<String>,
    /// The claims.
    pub claims: Map<String, Value>,
}

/// Reads a token; sizes are checked first.
pub fn parse(text: &[u8]) -> Result<Token<'_>, Fault> {
    if text.len() > MAX_TOKEN {
        return Err(Fault::TooLarge { bytes: text.len() });
    }
    let mut parts = text.split(|byte| *byte == b'.');
    let (Some(header), Some(claims), Some(signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Fault::Malformed("it has not three parts with dots between them"));
    };
    let (algorithm, kid) = read_header(header)?;
    let claims = decode(claims).ok_or(Fault::Malformed("its claims are no base64url without padding"))?;
    let claims = json::object(&claims).map_err(|why| Fault::Part { part: "claims", why })?;
    let signature =
        decode(signature).ok_or(Fault::Malformed("its signature is no base64url without padding"))?;
    if signature.is_empty() {
        return Err(Fault::Malformed("it has no signature"));
    }
    let signed = &text[..text.iter().rposition(|byte| *byte == b'.').unwrap_or_default()];
    Ok(Token { signed, signature, algorithm, kid, claims })
}

fn read_header(part: &[u8]) -> Result<(Algorithm, Option<String>), Fault> {
    let bytes = decode(part).ok_or(Fault::Malformed("its header is no base64url without padding"))?;
    let header = json::object(&bytes).map_err(|why| Fault::Part { part: "header", why })?;
    // RFC 7515 4.1.11: what must be understood and is not makes the token invalid. Nothing is understood.
    if header.contains_key("crit") {
        return Err(Fault::Malformed("its header has `crit`, and no extension is known here"));
    }
    match header.get("typ").map(Value::as_str) {
        // RFC 7519 5.1 and RFC 9068 2.1; Kubernetes writes none.
        None => {}
        Some(Some(typ))
            if ["JWT", "at+jwt", "application/at+jwt"]
                .iter()
                .any(|known| known.eq_ignore_ascii_case(typ)) => {}
        Some(_) => return Err(Fault::Malformed("its header's `typ` is none of `JWT` and `at+jwt`")),
    }
    let kid = match header.get("kid") {
        None => None,
        Some(Value::String(kid)) if kid.len() <= MAX_NAME && !kid.is_empty() => Some(kid.clone()),
        Some(_) => return Err(Fault::Malformed("its header's `kid` is no text of up to 256 bytes")),
    };
    let Some(Value::String(alg)) = header.get("alg") else {
        return Err(Fault::Malformed("its header has no `alg`"));
    };
    match Algorithm::parse(alg) {
        Some(algorithm) => Ok((algorithm, kid)),
        None => Err(Fault::algorithm(alg)),
    }
}

/// base64url, RFC 4648 5, without padding and with no bits left over: one text for one content.
fn decode(part: &[u8]) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(part).ok()
}
