//! Secrets and personal data that nobody has: made from their parts, by the public descriptions of their forms.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};

use super::benign::{ALNUM, DIGITS, HEX, from};
use crate::oracle::Dice;

const WORD: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_-";
const UPPER: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const BASE64: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const LOWER: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";

/// Something to find.
#[derive(Clone, Debug)]
pub struct Secret {
    /// What must not be left.
    pub text: String,
    /// What it is written in, always; `{}` is the text.
    pub carrier: String,
}

fn bare(text: String) -> Secret {
    Secret { text, carrier: "{}".to_owned() }
}

fn within(carrier: &str, text: String) -> Secret {
    Secret { text, carrier: carrier.to_owned() }
}

fn one<'a>(of: &[&'a str], dice: &mut Dice) -> &'a str {
    of[dice.below(of.len())]
}

/// A head, which stands here in two parts, and a body of so many characters.
fn token(head: [&str; 2], alphabet: &[u8], length: usize, dice: &mut Dice) -> Secret {
    let mut body = from(alphabet, length, dice);
    // A body neither ends nor begins with a separator.
    if body.starts_with(['-', '_']) {
        body.replace_range(..1, "a");
    }
    if body.ends_with(['-', '_']) {
        body.replace_range(length - 1.., "z");
    }
    bare(format!("{}{}{body}", head[0], head[1]))
}

fn uuid(dice: &mut Dice) -> String {
    let hex = from(HEX, 32, dice);
    format!("{}-{}-4{}-8{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..])
}

/// Something that a detector is to find.
///
/// # Panics
/// Where there is no detector of that name.
#[expect(clippy::too_many_lines, reason = "a table")]
pub fn secret(detector: &str, dice: &mut Dice) -> Secret {
    match detector {
        "private_key" => private_key(dice),
        "jwt" => jwt(dice),
        "aws_access_key" => token([one(&["AK", "AS"], dice), "IA"], UPPER, 16, dice),
        "gcp_api_key" => token(["AI", "za"], WORD, 35, dice),
        "gcp_oauth_token" => match dice.below(2) {
            0 => token(["ya", "29."], WORD, 60 + dice.below(100), dice),
            _ => token(["GOC", "SPX-"], WORD, 28, dice),
        },
        "azure_secret" => match dice.below(2) {
            0 => bare(format!("{}{}Q~{}", from(ALNUM, 3, dice), dice.below(10), from(ALNUM, 34, dice))),
            _ => within(
                "DefaultEndpointsProtocol=https;AccountName=demo;AccountKey={};EndpointSuffix=core.windows.net",
                format!("{}==", from(BASE64, 86, dice)),
            ),
        },
        "alibaba_access_key" => token(["LT", "AI"], ALNUM, one_of(&[12, 16, 20], dice), dice),
        "digitalocean_token" => {
            token([one(&["do", "do"], dice), one(&["p_v1_", "o_v1_", "r_v1_"], dice)], HEX, 64, dice)
        }
        "heroku_key" => bare(format!("HRKU-{}", uuid(dice))),
        "cloudflare_origin_key" => bare(format!("v1.0-{}-{}", from(HEX, 24, dice), from(HEX, 146, dice))),
        "databricks_token" => token(["da", "pi"], HEX, 32, dice),
        "fly_token" => match dice.below(2) {
            0 => token(["fm", "2_"], BASE64, 200, dice),
            _ => token(["fo", "1_"], WORD, 43, dice),
        },
        "planetscale_token" => token(["pscale", one(&["_tkn_", "_pw_", "_oauth_"], dice)], WORD, 43, dice),
        "supabase_key" => token(["sb", "p_"], HEX, 40, dice),
        "doppler_token" => token(["dp", one(&[".pt.", ".ct.", ".sa.", ".scim."], dice)], ALNUM, 43, dice),
        "github_token" => match dice.below(6) {
            0 => bare(format!("github{}{}_{}", "_pat_", from(ALNUM, 22, dice), from(ALNUM, 59, dice))),
            _ => token(["gh", one(&["p_", "o_", "u_", "s_", "r_"], dice)], ALNUM, 36, dice),
        },
        "gitlab_token" => token(["gl", one(&["pat-", "dt-", "rt-", "ptt-", "ft-"], dice)], WORD, 20, dice),
        "atlassian_token" => match dice.below(2) {
            0 => token(["ATATT", "3xFfGF0"], WORD, 180, dice),
            _ => token(["AT", "BB"], ALNUM, 32, dice),
        },
        "npm_token" => token(["np", "m_"], ALNUM, 36, dice),
        "pypi_token" => token(["pypi-", "AgEIcHlwaS5vcmc"], WORD, 120, dice),
        "rubygems_key" => token(["ruby", "gems_"], HEX, 48, dice),
        "crates_token" => token(["ci", "o"], ALNUM, 32, dice),
        "nuget_key" => token(["oy", "2"], LOWER, 43, dice),
        "docker_token" => token(["dckr", one(&["_pat_", "_oat_"], dice)], WORD, 27, dice),
        "circleci_token" => bare(format!("CCI{}{}_{}", "PAT_", from(ALNUM, 22, dice), from(HEX, 40, dice))),
        "buildkite_token" => token(["bk", "ua_"], HEX, 40, dice),
        "sonar_token" => token(["sq", one(&["p_", "u_", "a_"], dice)], HEX, 40, dice),
        "artifactory_key" => token(["AK", "Cp"], ALNUM, one_of(&[69, 73], dice), dice),
        "sentry_token" => match dice.below(2) {
            0 => bare(
                format!("sntrys_eyJ{}=_{}", from(ALNUM, 90, dice), from(ALNUM, 43, dice)).replace('=', ""),
            ),
            _ => token(["sntry", "u_"], HEX, 64, dice),
        },
        "grafana_token" => match dice.below(2) {
            0 => bare(format!("gls{}{}_{}", "a_", from(ALNUM, 32, dice), from(HEX, 8, dice))),
            _ => token(["gl", "c_"], BASE64, 60, dice),
        },
        "stripe_key" => match dice.below(3) {
            0 => token(["wh", "sec_"], ALNUM, 32, dice),
            _ => token(
                [one(&["sk", "rk"], dice), one(&["_live_", "_test_"], dice)],
                ALNUM,
                one_of(&[24, 99], dice),
                dice,
            ),
        },
        "square_token" => match dice.below(2) {
            0 => token(["sq0", "atp-"], WORD, 22, dice),
            _ => token(["sq0", "csp-"], WORD, 43, dice),
        },
        "shopify_token" => token(["shp", one(&["at_", "ca_", "pa_", "ss_"], dice)], HEX, 32, dice),
        "braintree_token" => bare(
            format!("access_token${}${}", "production", from(LOWER, 16, dice)) + "$" + &from(HEX, 32, dice),
        ),
        "razorpay_key" => token(["rzp", one(&["_live_", "_test_"], dice)], ALNUM, 14, dice),
        "flutterwave_key" => bare(format!("FLWSECK{}{}-X", one(&["-", "_TEST-"], dice), from(HEX, 32, dice))),
        "plaid_token" => bare(format!("access-{}-{}", one(&["production", "sandbox"], dice), uuid(dice))),
        "easypost_key" => token(["EZ", one(&["AK", "TK"], dice)], ALNUM, 54, dice),
        "slack_token" => match dice.below(3) {
            0 => bare(format!(
                "xapp-1-A{}-{}-{}",
                from(UPPER, 10, dice),
                from(DIGITS, 13, dice),
                from(HEX, 64, dice)
            )),
            _ => bare(format!(
                "xox{}-{}-{}-{}",
                one(&["b", "p", "a", "r", "s"], dice),
                from(DIGITS, 12, dice),
                from(DIGITS, 12, dice),
                from(ALNUM, 24, dice)
            )),
        },
        "slack_webhook" => within(
            "https://hooks.slack.com/services/{}",
            format!("T{}/B{}/{}", from(UPPER, 9, dice), from(UPPER, 10, dice), from(ALNUM, 24, dice)),
        ),
        "discord_webhook" => within(
            "https://discord.com/api/webhooks/{}",
            format!("{}/{}", from(DIGITS, 19, dice), from(ALNUM, 68, dice)),
        ),
        "teams_webhook" => within(
            "https://example.webhook.office.com/webhookb2/{}",
            format!("{}@{}/IncomingWebhook/{}/{}", uuid(dice), uuid(dice), from(HEX, 32, dice), uuid(dice)),
        ),
        "telegram_token" => {
            bare(format!("{}{}:AA{}", 1 + dice.below(9), from(DIGITS, 9, dice), from(ALNUM, 33, dice)))
        }
        "sendgrid_key" => bare(format!("SG.{}.{}", from(ALNUM, 22, dice), from(ALNUM, 43, dice))),
        "mailgun_key" => token(["ke", "y-"], HEX, 32, dice),
        "mailchimp_key" => bare(format!("{}-us{}", from(HEX, 32, dice), 1 + dice.below(21))),
        "brevo_key" => bare(format!(
            "x{}sib-{}-{}",
            one(&["key", "smtp"], dice),
            from(HEX, 64, dice),
            from(ALNUM, 16, dice)
        )),
        "resend_key" => bare(format!("re_{}_{}", from(ALNUM, 8, dice), from(ALNUM, 24, dice))),
        "twilio_key" => token([["S", "K"], ["A", "C"]][dice.below(2)], HEX, 32, dice),
        "vault_token" => token(["hv", one(&["s.", "b.", "r."], dice)], WORD, 90, dice),
        "terraform_token" => {
            bare(format!("{}.atlas{}.{}", from(ALNUM, 14, dice), "v1", from(ALNUM, 67, dice)))
        }
        "pulumi_token" => token(["pu", "l-"], HEX, 40, dice),
        "newrelic_key" => token(["NR", "AK-"], UPPER, 27, dice),
        "dynatrace_token" => bare(format!("dt0c01.{}.{}", from(UPPER, 24, dice), from(UPPER, 64, dice))),
        "honeycomb_key" => token(["hc", "aik_"], LOWER, 58, dice),
        "postman_key" => bare(format!("PMAK-{}-{}", from(HEX, 24, dice), from(HEX, 34, dice))),
        "linear_key" => token(["lin", "_api_"], ALNUM, 40, dice),
        "notion_token" => match dice.below(2) {
            0 => token(["nt", "n_"], ALNUM, 46, dice),
            _ => token(["secr", "et_"], ALNUM, 43, dice),
        },
        "airtable_token" => bare(format!("pat{}.{}", from(ALNUM, 14, dice), from(HEX, 64, dice))),
        "figma_token" => token(["fi", "gd_"], WORD, 40, dice),
        "contentful_token" => token(["CF", "PAT-"], WORD, 43, dice),
        "hubspot_token" => bare(format!("pat-{}-{}", one(&["na1", "eu1"], dice), uuid(dice))),
        "tailscale_key" => bare(format!(
            "tskey-{}-{}-{}",
            one(&["auth", "api"], dice),
            from(ALNUM, 12, dice),
            from(ALNUM, 32, dice)
        )),
        "onepassword_token" => bare(format!(
            "ops_{}",
            STANDARD.encode(format!("{{\"signInAddress\":\"{}\"}}", from(ALNUM, 300, dice)))
        )),
        "okta_token" => bare(format!("SSWS 00{}", from(WORD, 39, dice) + "x")),
        "age_key" => {
            bare(format!("AGE-SECRET{}{}", "-KEY-1", from(b"QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L", 58, dice)))
        }
        "anthropic_key" => {
            bare(format!("sk-ant-{}-{}AA", one(&["api03", "admin01"], dice), from(WORD, 93, dice)))
        }
        "openrouter_key" => token(["sk-or", "-v1-"], HEX, 64, dice),
        "openai_key" => match dice.below(3) {
            0 => token(["s", "k-"], ALNUM, 48, dice),
            1 => token(["sk-", "proj-"], WORD, 156, dice),
            _ => token(["sk-", "svcacct-"], WORD, 120, dice),
        },
        "huggingface_token" => token(["h", "f_"], ALNUM, 34, dice),
        "replicate_token" => token(["r", "8_"], ALNUM, 37, dice),
        "groq_key" => token(["gs", "k_"], ALNUM, 52, dice),
        "perplexity_key" => token(["pp", "lx-"], ALNUM, 48, dice),
        "xai_key" => token(["xa", "i-"], ALNUM, 80, dice),
        "nvidia_key" => token(["nv", "api-"], WORD, 64, dice),
        "langsmith_key" => {
            bare(format!("lsv2_{}_{}_{}", one(&["pt", "sk"], dice), from(HEX, 32, dice), from(HEX, 10, dice)))
        }
        "password_hash" => match dice.below(2) {
            0 => bare(format!(
                "$2{}$1{}${}",
                one(&["a", "b", "y"], dice),
                dice.below(5),
                from(ALNUM, 53, dice)
            )),
            _ => bare(format!(
                "$argon2id$v=19$m=65536,t=3,p=4${}${}",
                from(ALNUM, 22, dice),
                from(ALNUM, 43, dice)
            )),
        },
        "url_credentials" => within(
            one(
                &[
                    "postgres://{}@db.orders.svc:5432/orders",
                    "https://{}@git.example/repo.git",
                    "amqp://{}@mq:5672/%2F",
                    "redis://{}@10.0.3.4:6379/0",
                ],
                dice,
            ),
            format!(
                "{}:{}",
                one(&["app", "orders_rw", "root", "svc"], dice),
                from(ALNUM, 8 + dice.below(16), dice)
            ),
        ),
        "url_signature" => within(
            one(
                &[
                    "https://b.s3.example/k?X-Amz-Date=20261121T101530Z&X-Amz-Signature={}",
                    "https://acct.blob.example/c/f?sv=2024-11-04&se=2026-12-01&sp=r&sig={}",
                    "https://storage.example/b/o?X-Goog-Expires=600&X-Goog-Signature={}",
                ],
                dice,
            ),
            from(HEX, 64, dice),
        ),
        "authorization" => match dice.below(2) {
            0 => within(
                "Basic {}",
                STANDARD.encode(format!("svc-{}:{}", dice.below(99), from(ALNUM, 12, dice))),
            ),
            _ => within(one(&["Bearer {}", "bearer {}"], dice), from(ALNUM, 32 + dice.below(20), dice)),
        },
        "secret_assignment" => within(
            one(
                &[
                    "password={}",
                    "db_password='{}'",
                    "?user=7&api_key={}",
                    "client_secret={}",
                    "{\"password\":\"{}\"}",
                    "{\"access_token\": \"{}\", \"n\": 1}",
                    "X-Api-Key: {}",
                    "PGPASSWORD={}",
                    "secret => '{}'",
                    "refresh_token={}&x=1",
                ],
                dice,
            ),
            format!("{}{}", from(ALNUM, 9 + dice.below(12), dice), dice.below(10)),
        ),
        "iban" => bare(iban(dice)),
        "card" => bare(card(dice)),
        "ssn" => bare(ssn(dice)),
        "email" => bare(email(dice)),
        "phone" => bare(phone(dice)),
        "ip" => bare(ip(dice)),
        other => panic!("no secrets are made for {other}"),
    }
}

fn one_of(of: &[usize], dice: &mut Dice) -> usize {
    of[dice.below(of.len())]
}

fn private_key(dice: &mut Dice) -> Secret {
    let label = one(&["RSA PRIVATE KEY", "PRIVATE KEY", "EC PRIVATE KEY", "OPENSSH PRIVATE KEY"], dice);
    let lines: Vec<String> = (0..4 + dice.below(8)).map(|_| from(BASE64, 64, dice)).collect();
    let dashes = "-".repeat(5);
    bare(format!("{dashes}BEGIN {label}{dashes}\n{}\n{dashes}END {label}{dashes}", lines.join("\n")))
}

fn jwt(dice: &mut Dice) -> Secret {
    let header = one(
        &[
            r#"{"alg":"HS256","typ":"JWT"}"#,
            r#"{"alg":"RS256","kid":"7","typ":"JWT"}"#,
            r#"{"typ":"JWT","alg":"ES256"}"#,
            r#"{"kid":"2026-11","alg":"EdDSA"}"#,
        ],
        dice,
    );
    let claims = format!(
        r#"{{"sub":"{}","iat":{},"scope":"a b"}}"#,
        uuid(dice),
        1_700_000_000 + dice.below(9_000_000)
    );
    let signature = from(ALNUM, one_of(&[43, 86, 342], dice), dice);
    bare(format!("{}.{}.{signature}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims)))
}

/// A number with the check digit of ISO/IEC 7812-1, found by trying.
fn card(dice: &mut Dice) -> String {
    let (head, length, groups): (&str, usize, &[usize]) = [
        ("4", 16, &[4, 4, 4, 4][..]),
        ("51", 16, &[4, 4, 4, 4]),
        ("55", 16, &[4, 4, 4, 4]),
        ("2231", 16, &[4, 4, 4, 4]),
        ("34", 15, &[4, 6, 5]),
        ("37", 15, &[4, 6, 5]),
        ("6011", 16, &[4, 4, 4, 4]),
        ("65", 16, &[4, 4, 4, 4]),
        ("36", 14, &[4, 6, 4]),
        ("3530", 16, &[4, 4, 4, 4]),
        ("62", 16, &[4, 4, 4, 4]),
    ][dice.below(11)];
    let body = format!("{head}{}", from(DIGITS, length - 1 - head.len(), dice));
    let number = (0..10)
        .map(|digit| format!("{body}{digit}"))
        .find(|number| passes(number))
        .expect("one of ten passes");
    let separator = one(&["", "", " ", "-"], dice);
    grouped(&number, groups, separator)
}

fn passes(number: &str) -> bool {
    let sum: u32 = number
        .bytes()
        .rev()
        .enumerate()
        .map(|(at, digit)| {
            let digit = u32::from(digit - b'0');
            if at % 2 == 0 { digit } else { (digit * 2) / 10 + (digit * 2) % 10 }
        })
        .sum();
    sum.is_multiple_of(10)
}

fn grouped(text: &str, groups: &[usize], separator: &str) -> String {
    let (mut parts, mut rest) = (Vec::new(), text);
    for length in groups {
        let (part, after) = rest.split_at((*length).min(rest.len()));
        parts.push(part);
        rest = after;
    }
    parts.push(rest);
    parts.retain(|part| !part.is_empty());
    parts.join(separator)
}

fn iban(dice: &mut Dice) -> String {
    let (country, length, letters) = [
        ("DE", 22, false),
        ("FR", 27, true),
        ("GB", 22, false),
        ("NL", 18, false),
        ("ES", 24, false),
        ("NO", 15, false),
        ("CH", 21, true),
        ("MT", 31, true),
        ("AT", 20, false),
        ("PL", 28, false),
    ][dice.below(10)];
    let bank = match country {
        "GB" | "NL" | "MT" => from(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", 4, dice),
        _ => from(DIGITS, 4, dice),
    };
    let alphabet: &[u8] = if letters { b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ" } else { DIGITS };
    let account = format!("{bank}{}", from(alphabet, length - 8, dice));
    let digits = |text: &str| -> u32 {
        text.chars().fold(0, |rest, c| {
            let value = c.to_digit(36).expect("letters and digits");
            (rest * if value > 9 { 100 } else { 10 } + value) % 97
        })
    };
    let check = 98 - digits(&format!("{account}{country}00"));
    let iban = format!("{country}{check:02}{account}");
    match dice.below(3) {
        0 => grouped(&iban, &[4; 8], " "),
        _ => iban,
    }
}

fn ssn(dice: &mut Dice) -> String {
    let area = loop {
        let area = 1 + dice.below(899);
        if area != 666 {
            break area;
        }
    };
    let separator = one(&["-", "-", "-", " "], dice);
    format!("{area:03}{separator}{:02}{separator}{:04}", 1 + dice.below(99), 1 + dice.below(9999))
}

fn email(dice: &mut Dice) -> String {
    let name = one(&["alice", "bob.smith", "j.doe+shop", "o'hara", "info", "müller", "x_y-z", "42"], dice);
    let host = one(
        &[
            "example.com",
            "mail.example.co.uk",
            "firma-example.de",
            "example.org",
            "büro.example",
            "sub.dept.example.museum",
            "163.example",
        ],
        dice,
    );
    format!("{name}{}@{host}", dice.below(1000))
}

fn phone(dice: &mut Dice) -> String {
    let nanp = |dice: &mut Dice| {
        let pick = |dice: &mut Dice| format!("{}{}{}", 2 + dice.below(8), 2 + dice.below(8), dice.below(10));
        (pick(dice), pick(dice), from(DIGITS, 4, dice))
    };
    match dice.below(8) {
        0 => {
            let (a, b, c) = nanp(dice);
            format!("({a}) {b}-{c}")
        }
        1 => {
            let (a, b, c) = nanp(dice);
            format!("{a}-{b}-{c}")
        }
        2 => {
            let (a, b, c) = nanp(dice);
            format!("+1 {a} {b} {c}")
        }
        3 => format!("+49 1{} {}", from(DIGITS, 2, dice), from(DIGITS, 8, dice)),
        4 => format!("+44{}", from(b"123456789", 10, dice)),
        5 => format!("+33 {}", grouped(&format!("6{}", from(DIGITS, 8, dice)), &[1, 2, 2, 2, 2], " ")),
        6 => format!("+91-{}-{}", from(b"6789", 5, dice), from(DIGITS, 5, dice)),
        _ => format!("+81 (90) {}-{}", from(DIGITS, 4, dice), from(DIGITS, 4, dice)),
    }
}

fn ip(dice: &mut Dice) -> String {
    match dice.below(3) {
        0 => format!("2001:db8:{}::{}", from(HEX, 4, dice), from(HEX, 3, dice)),
        _ => format!(
            "{}.{}.{}.{}",
            11 + dice.below(100),
            dice.below(256),
            dice.below(256),
            1 + dice.below(254)
        ),
    }
}
