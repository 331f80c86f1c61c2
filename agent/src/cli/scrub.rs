//! `spanwarden scrub`
#![forbid(unsafe_code)]

use std::{
    fmt::Write as _,
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use clap::Args;

use super::findings::{self, OutputFormat};
use crate::{
    config::{self, Config, service::Pipeline},
    inspect::{
        Inspector, Question,
        input::{self, Form, Requests},
    },
    pipeline,
};

/// Shows what a configuration's rules would do to stored spans, and writes them scrubbed where told: a dry run.
///
/// It runs the same plan as `spanwarden run`: every processor of the pipeline that changes spans, in its order. Nothing
/// is received, sent or sampled. Without a sender there is no origin to write: what the agent stamps and what
/// `k8sattributes` adds is left out.
///
/// The table has a line for each rule and each place it changed: the processor and the rule in it, where that stands,
/// what it did, on what (resource, scope, span, event, link), the attribute's key or the field, how often, and one span
/// for example. Values are never shown unless you ask with --show-values; names and keys are shown as scrubbed. Rules
/// that changed nothing are listed below: a rule that never matches often has a mistake in it.
///
/// Spans are read as OTLP JSON (one object, or one after the other, as the Collector's file exporter writes), or as
/// protobuf (one request, or each behind its length: the exporter's `format: proto`); `-` reads standard input.
///
/// Exit code, like diff's: 0: nothing would change; 1: something would; 2: an error.
///
/// Examples:
///   spanwarden scrub --config config.yaml spans.jsonl
///   spanwarden scrub --config config.yaml --show-values spans.json       with values, before and after
///   spanwarden scrub --config config.yaml -o clean.jsonl spans.jsonl     writes them scrubbed, in the same form
///   curl … | spanwarden scrub --config config.yaml --output-format json -
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Scrub {
    /// The configuration, in the Collector's YAML.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The pipeline whose rules to apply (`traces/x`); needed where there are several.
    #[arg(long, value_name = "ID")]
    pipeline: Option<String>,
    /// Writes the scrubbed spans here, in the form in which they came; `-` is standard output, the report then goes to
    /// standard error. A file is written completely or not at all.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// How the spans are stored; without it the content says it.
    #[arg(long, value_name = "FORM", value_enum)]
    input_format: Option<Form>,
    /// How to print what was found.
    #[arg(long, value_name = "FORM", value_enum, default_value_t = OutputFormat::Text)]
    output_format: OutputFormat,
    /// Shows values, before and after: what the report then holds is what should be scrubbed.
    #[arg(long)]
    show_values: bool,
    /// How many places to keep of each finding.
    #[arg(long, value_name = "N", default_value_t = 3)]
    examples: usize,
    /// The spans; `-` is standard input.
    #[arg(value_name = "SPANS", required = true)]
    files: Vec<PathBuf>,
}

impl Scrub {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        if self.output.is_some() && self.files.len() > 1 {
            bail!("--output takes the spans of one file; give one, or run it once for each");
        }
        let config = config::load(&self.config)?;
        let pipeline = choose(&config, self.pipeline.as_deref())?;
        let plan = pipeline::plan_of(&config, pipeline)?;
        let mut inspector = Inspector::new(plan, Question::Change, self.show_values, self.examples);
        let mut unknown_fields = 0;
        for file in &self.files {
            let to = self.output.as_deref().map(Destination::create).transpose()?;
            unknown_fields += self.file(&mut inspector, file, to)?;
        }
        let report = &inspector.report;
        let changes = report.changed_requests > 0 || unknown_fields > 0;
        let text = match self.output_format {
            OutputFormat::Text => Self::text(&inspector, pipeline, unknown_fields),
            OutputFormat::Json => {
                let mut object = findings::json(report);
                object.insert("pipeline".into(), pipeline.id.to_string().into());
                object.insert("changed_requests".into(), report.changed_requests.into());
                object.insert("changes".into(), report.changes().into());
                object.insert("unknown_json_fields".into(), unknown_fields.into());
                format!("{}\n", serde_json::to_string_pretty(&object)?)
            }
        };
        if self.output.as_deref() == Some(Path::new("-")) {
            eprint!("{text}");
        } else {
            io::stdout().write_all(text.as_bytes())?;
        }
        Ok(if changes { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }

    /// Looks at a file, and writes what comes of it. Returns how many JSON keys OTLP does not know.
    fn file(
        &self,
        inspector: &mut Inspector,
        file: &Path,
        mut to: Option<Destination>,
    ) -> anyhow::Result<u64> {
        let name = file.display().to_string();
        let mut unknown = 0;
        let mut requests =
            Requests::new(open(file)?, file, self.input_format).with_context(|| name.clone())?;
        while let Some(request) = requests.next_request().with_context(|| name.clone())? {
            unknown += u64::from(request.unknown_fields);
            let scrubbed = inspector
                .request(&name, &request.data.into())
                .with_context(|| format!("{name}: request {} is refused", request.number))?;
            if let Some(to) = &mut to {
                to.write(requests.form(), &scrubbed)?;
            }
        }
        to.map_or(Ok(()), Destination::finish)?;
        Ok(unknown)
    }

    fn text(inspector: &Inspector, pipeline: &Pipeline, unknown_fields: u64) -> String {
        let report = &inspector.report;
        let found = report.findings();
        let mut text = String::new();
        if !found.is_empty() {
            text.push_str(&findings::table(&found));
            text.push('\n');
        }
        let idle = report.idle_rules();
        if !idle.is_empty() && report.spans > 0 {
            text.push_str("These rules changed nothing:\n");
            for (processor, rule, configured) in &idle {
                let _ = writeln!(text, "  {processor} {rule} ({configured})");
            }
            text.push('\n');
        }
        if unknown_fields > 0 {
            let _ = writeln!(text, "{unknown_fields} JSON keys that OTLP does not have would be removed.");
        }
        let whole = format!("{} spans in {} requests", report.spans, report.requests);
        let what = match report.changes() {
            0 if report.changed_requests > 0 => {
                "only fields that OTLP does not know would be removed".to_owned()
            }
            0 => "nothing would change".to_owned(),
            changes => format!("{changes} changes ({})", findings::deeds(report)),
        };
        let _ = writeln!(text, "{whole}, pipeline {}: {what}", pipeline.id);
        text
    }
}

/// The pipeline that is asked for, or the only one.
pub(super) fn choose<'c>(config: &'c Config, wanted: Option<&str>) -> anyhow::Result<&'c Pipeline> {
    let pipelines = &config.service.pipelines;
    let names = || pipelines.iter().map(|pipeline| pipeline.id.to_string()).collect::<Vec<_>>().join(", ");
    match (wanted, &pipelines[..]) {
        (None, [only]) => Ok(only),
        (None, _) => {
            bail!("the configuration has several pipelines ({}); choose one with --pipeline", names())
        }
        (Some(wanted), all) => all
            .iter()
            .find(|pipeline| pipeline.id.to_string() == wanted)
            .with_context(|| format!("there is no pipeline `{wanted}`; there are {}", names())),
    }
}

/// A file, or standard input for `-`.
pub(super) fn open(file: &Path) -> anyhow::Result<Box<dyn BufRead>> {
    if file == Path::new("-") {
        return Ok(Box::new(io::stdin().lock()));
    }
    let opened = File::open(file).with_context(|| format!("{} can't be opened", file.display()))?;
    Ok(Box::new(BufReader::with_capacity(1 << 18, opened)))
}

/// Where scrubbed spans go: a new file beside the one that is asked for, which takes its place at the end.
enum Destination {
    Stdout,
    File { new: PathBuf, name: PathBuf, writer: Option<BufWriter<File>> },
}

impl Destination {
    fn create(name: &Path) -> anyhow::Result<Self> {
        use std::os::unix::fs::OpenOptionsExt as _;
        if name == Path::new("-") {
            return Ok(Self::Stdout);
        }
        let mut new = name.as_os_str().to_owned();
        new.push(format!(".{}.new", std::process::id()));
        let new = PathBuf::from(new);
        let file = File::options().write(true).create_new(true).mode(0o600).open(&new);
        let file = file.with_context(|| format!("{} can't be written", new.display()))?;
        Ok(Self::File { new, name: name.to_owned(), writer: Some(BufWriter::new(file)) })
    }

    fn write(&mut self, form: Form, data: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout => input::write(&mut io::stdout().lock(), form, data),
            Self::File { writer: Some(writer), .. } => input::write(writer, form, data),
            Self::File { writer: None, .. } => Ok(()),
        }
    }

    fn finish(mut self) -> anyhow::Result<()> {
        match &mut self {
            Self::Stdout => io::stdout().flush()?,
            Self::File { new, name, writer } => {
                let file =
                    writer.take().map(|writer| writer.into_inner().map_err(io::IntoInnerError::into_error));
                let done = file.transpose().and_then(|file| {
                    if let Some(file) = file {
                        file.sync_all()?;
                    }
                    std::fs::rename(&*new, &*name)
                });
                done.with_context(|| format!("{} can't be written", name.display()))?;
            }
        }
        Ok(())
    }
}

impl Drop for Destination {
    fn drop(&mut self) {
        // Unfinished: what is there is half of it.
        if let Self::File { new, writer: Some(_), .. } = self {
            let _ = std::fs::remove_file(new);
        }
    }
}
