//! What is read, and what is refused with which words.

use crate::config::{self, Config, auth::OidcExtension, extensions::Extension};

fn read(extension: &str) -> Result<(Config, OidcExtension), String> {
    let indented = format!("    {}\n", extension.replace('\n', "\n    "));
    let text = format!(
        "extensions:\n  oidc:\n{indented}receivers:\n  otlp:\n    protocols:\n      grpc:\n        auth: {{authenticator: oidc}}\nexporters:\n  debug:\nservice:\n  extensions: [oidc]\n  pipelines:\n    traces:\n      receivers: [otlp]\n      exporters: [debug]\n"
    );
    let config = config::parse(&text, "t").map_err(|errors| errors.to_string())?;
    let oidc = config.extensions.iter().find_map(|extension| match &extension.config {
        Extension::Oidc(oidc) => Some(oidc.as_ref().clone()),
        _ => None,
    });
    Ok((config, oidc.expect("there is one")))
}

#[test]
fn the_collectors_fields_in_both_forms() {
    let list = "attribute: X-Token\nproviders:\n- issuer_url: https://a.example\n  audience: spans\n  issuer_ca_path: /ca.crt\n  username_claim: email\n  groups_claim: groups\n- issuer_url: https://b.example\n  audience: spans\n  public_keys_file: /keys.json\n  leeway: 0s\n  max_token_lifetime: 2h";
    let (config, oidc) = read(list).unwrap();
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    assert_eq!(oidc.attribute, "x-token");
    let [a, b] = &oidc.providers[..] else { panic!("{oidc:?}") };
    assert_eq!(
        (a.issuer_url.as_str(), a.audience.as_str(), a.username_claim.as_str()),
        ("https://a.example", "spans", "email")
    );
    assert_eq!((a.leeway.as_secs(), a.max_token_lifetime.as_secs()), (10, 86_400));
    assert_eq!((b.leeway.as_secs(), b.max_token_lifetime.as_secs()), (0, 7200));
    assert_eq!(b.username_claim, "sub");
    let (_, flat) = read("issuer_url: https://a.example\naudience: spans\ntoken_review: true").unwrap();
    assert_eq!((flat.attribute.as_str(), flat.providers.len()), ("authorization", 1));
    assert!(flat.token_review.is_some());
    let (config, _) = read("issuer_url: https://a.example\naudience: spans\nattribute: sub").unwrap();
    assert!(
        config.warnings.iter().any(|w| w.contains("header that carries the token")),
        "{:?}",
        config.warnings
    );
    let both = "issuer_url: https://a.example\naudience: x\nproviders: [{issuer_url: https://b.example, audience: y}]\ntoken_review: {endpoint: 'https://api:6443', ca_file: /ca}";
    let (_, both) = read(both).unwrap();
    assert_eq!(both.providers.iter().map(|p| p.audience.as_str()).collect::<Vec<_>>(), ["x", "y"]);
    assert_eq!(both.token_review.unwrap().endpoint.as_deref(), Some("https://api:6443"));
}

#[test]
fn loopback_may_be_plaintext_and_a_file_needs_no_issuer() {
    for url in ["http://127.0.0.1:80/x", "http://localhost", "http://[::1]:80"] {
        let (config, _) = read(&format!("issuer_url: '{url}'\naudience: a")).unwrap();
        assert_eq!(config.warnings.len(), 1, "{url}: {:?}", config.warnings);
    }
    read("issuer_url: kubernetes/serviceaccount\naudience: a\npublic_keys_file: /sa.pub").unwrap();
    read("issuer_url: kubernetes/serviceaccount\naudience: a\njwks_url: https://api/openid/v1/jwks").unwrap();
}

#[test]
fn what_would_be_unsafe_or_mistyped_is_refused() {
    let base = "issuer_url: https://a.example\naudience: a\n";
    for (extension, part) in [
        ("attribute: authorization".to_owned(), "needs `providers`"),
        ("providers: []".to_owned(), "needs `providers`"),
        ("issuer_url: https://a.example".to_owned(), "`audience` is required"),
        ("audience: a".to_owned(), "`issuer_url` is required"),
        ("issuer_url: ''\naudience: a".to_owned(), "must not be empty"),
        ("issuer_url: a.example\naudience: a".to_owned(), "not a URL"),
        ("issuer_url: http://a.example\naudience: a".to_owned(), "can be anybody's"),
        ("issuer_url: http://localhost.evil.example\naudience: a".to_owned(), "can be anybody's"),
        ("issuer_url: http://127.0.0.1.evil.example/\naudience: a".to_owned(), "can be anybody's"),
        ("issuer_url: http://127.0.0.1@evil.example\naudience: a".to_owned(), "credentials in a URL"),
        ("issuer_url: https://a.example?x=1\naudience: a".to_owned(), "no query"),
        (format!("{base}ignore_audience: true"), "made for anybody"),
        (format!("{base}jwks_url: http://a.example/keys"), "can be anybody's"),
        (format!("{base}public_keys_file: /k\nissuer_ca_path: /ca"), "nothing is fetched"),
        (format!("{base}public_keys_file: /k\njwks_url: https://a.example/k"), "nothing is fetched"),
        (format!("{base}leeway: 6m"), "must be from 0ns to 300s"),
        (format!("{base}max_token_lifetime: 1s"), "must be from"),
        (format!("{base}attribute: 'x y'"), "name of a header"),
        (format!("{base}audiance: x"), "did you mean `audience`"),
        (format!("{base}providers: [{{issuer_url: https://a.example, audience: x}}]"), "there twice"),
        (format!("{base}token_review: {{insecure_skip_verify: true}}"), "could accept any token"),
        (format!("{base}token_review: maybe"), "`true` or `false`"),
    ] {
        match read(&extension) {
            Ok(_) => panic!("{extension}"),
            Err(errors) => assert!(errors.contains(part), "{extension}: {errors}"),
        }
    }
    read(&format!("{base}ignore_audience: false")).unwrap();
}
