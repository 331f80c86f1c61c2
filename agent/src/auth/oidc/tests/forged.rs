//! Tokens that are not what they say, and those that are good for something else.

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as B64};

use super::*;

const ISSUER: &str = "https://issuer.example";

/// A token by its parts, signed with the right key.
struct Forge {
    rsa: Signer,
    ec: Signer,
    now: u64,
}

impl Forge {
    fn good(&self) -> Value {
        claims(ISSUER, Duration::from_secs(self.now))
    }

    /// Claims with one changed; `Value::Null` takes it away.
    fn with(&self, pointer: &str, value: Value) -> String {
        let mut claims = self.good();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let parent = claims.pointer_mut(parent).unwrap().as_object_mut().unwrap();
        let name = name.replace("~1", "/");
        if value.is_null() {
            parent.remove(&name).unwrap();
        } else {
            parent.insert(name, value);
        }
        self.rsa.sign(&claims)
    }

    fn header(&self, header: &Value) -> String {
        self.rsa.sign_with(header, &self.good().to_string())
    }

    /// Claims as text, so that they can be no JSON.
    fn text(&self, change: impl Fn(String) -> String) -> String {
        self.rsa.sign_with(&json!({"alg": "RS256", "kid": "rsa"}), &change(self.good().to_string()))
    }

    /// HS256 with a secret of the forger's choice: anything that is public.
    fn shared(&self, secret: &[u8]) -> String {
        let signed = format!(
            "{}.{}",
            B64.encode(r#"{"alg":"HS256","kid":"rsa"}"#),
            B64.encode(self.good().to_string())
        );
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), signed.as_bytes());
        format!("{signed}.{}", B64.encode(tag))
    }
}

fn header_rows(f: &Forge) -> Vec<(&'static str, String, &'static str)> {
    let good = f.rsa.sign(&f.good());
    let body = good.split('.').nth(1).unwrap();
    let none = |alg: &str| format!("{}.{body}.", B64.encode(json!({"alg": alg}).to_string()));
    vec![
        ("none", none("none"), "wrong_algorithm"),
        ("None with a signature", f.header(&json!({"alg": "None"})), "wrong_algorithm"),
        ("no alg", f.header(&json!({"kid": "rsa"})), "malformed_token"),
        ("alg is a list", f.header(&json!({"alg": ["RS256"], "kid": "rsa"})), "malformed_token"),
        ("HS256 with the public key", f.shared(f.rsa.public_pem().as_bytes()), "wrong_algorithm"),
        ("HS256 with the key set", f.shared(f.rsa.jwk()["n"].as_str().unwrap().as_bytes()), "wrong_algorithm"),
        ("another key of the same name", Signer::other_rsa("rsa", "RS256").sign(&f.good()), "bad_signature"),
        ("another EC key of the same name", Signer::es256("ec").sign(&f.good()), "bad_signature"),
        ("another algorithm of the key", Signer::rsa("rsa", "RS512").sign(&f.good()), "wrong_algorithm"),
        ("PSS with a PKCS#1 key", Signer::rsa("rsa", "PS256").sign(&f.good()), "wrong_algorithm"),
        ("the EC key's name on the RSA key", Signer::rsa("ec", "RS256").sign(&f.good()), "wrong_algorithm"),
        ("kid with a path", Signer::rsa("../../keys/rsa", "RS256").sign(&f.good()), "unknown_key"),
        ("kid with SQL", Signer::rsa("rsa' OR '1'='1", "RS256").sign(&f.good()), "unknown_key"),
        ("kid in other letters", Signer::rsa("RSA", "RS256").sign(&f.good()), "unknown_key"),
        ("kid is a number", f.header(&json!({"alg": "RS256", "kid": 1})), "malformed_token"),
        ("kid is empty", f.header(&json!({"alg": "RS256", "kid": ""})), "malformed_token"),
        ("kid is long", f.header(&json!({"alg": "RS256", "kid": "x".repeat(300)})), "malformed_token"),
        ("crit", f.header(&json!({"alg": "RS256", "kid": "rsa", "crit": ["exp"]})), "malformed_token"),
        ("unencoded payload", f.header(&json!({"alg": "RS256", "kid": "rsa", "b64": false, "crit": ["b64"]})), "malformed_token"),
        ("another kind of token", f.header(&json!({"alg": "RS256", "kid": "rsa", "typ": "dpop+jwt"})), "malformed_token"),
        ("typ is null", f.header(&json!({"alg": "RS256", "kid": "rsa", "typ": null})), "malformed_token"),
        (
            "the forger's own key in the header",
            Signer::other_rsa("x", "RS256").sign_with(
                &json!({"alg": "RS256", "kid": "rsa", "jwk": Signer::other_rsa("rsa", "RS256").jwk(), "jku": "https://evil.example", "x5u": "https://evil.example"}),
                &f.good().to_string(),
            ),
            "bad_signature",
        ),
    ]
}

fn claim_rows(f: &Forge) -> Vec<(&'static str, String, &'static str)> {
    let t = f.now;
    vec![
        ("exp is text", f.with("/exp", json!((t + 60).to_string())), "wrong_claim"),
        ("exp is negative", f.with("/exp", json!(-1)), "wrong_claim"),
        ("exp is beyond all time", f.with("/exp", json!(1e300)), "wrong_claim"),
        (
            "exp is null",
            f.text(|c| c.replacen(&format!("\"exp\":{}", t + 3600), "\"exp\":null", 1)),
            "wrong_claim",
        ),
        ("no exp", f.with("/exp", Value::Null), "missing_claim"),
        ("expired", f.with("/exp", json!(t - 11)), "expired"),
        ("expired within the leeway", f.with("/exp", json!(t - 5)), "accepted"),
        ("no iat", f.with("/iat", Value::Null), "missing_claim"),
        ("iat in the future", f.with("/iat", json!(t + 120)), "issued_in_future"),
        ("iat is true", f.with("/iat", json!(true)), "wrong_claim"),
        ("nbf ahead", f.with("/nbf", json!(t + 3600)), "not_yet_valid"),
        ("nbf is text", f.with("/nbf", json!("0")), "wrong_claim"),
        ("nbf is a list", f.with("/nbf", json!([0])), "wrong_claim"),
        ("no nbf", f.with("/nbf", Value::Null), "accepted"),
        ("no iss", f.with("/iss", Value::Null), "missing_claim"),
        ("iss with a slash", f.with("/iss", json!("https://issuer.example/")), "unknown_issuer"),
        ("iss in capitals", f.with("/iss", json!("https://Issuer.example")), "unknown_issuer"),
        ("iss is a list", f.with("/iss", json!([ISSUER])), "wrong_claim"),
        ("iss of another", f.with("/iss", json!("http://169.254.169.254/latest")), "unknown_issuer"),
        ("no aud", f.with("/aud", Value::Null), "missing_claim"),
        ("aud is ours as text", f.with("/aud", json!(AUDIENCE)), "accepted"),
        ("aud is ours twice", f.with("/aud", json!([AUDIENCE, AUDIENCE])), "accepted"),
        ("aud is empty", f.with("/aud", json!([])), "wrong_claim"),
        ("aud is empty text", f.with("/aud", json!("")), "wrong_audience"),
        ("aud is a number", f.with("/aud", json!(7)), "wrong_claim"),
        ("aud has a number", f.with("/aud", json!([AUDIENCE, 7])), "wrong_claim"),
        ("aud in capitals", f.with("/aud", json!(["Spanwarden"])), "wrong_audience"),
        ("aud begins like ours", f.with("/aud", json!(["spanwarden-x"])), "wrong_audience"),
        (
            "aud of the API server",
            f.with("/aud", json!(["https://kubernetes.default.svc"])),
            "wrong_audience",
        ),
        (
            "aud ours and the API server's",
            f.with("/aud", json!([AUDIENCE, "https://kubernetes.default.svc"])),
            "several_audiences",
        ),
        ("aud is long", f.with("/aud", json!(vec![AUDIENCE; 17])), "wrong_claim"),
        ("a year long", f.with("/exp", json!(t + 31_536_000)), "lifetime_too_long"),
        ("issued ages ago", f.with("/iat", json!(0)), "lifetime_too_long"),
        ("past warnafter", f.with("/kubernetes.io/warnafter", json!(t - 60)), "past_warnafter"),
        ("before warnafter", f.with("/kubernetes.io/warnafter", json!(t + 60)), "accepted"),
        ("warnafter is text", f.with("/kubernetes.io/warnafter", json!("0")), "wrong_claim"),
        ("no sub", f.with("/sub", Value::Null), "missing_claim"),
        ("sub is empty", f.with("/sub", json!("")), "wrong_claim"),
        ("sub has a line break", f.with("/sub", json!("system:serviceaccount:shop:cart\nx")), "wrong_claim"),
        (
            "sub of another namespace",
            f.with("/sub", json!("system:serviceaccount:bank:cart")),
            "contradictory_claims",
        ),
        ("sub with more", f.with("/sub", json!("system:serviceaccount:shop:cart:x")), "contradictory_claims"),
        ("namespace of another", f.with("/kubernetes.io/namespace", json!("bank")), "contradictory_claims"),
        (
            "account of another",
            f.with("/kubernetes.io/serviceaccount/name", json!("other")),
            "contradictory_claims",
        ),
        ("account without uid", f.with("/kubernetes.io/serviceaccount/uid", Value::Null), "wrong_claim"),
        ("pod without uid", f.with("/kubernetes.io/pod/uid", Value::Null), "wrong_claim"),
        ("pod is text", f.with("/kubernetes.io/pod", json!("cart")), "wrong_claim"),
        ("pod uid is a path", f.with("/kubernetes.io/pod/uid", json!("../x")), "wrong_claim"),
        ("kubernetes.io is text", f.with("/kubernetes.io", json!("x")), "wrong_claim"),
        ("a service account by name alone", f.with("/kubernetes.io", Value::Null), "contradictory_claims"),
    ]
}

fn shape_rows(f: &Forge) -> Vec<(&'static str, String, &'static str)> {
    let good = f.rsa.sign(&f.good());
    let (head, rest) = good.split_once('.').unwrap();
    let (body, mark) = rest.split_once('.').unwrap();
    let deep = |depth| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    let first =
        |name: &str, value: &str| f.text(|text| text.replacen('{', &format!("{{\"{name}\":{value},"), 1));
    vec![
        ("sub twice", first("sub", "\"system:serviceaccount:bank:x\""), "malformed_token"),
        ("exp twice, escaped", first("\\u0065xp", "9999999999"), "malformed_token"),
        (
            "namespace twice",
            f.text(|c| c.replacen("\"namespace\":", "\"namespace\":\"bank\",\"namespace\":", 1)),
            "malformed_token",
        ),
        ("nested", first("x", &deep(9)), "malformed_token"),
        ("nested very deep", first("x", &deep(2000)), "malformed_token"),
        ("claims are a list", f.text(|_| "[1]".to_owned()), "malformed_token"),
        ("two documents", f.text(|text| format!("{text}{text}")), "malformed_token"),
        ("padding", format!("{head}.{body}.{mark}=="), "malformed_token"),
        ("trailing dot", format!("{good}."), "malformed_token"),
        ("five parts", format!("{good}.a.b"), "malformed_token"),
        ("two parts", format!("{head}.{body}"), "malformed_token"),
        ("no signature", format!("{head}.{body}."), "malformed_token"),
        ("nothing at all", "..".to_owned(), "malformed_token"),
        ("signature cut", good[..good.len() - 2].to_owned(), "bad_signature"),
        (
            "claims of another",
            format!("{head}.{}.{mark}", B64.encode(f.good().to_string().replace("cart", "bank"))),
            "bad_signature",
        ),
        ("blank within", good.replacen('.', ". ", 1), "malformed_token"),
        ("standard base64", format!("{head}.{body}.++//"), "malformed_token"),
        ("huge", format!("{good}{}", "A".repeat(9000)), "token_too_large"),
        ("huge claims", first("x", &format!("\"{}\"", "x".repeat(9000))), "token_too_large"),
        (
            "ES256 in DER's length",
            f.ec.sign_with(&json!({"alg": "ES256", "kid": "rsa"}), &f.good().to_string()),
            "wrong_algorithm",
        ),
        ("no kid, right key", f.header(&json!({"alg": "RS256"})), "accepted"),
        (
            "no kid, another key",
            Signer::other_rsa("", "RS256").sign_with(&json!({"alg": "RS256"}), &f.good().to_string()),
            "bad_signature",
        ),
    ]
}

#[tokio::test]
async fn no_forgery_is_believed_and_each_is_told_why() {
    let clock = Clock::new();
    let forge =
        Forge { rsa: Signer::rsa("rsa", "RS256"), ec: Signer::es256("ec"), now: clock.unix().as_secs() };
    let file = File::new("forged", &json!({"keys": [forge.rsa.jwk(), forge.ec.jwk()]}).to_string());
    let mut provider = provider(ISSUER);
    provider.public_keys_file = Some(file.0.clone());
    provider.max_token_lifetime = Duration::from_hours(24);
    let oidc = Oidc::with_clock(&extension(vec![provider]), clock).unwrap();
    let rows = [header_rows(&forge), claim_rows(&forge), shape_rows(&forge)].concat();
    assert!(rows.len() >= 80);
    for (what, token, expected) in &rows {
        for _ in 0..2 {
            let proof = ask(&oidc, token).await;
            let found = proof.as_ref().map_or_else(|refused| refused.cause, |_| "accepted");
            assert_eq!(found, *expected, "{what}: {proof:?}");
            let Err(refused) = proof else { continue };
            assert_eq!(refused.kind, RefusedKind::Unauthenticated, "{what}");
            assert!(refused.message.len() < 700, "{what}: {refused}");
            assert!(!refused.message.chars().any(char::is_control), "{what}: {refused}");
            for part in token.split('.').filter(|part| part.len() > 16) {
                assert!(!refused.message.contains(part), "{what}: {refused}");
            }
        }
    }
}

#[tokio::test]
async fn refusals_teach() {
    let clock = Clock::new();
    let forge =
        Forge { rsa: Signer::rsa("rsa", "RS256"), ec: Signer::es256("ec"), now: clock.unix().as_secs() };
    let file = File::new("teach", &keys::set(std::slice::from_ref(&forge.rsa)));
    let mut provider = provider(ISSUER);
    provider.public_keys_file = Some(file.0.clone());
    provider.max_token_lifetime = Duration::from_hours(24);
    let oidc = Oidc::with_clock(&extension(vec![provider]), clock).unwrap();
    let t = forge.now;
    for (token, parts) in [
        (forge.with("/exp", json!(t - 130)), ["expired 2 min 1", "read it again"]),
        (forge.with("/nbf", json!(t + 300)), ["not valid yet, for another 4 min 5", "clock"]),
        (
            forge.with("/aud", json!(["a\u{7}", "b"])),
            ["for the audience `a\\u{7}`, `b`, not for `spanwarden`", "serviceAccountToken"],
        ),
        (
            forge.with("/iss", json!("https://evil.example")),
            ["`https://evil.example` is not known", "accepted: `https://issuer.example`"],
        ),
        (forge.with("/exp", json!(t + 31_536_000)), ["valid for 365 d 0 h", "expirationSeconds"]),
        (Signer::rsa("gone", "RS256").sign(&forge.good()), ["key (`gone`)", "get a new token"]),
    ] {
        let message = ask(&oidc, &token).await.unwrap_err().message;
        for part in parts {
            assert!(message.contains(part), "{part}: {message}");
        }
    }
    let good = forge.rsa.sign(&forge.good());
    for (value, cause, part) in [
        (Some("Basic dXNlcjpwYXNz".to_owned()), "token_scheme", "another scheme than `Bearer`"),
        (Some(good.clone()), "token_scheme", "Bearer TOKEN"),
        (Some(String::new()), "no_credentials", "Bearer TOKEN"),
        (Some("Bearer".to_owned()), "token_scheme", "Bearer TOKEN"),
        (None, "no_credentials", "send the header `authorization: Bearer TOKEN`"),
    ] {
        let headers = value.as_deref().map(headers).unwrap_or_default();
        let refused = judge(&oidc, &headers).await.unwrap_err();
        assert_eq!(refused.cause, cause, "{value:?}");
        assert!(refused.message.contains(part), "{refused}");
    }
    let mut twice = headers(&format!("Bearer {good}"));
    judge(&oidc, &twice).await.unwrap();
    twice.append("authorization", "Bearer x".parse().unwrap());
    assert_eq!(cause(judge(&oidc, &twice).await), "several_credentials");
}
