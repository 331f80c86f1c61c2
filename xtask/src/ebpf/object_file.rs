//! BPF objects: without debug sections, and compared by what the kernel runs.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result, anyhow};
use object::{
    Object as _, ObjectSection as _, ObjectSymbol as _, RelocationFlags, RelocationTarget, SectionKind,
    build::elf::{Builder, SectionData},
    elf::SHT_STRTAB,
};

/// Copies an object without DWARF. BTF, which the kernel wants, stays.
pub(super) fn strip_debug(from: &Path, to: &Path) -> Result<()> {
    let data = fs::read(from).with_context(|| from.display().to_string())?;
    let mut builder = Builder::read(&*data).map_err(|e| anyhow!("{}: {e}", from.display()))?;
    for section in &mut builder.sections {
        let name = section.name.to_string();
        section.delete = name.starts_with(".debug_") || name.starts_with(".rel.debug_");
    }
    builder.delete_orphans();
    // LLVM keeps section names in `.strtab`; the writer wants a table of their own for them.
    if !builder.sections.iter().any(|section| matches!(section.data, SectionData::SectionString)) {
        let names = builder.sections.add();
        names.name = b".shstrtab"[..].into();
        names.sh_type = SHT_STRTAB;
        names.data = SectionData::SectionString;
    }
    let mut stripped = Vec::new();
    builder.write(&mut stripped).map_err(|e| anyhow!("{}: {e}", to.display()))?;
    fs::write(to, stripped).with_context(|| to.display().to_string())
}

/// Sections that the kernel gets something of: instructions with their relocations, map definitions, constants.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Programs(BTreeMap<String, Section>);

#[derive(Debug, PartialEq, Eq)]
struct Section {
    bytes: Vec<u8>,
    /// Offset, type and target. A map's target is its name; a function's the section and the address in it, for
    /// its mangled name depends on where the sources lay.
    relocations: Vec<(u64, u32, String)>,
}

impl Programs {
    pub(super) fn read(path: &Path) -> Result<Self> {
        let data = fs::read(path).with_context(|| path.display().to_string())?;
        Self::parse(&data).with_context(|| path.display().to_string())
    }

    fn parse(data: &[u8]) -> Result<Self> {
        let file = object::File::parse(data)?;
        let mut sections = BTreeMap::new();
        for section in file.sections() {
            let name = section.name()?;
            let loaded =
                matches!(section.kind(), SectionKind::Text | SectionKind::Data | SectionKind::ReadOnlyData);
            if !loaded || name.starts_with(".BTF") || section.size() == 0 {
                continue;
            }
            let mut relocations = Vec::new();
            for (offset, relocation) in section.relocations() {
                let RelocationFlags::Elf { r_type, .. } = relocation.flags() else { continue };
                relocations.push((offset, r_type, target(&file, relocation.target())?));
            }
            sections.insert(name.to_owned(), Section { bytes: section.data()?.to_vec(), relocations });
        }
        Ok(Self(sections))
    }

    /// Names of the sections that differ, are missing or are new.
    pub(super) fn differences(&self, other: &Self) -> Vec<String> {
        let names: std::collections::BTreeSet<&String> = self.0.keys().chain(other.0.keys()).collect();
        names.into_iter().filter(|&name| self.0.get(name) != other.0.get(name)).cloned().collect()
    }
}

fn target(file: &object::File<'_>, target: RelocationTarget) -> Result<String> {
    let RelocationTarget::Symbol(index) = target else { return Ok(format!("{target:?}")) };
    let symbol = file.symbol_by_index(index)?;
    let section = match symbol.section_index() {
        Some(index) => file.section_by_index(index)?.name()?.to_owned(),
        None => "undefined".to_owned(),
    };
    if section == ".maps" {
        Ok(symbol.name()?.to_owned())
    } else {
        Ok(format!("{section}+{:#x}", symbol.address()))
    }
}
