use super::*;

const ALL: Rules = Rules { all_values: true, identifiers: true };
const SECRETS: Rules = Rules { all_values: false, identifiers: false };

fn sanitized(text: &str, part: Part, rules: Rules) -> String {
    let mut out = Vec::new();
    let changed = sanitize(text.as_bytes(), part, rules, &mut out);
    let out = String::from_utf8(out).expect("text stays text");
    let mut again = Vec::new();
    assert!(!sanitize(out.as_bytes(), part, rules, &mut again), "once is enough: {out}");
    assert_eq!(changed, out != text);
    out
}

#[test]
fn secrets_go_and_the_rest_stays() {
    for (before, after) in [
        ("https://alice:hunter2@example.com/a?b=c", "https://*@example.com/a?b=c"),
        ("https://alice@example.com", "https://*@example.com"),
        ("https://a:b@c:d@example.com:8080/x", "https://*@example.com:8080/x"),
        ("//alice:hunter2@example.com/a", "//*@example.com/a"),
        ("jdbc:postgresql://u:p@h/db?user=u&password=p", "jdbc:postgresql://*@h/db?user=u&password=*"),
        ("https://h/users/alice@example.com/orders/7", "https://h/users/*/orders/7"),
        ("/users/alice%40example.com", "/users/*"),
        ("/users/alice%2540example.com", "/users/*"),
        ("/@scope/package/@", "/@scope/package/@"),
        ("mailto:alice@example.com", "*"),
        (
            "https://b.s3/o?X-Amz-Algorithm=A&X-Amz-Credential=C&X-Amz-Signature=S&X-Amz-Security-Token=T",
            "https://b.s3/o?X-Amz-Algorithm=A&X-Amz-Credential=*&X-Amz-Signature=*&X-Amz-Security-Token=*",
        ),
        ("https://a.blob/c?sv=2020&sig=abc%3D&se=1", "https://a.blob/c?sv=2020&sig=*&se=1"),
        ("/cb?code=x&state=y&page=2", "/cb?code=*&state=*&page=2"),
        ("/cb?access_token=x;id_token=y", "/cb?access_token=*;id_token=*"),
        ("/a?API_KEY=x&apiKey=y&api-key=z&%6bey=w", "/a?API_KEY=*&apiKey=*&api-key=*&%6bey=*"),
        ("/a?token=&x", "/a?token=&x"),
        ("/a?next=https%3A%2F%2Fu%3Ap%40h%2F&q=1", "/a?next=*&q=1"),
        ("/a?q=alice@example.com", "/a?q=*"),
        ("/a#access_token=x&token_type=bearer", "/a#access_token=*&token_type=bearer"),
        ("/a?b#/users/alice@example.com?token=x", "/a?b#/users/*?token=*"),
        ("/a#!/x?sid=1", "/a#!/x?sid=*"),
        ("/a;jsessionid=ABC;v=1/b", "/a;jsessionid=*;v=1/b"),
        ("/a/http://alice:x@h/b", "/a/http://*/b"),
        ("", ""),
        ("?", "?"),
        ("#", "#"),
        ("/", "/"),
        ("GET", "GET"),
    ] {
        assert_eq!(sanitized(before, Part::Url, SECRETS), after);
    }
}

#[test]
fn identifiers_and_all_values_go() {
    for (before, after) in [
        ("https://h/users/42/orders/550e8400-e29b-41d4-a716-446655440000", "https://h/users/*/orders/*"),
        ("/api/v1/users/alice/profile?page=2&sort=name#top", "/api/v1/users/alice/profile?page=*&sort=*#top"),
        ("/a?alice@example.com=1&4111111111111111&ok", "/a?*=*&*&ok"),
        ("/a?empty=&b=c", "/a?empty=&b=*"),
        ("/a#4111111111111111", "/a#*"),
        ("/a#/users/42", "/a#/users/*"),
        ("/twirp/*/Update", "/twirp/*/Update"),
        ("/a/;x=1", "/a/;x=*"),
    ] {
        assert_eq!(sanitized(before, Part::Url, ALL), after);
    }
}

#[test]
fn queries_and_fragments_alone() {
    assert_eq!(sanitized("a=1&token=2", Part::Query, SECRETS), "a=1&token=*");
    assert_eq!(sanitized("?a=1&token=2", Part::Query, ALL), "?a=*&token=*");
    assert_eq!(sanitized("#access_token=x", Part::Fragment, SECRETS), "#access_token=*");
    assert_eq!(sanitized("section", Part::Fragment, ALL), "section");
}

#[test]
fn names_change_where_there_is_a_path() {
    let name = |name: &str| {
        let mut out = Vec::new();
        let changed = sanitize_name(name.as_bytes(), ALL, &mut out);
        changed.then(|| String::from_utf8(out).expect("text stays text"))
    };
    assert_eq!(name("GET /users/42?x=1").as_deref(), Some("GET /users/*?x=*"));
    assert_eq!(name("GET https://u:p@h/a").as_deref(), Some("GET https://*@h/a"));
    for same in
        ["GET /users/{id}", "SELECT 12345678", "/twirp/*/Update", "package.Service/Method", "", "call 42"]
    {
        assert_eq!(name(same), None, "{same}");
    }
}
