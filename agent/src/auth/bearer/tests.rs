use std::{fs, path::PathBuf};

use super::*;

/// A file that is removed again.
struct Tokens(PathBuf);

impl Tokens {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("spanwarden-bearer-{name}-{}", std::process::id()));
        fs::write(&path, text).unwrap();
        Self(path)
    }

    /// As Secret volumes and editors do it.
    fn replace(&self, text: &str) {
        let next = self.0.with_extension("next");
        fs::write(&next, text).unwrap();
        fs::rename(&next, &self.0).unwrap();
    }

    fn open(&self) -> Bearer {
        bearer("Authorization", "Bearer", BearerTokens::File(self.0.clone())).unwrap()
    }
}

impl Drop for Tokens {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn bearer(header: &str, scheme: &str, tokens: BearerTokens) -> Result<Bearer, BearerError> {
    let config = BearerTokenExtension { header: header.into(), scheme: scheme.into(), tokens };
    Bearer::new("bearertokenauth/test", &config)
}

fn inline(tokens: &[&str]) -> BearerTokens {
    BearerTokens::Inline(tokens.iter().map(|token| (*token).to_owned()).collect())
}

fn ask(bearer: &Bearer, headers: &[(&'static str, &str)]) -> Result<String, Cause> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, HeaderValue::from_str(value).unwrap());
    }
    bearer.judge(&map).map(|who| who.name.clone()).map_err(|refused| {
        for (_, value) in headers.iter().filter(|(_, value)| value.len() > 8) {
            assert!(!refused.message.contains(value), "the message has what was sent");
        }
        refused.cause
    })
}

#[test]
fn who_is_let_in() {
    let file = Tokens::new("who", "\u{feff}# ours\n  first-secret-token shop\r\n\nsecond-secret-token\n");
    let bearer = file.open();
    let print = file::fingerprint("second-secret-token");
    let auth = "authorization";
    for (headers, outcome) in [
        (&[(auth, "Bearer first-secret-token")][..], Ok("shop")),
        (&[(auth, "bearer   first-secret-token ")], Ok("shop")),
        (&[(auth, "Bearer second-secret-token")], Ok(print.as_str())),
        (&[], Err(NO_CREDENTIALS)),
        (&[("x-token", "first-secret-token")], Err(NO_CREDENTIALS)),
        (&[(auth, "")], Err("token_scheme")),
        (&[(auth, "Bearer")], Err("token_scheme")),
        (&[(auth, "Bearer ")], Err("token_scheme")),
        (&[(auth, "first-secret-token")], Err("token_scheme")),
        (&[(auth, "Basic first-secret-token")], Err("token_scheme")),
        (&[(auth, "Bearerfirst-secret-token")], Err("token_scheme")),
        (&[(auth, "Bearer first-secret-toke")], Err("token_unknown")),
        (&[(auth, "Bearer first-secret-token2")], Err("token_unknown")),
        (&[(auth, "Bearer FIRST-SECRET-TOKEN")], Err("token_unknown")),
        (&[(auth, "Bearer shop")], Err("token_unknown")),
        (&[(auth, "Bearer #")], Err("token_unknown")),
        (&[(auth, "Bearer first-secret-token, Bearer x")], Err("token_unknown")),
        (&[(auth, "Bearer x"), (auth, "Bearer first-secret-token")], Err("token_twice")),
    ] {
        assert_eq!(ask(&bearer, headers).as_deref().map_err(|cause| *cause), outcome, "{headers:?}");
    }
    let own = super::tests::bearer("X-Token", "", inline(&["in-the-configuration"])).unwrap();
    assert!(ask(&own, &[("x-token", "in-the-configuration")]).is_ok());
    assert_eq!(ask(&own, &[("x-token", "Bearer in-the-configuration")]), Err("token_unknown"));
    assert_eq!(own.credentials().unwrap().1, "in-the-configuration");
    assert_eq!(
        bearer.credentials().unwrap(),
        (http::header::AUTHORIZATION, "Bearer first-secret-token".parse().unwrap())
    );
}

#[test]
fn a_file_is_read_again_and_kept_when_it_is_wrong() {
    let file = Tokens::new("again", "one-secret-token a\n");
    let bearer = file.open();
    let names = |bearer: &Bearer| {
        let known = bearer.known.load();
        known.tokens.iter().map(|token| token.principal.name.clone()).collect::<Vec<_>>().join(",")
    };
    let remembered = Arc::clone(&bearer.known.load().tokens[0].principal);
    for (text, expected) in [
        ("two-secret-token b\none-secret-token a\n", "b,a"),
        ("two-secret-token b\none-secret-token a\nthree words here now\n", "b,a"),
        ("two-secret-token b\ntwo-secret-token c\n", "b,a"),
        ("two-secret-t\u{e9}ken b\n", "b,a"),
        (&"x".repeat(2 << 20), "b,a"),
        (&"x".repeat(9 << 10), "b,a"),
        ("one-secret-token a\n", "a"),
        ("", ""),
        ("#\n", ""),
        ("one-secret-token a\n", "a"),
    ] {
        file.replace(text);
        bearer.reload();
        assert_eq!(names(&bearer), expected, "{}", &text[..text.len().min(40)]);
        if text.starts_with("one") || text.starts_with("two") {
            continue;
        }
        if expected.is_empty() {
            assert_eq!(ask(&bearer, &[("authorization", "Bearer one-secret-token")]), Err("token_unknown"));
            assert_eq!(bearer.credentials(), None);
        }
    }
    fs::remove_file(&file.0).unwrap();
    bearer.reload();
    assert_eq!(names(&bearer), "a", "a file that is gone for a moment shuts nobody out");
    file.replace("zero-secret-token z\none-secret-token a\n");
    bearer.reload();
    assert_eq!(names(&bearer), "z,a");
    assert_eq!(bearer.known.load().tokens[1].principal, remembered);
}

#[test]
fn a_principal_that_stays_is_the_same_object() {
    let file = Tokens::new("same", "one-secret-token a\n");
    let bearer = file.open();
    let before = Arc::clone(&bearer.known.load().tokens[0].principal);
    file.replace("two-secret-token b\none-secret-token a\n");
    bearer.reload();
    assert!(Arc::ptr_eq(&before, &bearer.known.load().tokens[1].principal));
    file.replace("one-secret-token another\n");
    bearer.reload();
    assert_eq!(bearer.known.load().tokens[0].principal.name, "another");
}

#[test]
fn a_bad_file_is_an_error_at_first_that_does_not_quote_it() {
    for (text, message) in [
        ("secret-one a b\n", "line 1 has more than a token and a name"),
        ("secret-one a\nsecret-one b\n", "lines 1 and 2 have the same token"),
        ("x\nsecret-\u{fc}\n", "line 2: a token has printable ASCII"),
    ] {
        let file = Tokens::new("bad", text);
        let error =
            bearer("authorization", "Bearer", BearerTokens::File(file.0.clone())).unwrap_err().to_string();
        assert!(error.contains(message) && !error.contains("secret"), "{error}");
    }
    let many = (0..1001).map(|n| format!("token-number-{n}")).collect::<Vec<_>>().join("\n");
    assert!(file::parse(&many).is_err_and(|error| error.contains("more than 1000")));
    let error = bearer("authorization", "Bearer", BearerTokens::File("/nowhere/tokens".into())).unwrap_err();
    assert!(error.to_string().contains("/nowhere/tokens"), "{error}");
    assert!(matches!(bearer("a b", "Bearer", inline(&["x"])), Err(BearerError::Header(_))));
}

#[test]
fn nothing_prints_a_token() {
    let file = Tokens::new("prints", "one-secret-token a\n");
    let bearer = file.open();
    let shown = format!("{bearer:?} {:?} {:?}", bearer.credentials(), inline(&["inline-secret"]));
    assert!(!shown.contains("secret"), "{shown}");
}
