//! Plans compiled from YAML, applied to requests written byte by byte.

use super::*;
use crate::{
    auth::{Method, Principal, bind::Binder},
    config,
    origin::{Container, Evidence, NoPods, Pod, Process},
    otlp::encode::{self, Value},
};
use std::sync::Arc;

mod costs;
mod sanitizers;
mod ways;

/// Step 1 of the reference's document on tracing backends.
const DOCUMENT: &str = r#"
  redaction/pii:
    allow_all_keys: true
    blocked_keys: ["http.request.header.authorization", "http.request.header.cookie"]
    blocked_values:
      - "(?i)Bearer\\s+[A-Za-z0-9\\-._~+/]+=*"
      - "\\b\\d{3}-\\d{2}-\\d{4}\\b"
      - "\\b(?:\\d[ -]*?){13,16}\\b"
      - "sk-[A-Za-z0-9]{32,}"
    summary: silent
  transform/scrub-urls:
    trace_statements:
      - context: span
        statements:
          - replace_pattern(attributes["http.url"],
            "[a-zA-Z0-9._%+-]+@[a-zA-Z0-9.-]+\\.[a-zA-Z]{2,}",
            "[EMAIL-REDACTED]")
          - replace_pattern(attributes["db.statement"], "'[^']*'", "'?'")
          - replace_pattern(attributes["db.statement"], "= [0-9]{4,}", "= ?")
  transform/hash-user-ids:
    trace_statements:
      - context: span
        statements:
          - set(attributes["user.id"], SHA256(attributes["user.id"])) where attributes["user.id"] != nil
"#;

/// Compiles the processors of a YAML fragment, in their order there.
fn plan(processors: &str, stamp: bool) -> Plan {
    try_plan(processors, stamp).unwrap_or_else(|error| panic!("{error}"))
}

fn try_plan(processors: &str, stamp: bool) -> Result<Plan, String> {
    let names: Vec<&str> = processors
        .lines()
        .filter(|line| line.starts_with("  ") && !line.starts_with("   ") && line.contains(':'))
        .map(|line| line.trim().split(':').next().expect("a key"))
        .collect();
    let text = format!(
        "receivers:\n  otlp: {{protocols: {{grpc: }}}}\nprocessors:\n{processors}\nexporters:\n  debug: {{}}\n\
         service:\n  pipelines:\n    traces: {{receivers: [otlp], processors: [{}], exporters: [debug]}}\n",
        names.join(", ")
    );
    let config = config::parse(&text, "test.yaml").map_err(|errors| errors.to_string())?;
    let wanted = &config.service.pipelines[0].processors;
    let components: Vec<_> = wanted.iter().map(|id| config.processor(id).expect("defined")).collect();
    Plan::compile(&components, stamp.then(Claims::default).as_ref()).map_err(|error| error.to_string())
}

/// A request of one span, with these attributes on the resource and on the span.
fn request(resource: &[(&str, Value<'_>)], span: &[(&str, Value<'_>)]) -> Bytes {
    let mut out = Vec::new();
    encode::field_with(&mut out, 1, |out| {
        if !resource.is_empty() {
            encode::field_with(out, 1, |out| {
                for (key, value) in resource {
                    encode::key_value(out, 1, key, *value);
                }
            });
        }
        encode::field_with(out, 2, |out| {
            encode::field_with(out, 2, |out| {
                encode::field(out, 1, &[1; 16]);
                encode::field(out, 2, &[2; 8]);
                encode::field(out, 5, b"GET /");
                for (key, value) in span {
                    encode::key_value(out, 9, key, *value);
                }
            });
        });
    });
    Bytes::from(out)
}

fn batch(data: Bytes) -> Batch {
    Batch { data, spans: 1, context: Context::default() }
}

fn applied(plan: &Plan, data: &Bytes) -> Bytes {
    plan.apply(batch(data.clone()), &mut PlanScratch::default()).expect("well-formed").data
}

fn text(value: &str) -> Value<'_> {
    Value::String(value)
}

#[test]
fn the_document_does_what_it_says() {
    let plan = plan(DOCUMENT, false);
    let secret = format!("key sk-{} end", "a1B2".repeat(8));
    let hash = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let before = [
        ("http.request.header.authorization", text("Basic x")),
        ("http.url", text("https://x/u/alice@example.com?again=bob@example.org")),
        ("http.url", text("https://x/u/second@example.com")),
        ("a", text("Authorization: bearer abc.def==; next")),
        ("b", text("ssn 123-45-6789.")),
        ("c", text("4111 1111 1111 1111")),
        ("d", text(&secret)),
        ("http.request.header.cookie", text("x")),
        ("db.statement", text("SELECT * FROM t WHERE a = 'alice' AND n = 12345 AND m = 12")),
        ("user.id", text("test")),
        ("user.id", text("test")),
        ("plain", text("mail@example.com stays, no rule names this key")),
        ("e", Value::Bytes(b"\xff 123-45-6789 \xfe")),
        ("card 4111111111111111", Value::Int(1)),
        ("n", Value::Int(4_111_111_111_111_111)),
    ];
    let after = [
        ("http.url", text("https://x/u/[EMAIL-REDACTED]?again=[EMAIL-REDACTED]")),
        ("http.url", text("https://x/u/[EMAIL-REDACTED]")),
        ("a", text("Authorization: [REDACTED]; next")),
        ("b", text("ssn [REDACTED].")),
        ("c", text("[REDACTED]")),
        ("d", text("key [REDACTED] end")),
        ("db.statement", text("SELECT * FROM t WHERE a = '?' AND n = ? AND m = 12")),
        ("user.id", text(hash)),
        ("user.id", text(hash)),
        ("plain", text("mail@example.com stays, no rule names this key")),
        ("e", Value::Bytes(b"\xff [REDACTED] \xfe")),
        ("card [REDACTED]", Value::Int(1)),
        ("n", Value::Int(4_111_111_111_111_111)),
    ];
    assert_eq!(applied(&plan, &request(&[], &before)), request(&[], &after));
}

#[test]
fn a_request_that_needs_no_change_is_the_same_bytes() {
    let plan = plan(DOCUMENT, false);
    let data = request(
        &[("service.name", text("x"))],
        &[("db.statement", text("SELECT '?'")), ("time", text("2026-11-21 13:24"))],
    );
    let out = applied(&plan, &data);
    assert_eq!((out.as_ptr(), out.len()), (data.as_ptr(), data.len()));
}

#[test]
fn an_empty_plan_checks() {
    let plan = Plan::compile(&[], None).expect("nothing to compile");
    let data = request(&[], &[("a", text("b"))]);
    assert_eq!(applied(&plan, &data), data);
    let refusal =
        plan.apply(batch(data.slice(..data.len() - 1)), &mut PlanScratch::default()).expect_err("cut");
    assert_eq!((refusal.kind, refusal.cause), (RefusalKind::Malformed, "truncated"));
}

fn origin() -> Origin {
    Origin {
        evidence: Evidence::Kernel,
        process: Some(Process {
            pid: 7,
            uid: 0,
            comm: "python".into(),
            cgroup_id: 1,
            cgroup_path: None,
            netns_cookie: 1,
        }),
        container_id: Some("c1".into()),
        pod_uid: Some("u1".into()),
        pod: Some(Arc::new(Pod {
            uid: "u1".into(),
            name: "web-0".into(),
            namespace: "shop".into(),
            node: Some("n1".into()),
            deployment: Some("web".into()),
            containers: vec![Container {
                id: "c1".into(),
                name: "app".into(),
                image: "registry:5000/shop/web:1.2".into(),
            }],
            labels: vec![("app".into(), "web".into()), ("tier".into(), "front".into())],
            ..Pod::default()
        })),
        peer: "10.0.0.1:5".parse().expect("an address"),
    }
}

#[test]
fn the_origin_is_stamped_and_lies_are_counted() {
    let plan = plan("", true);
    let data = request(
        &[
            ("k8s.pod.name", text("victim")),
            ("service.name", text("x")),
            ("k8s.pod.uid", text("u1")),
            ("k8s.pod.name", text("web-0")),
            ("otlp.origin.pid", text("7")),
        ],
        &[],
    );
    let mut batch = batch(data);
    batch.context.origin = Some(Arc::new(origin()));
    let lies = |name| CLAIMS.with_label_values(&[name]).get();
    let before = (lies("k8s.pod.name"), lies("k8s.pod.uid"), lies("otlp.origin.pid"));
    let out = plan.apply(batch, &mut PlanScratch::default()).expect("well-formed");
    let expected = request(
        &[
            ("k8s.namespace.name", text("shop")),
            ("k8s.node.name", text("n1")),
            ("k8s.deployment.name", text("web")),
            ("k8s.container.name", text("app")),
            ("container.id", text("c1")),
            ("otlp.origin.evidence", text("kernel")),
            ("otlp.origin.pid", Value::Int(7)),
            ("otlp.origin.comm", text("python")),
            ("service.name", text("x")),
            ("k8s.pod.uid", text("u1")),
            ("k8s.pod.name", text("web-0")),
        ],
        &[],
    );
    assert_eq!(out.data, expected);
    assert_eq!(
        (lies("k8s.pod.name"), lies("k8s.pod.uid"), lies("otlp.origin.pid")),
        (before.0 + 1, before.1, before.2 + 1)
    );
}

#[test]
fn an_unknown_sender_gets_only_its_evidence() {
    let plan = plan("", true);
    let out = applied(&plan, &request(&[("container.id", text("c9"))], &[]));
    assert_eq!(out, request(&[("otlp.origin.evidence", text("none"))], &[]));
}

#[test]
fn a_missing_resource_is_made() {
    let plan = plan("", true);
    let out = applied(&plan, &request(&[], &[]));
    assert_eq!(out, request(&[("otlp.origin.evidence", text("none"))], &[]));
}

#[test]
fn pod_metadata_is_written() {
    let plan = plan(
        "  k8sattributes:\n    extract:\n      metadata: [k8s.pod.name, k8s.deployment.name, k8s.container.name]\n      \
         labels: [{tag_name: app, key: app, from: pod}, {tag_name: 'l.$1', key_regex: '(t.*)', from: pod}]\n",
        false,
    );
    let mut batch = batch(request(&[("k8s.deployment.name", text("other"))], &[]));
    batch.context.origin = Some(Arc::new(origin()));
    let out = plan.apply(batch, &mut PlanScratch::default()).expect("well-formed");
    let expected = request(
        &[
            ("k8s.pod.name", text("web-0")),
            ("k8s.container.name", text("app")),
            ("app", text("web")),
            ("l.tier", text("front")),
            ("k8s.deployment.name", text("web")),
        ],
        &[],
    );
    assert_eq!(out.data, expected);
}

/// The plan of one `k8sattributes`, on a resource of [`origin`].
fn enriched(k8s: &str, annotations: &[(&str, &str)], resource: &[(&str, Value<'_>)]) -> Bytes {
    let plan = plan(&format!("  k8sattributes:\n{k8s}"), false);
    let mut batch = batch(request(resource, &[]));
    let mut origin = origin();
    let mut pod = Pod::clone(origin.pod.as_ref().expect("a pod"));
    pod.annotations = annotations.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
    origin.pod = Some(Arc::new(pod));
    batch.context.origin = Some(Arc::new(origin));
    plan.apply(batch, &mut PlanScratch::default()).expect("well-formed").data
}

#[test]
fn an_application_knows_its_service_better_and_an_empty_name_is_none() {
    let k8s = "    extract: {metadata: [service.name, service.version, container.image.name]}\n";
    let given = enriched(k8s, &[], &[("service.name", text("own")), ("service.version", text(""))]);
    let expected = [
        ("container.image.name", text("registry:5000/shop/web")),
        ("service.name", text("own")),
        ("service.version", text("1.2")),
    ];
    assert_eq!(given, request(&expected, &[]));
    let missing = enriched("    extract: {metadata: [service.name]}\n", &[], &[]);
    assert_eq!(missing, request(&[("service.name", text("web"))], &[]));
}

/// Whoever makes a pod chooses its annotations and labels, but not its identity.
#[test]
fn annotations_name_attributes_but_none_of_ours() {
    let annotations = [
        ("resource.opentelemetry.io/k8s.pod.name", "victim"),
        ("resource.opentelemetry.io/otlp.origin.evidence", "kernel"),
        ("resource.opentelemetry.io/otlp.origin.new", "x"),
        ("resource.opentelemetry.io/team", "blue"),
        ("resource.opentelemetry.io/service.name", "theirs"),
        ("resource.opentelemetry.io/", "nothing"),
    ];
    let k8s = "    extract: {metadata: [service.name], otel_annotations: true}\n";
    let got = enriched(k8s, &annotations, &[("service.name", text("own"))]);
    assert_eq!(got, request(&[("team", text("blue")), ("service.name", text("own"))], &[]));
    let got = enriched(k8s, &annotations, &[]);
    assert_eq!(got, request(&[("team", text("blue")), ("service.name", text("theirs"))], &[]));
    let k8s = "    extract:\n      metadata: [k8s.pod.uid]\n      annotations: [{tag_name: '$1', key_regex: '(?:.*/)?(.*)'}]\n";
    let annotations = [("x/k8s.pod.name", "victim"), ("x/container.id", "victim"), ("x/team", "blue")];
    let got = enriched(k8s, &annotations, &[]);
    assert_eq!(got, request(&[("k8s.pod.uid", text("u1")), ("team", text("blue"))], &[]));
}

#[test]
fn pods_beside_the_filter_are_left_as_they_are() {
    let enriched_by = |more: &str| {
        let k8s = format!("    extract: {{metadata: [k8s.pod.uid]}}\n{more}");
        enriched(&k8s, &[], &[]) != request(&[], &[])
    };
    for (more, expected) in [
        ("", true),
        ("    filter: {namespace: shop}\n", true),
        ("    filter: {namespace: bank}\n", false),
        ("    filter: {labels: [{key: app, value: web}, {key: tier, op: exists}]}\n", true),
        ("    filter: {labels: [{key: app, value: web, op: not-equals}]}\n", false),
        ("    filter: {labels: [{key: gone, op: does-not-exist}]}\n", true),
        ("    filter: {labels: [{key: gone, value: x, op: not-equals}]}\n", true),
        ("    filter: {fields: [{key: spec.nodeName, value: n1}]}\n", true),
        ("    filter: {fields: [{key: metadata.name, value: web-0, op: not-equals}]}\n", false),
        ("    exclude: {pods: [{name: 'db-.*'}]}\n", true),
        ("    exclude: {pods: [{name: 'db-.*'}, {name: '^web-\\d$'}]}\n", false),
    ] {
        assert_eq!(enriched_by(more), expected, "{more}");
    }
    let ignored = [("opentelemetry.io/k8s-processor/ignore", "true")];
    let untouched = enriched("    extract: {metadata: [k8s.pod.uid]}\n", &ignored, &[]);
    assert_eq!(untouched, request(&[], &[]));
}

#[test]
fn processors_run_in_order() {
    let actions = "  attributes:\n    actions:\n      - {key: b, from_attribute: a, action: upsert}\n      \
                   - {key: a, action: delete}\n      - {key: c, value: 5, action: insert}\n      \
                   - {key: d, action: hash}\n      - {key: e, value: x, action: update}\n";
    let plan = plan(actions, false);
    let out = applied(&plan, &request(&[], &[("a", text("v")), ("d", text("test")), ("c", text("there"))]));
    let hash = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let sent: Vec<_> = span_attributes(&out);
    assert_eq!(sent, ["b=v", &format!("d={hash}"), "c=there"]);
}

/// `key=value` of a one-span request's span, in wire order.
fn span_attributes(data: &Bytes) -> Vec<String> {
    struct Show(Vec<String>);
    impl Rewrite for Show {
        fn part(&mut self, part: &Part<'_>, _: &mut Edits) {
            if part.kind == Kind::Span {
                self.0 = part
                    .attributes
                    .iter()
                    .map(|a| {
                        let text = |slice| String::from_utf8_lossy(part.bytes(slice)).into_owned();
                        format!("{}={}", text(a.key), text(a.value))
                    })
                    .collect();
            }
        }
    }
    let mut show = Show(Vec::new());
    walk::walk(data, &Limits::default(), &mut walk::Scratch::default(), &mut show, &mut Edits::default())
        .expect("well-formed");
    show.0
}

#[test]
fn an_allow_list_keeps_what_it_names_and_a_blocked_key_beats_an_allowed_value() {
    let plan = plan(
        "  redaction:\n    allow_all_keys: false\n    allowed_keys: [a, c]\n    ignored_keys: [i]\n    \
         blocked_key_patterns: ['^c$']\n    blocked_values: ['secret']\n    allowed_values: ['fine']\n    \
         summary: debug\n",
        true,
    );
    let out = applied(
        &plan,
        &request(
            &[],
            &[
                ("a", text("secret")),
                ("a", text("secret but fine")),
                ("b", text("x")),
                ("c", text("fine")),
                ("i", text("secret")),
                ("redaction.masked.keys", text("sneaked in")),
            ],
        ),
    );
    let mut sent = span_attributes(&out);
    sent.sort();
    assert_eq!(
        sent,
        [
            "a=[REDACTED]",
            "a=secret but fine",
            "c=[REDACTED]",
            "i=secret",
            "redaction.allowed.count=\u{1}",
            "redaction.allowed.keys=a",
            "redaction.ignored.count=\u{1}",
            "redaction.masked.count=\u{2}",
            "redaction.masked.keys=a,c",
            "redaction.redacted.count=\u{2}",
            "redaction.redacted.keys=b,redaction.masked.keys",
        ]
    );
}

/// What is ours is so in every walk of a plan: no allow-list removes it behind a processor that needs the tree.
#[test]
fn stamped_attributes_survive_an_allow_list_of_a_later_walk() {
    let redaction = "  redaction:\n    allow_all_keys: false\n    allowed_keys: [a]\n";
    let filter = "  filter:\n    traces: {span: ['name == \"gone\"']}\n";
    let data = request(&[("k8s.pod.name", text("claimed")), ("team", text("x")), ("a", text("y"))], &[]);
    let mut expected = None;
    for processors in [redaction.to_owned(), format!("{filter}{redaction}")] {
        let mut batch = batch(data.clone());
        batch.context.origin = Some(Arc::new(origin()));
        let out =
            plan(&processors, true).apply(batch, &mut PlanScratch::default()).expect("well-formed").data;
        assert!(contains(&out, "web-0") && !contains(&out, "claimed") && !contains(&out, "team"));
        assert_eq!(*expected.get_or_insert(out.clone()), out);
    }
}

#[test]
fn a_statement_that_fails_follows_its_error_mode() {
    let statement = |mode: &str| {
        format!(
            "  transform:\n    error_mode: {mode}\n    trace_statements:\n      - \
             set(span.attributes[\"u\"], SHA256(span.attributes[\"u\"])) where span.attributes[\"u\"] != nil\n"
        )
    };
    let data = request(&[], &[("u", Value::Int(5)), ("v", text("x"))]);
    let default = statement("ignore").replace("    error_mode: ignore\n", "");
    assert_eq!(span_attributes(&applied(&plan(&default, false), &data)), ["v=x"]);
    assert_eq!(applied(&plan(&statement("ignore"), false), &data), data);
    let refusal = plan(&statement("propagate"), false)
        .apply(batch(data), &mut PlanScratch::default())
        .expect_err("propagated");
    assert_eq!((refusal.kind, refusal.cause), (RefusalKind::Permanent, "statement_failed"));
}

#[test]
fn spans_read_their_resource_as_the_steps_before_left_it() {
    let plan = plan(
        "  resource:\n    attributes: [{key: team, value: red, action: upsert}]\n  transform:\n    \
         trace_statements:\n      - context: span\n        conditions: ['resource.attributes[\"team\"] == \"red\"']\n        \
         statements:\n          - set(attributes[\"owner\"], resource.attributes[\"team\"])\n  \
         resource/later:\n    attributes: [{key: team, value: blue, action: update}]\n",
        false,
    );
    let out = applied(&plan, &request(&[("team", text("green"))], &[("a", text("b"))]));
    assert_eq!(span_attributes(&out), ["owner=red", "a=b"]);
    assert!(out.windows(4).any(|window| window == b"blue"));
}

#[test]
fn errors_name_their_place() {
    let bad_pattern =
        try_plan("  redaction:\n    blocked_values: ['a(?=b)']\n", false).expect_err("look-around");
    assert!(bad_pattern.starts_with("test.yaml:5:"), "{bad_pattern}");
    assert!(bad_pattern.contains("look-around"), "{bad_pattern}");
    let bad_statement = try_plan(
        "  transform:\n    trace_statements:\n      - 'set(span.attributes[\"a\"], UUIDv7(span.attributes[\"a\"]))'\n",
        false,
    )
    .expect_err("UUIDv7");
    assert!(
        bad_statement.contains("line 1, column 27") && bad_statement.contains("SHA256"),
        "{bad_statement}"
    );
}

/// A plan that holds claims against one rule: `service.name` may be `cart` or `cart-…`.
fn ruled(mode: ClaimMode) -> Plan {
    let text = format!(
        "receivers: {{otlp: {{protocols: {{grpc: }}}}}}\nexporters: {{debug: {{}}}}\nextensions:\n  identity:\n    \
         rules: [{{claims: {{service.name: [cart, 'cart-*']}}, mode: {}}}]\n    tenants: {{default: d}}\nservice:\n  \
         extensions: [identity]\n  pipelines: {{traces: {{receivers: [otlp], exporters: [debug]}}}}\n",
        match mode {
            ClaimMode::Reject => "reject",
            ClaimMode::Quarantine => "quarantine",
            ClaimMode::Annotate => "annotate",
        }
    );
    let config = config::parse(&text, "test.yaml").unwrap_or_else(|errors| panic!("{errors}"));
    let identity = config.identity().expect("it is enabled");
    let claims = Binder::new(identity, Arc::new(NoPods), None).claims();
    Plan::compile(&[], Some(&claims)).expect("it compiles")
}

/// A request of a sender to whom the rule applies.
fn claiming(resource: &[(&str, Value<'_>)]) -> Batch {
    let identity = Identity { rule: Some(0), ..Identity::default() };
    let mut batch = batch(request(resource, &[]));
    batch.context.identity = Some(Arc::new(identity));
    batch
}

#[test]
fn claims_are_held_against_the_rule() {
    let honest = [("service.name", text("cart-v2"))];
    let lies: [&[(&str, Value<'_>)]; 4] = [
        &[("service.name", text("payments"))],
        &[("service.name", text("cart")), ("service.name", text("payments"))],
        &[("service.name", Value::Int(7))],
        &[("service.name", text(""))],
    ];
    let evidence = ("otlp.origin.evidence", text("none"));
    for mode in [ClaimMode::Reject, ClaimMode::Quarantine, ClaimMode::Annotate] {
        let plan = ruled(mode);
        let apply =
            |resource: &[(&str, Value<'_>)]| plan.apply(claiming(resource), &mut PlanScratch::default());
        let out = apply(&honest).expect("an honest claim passes");
        assert_eq!(out.data, request(&[evidence, honest[0]], &[]), "{mode:?}");
        assert!(out.context.tenant.is_none());
        for lie in lies {
            let out = apply(lie);
            match mode {
                ClaimMode::Reject => {
                    let refusal = out.expect_err("it is refused");
                    assert_eq!((refusal.kind, refusal.cause), (RefusalKind::Denied, "forged_claim"));
                }
                ClaimMode::Quarantine => {
                    let out = out.expect("it is kept apart");
                    let tenant = out.context.tenant.expect("a tenant of its own");
                    assert_eq!(tenant.as_str(), "quarantine");
                    assert!(contains(&out.data, "otlp.origin.quarantine"), "{lie:?}");
                }
                ClaimMode::Annotate => {
                    let out = out.expect("it passes").data;
                    assert!(contains(&out, "otlp.origin.refused_claims"), "{lie:?}");
                    assert!(!contains(&out, "payments"), "{lie:?}");
                }
            }
        }
    }
}

#[test]
fn what_an_agent_says_of_origins_holds() {
    let mut batch = batch(request(&[("k8s.pod.name", text("web-0")), ("service.name", text("x"))], &[]));
    let same = batch.data.clone();
    batch.context.identity =
        Some(Arc::new(Identity { is_agent: true, rule: Some(0), ..Identity::default() }));
    let out = ruled(ClaimMode::Reject).apply(batch, &mut PlanScratch::default()).expect("an agent's");
    assert_eq!(out.data, same);
}

#[test]
fn the_verified_principal_is_written_and_cannot_be_claimed() {
    let principal = Arc::new(Principal::named(Method::Oidc, "system:serviceaccount:shop:web"));
    let identity = Identity {
        principal: Some(principal),
        contradiction: Some("token_of_another_account"),
        quarantined: true,
        ..Identity::default()
    };
    let mut batch = batch(request(
        &[("otlp.origin.principal", text("root")), ("otlp.origin.quarantine", text("no")), ("a", text("b"))],
        &[],
    ));
    batch.context.identity = Some(Arc::new(identity));
    let out = plan("", true).apply(batch, &mut PlanScratch::default()).expect("well-formed").data;
    for there in ["system:serviceaccount:shop:web", "token_of_another_account", "otlp.origin.quarantine"] {
        assert!(contains(&out, there), "{there}");
    }
    assert!(!contains(&out, "root"));
}

fn contains(data: &[u8], text: &str) -> bool {
    memchr::memmem::find(data, text.as_bytes()).is_some()
}

#[test]
fn what_was_found_clean_before_is_clean_again_and_hides_nothing_else() {
    let plan = plan(DOCUMENT, false);
    let mut scratch = PlanScratch::default();
    // Too many digits in a row for a card: the gate lets them through, the pattern does not match.
    let clean = request(&[], &[("a", text("1234567890123456789012")), ("b", text("fine"))]);
    let leaks = request(&[], &[("a", text("123456789012345678901")), ("b", text("4111-1111-1111-1111"))]);
    let masked = request(&[], &[("a", text("123456789012345678901")), ("b", text("[REDACTED]"))]);
    for _ in 0..3 {
        for (before, after) in [(&clean, &clean), (&leaks, &masked)] {
            let data = plan.apply(batch(before.clone()), &mut scratch).expect("well-formed").data;
            assert_eq!(data, after);
        }
    }
}

#[test]
fn unknown_fields_inside_an_edited_attribute_go_with_it() {
    let plan = plan(DOCUMENT, false);
    let span = |attributes: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        encode::field_with(&mut out, 1, |out| {
            encode::field_with(out, 2, |out| {
                encode::field_with(out, 2, |out| {
                    encode::field(out, 1, &[1; 16]);
                    encode::field(out, 2, &[2; 8]);
                    attributes(out);
                });
            });
        });
        Bytes::from(out)
    };
    let unknown = |out: &mut Vec<u8>, key: &str, value: &str| {
        encode::field_with(out, 9, |out| {
            encode::field(out, 1, key.as_bytes());
            encode::field(out, 11, b"hidden");
            encode::field_with(out, 2, |out| encode::any_value(out, text(value)));
        });
    };
    let before = span(&|out| {
        unknown(out, "user.id", "test");
        unknown(out, "kept", "as it is");
    });
    let hash = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let after = span(&|out| {
        encode::key_value(out, 9, "user.id", text(hash));
        encode::key_value(out, 9, "kept", text("as it is"));
    });
    assert_eq!(applied(&plan, &before), after);
}

/// A rule that nobody has written has no metric that stays at 0.
#[test]
fn only_rules_that_are_configured_are_rules() {
    let names = |fields: &str| {
        let plan = plan(&format!("  redaction: {{{fields}}}"), false);
        plan.rules().iter().map(|rule| rule.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(names("allow_all_keys: true"), [""; 0]);
    assert_eq!(names("allow_all_keys: true, allowed_keys: [a]"), [""; 0]);
    assert_eq!(names("allow_all_keys: true, blocked_keys: [a]"), ["blocked_keys"]);
    assert_eq!(names("allowed_keys: [a]"), ["allowed_keys"]);
    assert_eq!(names("allow_all_keys: true, blocked_values: [a]"), ["blocked_values[0]"]);
}
