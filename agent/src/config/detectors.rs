//! The built-in detectors of `scrub`: their names, by which they are switched on and off, and their sets.
//!
//! What they look for is in `scrub::detect`; a name is added here and there, and never given another meaning. A
//! new meaning is a new [`VERSION`].

/// The newest version of the sets. `version: 1` in a configuration stays what it is when there is a second one.
pub const VERSION: u32 = 1;

/// A set of detectors that belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DetectorSet {
    /// What gives access: tokens, keys, passwords.
    Secrets,
    /// What names or numbers a person.
    Personal,
    /// Addresses of machines: off unless asked for.
    Network,
}

/// `sets`, by their names.
pub const SETS: [(&str, DetectorSet); 3] = [
    ("secrets", DetectorSet::Secrets),
    ("personal", DetectorSet::Personal),
    ("network", DetectorSet::Network),
];

/// Names of the detectors of [`DetectorSet::Secrets`], the most specific first: where two findings are equally long,
/// the earlier name is written.
pub const SECRETS: [&str; 81] = [
    "private_key",
    "jwt",
    "aws_access_key",
    "gcp_api_key",
    "gcp_oauth_token",
    "azure_secret",
    "alibaba_access_key",
    "digitalocean_token",
    "heroku_key",
    "cloudflare_origin_key",
    "databricks_token",
    "fly_token",
    "planetscale_token",
    "supabase_key",
    "doppler_token",
    "github_token",
    "gitlab_token",
    "atlassian_token",
    "npm_token",
    "pypi_token",
    "rubygems_key",
    "crates_token",
    "nuget_key",
    "docker_token",
    "circleci_token",
    "buildkite_token",
    "sonar_token",
    "artifactory_key",
    "sentry_token",
    "grafana_token",
    "stripe_key",
    "square_token",
    "shopify_token",
    "braintree_token",
    "razorpay_key",
    "flutterwave_key",
    "plaid_token",
    "easypost_key",
    "slack_token",
    "slack_webhook",
    "discord_webhook",
    "teams_webhook",
    "telegram_token",
    "sendgrid_key",
    "mailgun_key",
    "mailchimp_key",
    "brevo_key",
    "resend_key",
    "twilio_key",
    "vault_token",
    "terraform_token",
    "pulumi_token",
    "newrelic_key",
    "dynatrace_token",
    "honeycomb_key",
    "postman_key",
    "linear_key",
    "notion_token",
    "airtable_token",
    "figma_token",
    "contentful_token",
    "hubspot_token",
    "tailscale_key",
    "onepassword_token",
    "okta_token",
    "age_key",
    "anthropic_key",
    "openrouter_key",
    "openai_key",
    "huggingface_token",
    "replicate_token",
    "groq_key",
    "perplexity_key",
    "xai_key",
    "nvidia_key",
    "langsmith_key",
    "password_hash",
    "url_credentials",
    "url_signature",
    "authorization",
    "secret_assignment",
];

/// Names of the detectors of [`DetectorSet::Personal`], the most specific first.
pub const PERSONAL: [&str; 5] = ["iban", "card", "ssn", "email", "phone"];

/// Names of the detectors of [`DetectorSet::Network`].
pub const NETWORK: [&str; 1] = ["ip"];

/// All names with their sets, in order.
pub fn all() -> impl Iterator<Item = (&'static str, DetectorSet)> {
    let secrets = SECRETS.into_iter().map(|name| (name, DetectorSet::Secrets));
    let personal = PERSONAL.into_iter().map(|name| (name, DetectorSet::Personal));
    let network = NETWORK.into_iter().map(|name| (name, DetectorSet::Network));
    secrets.chain(personal).chain(network)
}
