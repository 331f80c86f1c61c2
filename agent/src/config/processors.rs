//! `processors:`

use std::{fmt, path::PathBuf, time::Duration};

use super::Located;

/// A processor.
#[derive(Clone, Debug)]
pub enum Processor {
    /// `memory_limiter`
    MemoryLimiter(MemoryLimiter),
    /// `batch`
    Batch(BatchProcessor),
    /// `redaction`
    Redaction(Box<Redaction>),
    /// `scrub`: the built-in detectors
    Scrub(Scrub),
    /// `transform`
    Transform(Transform),
    /// `attributes`: span attributes
    Attributes(Attributes),
    /// `resource`: resource attributes
    Resource(Vec<AttributeAction>),
    /// `filter`, for traces
    Filter(Filter),
    /// `span`: names and status
    Span(SpanRules),
    /// `k8sattributes`, `k8s_attributes`
    K8sAttributes(K8sAttributes),
    /// `tail_sampling`
    TailSampling(TailSampling),
}

/// `memory_limiter`. Ours admits by bytes held and by the process's resident memory, without a heap poll.
#[derive(Clone, Debug)]
pub struct MemoryLimiter {
    /// How often resident memory is read; must not be 0.
    pub check_interval: Duration,
    /// Hard limit, MiB; this or `limit_percentage` is set.
    pub limit_mib: Option<u64>,
    /// Soft limit = hard - spike; default 20 % of the limit.
    pub spike_limit_mib: Option<u64>,
    /// Percent of the cgroup's or the machine's memory.
    pub limit_percentage: Option<u32>,
    /// Percent.
    pub spike_limit_percentage: Option<u32>,
}

/// `batch`
#[derive(Clone, Debug)]
pub struct BatchProcessor {
    /// Default 200 ms.
    pub timeout: Duration,
    /// Spans; default 8192. 0 sends each batch at once.
    pub send_batch_size: u32,
    /// Spans; 0 = no maximum, otherwise at least `send_batch_size`.
    pub send_batch_max_size: u32,
}

/// `redaction`. Differences from the Collector: everything is scanned (names, events, links, status, nested
/// values, bytes), the reference documents' `blocked_keys` deletes, and a match is written `[REDACTED]`.
#[derive(Clone, Debug, Default)]
pub struct Redaction {
    /// Without it only `allowed_keys` survive.
    pub allow_all_keys: bool,
    /// Exact keys.
    pub allowed_keys: Vec<String>,
    /// Exact keys that are left alone.
    pub ignored_keys: Vec<String>,
    /// Patterns of keys that are left alone.
    pub ignored_key_patterns: Vec<Located<String>>,
    /// Exact keys whose attribute is deleted (the reference documents' field).
    pub blocked_keys: Vec<String>,
    /// Patterns of keys whose whole value is masked.
    pub blocked_key_patterns: Vec<Located<String>>,
    /// Patterns whose matches are masked in every value, in this order.
    pub blocked_values: Vec<Located<String>>,
    /// A value that matches one is kept, unless its key is blocked.
    pub allowed_values: Vec<Located<String>>,
    /// Numbers too are matched, by their decimal text.
    pub redact_all_types: bool,
    /// `hash_function`: what stands for what is masked; `None`: `[REDACTED]`.
    pub hash: Option<Hash>,
    /// `url_sanitizer`, where it is enabled
    pub url_sanitizer: Option<UrlSanitizer>,
    /// `db_sanitizer`
    pub db_sanitizer: DbSanitizer,
    /// `summary`
    pub summary: RedactionSummary,
    /// `skip_conditions`: OTTL; a message for which one holds is left as it is, with all that is under it.
    pub skip_conditions: Vec<Located<String>>,
}

/// `redaction.hash_function` and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hash {
    /// `md5`
    Md5,
    /// `sha1`
    Sha1,
    /// `sha3`: SHA3-256
    Sha3,
    /// `sha256`; ours
    Sha256,
    /// `hmac-sha256`
    HmacSha256(HmacKey),
    /// `hmac-sha512`
    HmacSha512(HmacKey),
}

/// Where the key of an HMAC is. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub enum HmacKey {
    /// `hmac_key`
    Inline(String),
    /// `hmac_key_file`; ours: lines `EPOCH: KEY`, read again when they change.
    File(Located<PathBuf>),
}

impl fmt::Debug for HmacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inline(_) => f.write_str("Inline(…)"),
            Self::File(path) => f.debug_tuple("File").field(&path.value).finish(),
        }
    }
}

/// `redaction.url_sanitizer`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UrlSanitizer {
    /// Exact keys; where the configuration names none, those of the semantic conventions.
    pub attributes: Vec<String>,
    /// Span names too, where there is a path in them.
    pub sanitize_span_name: bool,
    /// `query: all` (the default), not `query: secrets`; ours.
    pub all_values: bool,
}

/// `redaction.db_sanitizer`: the attributes of each system whose sanitizer is enabled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DbSanitizer {
    /// `sql`, and the like below; exact keys, where the configuration names none those of the semantic conventions.
    pub sql: Option<Vec<String>>,
    /// `redis`
    pub redis: Option<Vec<String>>,
    /// `valkey`
    pub valkey: Option<Vec<String>>,
    /// `memcached`
    pub memcached: Option<Vec<String>>,
    /// `mongo`
    pub mongo: Option<Vec<String>>,
    /// `opensearch`
    pub opensearch: Option<Vec<String>>,
    /// `es`
    pub es: Option<Vec<String>>,
    /// Span names too, where the span says its system.
    pub sanitize_span_name: bool,
    /// Also where nothing says the system.
    pub allow_fallback_without_system: bool,
}

/// `redaction.summary`: what is added to a changed attribute list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RedactionSummary {
    /// Nothing.
    #[default]
    Silent,
    /// `redaction.{redacted,masked,allowed,ignored}.count`
    Info,
    /// Counts and sorted key names.
    Debug,
}

/// `scrub`, ours: built-in detectors that look everywhere, and keys whose values are masked whole.
#[derive(Clone, Debug)]
pub struct Scrub {
    /// Of the detectors; at most [`super::detectors::VERSION`].
    pub version: u32,
    /// Names of those that are on, in the order of [`super::detectors::all`].
    pub detectors: Vec<&'static str>,
    /// What the detector `ip` looks for, where it is on.
    pub ip: IpRanges,
    /// What stands where something was found; `{name}` in it is the detector's name.
    pub mask: String,
    /// `decode: [base64]`: looks into base64 too.
    pub decode_base64: bool,
    /// `blocked_keys`
    pub blocked_keys: ScrubKeys,
    /// `statements` and `urls`: what sanitizes them first, as `redaction` does; `None` where neither is enabled.
    pub sanitizers: Option<Box<Redaction>>,
    /// Numbers too are looked at, by their decimal text.
    pub redact_all_types: bool,
}

impl Scrub {
    /// The default of `mask`.
    pub const MASK: &str = "[REDACTED]";
}

/// `scrub.detectors.ip.ranges`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IpRanges {
    /// Every address but the unspecified, loopback and link-local ones.
    #[default]
    All,
    /// Addresses of the internet.
    Public,
    /// Addresses of private networks (RFC 1918, RFC 4193, shared address space).
    Private,
}

/// `scrub.blocked_keys`: keys whose value is masked whole.
#[derive(Clone, Debug)]
pub struct ScrubKeys {
    /// Whether keys that name a secret (`password`, `authorization`, `x-api-key`, …) are blocked.
    pub enabled: bool,
    /// More keys: whole, or only their last part.
    pub add: Vec<String>,
    /// Keys that are not blocked, in the same form.
    pub except: Vec<String>,
}

impl Default for ScrubKeys {
    fn default() -> Self {
        Self { enabled: true, add: Vec::new(), except: Vec::new() }
    }
}

/// `transform`
#[derive(Clone, Debug)]
pub struct Transform {
    /// What happens when a statement fails on a value.
    pub error_mode: ErrorMode,
    /// `trace_statements`
    pub trace_statements: Vec<StatementGroup>,
}

/// `error_mode`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ErrorMode {
    /// Ours and the default: the value that could not be handled is dropped, and counted.
    #[default]
    DropValue,
    /// `ignore`: log and keep the value.
    Ignore,
    /// `silent`: keep the value.
    Silent,
    /// `propagate`: refuse the request.
    Propagate,
}

/// One entry of `trace_statements`, in either of the Collector's two forms.
#[derive(Clone, Debug)]
pub struct StatementGroup {
    /// `context: span` and the like, the older form; absent: the paths say it.
    pub context: Option<Located<String>>,
    /// Any of them; empty: always.
    pub conditions: Vec<Located<String>>,
    /// In order.
    pub statements: Vec<Located<String>>,
    /// Overrides the processor's.
    pub error_mode: Option<ErrorMode>,
}

/// `attributes`
#[derive(Clone, Debug, Default)]
pub struct Attributes {
    /// `actions`, in order.
    pub actions: Vec<AttributeAction>,
    /// Which spans.
    pub spans: SpanChoice,
}

/// `include` and `exclude`: spans that match the first, if there is one, and not the second.
#[derive(Clone, Debug, Default)]
pub struct SpanChoice {
    /// `include`
    pub include: Option<SpanMatch>,
    /// `exclude`
    pub exclude: Option<SpanMatch>,
}

/// Properties of spans. A span matches where each property that is given does: of `attributes` and `resources` all
/// entries, of the others one.
#[derive(Clone, Debug, Default)]
pub struct SpanMatch {
    /// `match_type: regexp`: texts are unanchored RE2 patterns. Otherwise they are compared.
    pub regexp: bool,
    /// `service.name` of the resource.
    pub services: Vec<Located<String>>,
    /// The span's name.
    pub span_names: Vec<Located<String>>,
    /// Attributes of the span.
    pub attributes: Vec<AttributeMatch>,
    /// Attributes of the resource.
    pub resources: Vec<AttributeMatch>,
    /// Instrumentation scopes.
    pub libraries: Vec<LibraryMatch>,
    /// Numbers of span kinds.
    pub span_kinds: Vec<u32>,
}

/// An attribute that must be there.
#[derive(Clone, Debug)]
pub struct AttributeMatch {
    /// Its key.
    pub key: String,
    /// Its value; absent: any.
    pub value: Option<Located<Literal>>,
}

/// An instrumentation scope.
#[derive(Clone, Debug)]
pub struct LibraryMatch {
    /// Its name.
    pub name: Located<String>,
    /// Its version; absent: any.
    pub version: Option<Located<String>>,
}

/// `filter`: spans and events that match are dropped.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// What a condition that can't be evaluated does; by default the message that it is about is dropped.
    pub error_mode: ErrorMode,
    /// `traces` and `trace_conditions`.
    pub conditions: Vec<ConditionGroup>,
    /// The older `spans`: spans that are not chosen are dropped.
    pub spans: SpanChoice,
}

/// Conditions of `filter`, of which one is enough.
#[derive(Clone, Debug)]
pub struct ConditionGroup {
    /// What they are about; absent: the paths say it.
    pub context: Option<Located<String>>,
    /// At least one.
    pub conditions: Vec<Located<String>>,
    /// Overrides the processor's.
    pub error_mode: Option<ErrorMode>,
}

/// `span`
#[derive(Clone, Debug, Default)]
pub struct SpanRules {
    /// `name.from_attributes`: the new name is made of their values.
    pub from_attributes: Vec<String>,
    /// `name.separator`: what stands between them.
    pub separator: String,
    /// `name.to_attributes.rules`: patterns whose named groups become attributes.
    pub to_attributes: Vec<Located<String>>,
    /// `name.to_attributes.break_after_match`
    pub break_after_match: bool,
    /// `name.to_attributes.keep_original_name`
    pub keep_original_name: bool,
    /// `status`: its code (0 unset, 1 ok, 2 error) and its description.
    pub status: Option<(u32, String)>,
    /// Which spans.
    pub spans: SpanChoice,
}

/// One entry of the `actions` of `attributes`, or of the `attributes` of `resource`.
#[derive(Clone, Debug)]
pub struct AttributeAction {
    /// The attribute.
    pub key: Located<String>,
    /// What is done.
    pub action: Action,
}

/// `action`
#[derive(Clone, Debug)]
pub enum Action {
    /// Adds it where it is not yet.
    Insert(ActionValue),
    /// Changes it where it is.
    Update(ActionValue),
    /// Adds or changes it.
    Upsert(ActionValue),
    /// Removes it; `pattern` too when given (keys that match).
    Delete {
        /// Patterns of further keys.
        pattern: Option<Located<String>>,
    },
    /// Replaces the value by its SHA-256 (the Collector's older SHA-1 is not offered).
    Hash {
        /// Patterns of further keys.
        pattern: Option<Located<String>>,
    },
    /// Writes the named groups of a pattern's match in the value as attributes.
    Extract(Located<String>),
    /// Changes the value's type; one that can't be converted stays.
    Convert(ConvertTo),
}

/// `converted_type`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConvertTo {
    /// `string`
    String,
    /// `int`
    Int,
    /// `double`
    Double,
}

/// Where the value of an [`Action`] comes from.
#[derive(Clone, Debug)]
pub enum ActionValue {
    /// `value`
    Literal(Literal),
    /// `from_attribute`: nothing happens where that is missing.
    FromAttribute(String),
}

/// A literal of the configuration, typed as YAML reads it.
#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    /// Text.
    String(String),
    /// Integer.
    Int(i64),
    /// Double.
    Double(f64),
    /// Boolean.
    Bool(bool),
}

/// What `extract.metadata` may name: what the kernel's evidence and a pod source tell.
pub const K8S_METADATA: [&str; 25] = [
    "k8s.namespace.name",
    "k8s.pod.name",
    "k8s.pod.uid",
    "k8s.pod.ip",
    "k8s.pod.hostname",
    "k8s.pod.start_time",
    "k8s.node.name",
    "k8s.deployment.name",
    "k8s.replicaset.name",
    "k8s.replicaset.uid",
    "k8s.statefulset.name",
    "k8s.statefulset.uid",
    "k8s.daemonset.name",
    "k8s.daemonset.uid",
    "k8s.job.name",
    "k8s.job.uid",
    "k8s.cronjob.name",
    "k8s.container.name",
    "container.id",
    "container.image.name",
    "container.image.tag",
    "service.name",
    "service.namespace",
    "service.version",
    "service.instance.id",
];

/// `k8sattributes`. The kernel's evidence always comes first; `pod_association` is read and checked only.
#[derive(Clone, Debug, Default)]
pub struct K8sAttributes {
    /// `extract.metadata`; empty: the Collector's default set.
    pub metadata: Vec<String>,
    /// `extract.labels`
    pub labels: Vec<FieldExtract>,
    /// `extract.annotations`
    pub annotations: Vec<FieldExtract>,
    /// `extract.otel_annotations`: annotations `resource.opentelemetry.io/KEY` become attributes `KEY`.
    pub otel_annotations: bool,
    /// `filter`: pods beside it are left as they are.
    pub filter: PodFilter,
    /// `exclude.pods`: patterns of names of pods that are left as they are.
    pub exclude: Vec<Located<String>>,
    /// `passthrough`: only the pod's address is added.
    pub passthrough: bool,
}

/// `filter` of `k8sattributes`; all of it must hold.
#[derive(Clone, Debug, Default)]
pub struct PodFilter {
    /// `namespace`
    pub namespace: Option<String>,
    /// `labels`
    pub labels: Vec<Requirement>,
    /// `fields`: `metadata.name`, `metadata.namespace`, `spec.nodeName`, `spec.serviceAccountName`.
    pub fields: Vec<Requirement>,
}

/// One of `filter.labels` or `filter.fields`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// `key`
    pub key: String,
    /// `value`; empty where `op` needs none.
    pub value: String,
    /// `op`
    pub op: RequirementOp,
}

/// `op` of a [`Requirement`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequirementOp {
    /// `equals`, the default
    Equals,
    /// `not-equals`
    NotEquals,
    /// `exists`
    Exists,
    /// `does-not-exist`
    DoesNotExist,
}

/// One entry of `extract.labels` or `extract.annotations`.
#[derive(Clone, Debug)]
pub struct FieldExtract {
    /// The attribute's name; default `k8s.pod.labels.<key>` / `k8s.pod.annotations.<key>`. `$1` refers to `key_regex`.
    pub tag_name: Option<String>,
    /// The label's key; this or `key_regex`.
    pub key: Option<String>,
    /// Matches whole keys.
    pub key_regex: Option<Located<String>>,
}

/// `tail_sampling`
#[derive(Clone, Debug)]
pub struct TailSampling {
    /// From the first span; default 30 s.
    pub decision_wait: Duration,
    /// After the root span; 0 = off.
    pub decision_wait_after_root_received: Duration,
    /// Default 50,000.
    pub num_traces: u64,
    /// Bytes; 0 = no limit. A larger trace is decided at once on what is there.
    pub maximum_trace_size_bytes: u64,
    /// `decision_cache.sampled_cache_size`; 0 = ours of 10 x `num_traces`.
    pub sampled_cache_size: u64,
    /// `decision_cache.non_sampled_cache_size`
    pub non_sampled_cache_size: u64,
    /// At least one, names unique.
    pub policies: Vec<Policy>,
}

/// One policy.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Unique in its processor.
    pub name: Located<String>,
    /// `type` and what belongs to it.
    pub rule: PolicyRule,
}

/// `type` of a policy. What the Collector knows beyond these is refused as not built yet.
#[derive(Clone, Debug)]
pub enum PolicyRule {
    /// `always_sample`
    AlwaysSample,
    /// `status_code`: any span has one of these.
    StatusCode {
        /// Non-empty.
        status_codes: Vec<StatusCode>,
    },
    /// `latency`, over the whole trace: `>= threshold`, or `threshold < d <= upper` when `upper` is set.
    Latency {
        /// `threshold_ms`
        threshold: Duration,
        /// `upper_threshold_ms`; 0 = none
        upper_threshold: Option<Duration>,
    },
    /// `string_attribute`: resource attributes, then span attributes.
    StringAttribute {
        /// The attribute.
        key: String,
        /// Exact values, or unanchored RE2 patterns.
        values: Vec<Located<String>>,
        /// `enabled_regex_matching`
        regex: bool,
        /// `invert_match`: sampled when no span matches.
        invert_match: bool,
    },
    /// `probabilistic`
    Probabilistic {
        /// Default `default-hash-seed`.
        hash_salt: String,
        /// 0 to 100.
        sampling_percentage: f64,
    },
    /// `and`: all of them.
    And(Vec<Policy>),
}

/// `status_codes`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusCode {
    /// Also a span without a status.
    Unset,
    /// `OK`
    Ok,
    /// `ERROR`
    Error,
}
