//! Distribution packages, by apt's own means: its sources say where, its keys say whether to believe it.
//!
//! Nothing of the system's package lists or database is touched: lists and archives are below `target/kernels`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    build::step,
    setup::{has, packages},
};

/// The keys of all Debian suites, old and new.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// One suite of Debian for one architecture, with lists and archives of its own.
pub(super) struct Suite {
    name: String,
    folder: PathBuf,
}

impl Suite {
    /// Prepares the suite below `folder`; reads no list yet.
    pub(super) fn new(folder: &Path, name: &str, architecture: &str) -> Result<Self> {
        if !Path::new(KEYRING).exists() {
            packages(&["debian-archive-keyring"])?;
        }
        let folder = folder.join("apt").join(format!("{name}-{architecture}"));
        for below in ["lists/partial", "archives/partial"] {
            fs::create_dir_all(folder.join(below))?;
        }
        // Empty: no package counts as installed.
        fs::write(folder.join("status"), "")?;
        let mirror = mirror()?;
        let source = format!("deb [arch={architecture} signed-by={KEYRING}] {mirror} {name} main\n");
        fs::write(folder.join("sources.list"), source)?;
        fs::write(folder.join("apt.conf"), configuration(&folder, architecture))?;
        Ok(Self { name: name.to_owned(), folder })
    }

    /// Fetches the suite's lists and checks their signature.
    pub(super) fn update(&self) -> Result<()> {
        let mut update = self.apt("apt-get");
        update.args(["-q", "update", "--error-on=any"]);
        step(&format!("package lists of {}", self.name), &mut update).with_context(|| {
            format!(
                "the suite {0} can't be had from the mirror in this machine's apt sources: look at apt's words above, \
                 then try again, or name another mirror there; `cargo xtask kernels --kernel VERSION` goes without \
                 {0}'s kernel, `cargo xtask test --no-kernels` without all of them",
                self.name
            )
        })
    }

    /// The packages that a package depends on, by name, as its list says.
    pub(super) fn dependencies(&self, package: &str) -> Result<Vec<String>> {
        let output = self
            .apt("apt-cache")
            .args(["depends", "--no-recommends", "--no-suggests", "--no-conflicts", "--no-breaks"])
            .args(["--no-replaces", "--no-enhances", package])
            .stderr(Stdio::inherit())
            .output()
            .context("cannot run apt-cache")?;
        ensure!(
            output.status.success(),
            "{} has no package {package}: `cargo xtask kernels --list` shows what is looked for",
            self.name
        );
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let names =
            text.lines().filter_map(|line| line.trim().trim_start_matches('|').strip_prefix("Depends: "));
        Ok(names.map(str::to_owned).collect())
    }

    /// Downloads packages (checked against the signed lists) and unpacks them together; without what they need.
    pub(super) fn unpack(&self, names: &[String], into: &Path) -> Result<()> {
        let mut download = self.apt("apt-get");
        download.args(["-q", "download"]).args(names).current_dir(self.folder.join("archives"));
        step(&format!("download {}", names.join(" ")), &mut download).with_context(|| {
            format!(
                "the kernel of {0} can't be had: look at apt's words above, then try again (what is here is kept), or \
                 go without it as `cargo xtask kernels --kernel VERSION` or `cargo xtask test --no-kernels` do",
                self.name
            )
        })?;
        self.extract(into)
    }

    fn extract(&self, into: &Path) -> Result<()> {
        // Beside first: what is in place is whole.
        let partial = into.with_extension("partial");
        if partial.exists() {
            fs::remove_dir_all(&partial)?;
        }
        fs::create_dir_all(&partial)?;
        for archive in fs::read_dir(self.folder.join("archives"))? {
            let archive = archive?.path();
            if archive.extension().is_some_and(|extension| extension == "deb") {
                let status = Command::new("dpkg-deb").arg("-x").args([&archive, &partial]).status()?;
                ensure!(status.success(), "dpkg-deb -x {}: {status}", archive.display());
                fs::remove_file(&archive)?;
            }
        }
        fs::rename(&partial, into)?;
        Ok(())
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        // Read before the system's, which keeps its proxies and the like.
        command.arg("-c").arg(self.folder.join("apt.conf")).env("LC_ALL", "C");
        command
    }
}

fn configuration(folder: &Path, architecture: &str) -> String {
    let at = |name: &str| folder.join(name).display().to_string();
    format!(
        r#"Dir::Etc::sourcelist "{}";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State::lists "{}";
Dir::State::status "{}";
Dir::State::extended_states "{}";
Dir::Cache "{}";
Dir::Cache::archives "{}";
APT::Architecture "{architecture}";
APT::Architectures "{architecture}";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::GzipIndexes "true";
Acquire::Retries "3";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "false";
#clear APT::Update::Post-Invoke-Success;
#clear APT::Update::Post-Invoke;
#clear DPkg::Post-Invoke;
"#,
        at("sources.list"),
        at("lists"),
        at("status"),
        at("extended_states"),
        at(""),
        at("archives"),
    )
}

/// Where this machine gets Debian from, as its own apt sources say.
fn mirror() -> Result<String> {
    ensure!(
        has("apt-get") && has("dpkg-deb"),
        "missing: apt-get and dpkg-deb. Kernels come from Debian's suites: run this on a Debian machine, or leave the \
         other kernels out with `cargo xtask test --no-kernels`"
    );
    let wanted = "$(ORIGIN) $(LABEL) $(REPO_URI)";
    let ask = || -> Result<Option<String>> {
        let output = Command::new("apt-get")
            .args(["indextargets", "--format", wanted, "Created-By: Packages"])
            .output()
            .context("cannot run apt-get")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        // The archive itself, not its security updates, which are elsewhere.
        Ok(text.lines().find_map(|line| line.strip_prefix("Debian Debian ")).map(str::to_owned))
    };
    if let Some(mirror) = ask()? {
        return Ok(mirror);
    }
    // Who a source is from stands in its lists, which a new machine does not have yet.
    step("package lists", Command::new("apt-get").args(["-qq", "update"]))?;
    match ask()? {
        Some(mirror) => Ok(mirror),
        None => {
            bail!("no mirror of Debian in this machine's apt sources: add one to /etc/apt/sources.list.d")
        }
    }
}
