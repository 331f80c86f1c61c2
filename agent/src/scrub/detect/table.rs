//! The built-in detectors by name: what they look for, and what a text must hold before they look.

#![forbid(unsafe_code)]

use crate::config::processors::IpRanges;

use super::{
    bytes::Class::{Alnum, Base64, Hex, Lower, Token as Token68, Upper, Word},
    digits,
    finds::Finds,
    ip, mail, phone, secret,
    token::{self, Token, at_least, exactly},
    words,
};

/// A detector.
#[derive(Clone, Copy, Debug)]
pub(super) struct Detector {
    /// Patterns of which every text contains one in which it finds something.
    pub(super) gates: &'static [&'static str],
    /// How it looks.
    pub(super) look: Look,
}

/// How a detector looks.
#[derive(Clone, Copy, Debug)]
pub(super) enum Look {
    /// For tokens of these forms.
    Tokens(&'static [Token]),
    /// With its own scan.
    Scan(fn(&[u8], &mut Finds)),
}

impl Detector {
    /// Adds what it finds in a text. Takes time in proportion to the text's length, whatever it holds.
    pub(super) fn find(&self, text: &[u8], finds: &mut Finds) {
        match self.look {
            Look::Tokens(tokens) => token::scan(tokens, text, finds),
            Look::Scan(scan) => scan(text, finds),
        }
    }
}

/// A detector of tokens, with its table made at compile time.
macro_rules! tokens {
    ([$($gate:expr),* $(,)?], [$($token:expr),* $(,)?] $(,)?) => {
        Detector { gates: &[$($gate),*], look: Look::Tokens(const { &[$($token),*] }) }
    };
}

const fn scan(gates: &'static [&'static str], scan: fn(&[u8], &mut Finds)) -> Detector {
    Detector { gates, look: Look::Scan(scan) }
}

/// A key of base64 with padding.
const fn padded(token: Token) -> Token {
    Token { padded: true, ..token }
}

/// The detector of a name; `None` where there is none of that name.
#[expect(clippy::too_many_lines, reason = "a table")]
pub(super) fn detector(name: &str, ranges: IpRanges) -> Option<Detector> {
    Some(match name {
        "private_key" => scan(&["-----BEGIN ", "PuTTY-Us", "LS0tLS1CRUdJTi"], secret::private_key),
        "jwt" => scan(&["eyJ[\\w-]{5}"], secret::jwt),
        "aws_access_key" => tokens!(
            ["A[KSBC][IC]A[A-Z0-9]{8}"],
            [
                exactly("AKIA", Upper, 16),
                exactly("ASIA", Upper, 16),
                exactly("ABIA", Upper, 16),
                exactly("ACCA", Upper, 16),
            ],
        ),
        "gcp_api_key" => tokens!(["AIza[\\w-]{4}"], [exactly("AIza", Word, 35)]),
        "gcp_oauth_token" => tokens!(
            ["ya29\\.[\\w-]{3}", "GOCSPX-[\\w-]"],
            [at_least("ya29.", Word, 20), exactly("GOCSPX-", Word, 28)],
        ),
        "azure_secret" => scan(&["[0-9]Q~[\\w.~-]{5}", "countKey="], secret::azure),
        "alibaba_access_key" => {
            tokens!(["LTAI[A-Za-z0-9]{4}"], [Token { min: 12, ..exactly("LTAI", Alnum, 20) }])
        }
        "digitalocean_token" => tokens!(
            ["do[opr]_v1_[a-f0-9]"],
            [exactly("dop_v1_", Hex, 64), exactly("doo_v1_", Hex, 64), exactly("dor_v1_", Hex, 64)],
        ),
        "heroku_key" => tokens!(["HRKU-[\\w-]{3}"], [at_least("HRKU-", Word, 36)]),
        "cloudflare_origin_key" => tokens!(["v1\\.0-[a-f0-9]{4}"], [at_least("v1.0-", Word, 160)]),
        "databricks_token" => tokens!(["dapi[a-f0-9]{8}"], [exactly("dapi", Hex, 32)]),
        "fly_token" => tokens!(
            ["f[mo][12]_[\\w+/-]{4}"],
            [
                padded(at_least("fm1_", Base64, 60)),
                padded(at_least("fm2_", Base64, 60)),
                at_least("fo1_", Word, 40)
            ],
        ),
        "planetscale_token" => tokens!(
            ["pscale_[a-z]"],
            [
                at_least("pscale_tkn_", Word, 32),
                at_least("pscale_pw_", Word, 32),
                at_least("pscale_oauth_", Word, 32),
            ],
        ),
        "supabase_key" => {
            tokens!(
                ["sbp_[a-f0-9]{4}", "sb_secre"],
                [exactly("sbp_", Hex, 40), at_least("sb_secret_", Word, 20)]
            )
        }
        "doppler_token" => tokens!(
            ["dp\\.[psca][tacu][a-z.]"],
            [
                at_least("dp.pt.", Alnum, 40),
                at_least("dp.st.", Token68, 40),
                at_least("dp.ct.", Alnum, 40),
                at_least("dp.sa.", Alnum, 40),
                at_least("dp.scim.", Alnum, 40),
                at_least("dp.audit.", Alnum, 40),
            ],
        ),
        "github_token" => tokens!(
            ["gh[pousr]_[A-Za-z0-9]{4}", "hub_pat_"],
            [
                at_least("ghp_", Alnum, 36),
                at_least("gho_", Alnum, 36),
                at_least("ghu_", Alnum, 36),
                at_least("ghs_", Alnum, 36),
                at_least("ghr_", Alnum, 36),
                at_least("github_pat_", Word, 70),
            ],
        ),
        "gitlab_token" => tokens!(
            ["gl[drf]t-[\\w-]{3}", "glpat-[\\w-]{2}", "gl[pc][tb]t-[\\w-]{2}", "glsoat-[\\w-]"],
            [
                at_least("glpat-", Word, 20),
                at_least("gldt-", Word, 20),
                at_least("glrt-", Word, 20),
                at_least("glft-", Word, 20),
                at_least("glptt-", Word, 20),
                at_least("glcbt-", Word, 20),
                at_least("glsoat-", Word, 20),
            ],
        ),
        "atlassian_token" => tokens!(
            ["AT[AC]TT3xF", "ATBB[A-Za-z0-9]{6}"],
            [
                padded(at_least("ATATT3xF", Word, 60)),
                padded(at_least("ATCTT3xF", Word, 60)),
                exactly("ATBB", Alnum, 32),
            ],
        ),
        "npm_token" => tokens!(["npm_[A-Za-z0-9]{8}"], [exactly("npm_", Alnum, 36)]),
        "pypi_token" => tokens!(["pypi-AgE"], [at_least("pypi-AgE", Word, 50)]),
        "rubygems_key" => tokens!(["bygems_[a-f0-9]"], [exactly("rubygems_", Hex, 48)]),
        "crates_token" => tokens!(["cio[A-Za-z0-9]{7}"], [exactly("cio", Alnum, 32)]),
        "nuget_key" => tokens!(["oy2[a-z0-9]{7}"], [exactly("oy2", Lower, 43)]),
        "docker_token" => {
            tokens!(["dckr_[po]a"], [at_least("dckr_pat_", Word, 27), at_least("dckr_oat_", Word, 27)])
        }
        "circleci_token" => tokens!(["CCIPAT_[A-Za-z0-9]"], [at_least("CCIPAT_", Word, 40)]),
        "buildkite_token" => tokens!(["bkua_[a-f0-9]{3}"], [exactly("bkua_", Hex, 40)]),
        "sonar_token" => tokens!(
            ["sq[pua]_[a-f0-9]{4}"],
            [exactly("sqp_", Hex, 40), exactly("squ_", Hex, 40), exactly("sqa_", Hex, 40)],
        ),
        "artifactory_key" => {
            tokens!(["AKCp[A-Za-z0-9]{8}"], [Token { min: 69, ..exactly("AKCp", Alnum, 73) }])
        }
        "sentry_token" => {
            tokens!(
                ["sntry[su]_[\\w]"],
                [padded(at_least("sntrys_", Token68, 60)), exactly("sntryu_", Hex, 64)]
            )
        }
        "grafana_token" => tokens!(
            ["glc_[A-Za-z0-9+/]{4}", "glsa_[A-Za-z0-9]{3}"],
            [padded(at_least("glc_", Base64, 32)), at_least("glsa_", Word, 41)],
        ),
        "stripe_key" => tokens!(
            ["[sr]k_[lt][ie][vs][et]_", "whsec_[A-Za-z0-9+/]{2}"],
            [
                at_least("sk_live_", Alnum, 16),
                at_least("sk_test_", Alnum, 16),
                at_least("rk_live_", Alnum, 16),
                at_least("rk_test_", Alnum, 16),
                padded(at_least("whsec_", Base64, 24)),
            ],
        ),
        "square_token" => {
            tokens!(["sq0[ac][ts]p-"], [at_least("sq0atp-", Word, 22), at_least("sq0csp-", Word, 40)])
        }
        "shopify_token" => tokens!(
            ["shp[acps][atps]_[a-fA-F0-9]{2}"],
            [
                at_least("shpat_", Alnum, 32),
                at_least("shpca_", Alnum, 32),
                at_least("shppa_", Alnum, 32),
                at_least("shpss_", Alnum, 32),
            ],
        ),
        "braintree_token" => scan(&["token\\$product", "token\\$sandbox"], secret::braintree),
        "razorpay_key" => tokens!(
            ["rzp_[lt][ie][vs][et]"],
            [exactly("rzp_live_", Alnum, 14), exactly("rzp_test_", Alnum, 14)],
        ),
        "flutterwave_key" => {
            tokens!(["FLWSECK[_-]"], [at_least("FLWSECK-", Word, 12), at_least("FLWSECK_TEST-", Word, 12)])
        }
        "plaid_token" => tokens!(
            ["cess-[psd][rae][onv]"],
            [
                exactly("access-production-", Word, 36),
                exactly("access-sandbox-", Word, 36),
                exactly("access-development-", Word, 36),
            ],
        ),
        "easypost_key" => {
            tokens!(["EZ[AT]K[A-Za-z0-9]{8}"], [exactly("EZAK", Alnum, 54), exactly("EZTK", Alnum, 54)],)
        }
        "slack_token" => tokens!(
            ["xox[abeoprs][-.][\\w]{3}", "xapp-[0-9]-A"],
            [
                at_least("xoxa-", Word, 20),
                at_least("xoxb-", Word, 20),
                at_least("xoxe-", Word, 20),
                at_least("xoxe.", Token68, 20),
                at_least("xoxo-", Word, 20),
                at_least("xoxp-", Word, 20),
                at_least("xoxr-", Word, 20),
                at_least("xoxs-", Word, 20),
                at_least("xapp-", Word, 40),
            ],
        ),
        "slack_webhook" => scan(&["oks\\.slac"], secret::slack_webhook),
        "discord_webhook" => scan(&["bhooks/[0-9]"], secret::discord_webhook),
        "teams_webhook" => scan(&["bhookb2/"], secret::teams_webhook),
        "telegram_token" => scan(&["[0-9]{3}:AA[\\w-]{4}"], secret::telegram),
        "sendgrid_key" => tokens!(["SG\\.[\\w-]{8}"], [at_least("SG.", Token68, 60)]),
        "mailgun_key" => tokens!(["key-[a-f0-9]{8}"], [exactly("key-", Hex, 32)]),
        "mailchimp_key" => scan(&["[0-9a-f]{8}-us[0-9]"], secret::mailchimp),
        "brevo_key" => tokens!(
            ["[yp]sib-[a-f0-9]{4}"],
            [at_least("xkeysib-", Word, 64), at_least("xsmtpsib-", Word, 64)],
        ),
        "resend_key" => tokens!(["re_[A-Za-z0-9]{8}_[A-Za-z0-9]{4}"], [exactly("re_", Word, 33)]),
        "twilio_key" => {
            tokens!(["[SA][KC][0-9a-f]{8}"], [exactly("SK", Hex, 32), exactly("AC", Hex, 32)])
        }
        "vault_token" => tokens!(
            ["hv[sbr]\\.[\\w-]{4}"],
            [at_least("hvs.", Word, 24), at_least("hvb.", Word, 24), at_least("hvr.", Word, 24)],
        ),
        "terraform_token" => {
            tokens!(["\\.atlasv1"], [Token { lead: 14, ..at_least(".atlasv1.", Word, 60) }])
        }
        "pulumi_token" => tokens!(["pul-[a-f0-9]{8}"], [exactly("pul-", Hex, 40)]),
        "newrelic_key" => tokens!(
            ["NR[AIJR][KILSQA]-[\\w-]{3}"],
            [
                at_least("NRAK-", Alnum, 27),
                at_least("NRAL-", Alnum, 27),
                at_least("NRII-", Word, 32),
                at_least("NRJS-", Alnum, 19),
                at_least("NRRA-", Alnum, 27),
            ],
        ),
        "dynatrace_token" => {
            tokens!(
                ["dt0[a-z][0-9]{2}\\."],
                [at_least("dt0c01.", Token68, 80), at_least("dt0s01.", Token68, 70)]
            )
        }
        "honeycomb_key" => tokens!(
            ["hc[abx][il][kc]_[A-Za-z0-9]{2}", "hc[abx]ik_[A-Za-z0-9]{2}"],
            [at_least("hcaik_", Alnum, 50), at_least("hcbik_", Alnum, 50), at_least("hcalk_", Alnum, 50)],
        ),
        "postman_key" => tokens!(["PMAK-[a-f0-9]{3}"], [at_least("PMAK-", Word, 59)]),
        "linear_key" => {
            tokens!(["lin_[ao][pa][iu]"], [exactly("lin_api_", Alnum, 40), at_least("lin_oauth_", Hex, 64)])
        }
        "notion_token" => tokens!(
            ["ntn_[A-Za-z0-9]{6}", "secret_[A-Za-z0-9]{9}"],
            [at_least("ntn_", Alnum, 40), exactly("secret_", Alnum, 43)],
        ),
        "airtable_token" => {
            tokens!(["[A-Za-z0-9]\\.[a-f0-9]{10}"], [Token { lead: 17, ..exactly(".", Hex, 64) }])
        }
        "figma_token" => tokens!(["figd_[\\w-]{3}"], [at_least("figd_", Word, 36)]),
        "contentful_token" => tokens!(["CFPAT-[\\w-]{2}"], [exactly("CFPAT-", Word, 43)]),
        "hubspot_token" => tokens!(
            ["pat-[ne][au][0-9]-"],
            [exactly("pat-na1-", Word, 36), exactly("pat-na2-", Word, 36), exactly("pat-eu1-", Word, 36)],
        ),
        "tailscale_key" => tokens!(["tskey-[a-z]{2}"], [at_least("tskey-", Word, 20)]),
        "onepassword_token" => tokens!(["ops_eyJ"], [padded(at_least("ops_eyJ", Word, 200))]),
        "okta_token" => tokens!(["SSWS 00[\\w-]"], [at_least("SSWS 00", Word, 38)]),
        "age_key" => tokens!(["AGE-SECR"], [exactly("AGE-SECRET-KEY-1", Upper, 58)]),
        "anthropic_key" => tokens!(["sk-ant-[\\w-]"], [at_least("sk-ant-", Word, 32)]),
        "openrouter_key" => tokens!(["sk-or-v[0-9]"], [at_least("sk-or-v1-", Hex, 64)]),
        "openai_key" => tokens!(
            ["sk-[\\w-]{7}"],
            [
                at_least("sk-", Alnum, 32),
                at_least("sk-proj-", Word, 40),
                at_least("sk-svcacct-", Word, 40),
                at_least("sk-admin-", Word, 40),
                at_least("sk-None-", Word, 40),
            ],
        ),
        "huggingface_token" => tokens!(
            ["hf_[A-Za-z0-9]{7}", "api_org_[A-Za-z0-9]{8}"],
            [at_least("hf_", Alnum, 34), at_least("api_org_", Alnum, 34)],
        ),
        "replicate_token" => tokens!(["r8_[A-Za-z0-9]{7}"], [at_least("r8_", Alnum, 37)]),
        "groq_key" => tokens!(["gsk_[A-Za-z0-9]{6}"], [at_least("gsk_", Alnum, 48)]),
        "perplexity_key" => tokens!(["pplx-[A-Za-z0-9]{3}"], [at_least("pplx-", Alnum, 40)]),
        "xai_key" => tokens!(["xai-[A-Za-z0-9]{6}"], [at_least("xai-", Alnum, 70)]),
        "nvidia_key" => tokens!(["nvapi-[\\w-]{2}"], [at_least("nvapi-", Word, 60)]),
        "langsmith_key" => {
            tokens!(["lsv2_[ps][tk]_"], [at_least("lsv2_pt_", Word, 40), at_least("lsv2_sk_", Word, 40)])
        }
        "password_hash" => {
            scan(&["\\$2[abxy]\\$[0-9]{2}\\$", "\\$argon2", "\\$scrypt\\$"], secret::password_hash)
        }
        "url_credentials" => scan(&["@"], mail::url_credentials),
        "url_signature" => {
            scan(&["(?i)ignature=", "[?&;]sig=", "(?i)ty-token=", "(?i)redential="], mail::url_signature)
        }
        "authorization" => scan(&["(?i)bearer[ \\t+]", "(?i)basic[ \\t+]"], secret::authorization),
        "secret_assignment" => scan(&words::GATES, words::assignment),
        "iban" => scan(&["[A-Z]{2}[0-9]{2}[0-9A-Z -]{11}"], digits::iban),
        "card" => scan(&["[2-6][0-9 -]{12}", "[2-6][0-9]{3}\\.[0-9]{4}\\.[0-9]{4}\\."], digits::card),
        "ssn" => scan(&["[0-8][0-9]{2}[ -][0-9]{2}[ -][0-9]{4}"], digits::ssn),
        "email" => scan(&["@"], mail::email),
        "phone" => scan(
            &[
                "\\+[1-9][0-9 ()./-]{6}",
                "[2-9][0-9]{2}[.-][0-9]{3}[.-][0-9]{4}",
                "\\([2-9][0-9]{2}\\)",
                "(?i)tel:\\+?[0-9]",
            ],
            phone::phone,
        ),
        "ip" => scan(
            &["[0-9]\\.[0-9]\\.[0-9]", "[0-9]\\.[0-9]{2}\\.[0-9]", "[0-9]\\.[0-9]{3}\\.[0-9]", ":"],
            match ranges {
                IpRanges::All => ip::all,
                IpRanges::Public => ip::public,
                IpRanges::Private => ip::private,
            },
        ),
        _ => return None,
    })
}
