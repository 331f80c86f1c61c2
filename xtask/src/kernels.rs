//! `cargo xtask kernels`: the suites that the kernel has a say in, on the kernels that people have.
//!
//! Debian's own kernels boot under QEMU with a small file system of this machine's programs, the project's and the
//! suites' binaries. No hardware acceleration, no network, no disk: a run is the same wherever it happens.

mod apt;
mod architecture;
mod cpio;
mod debian;
mod elf;
mod guest;
mod image;
mod modules;
mod suites;
mod table;

use std::{
    env, fs,
    num::NonZero,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use architecture::Architecture;
use clap::Args;
use debian::{Kernel, Wanted};
use serde_json::Value;
use suites::{Built, SUITES, Suite};
use table::Row;

use crate::{
    build::{root, target},
    setup::{has, packages, programs},
};

/// What all tests on one kernel may take together, and what those that stand for the others.
const LIMIT: Duration = Duration::from_hours(2);
const LIMIT_SHORT: Duration = Duration::from_mins(20);
/// How many connections the long tests make; see `tests/suites`.
const CONNECTIONS: &str = "SPANWARDEN_TEST_CONNECTIONS";
/// What an emulated processor makes of them in the time, and when time is short.
const IN_A_GUEST: u64 = 2_400;
const IN_A_GUEST_SHORT: u64 = 1_200;
/// How much longer tests wait in a guest; see `tests/src/patience.rs`.
const PATIENCE: &str = "SPANWARDEN_TEST_PATIENCE";
/// An emulated processor takes ten to twenty times as long; the shortest times in tests have room for the rest.
const FOR_A_GUEST: u64 = 4;
/// This machine's own kernel, as an argument of `--kernel`.
const HOST: &str = "host";

/// Arguments of `kernels`.
#[derive(Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct Kernels {
    /// Only this one (again for more): 5.10, 6.1, 6.12, newest, or `host` for this machine's own
    #[arg(long, value_name = "VERSION")]
    kernel: Vec<String>,
    /// Only this suite (again for more)
    #[arg(long, value_name = "NAME")]
    suite: Vec<String>,
    /// Only tests whose name contains this
    #[arg(long, default_value = "")]
    filter: String,
    /// Of each suite only the tests that stand for the others: some minutes
    #[arg(long)]
    short: bool,
    /// The kernels' architecture; for arm64 with --load-only
    #[arg(long, value_enum, default_value_t = Architecture::Amd64)]
    architecture: Architecture,
    /// Only loads and attaches the programs, without a suite
    #[arg(long)]
    load_only: bool,
    /// How many connections the long tests make in a guest (2400, or 1200 with --short); on this machine's kernel they
    /// make all of them
    #[arg(long)]
    connections: Option<u64>,
    /// These compiled programs instead of the committed ones
    #[arg(long, value_name = "PATH")]
    object: Option<PathBuf>,
    /// Downloads the kernels again: newer ones may be there
    #[arg(long)]
    refresh: bool,
    /// Shows the kernels and where they come from
    #[arg(long)]
    list: bool,
}

impl Kernels {
    pub(crate) fn run(self) -> Result<()> {
        if self.list {
            return list(self.architecture);
        }
        run(&self, self.object.as_deref())
    }
}

/// Gets what the short matrix needs, so that a lack of it shows before everything else has run.
pub(crate) fn fetch() -> Result<()> {
    prepare(Architecture::Amd64)?;
    for wanted in debian::ALL {
        wanted.get(&folder(), Architecture::Amd64.debian(), false)?;
    }
    Ok(())
}

/// The short matrix, for `cargo xtask test`: every kernel but this machine's own, on which all tests have run already.
pub(crate) fn short(object: Option<&Path>) -> Result<()> {
    let arguments = Kernels {
        kernel: debian::ALL.iter().map(|wanted| wanted.version.to_owned()).collect(),
        suite: Vec::new(),
        filter: String::new(),
        short: true,
        architecture: Architecture::Amd64,
        load_only: false,
        connections: None,
        object: None,
        refresh: false,
        list: false,
    };
    run(&arguments, object)
}

/// Boots every kernel, runs every suite, prints the table, and fails with what has failed. `object`: these programs
/// instead of the committed ones.
pub(crate) fn run(arguments: &Kernels, object: Option<&Path>) -> Result<()> {
    let start = Instant::now();
    let architecture = arguments.architecture;
    ensure!(
        architecture == Architecture::Amd64 || arguments.load_only,
        "the suites are built for this machine's architecture only: add --load-only"
    );
    let wanted = wanted(&arguments.kernel, architecture)?;
    let suites = if arguments.load_only { Vec::new() } else { chosen(&arguments.suite)? };
    prepare(architecture)?;
    let folder = folder();
    let get = |wanted: &Wanted| wanted.get(&folder, architecture.debian(), arguments.refresh);
    let kernels = wanted.iter().map(get).collect::<Result<Vec<_>>>()?;
    let foreign = architecture.foreign_guest()?;
    let built = match &foreign {
        Some(_) => Built::default(),
        None => suites::build(object, &suites)?,
    };
    let mut plan = suites::plan(&suites, &built, &arguments.filter, arguments.short)?;
    let (usual, limit) = if arguments.short { (IN_A_GUEST_SHORT, LIMIT_SHORT) } else { (IN_A_GUEST, LIMIT) };
    plan["environment"][CONNECTIONS] = arguments.connections.unwrap_or(usual).to_string().into();
    plan["environment"][PATIENCE] = FOR_A_GUEST.to_string().into();
    plan["answers"] = architecture.machine().answers.into();
    let object = object.map_or_else(|| root().join("agent-ebpf/object/spanwarden.bpf.o"), Path::to_owned);
    let contents = contents(&built, foreign, &folder, object.clone())?;
    let mut rows = at_the_same_time(&kernels, |kernel| {
        row(&kernel.release, |each| {
            let image = folder.join(format!("{}.cpio", kernel.release));
            contents.pack(kernel, &plan, &image)?;
            let log = folder.join(format!("{}.log", kernel.release));
            let result = guest::run(architecture.machine(), kernel, &image, &log, limit, each);
            fs::remove_file(image)?;
            result
        })
    });
    let here = arguments.kernel.is_empty() && architecture == Architecture::Amd64;
    if here || arguments.kernel.iter().any(|name| name == HOST) {
        plan["object"] = serde_json::json!(object);
        plan["environment"] = serde_json::json!({});
        let file = folder.join("host.json");
        fs::write(&file, plan.to_string())?;
        let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
        rows.push(row(&format!("{} (host)", release.trim()), |each| {
            guest::here(built.guest()?, &file, limit, each)
        }));
    }
    report(&rows, &folder, start)
}

/// As many as there are processors at a time: a guest that waits leaves its own to another.
fn at_the_same_time(kernels: &[Kernel], run: impl Fn(&Kernel) -> Row + Sync) -> Vec<Row> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    let jobs = thread::available_parallelism().map_or(1, NonZero::get).min(kernels.len());
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some((number, kernel)) =
                    Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|n| Some((n, kernels.get(n)?)))
                {
                    let row = run(kernel);
                    done.lock().unwrap_or_else(PoisonError::into_inner).push((number, row));
                }
            });
        }
    });
    let mut rows = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    rows.sort_by_key(|(number, _)| *number);
    rows.into_iter().map(|(_, row)| row).collect()
}

/// One kernel's run, shown while it happens.
fn row(name: &str, run: impl FnOnce(&mut dyn FnMut(Value)) -> Result<()>) -> Row {
    println!("==> Linux {name}");
    let start = Instant::now();
    let mut answers = Vec::new();
    let result = run(&mut |answer| {
        println!("    {name}: {}", shown(&answer));
        if let Some(output) = answer["output"].as_str() {
            println!("{output}");
        }
        answers.push(answer);
    });
    let seconds = start.elapsed().as_secs_f64();
    println!("    {name}: done in {seconds:.0} s");
    Row { kernel: name.to_owned(), answers, error: result.err().map(|error| format!("{error:#}")), seconds }
}

fn shown(answer: &Value) -> String {
    let text = |key: &str| answer[key].as_str().unwrap_or_default();
    if answer["test"].is_string() {
        let seconds = answer["ms"].as_u64().unwrap_or_default() as f64 / 1000.0;
        format!("{:<11} {seconds:6.1} s  {}: {}", text("outcome"), text("suite"), text("test"))
    } else if answer["program"].is_string() {
        let said = answer.get("error").unwrap_or(&answer["verifier"]);
        format!("program {}: {said}", text("program"))
    } else {
        answer.to_string()
    }
}

fn report(rows: &[Row], folder: &Path, start: Instant) -> Result<()> {
    let tables = table::markdown(rows);
    let path = folder.join("table.md");
    fs::write(&path, &tables)?;
    let failures: Vec<String> = rows.iter().flat_map(Row::failures).collect();
    for failure in &failures {
        println!("\n--- {failure}");
    }
    println!("\n{tables}\nAll in {:.0} s; the table is in {}", start.elapsed().as_secs_f64(), path.display());
    ensure!(failures.is_empty(), "{} failures on {} kernels", failures.len(), rows.len());
    Ok(())
}

fn folder() -> PathBuf {
    target().join("kernels")
}

fn list(architecture: Architecture) -> Result<()> {
    let name = architecture.debian();
    for wanted in debian::ALL {
        let state = match wanted.cached(&folder(), name)? {
            Some(kernel) => format!("{}, downloaded", kernel.release),
            None => "not downloaded yet".to_owned(),
        };
        println!("{:<8} Debian {:<9} linux-image-cloud-{name}: {state}", wanted.version, wanted.suite);
    }
    println!("{HOST:<8} this machine's own");
    Ok(())
}

fn wanted(asked: &[String], architecture: Architecture) -> Result<Vec<Wanted>> {
    let foreign = architecture != Architecture::Amd64;
    ensure!(
        !(foreign && asked.iter().any(|name| name == HOST)),
        "this machine's kernel is of another architecture"
    );
    let mut wanted = Vec::new();
    for name in asked.iter().filter(|name| *name != HOST) {
        let found = debian::ALL.into_iter().find(|kernel| kernel.is(name, &folder(), architecture.debian()));
        wanted.push(found.with_context(|| {
            format!("no kernel {name}: `cargo xtask kernels --list` shows those that there are")
        })?);
    }
    Ok(if asked.is_empty() { debian::ALL.to_vec() } else { wanted })
}

fn chosen(asked: &[String]) -> Result<Vec<&'static Suite>> {
    for name in asked {
        if !SUITES.iter().any(|suite| suite.name == name) {
            let names: Vec<&str> = SUITES.iter().map(|suite| suite.name).collect();
            bail!("no suite {name} that the kernel has a say in: there are {}", names.join(", "));
        }
    }
    Ok(SUITES
        .iter()
        .filter(|suite| asked.is_empty() || asked.iter().any(|name| name == suite.name))
        .collect())
}

/// Programs by the package that has them.
fn prepare(architecture: Architecture) -> Result<()> {
    ensure!(
        cfg!(target_arch = "x86_64"),
        "the guests are x86-64 and run this machine's programs: go on without them on another architecture \
         (`cargo xtask test --no-kernels`)"
    );
    programs()?;
    let needed = [
        (architecture.machine().qemu, architecture.machine().package),
        ("busybox", "busybox-static"),
        ("xz", "xz-utils"),
        ("strip", "binutils"),
    ];
    let missing: Vec<&str> =
        needed.iter().filter(|(program, _)| !has(program)).map(|(_, name)| *name).collect();
    if missing.is_empty() { Ok(()) } else { packages(&missing) }
}

fn contents(
    built: &Built,
    foreign: Option<PathBuf>,
    folder: &Path,
    object: PathBuf,
) -> Result<image::Contents> {
    let system = elf::System { root: "/".into(), triplet: "x86_64-linux-gnu" };
    if let Some(init) = foreign {
        // It is static, and starts nothing.
        return Ok(image::Contents {
            system,
            programs: Vec::new(),
            init,
            tools: Vec::new(),
            busybox: None,
            object,
        });
    }
    let find = |program: &str| {
        let path = env::var_os("PATH").unwrap_or_default();
        let folders = env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
        let found = folders.map(|folder: PathBuf| folder.join(program)).find(|path| path.is_file());
        found.with_context(|| format!("no program {program}"))
    };
    let programs = image::strip("strip", &built.everything(), &folder.join("stripped"))?;
    let init =
        programs.iter().find(|(at, _)| at.ends_with("/kernel-guest")).context("no kernel-guest")?.1.clone();
    Ok(image::Contents {
        system,
        programs,
        init,
        tools: vec![find("ip")?, find("nft")?],
        busybox: Some(find("busybox")?),
        object,
    })
}
