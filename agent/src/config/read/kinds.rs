//! Component types: ours, the Collector's, and names that are gone.

use crate::config::fields::nearest;

/// A section of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    Receivers,
    Processors,
    Exporters,
    Extensions,
}

/// What a type name is.
pub(super) enum Known {
    /// Built; the older of its names.
    Built(&'static str),
    /// Anything else, and why.
    Refused(String),
}

/// Names that are read, each with the name that the readers know it by.
fn built(section: Section) -> &'static [(&'static str, &'static str)] {
    match section {
        Section::Receivers => &[("otlp", "otlp")],
        Section::Processors => &[
            ("memory_limiter", "memory_limiter"),
            ("batch", "batch"),
            ("redaction", "redaction"),
            ("scrub", "scrub"),
            ("transform", "transform"),
            ("attributes", "attributes"),
            ("resource", "resource"),
            ("filter", "filter"),
            ("span", "span"),
            ("k8sattributes", "k8sattributes"),
            ("k8s_attributes", "k8sattributes"),
            ("tail_sampling", "tail_sampling"),
        ],
        Section::Exporters => &[
            ("otlp", "otlp"),
            ("otlp_grpc", "otlp"),
            ("otlphttp", "otlphttp"),
            ("otlp_http", "otlphttp"),
            ("file", "file"),
            ("debug", "debug"),
            ("loadbalancing", "loadbalancing"),
            ("load_balancing", "loadbalancing"),
        ],
        Section::Extensions => &[
            ("origin", "origin"),
            ("health_check", "health_check"),
            ("oidc", "oidc"),
            ("bearertokenauth", "bearertokenauth"),
            ("bearer_token_auth", "bearertokenauth"),
            ("identity", "identity"),
        ],
    }
}

/// Types of the Collector (core and contrib) and of this project that are not built.
fn not_built(section: Section) -> &'static [&'static str] {
    match section {
        Section::Receivers => &RECEIVERS,
        Section::Processors => &PROCESSORS,
        Section::Exporters => &EXPORTERS,
        Section::Extensions => &EXTENSIONS,
    }
}

/// Types that the Collector has dropped, and what to write now.
const GONE: [(Section, &str, &str); 5] = [
    (Section::Exporters, "logging", "the Collector has removed `logging`; it is `debug` now"),
    (Section::Exporters, "jaeger", "the Collector has removed `jaeger`; Jaeger takes `otlp`"),
    (Section::Exporters, "jaeger_thrift", "the Collector has removed `jaeger_thrift`; Jaeger takes `otlp`"),
    (Section::Processors, "spanmetrics", "the Collector has removed this processor; it is a connector now"),
    (Section::Extensions, "memory_ballast", "the Collector has removed `memory_ballast`; remove it"),
];

/// Looks a type up.
pub(super) fn lookup(section: Section, kind: &str) -> Known {
    if let Some((_, canonical)) = built(section).iter().find(|(name, _)| *name == kind) {
        return Known::Built(canonical);
    }
    let what = match section {
        Section::Receivers => "receiver",
        Section::Processors => "processor",
        Section::Exporters => "exporter",
        Section::Extensions => "extension",
    };
    if not_built(section).contains(&kind) {
        return Known::Refused(format!("the {what} `{kind}` is known but not built yet"));
    }
    if let Some((_, _, message)) = GONE.iter().find(|(of, name, _)| *of == section && *name == kind) {
        return Known::Refused((*message).to_owned());
    }
    let names: Vec<&str> =
        built(section).iter().map(|(name, _)| *name).chain(not_built(section).iter().copied()).collect();
    Known::Refused(nearest::unknown(&format!("{what} type"), kind, &names))
}

const RECEIVERS: [&str; 62] = [
    "aerospike",
    "apache",
    "awscontainerinsightreceiver",
    "awsfirehose",
    "awsxray",
    "azureeventhub",
    "azuremonitor",
    "carbon",
    "chrony",
    "cloudflare",
    "cloudfoundry",
    "collectd",
    "couchdb",
    "datadog",
    "docker_stats",
    "elasticsearch",
    "expvar",
    "faro",
    "filelog",
    "filestats",
    "fluentforward",
    "googlecloudpubsub",
    "googlecloudspanner",
    "haproxy",
    "hostmetrics",
    "host_metrics",
    "httpcheck",
    "influxdb",
    "jaeger",
    "jmx",
    "journald",
    "k8s_cluster",
    "k8s_events",
    "k8sobjects",
    "kafka",
    "kafkametrics",
    "kubeletstats",
    "loki",
    "memcached",
    "mongodb",
    "mysql",
    "nginx",
    "nop",
    "oracledb",
    "otelarrow",
    "otlpjsonfile",
    "otlp_json_file",
    "postgresql",
    "prometheus",
    "prometheusremotewrite",
    "pulsar",
    "rabbitmq",
    "receiver_creator",
    "redis",
    "signalfx",
    "skywalking",
    "splunk_hec",
    "sqlquery",
    "statsd",
    "syslog",
    "tcplog",
    "zipkin",
];

const PROCESSORS: [&str; 29] = [
    "cumulativetodelta",
    "coralogix",
    "deltatocumulative",
    "deltatorate",
    "dns_lookup",
    "dynamic_sampling",
    "geoip",
    "groupbyattrs",
    "groupbytrace",
    "interval",
    "isolationforest",
    "k8slogs",
    "logdedup",
    "logstransform",
    "metricsgeneration",
    "metricstarttime",
    "metricstransform",
    "probabilistic_sampler",
    "queuebatch",
    "remotetap",
    "resourcedetection",
    "resource_detection",
    "routing",
    "schema",
    "servicegraph",
    "sumologic",
    "tracestate",
    "unroll",
    "datadogsemantics",
];

const EXPORTERS: [&str; 47] = [
    "alertmanager",
    "alibabacloud_logservice",
    "awscloudwatchlogs",
    "awsemf",
    "awskinesis",
    "awss3",
    "awsxray",
    "azureblob",
    "azuredataexplorer",
    "azuremonitor",
    "bmchelix",
    "carbon",
    "cassandra",
    "clickhouse",
    "coralogix",
    "datadog",
    "dataset",
    "doris",
    "elasticsearch",
    "faro",
    "googlecloud",
    "googlecloudpubsub",
    "googlemanagedprometheus",
    "honeycombmarker",
    "influxdb",
    "kafka",
    "logicmonitor",
    "logzio",
    "loki",
    "mezmo",
    "nop",
    "opensearch",
    "otelarrow",
    "prometheus",
    "prometheusremotewrite",
    "pulsar",
    "rabbitmq",
    "sapm",
    "sentry",
    "signalfx",
    "splunk_hec",
    "stef",
    "sumologic",
    "syslog",
    "tencentcloud_logservice",
    "tinybird",
    "zipkin",
];

const EXTENSIONS: [&str; 33] = [
    "ack",
    "asapauthextension",
    "avro_log_encoding",
    "aws_proxy",
    "awsproxy",
    "azure_auth",
    "azureauth",
    "basicauth",
    "basic_auth",
    "cgroupruntime",
    "db_storage",
    "docker_observer",
    "ecs_observer",
    "file_storage",
    "googleclientauth",
    "headers_setter",
    "healthcheckv2",
    "host_observer",
    "http_forwarder",
    "jaeger_encoding",
    "jaegerremotesampling",
    "json_log_encoding",
    "k8s_leader_elector",
    "k8s_observer",
    "memory_limiter",
    "oauth2client",
    "opamp",
    "otlp_encoding",
    "pprof",
    "redis_storage",
    "sigv4auth",
    "zipkin_encoding",
    "zpages",
];
