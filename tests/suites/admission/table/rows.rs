//! The rows about credentials.

use anyhow::Result;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{
    super::{
        tokens::{AUDIENCE, Signer, now, shared_secret, unsigned, with},
        world::{Shown, Workload},
    },
    Row, Then, To, Who, accepted, denied, made_up,
    scene::{SHARED, Scene},
    unproven,
};

const REPLAY: Option<&str> = Some("TokenReplay");
const FORGED: Option<&str> = Some("ForgedIdentity");

/// Everybody with what is its own.
pub(super) fn honest(s: &Scene) -> Vec<Row> {
    let own = |name, who, to, of: &Workload| {
        Row::new(name, who, to, Shown::token(s.token(of)), accepted(Some(of.name())))
    };
    let of = |who, to, shown, name: String| Row::new("honest", who, to, shown, accepted(Some(name)));
    vec![
        own("honest: cart", Who::Cart, To::Oidc, &s.cart),
        own("honest: web", Who::Web, To::Oidc, &s.web),
        own("honest: report", Who::Thief, To::Oidc, &s.thief),
        own("honest: twin", Who::Twin, To::Oidc, &s.twin),
        own("honest: a pod that is not told of yet", Who::Fresh, To::Oidc, &s.fresh),
        own("honest: in a cgroup of its own making", Who::Nested, To::Oidc, &s.thief),
        own("honest: cart, bound", Who::Cart, To::Bound, &s.cart),
        own("honest: report, bound", Who::Thief, To::Bound, &s.thief),
        own("honest: cart, annotated", Who::Cart, To::Annotate, &s.cart),
        own("honest: report, quarantined", Who::Thief, To::Quarantine, &s.thief),
        own("honest: report, by address", Who::Unseen, To::Address, &s.thief),
        of(Who::Cart, To::Oidc, Shown::token(s.rsa.sign(&s.claims(&s.cart))), s.cart.name()),
        of(
            Who::Cart,
            To::Oidc,
            Shown::header("Authorization", format!("bEaReR {}", s.token(&s.cart))),
            s.cart.name(),
        ),
        of(
            Who::Cart,
            To::Bearer,
            Shown::header("authorization", format!("bearer {}", SHARED.0)),
            SHARED.1.to_owned(),
        ),
        of(Who::Thief, To::Bearer, Shown::token(SHARED.0), SHARED.1.to_owned()),
        of(Who::Cart, To::Mtls, Shown::certificate("cart"), s.cart.spiffe()),
        of(Who::Thief, To::Mtls, Shown::certificate("report"), s.thief.spiffe()),
        of(
            Who::Cart,
            To::Both,
            Shown { tls: Some(Some("cart")), ..Shown::token(s.token(&s.cart)) },
            s.cart.name(),
        ),
        of(Who::Cart, To::Both, Shown { tls: Some(None), ..Shown::token(s.token(&s.cart)) }, s.cart.name()),
    ]
}

/// Right tokens in wrong hands.
#[expect(clippy::too_many_lines, reason = "a table")]
pub(super) fn thefts(s: &Scene) -> Vec<Row> {
    let stolen = Shown::token(s.token(&s.cart));
    let other_pod = || denied("token_of_another_pod", &["another pod", "the pod's own token"], REPLAY);
    let other_node = || denied("token_of_another_node", &["another node"], REPLAY);
    let signed = |claims: &Value| Shown::token(s.key.sign(claims));
    let (cart, report) = (s.claims(&s.cart), s.claims(&s.thief));
    let of_node_2 = |claims| with(claims, "/kubernetes.io/node/name", json!("node-2"));
    let elsewhere =
        with(&of_node_2(&cart), "/kubernetes.io/pod/uid", json!("0d8b0000-0000-4000-8000-000000000009"));
    let gone = with(&report, "/kubernetes.io/pod/uid", json!("0d8b0000-0000-4000-8000-000000000008"));
    let unbound = with(&with(&cart, "/kubernetes.io/pod", Value::Null), "/kubernetes.io/node", Value::Null);
    let no_node = with(&cart, "/kubernetes.io/node", Value::Null);
    let contradicted = |quarantine: bool| Then::Accepted {
        principal: None,
        has: vec![
            ("otlp.origin.contradiction", Some("token_of_another_account".to_owned())),
            ("otlp.origin.quarantine", quarantine.then(|| "true".to_owned())),
        ],
        overwritten: Vec::new(),
        forged: None,
        event: None,
    };
    let not_yet = || Then::Refused {
        grpc: 14,
        http: 503,
        cause: "workload_unknown",
        words: &["by its uid only so far", "send again"],
        event: None,
    };
    let row = Row::new;
    vec![
        row("unbound token, from a pod not told of yet", Who::Fresh, To::Oidc, signed(&unbound), not_yet()),
        row(
            "another's certificate, from a pod not told of yet",
            Who::Fresh,
            To::Mtls,
            Shown::certificate("cart"),
            not_yet(),
        ),
        row("token of another pod", Who::Thief, To::Oidc, stolen.clone(), other_pod()),
        row("token of another pod of the namespace", Who::Web, To::Oidc, stolen.clone(), other_pod()),
        row("token of the pod with the same address", Who::Twin, To::Oidc, stolen.clone(), other_pod()),
        row(
            "token of a pod, from a cgroup named like its",
            Who::Nested,
            To::Oidc,
            stolen.clone(),
            other_pod(),
        ),
        row("token of a pod without its node", Who::Thief, To::Oidc, signed(&no_node), other_pod()),
        row("token of another pod, bound", Who::Thief, To::Bound, stolen.clone(), other_pod()),
        row("token of another pod, annotated", Who::Thief, To::Annotate, stolen.clone(), other_pod()),
        row("token of another pod, quarantined", Who::Thief, To::Quarantine, stolen.clone(), other_pod()),
        row("token of another pod, by address", Who::Unseen, To::Address, stolen.clone(), other_pod()),
        row(
            "token of another pod beside the own certificate",
            Who::Thief,
            To::Both,
            Shown { tls: Some(Some("report")), ..stolen.clone() },
            other_pod(),
        ),
        row(
            "token of a pod, in no pod",
            Who::Host,
            To::Oidc,
            stolen.clone(),
            denied("token_outside_of_pod", &["in no pod"], None),
        ),
        row("token of another node's pod", Who::Thief, To::Oidc, signed(&elsewhere), other_node()),
        row("own token, of another node", Who::Thief, To::Oidc, signed(&of_node_2(&report)), other_node()),
        row("token of a pod before this one", Who::Thief, To::Oidc, signed(&gone), other_pod()),
        row(
            "token bound to nothing",
            Who::Cart,
            To::Bound,
            signed(&unbound),
            denied("token_not_bound", &["not bound to a pod", "serviceAccountToken"], None),
        ),
        row(
            "unbound token of another account",
            Who::Thief,
            To::Oidc,
            signed(&unbound),
            denied("token_of_another_account", &["service account", "the pod's own token"], FORGED),
        ),
        row("unbound token, annotated", Who::Thief, To::Annotate, signed(&unbound), contradicted(false)),
        row("unbound token, quarantined", Who::Thief, To::Quarantine, signed(&unbound), contradicted(true)),
        row(
            "unbound token beside another's certificate",
            Who::Host,
            To::Both,
            Shown { tls: Some(Some("web")), ..signed(&unbound) },
            denied("token_and_certificate_differ", &["two service accounts"], None),
        ),
        row(
            "not seen by the kernel",
            Who::Unseen,
            To::Oidc,
            Shown::token(s.token(&s.thief)),
            denied("evidence", &["did not see who opened", "pod's own node"], None),
        ),
        Row {
            relayed: true,
            ..row(
                "through an address that is nobody's",
                Who::Thief,
                To::Oidc,
                Shown::token(s.token(&s.thief)),
                denied("evidence_conflict", &["somebody else", "the agent itself"], None),
            )
        },
        row(
            "stolen, not seen by the kernel",
            Who::Unseen,
            To::Oidc,
            stolen,
            denied("evidence", &["did not see"], None),
        ),
    ]
}

/// Tokens that are not what they say, or that are good for something else; from the pod that they name.
#[expect(clippy::too_many_lines, reason = "a table")]
pub(super) fn tokens(s: &Scene) -> Vec<Row> {
    let (cart, t) = (s.claims(&s.cart), now());
    let changed = |pointer: &str, value: Value| s.key.sign(&with(&cart, pointer, value));
    let good = s.token(&s.cart);
    let (head, rest) = good.split_once('.').unwrap_or_default();
    let (_, mark) = rest.split_once('.').unwrap_or_default();
    let bank = with(&cart, "/sub", json!("system:serviceaccount:bank:vault"));
    let forger = Signer::ec(&s.key.kid);
    let in_header = |name: &str, value: Value| {
        let mut header = json!({"alg": "ES256", "kid": s.key.kid});
        header[name] = value;
        forger.sign_as(&header, &cart)
    };
    let row = |name, token: String, then| Row::new(name, Who::Cart, To::Oidc, Shown::token(token), then);
    vec![
        row(
            "expired",
            changed("/exp", json!(t - 90)),
            unproven("expired", &["expired 1 min 3", "get a new one"]),
        ),
        row(
            "not valid yet",
            changed("/nbf", json!(t + 3000)),
            unproven("not_yet_valid", &["not valid yet", "clock"]),
        ),
        row(
            "issued in the future",
            changed("/iat", json!(t + 3000)),
            unproven("issued_in_future", &["future", "clock"]),
        ),
        row(
            "for a year",
            changed("/exp", json!(t + 31_536_000)),
            unproven("lifetime_too_long", &["365 d", "expirationSeconds"]),
        ),
        row(
            "past warnafter",
            changed("/kubernetes.io/warnafter", json!(t - 600)),
            unproven("past_warnafter", &["warnafter"]),
        ),
        row(
            "another audience",
            changed("/aud", json!(["https://kubernetes.default.svc"])),
            unproven("wrong_audience", &["`https://kubernetes.default.svc`", "not for `spanwarden`"]),
        ),
        row(
            "two audiences",
            changed("/aud", json!([AUDIENCE, "https://kubernetes.default.svc"])),
            unproven("several_audiences", &["several audiences"]),
        ),
        row("no audience", changed("/aud", Value::Null), unproven("missing_claim", &["`aud`"])),
        row("no expiry", changed("/exp", Value::Null), unproven("missing_claim", &["`exp`"])),
        row(
            "expiry as text",
            changed("/exp", json!((t + 600).to_string())),
            unproven("wrong_claim", &["`exp`"]),
        ),
        row("not before as text", changed("/nbf", json!("0")), unproven("wrong_claim", &["`nbf`"])),
        row("no subject", changed("/sub", Value::Null), unproven("missing_claim", &["`sub`"])),
        row(
            "another issuer",
            changed("/iss", json!("https://evil.example")),
            unproven("unknown_issuer", &["`https://evil.example`", "accepted:"]),
        ),
        row(
            "the metadata service as issuer",
            changed("/iss", json!("http://169.254.169.254/latest")),
            unproven("unknown_issuer", &["not known here"]),
        ),
        row("no issuer", changed("/iss", Value::Null), unproven("missing_claim", &["`iss`"])),
        row(
            "subject of another account",
            s.key.sign(&bank),
            unproven("contradictory_claims", &["contradicts itself"]),
        ),
        row(
            "namespace of another",
            changed("/kubernetes.io/namespace", json!("bank")),
            unproven("contradictory_claims", &["contradicts itself"]),
        ),
        row(
            "pod without uid",
            changed("/kubernetes.io/pod/uid", Value::Null),
            unproven("wrong_claim", &["kubernetes.io"]),
        ),
        row("alg none", unsigned("none", &cart), made_up("wrong_algorithm", &["`none`", "RS256"])),
        row(
            "HS256 with the public key",
            shared_secret(&s.rsa.public_pem(), &s.rsa.kid, &cart),
            made_up("wrong_algorithm", &["`HS256`"]),
        ),
        row(
            "HS256 with the key's modulus",
            shared_secret(s.rsa.jwk()["n"].as_str().unwrap_or_default(), &s.rsa.kid, &cart),
            made_up("wrong_algorithm", &["`HS256`"]),
        ),
        row(
            "the RSA key's name on an EC key",
            s.key.sign_as(&json!({"alg": "ES256", "kid": s.rsa.kid}), &cart),
            made_up("wrong_algorithm", &["another algorithm"]),
        ),
        row(
            "unknown key",
            Signer::ec("key-9").sign(&cart),
            unproven("unknown_key", &["`key-9`", "get a new token"]),
        ),
        row(
            "key named like a path",
            s.key.sign_as(&json!({"alg": "ES256", "kid": "../../key-1"}), &cart),
            unproven("unknown_key", &["get a new token"]),
        ),
        row(
            "another key of the same name",
            forger.sign(&cart),
            made_up("bad_signature", &["signature is wrong"]),
        ),
        row(
            "the forger's key in the header",
            in_header("jwk", forger.jwk()),
            made_up("bad_signature", &["signature is wrong"]),
        ),
        row(
            "the forger's key set",
            in_header("jku", json!("https://evil.example/keys")),
            made_up("bad_signature", &["signature is wrong"]),
        ),
        row(
            "the forger's certificate",
            in_header("x5u", json!("https://evil.example/cert")),
            made_up("bad_signature", &["signature is wrong"]),
        ),
        row(
            "claims changed",
            format!("{head}.{}.{mark}", URL_SAFE_NO_PAD.encode(bank.to_string())),
            made_up("bad_signature", &["signature is wrong"]),
        ),
        row(
            "critical extension",
            s.key.sign_as(&json!({"alg": "ES256", "kid": s.key.kid, "crit": ["exp"], "exp": 0}), &cart),
            unproven("malformed_token", &["`crit`"]),
        ),
        row(
            "another kind of token",
            s.key.sign_as(&json!({"alg": "ES256", "kid": s.key.kid, "typ": "dpop+jwt"}), &cart),
            unproven("malformed_token", &["`typ`"]),
        ),
        row(
            "no signature",
            format!("{}.", good.rsplit_once('.').unwrap_or_default().0),
            unproven("malformed_token", &["no signature"]),
        ),
        row("a part too many", format!("{good}.x"), unproven("malformed_token", &["three parts"])),
        row("no token at all", "x".to_owned(), unproven("malformed_token", &["three parts"])),
        row("huge", format!("{good}{}", "A".repeat(9000)), unproven("token_too_large", &["bytes"])),
    ]
}

/// Credentials in the wrong place or form.
pub(super) fn headers(s: &Scene) -> Vec<Row> {
    let good = s.token(&s.cart);
    let oidc = |name, shown, cause, words| Row::new(name, Who::Cart, To::Oidc, shown, unproven(cause, words));
    let shared = |name, value: String, cause, words| {
        Row::new(name, Who::Thief, To::Bearer, Shown::header("authorization", value), unproven(cause, words))
    };
    let (half, _) = SHARED.0.split_at(12);
    vec![
        oidc("no token", Shown::nothing(), "no_credentials", &["authorization: Bearer TOKEN"]),
        oidc("empty header", Shown::header("authorization", ""), "no_credentials", &["Bearer TOKEN"]),
        oidc(
            "another scheme",
            Shown::header("authorization", format!("Basic {good}")),
            "token_scheme",
            &["another scheme"],
        ),
        oidc("no scheme", Shown::header("authorization", good.as_str()), "token_scheme", &["Bearer TOKEN"]),
        oidc(
            "in another header",
            Shown::header("x-token", format!("Bearer {good}")),
            "no_credentials",
            &["Bearer TOKEN"],
        ),
        oidc(
            "two tokens",
            Shown::token(&good).and("authorization", "Bearer x"),
            "several_credentials",
            &["more than once"],
        ),
        oidc(
            "the same token twice",
            Shown::token(&good).and("authorization", format!("Bearer {good}")),
            "several_credentials",
            &["more than once"],
        ),
        oidc("a shared token", Shown::token(SHARED.0), "malformed_token", &["three parts"]),
        shared("half a shared token", format!("Bearer {half}"), "token_unknown", &["not one of those"]),
        shared(
            "a shared token and more",
            format!("Bearer {}0", SHARED.0),
            "token_unknown",
            &["not one of those"],
        ),
        shared(
            "a shared token in other letters",
            format!("Bearer {}", SHARED.0.to_lowercase()),
            "token_unknown",
            &["not one of those"],
        ),
        shared(
            "the name of a shared token",
            format!("Bearer {}", SHARED.1),
            "token_unknown",
            &["not one of those"],
        ),
        shared(
            "a shared token and its name",
            format!("Bearer {} {}", SHARED.0, SHARED.1),
            "token_unknown",
            &["not one of those"],
        ),
        shared(
            "a shared token of another scheme",
            format!("Token {}", SHARED.0),
            "token_scheme",
            &["Bearer TOKEN"],
        ),
        shared("a scheme alone", "Bearer ".to_owned(), "token_scheme", &["Bearer TOKEN"]),
        shared(
            "a bound token for a shared one",
            format!("Bearer {}", s.token(&s.thief)),
            "token_unknown",
            &["not one of those"],
        ),
        Row::new(
            "no shared token",
            Who::Thief,
            To::Bearer,
            Shown::nothing(),
            unproven("no_credentials", &["OTEL_EXPORTER_OTLP_HEADERS"]),
        ),
        Row::new(
            "two shared tokens",
            Who::Thief,
            To::Bearer,
            Shown::token(SHARED.0).and("authorization", format!("Bearer {}", SHARED.0)),
            unproven("token_twice", &["twice"]),
        ),
    ]
}

/// Certificates.
pub(super) fn certificates(s: &Scene) -> Result<Vec<Row>> {
    let (pki, cart, report) = (&s.pki, s.cart.spiffe(), s.thief.spiffe());
    for workload in [&s.cart, &s.web, &s.thief] {
        pki.workload(&workload.account, &[&workload.spiffe()])?;
    }
    pki.workload("two", &[&report, &cart])?;
    pki.workload("foreign-domain", &["spiffe://elsewhere.example/ns/batch/sa/report"])?;
    pki.workload("domain-suffix", &["spiffe://cluster.local.example/ns/batch/sa/report"])?;
    pki.workload("dots", &["spiffe://cluster.local/ns/x/../shop/sa/cart"])?;
    pki.workload("capitals", &["SPIFFE://cluster.local/ns/shop/sa/cart"])?;
    pki.workload("port", &["spiffe://cluster.local:443/ns/shop/sa/cart"])?;
    pki.sign_foreign("foreign", &report)?;
    pki.until("expired", &report, -7200, -90)?;
    pki.until("early", &report, 3000, 7200)?;
    pki.sign("unnamed", |_| Ok(()))?;
    pki.sign("spiffe-as-name", |params| {
        params.distinguished_name.push(rcgen::DnType::CommonName, "spiffe://cluster.local/ns/shop/sa/cart");
        Ok(())
    })?;
    pki.sign("server-only", |params| {
        params.subject_alt_names = vec![rcgen::SanType::URI(report.as_str().try_into()?)];
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
        Ok(())
    })?;
    let row = |name, shown, then| Row::new(name, Who::Thief, To::Mtls, shown, then);
    let broken = |cause| Then::Broken { cause, event: None };
    let shown = |name, file, cause, words| row(name, Shown::certificate(file), denied(cause, words, None));
    let stolen = || {
        denied(
            "certificate_of_another_account",
            &["certificate's service account", "own certificate"],
            FORGED,
        )
    };
    Ok(vec![
        row("certificate of another account", Shown::certificate("cart"), stolen()),
        Row::new(
            "certificate of another account of the namespace",
            Who::Cart,
            To::Mtls,
            Shown::certificate("web"),
            stolen(),
        ),
        Row::new(
            "own token, another's certificate",
            Who::Cart,
            To::Both,
            Shown { tls: Some(Some("web")), ..Shown::token(s.token(&s.cart)) },
            stolen(),
        ),
        Row::new(
            "certificate where a token is asked for",
            Who::Cart,
            To::Both,
            Shown::certificate("cart"),
            unproven("no_credentials", &["Bearer TOKEN"]),
        ),
        shown("two SPIFFE IDs", "two", "certificate_several_uris", &["2 URI names"]),
        shown("another trust domain", "foreign-domain", "certificate_trust_domain", &["`elsewhere.example`"]),
        shown(
            "a trust domain that begins like ours",
            "domain-suffix",
            "certificate_trust_domain",
            &["trust domain"],
        ),
        shown("a SPIFFE ID with dots", "dots", "certificate_spiffe_id", &["no `..`"]),
        shown("a SPIFFE ID in capitals", "capitals", "certificate_spiffe_id", &["lower case"]),
        shown("a SPIFFE ID with a port", "port", "certificate_spiffe_id", &["no port"]),
        shown("no name", "unnamed", "certificate_unnamed", &["names nobody"]),
        shown("a SPIFFE ID as common name", "spiffe-as-name", "certificate_unnamed", &["names nobody"]),
        row("another CA", Shown::certificate("foreign"), broken("tls_unknown_ca")),
        row("not valid yet", Shown::certificate("early"), broken("tls_certificate_not_yet_valid")),
        row("for servers only", Shown::certificate("server-only"), broken("tls_certificate_purpose")),
        row("no certificate", Shown::anonymous_tls(), broken("tls_no_client_certificate")),
        row(
            "a token for a certificate",
            Shown { tls: Some(None), ..Shown::token(s.token(&s.thief)) },
            broken("tls_no_client_certificate"),
        ),
        row(
            "expired certificate",
            Shown::certificate("expired"),
            Then::Broken { cause: "tls_certificate_expired", event: Some("CertificateExpired") },
        ),
        row(
            "plaintext",
            Shown::nothing(),
            Then::Broken { cause: "plaintext_on_tls_port", event: Some("PlaintextTelemetry") },
        ),
        row(
            "plaintext with a token",
            Shown::token(s.token(&s.thief)),
            Then::Broken { cause: "plaintext_on_tls_port", event: Some("PlaintextTelemetry") },
        ),
    ])
}
