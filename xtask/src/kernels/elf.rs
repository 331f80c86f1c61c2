//! What a dynamically linked program needs to run elsewhere.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use object::{
    Endianness,
    elf::{DT_NEEDED, DT_STRTAB, FileHeader64, PT_DYNAMIC, PT_INTERP},
    read::elf::{Dyn as _, FileHeader as _, ProgramHeader as _},
};

/// Libraries by the path at which the dynamic linker looks for them, with the file that has them.
pub(super) type Libraries = BTreeMap<String, PathBuf>;

/// Where a system keeps its libraries.
pub(super) struct System {
    /// `/`, or where another architecture's packages are unpacked.
    pub(super) root: PathBuf,
    /// Debian's name of the architecture's folder: `x86_64-linux-gnu`.
    pub(super) triplet: &'static str,
}

impl System {
    /// Adds what `program` needs, and what that needs.
    pub(super) fn collect(&self, program: &Path, libraries: &mut Libraries) -> Result<()> {
        let bytes = fs::read(program).with_context(|| program.display().to_string())?;
        let (interpreter, needed) = linked(&bytes).with_context(|| program.display().to_string())?;
        if let Some(interpreter) = interpreter {
            let file = self.root.join(interpreter.trim_start_matches('/'));
            libraries.entry(interpreter).or_insert(file);
        }
        for name in needed {
            let at = format!("/lib/{}/{name}", self.triplet);
            let Entry::Vacant(place) = libraries.entry(at) else { continue };
            let file = self.find(&name).with_context(|| {
                format!("{} needs {name}, which is in none of the usual folders", program.display())
            })?;
            place.insert(file.clone());
            self.collect(&file, libraries)?;
        }
        Ok(())
    }

    fn find(&self, name: &str) -> Option<PathBuf> {
        let triplet = self.triplet;
        let folders = [
            format!("lib/{triplet}"),
            format!("usr/lib/{triplet}"),
            "lib64".to_owned(),
            "usr/lib64".to_owned(),
        ];
        let more = ["lib", "usr/lib"].map(str::to_owned);
        folders
            .into_iter()
            .chain(more)
            .map(|folder| self.root.join(folder).join(name))
            .find(|path| path.is_file())
    }
}

/// The dynamic linker, and the names of the libraries.
fn linked(bytes: &[u8]) -> Result<(Option<String>, Vec<String>)> {
    let header = FileHeader64::<Endianness>::parse(bytes)?;
    let endian = header.endian()?;
    let segments = header.program_headers(endian, bytes)?;
    let mut interpreter = None;
    let mut needed = Vec::new();
    for segment in segments {
        if segment.p_type(endian) == PT_INTERP {
            let name = segment.data(endian, bytes).ok().context("no interpreter")?;
            interpreter = Some(String::from_utf8_lossy(name).trim_end_matches('\0').to_owned());
        }
        if segment.p_type(endian) != PT_DYNAMIC {
            continue;
        }
        let entries = segment.dynamic(endian, bytes)?.context("no dynamic section")?;
        let strings = entries.iter().find(|entry| entry.d_tag(endian) == DT_STRTAB);
        let strings = strings.context("no string table")?.d_val(endian);
        for entry in entries.iter().filter(|entry| entry.d_tag(endian) == DT_NEEDED) {
            let address = strings + entry.d_val(endian);
            let name = segments.iter().find_map(|segment| {
                segment.data_range(endian, bytes, address, 1).ok().flatten()?;
                let offset = address - segment.p_vaddr(endian) + segment.p_offset(endian);
                let rest = bytes.get(usize::try_from(offset).ok()?..)?;
                Some(String::from_utf8_lossy(rest.split(|byte| *byte == 0).next()?).into_owned())
            });
            needed.push(name.context("a library without name")?);
        }
    }
    Ok((interpreter, needed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_of_this_machine_needs_its_c_library() -> Result<()> {
        let own = std::env::current_exe()?;
        let (interpreter, needed) = linked(&fs::read(own)?)?;
        assert!(interpreter.is_some_and(|path| path.contains("ld-linux")));
        assert!(needed.iter().any(|name| name.starts_with("libc.so")), "{needed:?}");
        Ok(())
    }
}
